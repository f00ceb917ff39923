//! The dispatcher under the load of a whole registry: 700,000 crates, 20 agents that die at times.
//!
//! The real decisions (`dispatch`), the real queues in memory (`lease::Here`) and real leases, on tokio's paused clock;
//! a table in memory stands for SQLite. Prints the makespan ÷ its lower bound, the shares of experiments, handouts per
//! second of computing, and the most memory. Fails when a promise is broken.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and fails by panicking")]

use std::cell::RefCell;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant as Clock};

use maar::dispatch::{Candidate, Desk, Facts, Held, Renewal, Shares, Verdict, allot, decide};
use maar::lease::{Claims, Engine, Here, JobId, Key, Lane, Queue, Times, Waiting};
use tokio::time::Instant;

const CRATES: u32 = 700_000;
const AGENTS: u32 = 20;
/// The number of crates that an agent has at a time, each on its own core.
const CORES: usize = 64;
const LEASE: Duration = Duration::from_secs(120);
const RENEW: Duration = Duration::from_secs(30);
/// How often an agent dies, on average, and how long it is away.
const LIFE: f64 = 4.0 * 3600.0;
const AWAY: Duration = Duration::from_secs(300);
/// How many jobs are published ahead: no engine has to hold a whole registry at once.
const AHEAD: u32 = 50_000;

/// The experiments: two of priority 0, one with twice the weight, and one of priority 5 that comes later.
const EXPERIMENTS: [Experiment; 3] = [
    Experiment { number: 1, priority: 0, weight: 1.0, crates: CRATES / 2 - 25_000, comes: Duration::ZERO },
    Experiment { number: 2, priority: 0, weight: 2.0, crates: CRATES / 2 - 25_000, comes: Duration::ZERO },
    Experiment { number: 3, priority: 5, weight: 1.0, crates: 50_000, comes: Duration::from_secs(3600) },
];

struct Experiment {
    number: u32,
    priority: i64,
    weight: f64,
    crates: u32,
    comes: Duration,
}

/// What stands for SQLite.
#[derive(Default, Clone, Copy)]
struct Row {
    is_done: bool,
    losses: u8,
    open: Option<(i64, u32)>,
}

struct World {
    engine: Engine,
    key: Key,
    desk: Desk,
    shares: Shares,
    rows: Vec<Vec<Row>>,
    published: Vec<u32>,
    handouts: i64,
    renewals: u64,
    accepted: Vec<u32>,
    /// The work of each experiment until the first of priority 0 ended: for the shares.
    had: [f64; 3],
    lost: u32,
    late: u32,
    poisoned: u32,
    random: u64,
}

/// Something that happens at a moment; the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Event(std::cmp::Reverse<(Duration, u64)>, What);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Pull { agent: u32, life: u32 },
    Renew { agent: u32, life: u32 },
    Done { agent: u32, life: u32, experiment: u32, position: u32, handout: i64 },
    Die { agent: u32 },
    Return { agent: u32 },
}

thread_local! {
    static QUEUE: RefCell<(BinaryHeap<Event>, u64)> = RefCell::default();
}

fn at(when: Duration, what: What) {
    QUEUE.with_borrow_mut(|(heap, order)| {
        *order += 1;
        heap.push(Event(std::cmp::Reverse((when, *order)), what));
    });
}

fn next() -> Option<(Duration, What)> {
    QUEUE.with_borrow_mut(|(heap, _)| heap.pop()).map(|Event(std::cmp::Reverse((when, _)), what)| (when, what))
}

impl World {
    fn new() -> Self {
        let rows = EXPERIMENTS.map(|experiment| vec![Row::default(); experiment.crates as usize]);
        Self {
            engine: Engine::Here(Here::new(Times { lease: LEASE, ..Times::default() })),
            key: Key::new(&[7; 32]),
            desk: Desk::default(),
            shares: Shares::default(),
            rows: rows.into(),
            published: vec![0; 3],
            handouts: 0,
            renewals: 0,
            accepted: vec![0; 3],
            had: [0.0; 3],
            lost: 0,
            late: 0,
            poisoned: 0,
            random: 42,
        }
    }

    /// From 0 to 1: splitmix64.
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn row(&mut self, job: JobId) -> &mut Row {
        &mut self.rows[job.experiment as usize - 1][job.position as usize]
    }

    /// Gives the engine more jobs of the experiments that have come.
    async fn feed(&mut self, now: Duration) {
        for (place, experiment) in EXPERIMENTS.iter().enumerate().filter(|(_, of)| of.comes <= now) {
            self.shares.join(experiment.number, experiment.weight);
            let queue = queue(experiment.number);
            if self.engine.held(queue).await.unwrap() > u64::from(AHEAD / 2) {
                continue;
            }
            let from = self.published[place];
            let to = (from + AHEAD).min(experiment.crates);
            let job = |position| JobId { experiment: experiment.number, generation: 1, position };
            let jobs: Vec<Waiting> = (from..to).map(|position| Waiting { job: job(position), shard: 0 }).collect();
            self.engine.publish(queue, 0, &jobs).await.unwrap();
            self.published[place] = to;
        }
    }

    /// As `serve::leases` does it.
    async fn pull(&mut self, agent: u32, life: u32, now: Duration) -> bool {
        let held = self.desk.jobs_of(agent, Instant::now(), LEASE).len();
        let mut left = CORES.saturating_sub(held);
        let wanted = left;
        let mut candidates: Vec<Candidate> = EXPERIMENTS
            .iter()
            .filter(|experiment| experiment.comes <= now)
            .map(|experiment| Candidate {
                experiment: experiment.number,
                generation: 1,
                priority: experiment.priority,
                weight: experiment.weight,
                had: self.shares.had(experiment.number),
                cost: 250.0,
                lanes: vec![Lane::Std],
            })
            .collect();
        while left > 0 {
            let allotted = allot(&candidates, left);
            if allotted.is_empty() {
                break;
            }
            for (queue, count) in allotted {
                let taken = self.engine.take(queue, count).await.unwrap();
                if taken.len() < count {
                    candidates.retain(|candidate| candidate.experiment != queue.experiment);
                }
                for taken in taken {
                    let (job, present) = (taken.job, Instant::now());
                    let row = *self.row(job);
                    let facts = Facts { waits: !row.is_done, losses: row.losses.into(), open: row.open };
                    let has_suspect = self.desk.has_suspect(agent, present, LEASE);
                    match decide(&facts, self.desk.live(job, present, LEASE), has_suspect) {
                        Verdict::Skip => self.engine.end(&taken.receipt).await.unwrap(),
                        Verdict::Adopt => self.desk.adopt(job, taken.receipt),
                        Verdict::Later => {
                            self.engine.put_back(&taken.receipt, maar::dispatch::SUSPECT_DELAY).await.unwrap();
                        }
                        Verdict::Poison => {
                            self.poisoned += 1;
                            self.row(job).is_done = true;
                            self.engine.end(&taken.receipt).await.unwrap();
                        }
                        Verdict::HandOut { suspect } => {
                            self.handouts += 1;
                            let handout = self.handouts;
                            let row = self.row(job);
                            if row.open.is_some() {
                                row.losses += 1;
                            }
                            row.open = Some((handout, agent));
                            let claims = Claims { job, handout, receipt: taken.receipt.clone() };
                            let lease = self.key.seal(agent, &claims);
                            assert_eq!(self.key.open(agent, &lease).unwrap().handout, handout);
                            let ends = present + Duration::from_secs(24 * 3600);
                            let receipt = taken.receipt;
                            self.desk.hand_out(job, Held { agent, handout, receipt, suspect, renewed: present, ends });
                            self.shares.charge(job.experiment, 250.0);
                            let wall = Duration::from_secs_f64(wall(job));
                            let JobId { experiment, position, .. } = job;
                            at(now + wall, What::Done { agent, life, experiment, position, handout });
                            left -= 1;
                        }
                    }
                }
            }
        }
        left < wanted
    }

    async fn renew(&mut self, agent: u32) {
        let present = Instant::now();
        for job in self.desk.jobs_of(agent, present, LEASE) {
            let Some((handout, _)) = self.row(job).open else { continue };
            if let Renewal::Granted(receipt) = self.desk.renew(job, agent, handout, present) {
                self.engine.renew(&receipt).await.unwrap();
                self.renewals += 1;
            }
        }
    }

    async fn done(&mut self, job: JobId, agent: u32, handout: i64) {
        let row = self.row(job);
        if row.is_done {
            self.late += 1;
            return;
        }
        row.is_done = true;
        row.open = None;
        let place = job.experiment as usize - 1;
        self.accepted[place] += 1;
        let is_first_over = (0..2).any(|of| self.accepted[of] == EXPERIMENTS[of].crates);
        if !is_first_over {
            self.had[place] += wall(job);
        }
        self.shares.charge(job.experiment, wall(job) - 250.0);
        let is_its = |held: &Held| (held.agent, held.handout) == (agent, handout);
        if self.desk.live(job, Instant::now(), Duration::MAX).is_some_and(is_its) {
            let held = self.desk.release(job).unwrap();
            self.engine.end(&held.receipt).await.unwrap();
        }
    }
}

fn queue(experiment: u32) -> Queue {
    Queue { experiment, generation: 1, lane: Lane::Std }
}

/// How long a crate takes: 250 s on average, few take long, and the same each time.
fn wall(job: JobId) -> f64 {
    let mut z = (u64::from(job.experiment) << 32 | u64::from(job.position)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let uniform = ((z >> 11) as f64 / (1_u64 << 53) as f64).max(1e-9);
    (-250.0 * uniform.ln()).min(2000.0)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let clock = Clock::now();
    let mut world = World::new();
    let mut lives: HashMap<u32, (u32, bool)> = HashMap::new();
    for agent in 1..=AGENTS {
        lives.insert(agent, (0, true));
        at(Duration::from_millis(u64::from(agent) * 10), What::Pull { agent, life: 0 });
        at(RENEW, What::Renew { agent, life: 0 });
        let life = Duration::from_secs_f64(-LIFE * world.random().max(1e-9).ln());
        at(life, What::Die { agent });
    }
    let begin = Instant::now();
    let (mut now, mut away, mut fed) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut left, mut priority_over) = (CRATES, None);
    world.feed(now).await;
    while left > 0 {
        let (when, what) = next().expect("jobs are left");
        if when > now {
            tokio::time::advance(when - now).await;
            now = when;
        }
        if now - fed >= Duration::from_secs(10) {
            fed = now;
            world.feed(now).await;
        }
        let is_alive = |agent: u32, life: u32| lives[&agent] == (life, true);
        match what {
            What::Pull { agent, life } if is_alive(agent, life) => {
                world.pull(agent, life, now).await;
                at(now + Duration::from_secs(30), What::Pull { agent, life });
            }
            What::Renew { agent, life } if is_alive(agent, life) => {
                world.renew(agent).await;
                at(now + RENEW, What::Renew { agent, life });
            }
            What::Done { agent, life, experiment, position, handout } if is_alive(agent, life) => {
                world.done(JobId { experiment, generation: 1, position }, agent, handout).await;
                world.pull(agent, life, now).await;
            }
            What::Die { agent } => {
                let (life, _) = lives[&agent];
                world.lost += 1;
                lives.insert(agent, (life, false));
                away += AWAY;
                at(now + AWAY, What::Return { agent });
            }
            What::Return { agent } => {
                let life = lives[&agent].0 + 1;
                lives.insert(agent, (life, true));
                at(now, What::Pull { agent, life });
                at(now + RENEW, What::Renew { agent, life });
                let next = Duration::from_secs_f64(-LIFE * world.random().max(1e-9).ln());
                at(now + next, What::Die { agent });
            }
            // Of an agent that has died since.
            What::Pull { .. } | What::Renew { .. } | What::Done { .. } => {}
        }
        let accepted: u32 = world.accepted.iter().sum();
        left = CRATES - accepted - world.poisoned;
        if world.accepted[2] == EXPERIMENTS[2].crates {
            priority_over.get_or_insert(now);
        }
    }
    let makespan = (Instant::now() - begin).as_secs_f64();
    // All work, and the work that died with its agents, on all cores of the agents that were there.
    let work: f64 = EXPERIMENTS
        .iter()
        .flat_map(|of| (0..of.crates).map(|position| wall(JobId { experiment: of.number, generation: 1, position })))
        .sum();
    let cores = f64::from(AGENTS) * CORES as f64;
    let gone = away.as_secs_f64() * CORES as f64;
    let bound = (work + gone) / cores;
    let spent = clock.elapsed();
    let share = world.had[1] / world.had[0];
    let ideal = EXPERIMENTS[2].comes.as_secs_f64()
        + (0..EXPERIMENTS[2].crates)
            .map(|position| wall(JobId { experiment: 3, generation: 1, position }))
            .sum::<f64>()
            / cores;
    let priority = priority_over.unwrap().as_secs_f64() / ideal;
    println!("jobs                    {CRATES} in {} handouts, {} renewals", world.handouts, world.renewals);
    println!(
        "agents that died        {} (late reports {}, crates given up {})",
        world.lost, world.late, world.poisoned
    );
    println!("makespan / bound        {:.3} ({:.1} h / {:.1} h)", makespan / bound, makespan / 3600.0, bound / 3600.0);
    println!("share, weights 2 to 1   {share:.3}");
    println!("priority 5 / ideal      {priority:.3}");
    println!("handouts per second     {:.0} of computing", world.handouts as f64 / spent.as_secs_f64());
    println!("time, memory            {:.1} s, {:.0} MiB", spent.as_secs_f64(), peak_mib());
    assert!(makespan / bound <= 1.05, "makespan");
    assert!((share - 2.0).abs() < 0.1, "shares");
    assert!(priority <= 1.1, "priority");
    assert!(spent < Duration::from_secs(300) && peak_mib() < 1024.0, "cost");
}

/// The most memory that the process had.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
