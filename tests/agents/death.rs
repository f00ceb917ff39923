//! Machines die one after another, and nothing is lost.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::cluster::{Cluster, Queue, can_run};

#[test]
fn every_crate_has_one_result_whatever_dies() {
    if !can_run(Queue::Nats) {
        return;
    }
    let mut cluster = Cluster::new(24, Queue::Nats);
    cluster.start_server();
    (1..=3).for_each(|agent| cluster.start_agent(agent));
    for agent in 1..=3 {
        cluster.wait_for(2 * agent);
        cluster.kill_agent(agent);
        cluster.start_agent(agent);
    }
    // A partition: the lease of its crate is given to others, and its own report may come too late.
    cluster.signal_agent(1, Signal::SIGSTOP);
    cluster.wait_for(9);
    std::thread::sleep(Duration::from_secs(5));
    cluster.signal_agent(1, Signal::SIGCONT);
    cluster.wait_for(11);
    cluster.wipe_nats();
    cluster.wait_for(15);
    cluster.kill_server();
    std::thread::sleep(Duration::from_secs(2));
    cluster.start_server();
    cluster.check(0);
    assert!(
        cluster.log("server").contains("jobs that the engine had lost are published again"),
        "the sweep never acted"
    );
    assert!(cluster.count("SELECT count(*) FROM handouts WHERE how = 'lost'") > 0, "no machine was lost");
    assert_eq!(cluster.count("SELECT count(*) FROM results r WHERE agent IS NULL"), 0, "every result names its agent");
}

#[test]
fn a_server_without_nats_keeps_jobs_in_memory_and_lays_them_out_again_after_a_restart() {
    let mut cluster = Cluster::new(8, Queue::Memory);
    cluster.start_server();
    cluster.start_agent(1);
    cluster.wait_for(2);
    cluster.kill_server();
    cluster.start_server();
    cluster.check(0);
}

#[test]
fn an_agent_that_is_asked_to_end_gives_its_crates_back() {
    let mut cluster = Cluster::new(8, Queue::Memory);
    cluster.start_server();
    cluster.start_agent(1);
    cluster.wait_for(1);
    cluster.signal_agent(1, Signal::SIGTERM);
    assert_eq!(cluster.wait_for_agent(1), Some(0), "{}", cluster.log("a1"));
    let open = "SELECT count(*) FROM handouts WHERE ended IS NULL";
    assert_eq!(cluster.count(open), 0, "{}", cluster.log("a1"));
    assert_eq!(cluster.count("SELECT count(*) FROM handouts WHERE how = 'lost'"), 0);
    cluster.start_agent(2);
    cluster.check(0);
}

#[test]
fn reports_wait_while_the_server_is_away_and_survive_the_agent() {
    let mut cluster = Cluster::new(4, Queue::Memory);
    cluster.start_server();
    cluster.start_agent(1);
    cluster.wait_for(1);
    cluster.kill_server();
    // Its crate goes on, and its report waits on the disk.
    let outbox = cluster.home("a1").join("outbox");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir(&outbox).unwrap().count() == 0 {
        assert!(std::time::Instant::now() < deadline, "{}", cluster.log("a1"));
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.kill_agent(1);
    let ended = cluster.ended();
    cluster.start_server();
    cluster.start_agent(1);
    cluster.wait_for(ended + 1);
    cluster.check(0);
}
