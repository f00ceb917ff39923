//! `kill -9` of agents, nats-server and the server at random moments, for a minute.

use std::time::{Duration, Instant, SystemTime};

use crate::cluster::{Cluster, Queue, can_run};

/// A generator that is the same for the same seed: <https://prng.di.unimi.it/splitmix64.c>.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// `MAAR_CHAOS_SEED` and `MAAR_CHAOS_SECONDS` repeat or lengthen it.
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn chaos_loses_no_crate_and_doubles_none() {
    if !can_run(Queue::Nats) {
        return;
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = setting("MAAR_CHAOS_SEED").unwrap_or(now.as_secs());
    eprintln!("chaos with MAAR_CHAOS_SEED={seed}");
    let mut random = Random(seed);
    let mut cluster = Cluster::new(32, Queue::Nats);
    cluster.start_server();
    (1..=3).for_each(|agent| cluster.start_agent(agent));
    let end = Instant::now() + Duration::from_secs(setting("MAAR_CHAOS_SECONDS").unwrap_or(60));
    let mut kills = [0; 3];
    while Instant::now() < end && cluster.ended() < 32 {
        std::thread::sleep(Duration::from_millis(1000 + random.below(4000)));
        match random.below(10) {
            0..6 => {
                let agent = 1 + random.below(3) as usize;
                cluster.kill_agent(agent);
                cluster.start_agent(agent);
                kills[0] += 1;
            }
            6..8 => {
                cluster.kill_nats();
                kills[1] += 1;
            }
            _ => {
                cluster.kill_server();
                cluster.start_server();
                kills[2] += 1;
            }
        }
    }
    let [agents, nats, servers] = kills;
    eprintln!("{agents} agents, {nats} nats-servers and {servers} servers were killed");
    // A crate with which four machines were lost is given up: it has that result, and only one.
    cluster.check(32);
}
