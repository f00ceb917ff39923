//! One suite for all engines: in memory, and every `nats-server` that is on this host.
//!
//! `MAAR_NATS_SERVERS` names more of them, separated by colons.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::*;

const TIMES: Times = Times { lease: Duration::from_secs(2), duplicates: Duration::from_secs(120) };

const QUEUE: Queue = Queue { experiment: 17, generation: 2, lane: Lane::Std };

struct World {
    engine: Engine,
    what: String,
    _folder: TempDir,
}

/// Runs a case on every engine. In CI a missing `nats-server` is a failure; elsewhere a printed line.
fn on_every_engine(case: impl AsyncFn(&World)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let here = World { engine: Engine::Here(Here::new(TIMES)), what: "memory".to_owned(), _folder: folder() };
    runtime.block_on(case(&here));
    for program in servers() {
        let folder = folder();
        runtime.block_on(async {
            let server = Server::start(&program, &folder.path().join("engine")).await.unwrap();
            let what = program.display().to_string();
            let world = World { engine: Engine::Nats(Nats::with(server, TIMES)), what, _folder: folder };
            case(&world).await;
        });
    }
}

fn servers() -> Vec<PathBuf> {
    let more = std::env::var_os("MAAR_NATS_SERVERS").unwrap_or_default();
    let mut servers: Vec<PathBuf> = std::env::split_paths(&more).filter(|path| path.is_file()).collect();
    match find_server() {
        Ok(server) => servers.push(server),
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(_) => eprintln!("not run with NATS: nats-server is not in PATH"),
    }
    servers
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn job(position: u32) -> JobId {
    JobId { experiment: QUEUE.experiment, generation: QUEUE.generation, position }
}

fn waiting(positions: impl IntoIterator<Item = u32>) -> Vec<Waiting> {
    let of = |position: u32| Waiting { job: job(position), shard: (position % 64) as u8 };
    positions.into_iter().map(of).collect()
}

fn positions(taken: &[Taken]) -> Vec<u32> {
    taken.iter().map(|taken| taken.job.position).collect()
}

impl World {
    async fn publish(&self, positions: impl IntoIterator<Item = u32>) {
        self.engine.publish(QUEUE, 0, &waiting(positions)).await.unwrap();
    }

    async fn take(&self, most: usize) -> Vec<Taken> {
        self.engine.take(QUEUE, most).await.unwrap()
    }

    /// Takes one job, waiting for it.
    async fn take_soon(&self, within: Duration) -> Option<Taken> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(taken) = self.take(1).await.pop() {
                return Some(taken);
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[test]
fn jobs_come_in_order_and_end_once() {
    on_every_engine(async |world| {
        let what = &world.what;
        assert_eq!(world.take(5).await, [], "{what}");
        world.publish(0..200).await;
        assert_eq!(world.engine.held(QUEUE).await.unwrap(), 200, "{what}");
        let first = world.take(150).await;
        assert_eq!(positions(&first), (0..150).collect::<Vec<_>>(), "{what}");
        let rest = world.take(150).await;
        assert_eq!(positions(&rest), (150..200).collect::<Vec<_>>(), "{what}");
        assert_eq!(world.take(1).await, [], "{what}");
        assert_eq!(world.engine.held(QUEUE).await.unwrap(), 200, "leased jobs are held: {what}");
        for taken in first.iter().chain(&rest) {
            world.engine.end(&taken.receipt).await.unwrap();
        }
        assert_eq!(world.engine.held(QUEUE).await.unwrap(), 0, "{what}");
    });
}

#[test]
fn a_lease_that_is_not_renewed_runs_out_and_one_that_is_does_not() {
    on_every_engine(async |world| {
        let what = &world.what;
        world.publish([1, 2]).await;
        let taken = world.take(2).await;
        let until = Instant::now() + 2 * TIMES.lease;
        let mut again = Vec::new();
        while Instant::now() < until {
            world.engine.renew(&taken[0].receipt).await.unwrap();
            again.extend(world.take(2).await);
            sleep(Duration::from_millis(200)).await;
        }
        assert!(!again.is_empty() && positions(&again).iter().all(|position| *position == 2), "{what}: {again:?}");
        assert_ne!(again[0].receipt, taken[1].receipt, "{what}");
    });
}

#[test]
fn a_job_that_is_put_back_comes_again_after_the_delay() {
    on_every_engine(async |world| {
        let what = &world.what;
        world.publish([7]).await;
        let taken = world.take(1).await;
        world.engine.put_back(&taken[0].receipt, Duration::ZERO).await.unwrap();
        let again = world.take_soon(Duration::from_secs(1)).await.unwrap();
        assert_eq!(again.job, job(7), "{what}");
        world.engine.put_back(&again.receipt, Duration::from_millis(800)).await.unwrap();
        assert_eq!(world.take(1).await, [], "before the delay has passed: {what}");
        assert!(world.take_soon(Duration::from_secs(3)).await.is_some(), "{what}");
    });
}

#[test]
fn a_job_is_taken_in_once_in_each_round() {
    on_every_engine(async |world| {
        let what = &world.what;
        world.publish([1, 2]).await;
        world.publish([1, 2, 3]).await;
        assert_eq!(positions(&world.take(9).await), [1, 2, 3], "{what}");
        world.engine.publish(QUEUE, 1, &waiting([2])).await.unwrap();
        assert_eq!(positions(&world.take(9).await), [2], "{what}");
    });
}

#[test]
fn queues_do_not_mix() {
    on_every_engine(async |world| {
        let what = &world.what;
        let others = [
            Queue { lane: Lane::Big, ..QUEUE },
            Queue { lane: Lane::Confirm { not: 3 }, ..QUEUE },
            Queue { lane: Lane::Confirm { not: 4 }, ..QUEUE },
            Queue { generation: 3, ..QUEUE },
        ];
        world.publish([1]).await;
        for (place, queue) in others.into_iter().enumerate() {
            let job = JobId { position: 10 + place as u32, ..job(0) };
            let job = JobId { generation: queue.generation, ..job };
            world.engine.publish(queue, 0, &[Waiting { job, shard: 0 }]).await.unwrap();
        }
        assert_eq!(positions(&world.take(9).await), [1], "{what}");
        for (place, queue) in others.into_iter().enumerate() {
            let taken = world.engine.take(queue, 9).await.unwrap();
            assert_eq!(positions(&taken), [10 + place as u32], "{what}: {queue:?}");
        }
    });
}

#[test]
fn forgetting_a_generation_ends_its_jobs_and_no_others() {
    on_every_engine(async |world| {
        let what = &world.what;
        let other = Queue { generation: 21, ..QUEUE };
        let of_other = Waiting { job: JobId { generation: 21, ..job(5) }, shard: 0 };
        world.publish(0..10).await;
        world.engine.publish(other, 0, &[of_other]).await.unwrap();
        let leased = world.take(3).await;
        world.engine.forget(QUEUE.experiment, QUEUE.generation).await.unwrap();
        world.engine.forget(QUEUE.experiment, QUEUE.generation).await.unwrap();
        assert_eq!(world.engine.held(QUEUE).await.unwrap(), 0, "{what}");
        assert_eq!(world.take(9).await, [], "{what}");
        sleep(TIMES.lease + Duration::from_millis(500)).await;
        assert_eq!(world.take(9).await, [], "leased jobs come back: {what} {leased:?}");
        assert_eq!(positions(&world.engine.take(other, 9).await.unwrap()), [5], "{what}");
    });
}

#[test]
fn two_who_take_at_one_time_never_get_the_same_job() {
    on_every_engine(async |world| {
        world.publish(0..500).await;
        let takers = futures_util::future::join_all((0..8).map(|_| async {
            let mut all = Vec::new();
            loop {
                let taken = world.take(7).await;
                if taken.is_empty() {
                    return all;
                }
                all.extend(positions(&taken));
            }
        }));
        let taken: Vec<u32> = takers.await.concat();
        let distinct: BTreeSet<u32> = taken.iter().copied().collect();
        assert_eq!((taken.len(), distinct.len()), (500, 500), "{}", world.what);
    });
}

#[test]
fn a_receipt_that_the_engine_has_forgotten_does_no_harm() {
    on_every_engine(async |world| {
        let what = &world.what;
        world.publish([1]).await;
        let old = world.take(1).await.remove(0);
        let new = world.take_soon(2 * TIMES.lease).await.unwrap();
        // The lease of `old` has run out. Where the engine can tell, its answers change nothing; ending a job is for
        // the dispatcher to decide.
        let _ = world.engine.renew(&old.receipt).await;
        world.engine.end(&new.receipt).await.unwrap();
        assert_eq!(world.engine.held(QUEUE).await.unwrap(), 0, "{what}");
        let _ = world.engine.end(&new.receipt).await;
        let _ = world.engine.put_back(&new.receipt, Duration::ZERO).await;
        assert_eq!(world.take_soon(Duration::from_secs(1)).await, None, "{what}");
    });
}

#[test]
fn a_receipt_of_another_engine_is_refused() {
    on_every_engine(async |world| {
        world.publish([1]).await;
        for text in ["", "$JS.API.STREAM.DELETE.MAAR_JOBS", "maar.job.17.2.std.00", "99"] {
            let _ = world.engine.end(&Receipt(text.to_owned())).await;
        }
        assert_eq!(positions(&world.take(2).await), [1], "{}", world.what);
    });
}

/// Ends a child of this process.
fn kill_child(program: &std::path::Path, folder: &std::path::Path) -> i32 {
    let name = format!("{}_", program.file_name().unwrap().to_str().unwrap());
    let mut newest: Vec<_> = std::fs::read_dir(folder.join("ports")).unwrap().map(Result::unwrap).collect();
    newest.sort_by_key(|entry| entry.metadata().unwrap().modified().unwrap());
    let file = newest.pop().unwrap().file_name().into_string().unwrap();
    let pid = file.strip_prefix(&name).unwrap().strip_suffix(".ports").unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    pid
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_is_started_again_and_keeps_what_waits() {
    for program in servers() {
        let folder = folder();
        let home = folder.path().join("engine");
        let server = Server::start(&program, &home).await.unwrap();
        let engine = Engine::Nats(Nats::with(server, TIMES));
        engine.publish(QUEUE, 0, &waiting(0..100)).await.unwrap();
        kill_child(&program, &home);
        let deadline = Instant::now() + Duration::from_secs(20);
        let taken = loop {
            match engine.take(QUEUE, 100).await {
                Ok(taken) if !taken.is_empty() => break taken,
                other => assert!(Instant::now() < deadline, "{}: {other:?}", program.display()),
            }
            sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(taken.len(), 100, "{}", program.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_wiped_is_made_again() {
    for program in servers() {
        let folder = folder();
        let home = folder.path().join("engine");
        let server = Server::start(&program, &home).await.unwrap();
        let engine = Engine::Nats(Nats::with(server, TIMES));
        engine.publish(QUEUE, 0, &waiting(0..100)).await.unwrap();
        assert_eq!(engine.take(QUEUE, 1).await.unwrap().len(), 1);
        std::fs::rename(home.join("store"), home.join("lost")).unwrap();
        kill_child(&program, &home);
        let deadline = Instant::now() + Duration::from_secs(40);
        while let Err(error) = engine.take(QUEUE, 1).await {
            assert!(Instant::now() < deadline, "{}: {error:?}", program.display());
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(engine.held(QUEUE).await.unwrap(), 0, "{}", program.display());
        engine.publish(QUEUE, 0, &waiting(0..3)).await.unwrap();
        assert_eq!(positions(&engine.take(QUEUE, 9).await.unwrap()), [0, 1, 2], "{}", program.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_on_loopback_are_refused() {
    for program in servers() {
        let folder = folder();
        let home = folder.path().join("engine");
        let _server = Server::start(&program, &home).await.unwrap();
        let ports = std::fs::read_dir(home.join("ports")).unwrap().next().unwrap().unwrap().path();
        let ports: serde_json::Value = serde_json::from_slice(&std::fs::read(ports).unwrap()).unwrap();
        let url = ports["nats"][0].as_str().unwrap();
        let refused = async_nats::connect(url).await.unwrap_err().to_string();
        assert!(refused.contains("authorization"), "{refused}");
        let config = std::fs::read_to_string(home.join("nats-server.conf")).unwrap();
        assert!(!config.contains("SU"), "the seed was written down: {config}");
    }
}

#[test]
fn lanes_come_back_from_their_texts() {
    for lane in [Lane::Std, Lane::Big, Lane::Confirm { not: 12 }] {
        assert_eq!(lane.to_string().parse(), Ok(lane));
    }
    for text in ["", "confirm", "confirm-", "confirm-x", "Std"] {
        assert!(text.parse::<Lane>().is_err(), "{text}");
    }
}
