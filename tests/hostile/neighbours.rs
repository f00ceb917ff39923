//! Limits that the kernel has for a user or for the whole host: one cell takes all that it can get, and its neighbour
//! and the user who runs maar still have enough.

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use maar::sandbox::End;

use crate::arena::{armed, attack, attacker};
use crate::bench::{Bench, block_on, text};
use crate::ground::{beside, ground, is_containers};

/// How long one cell may need to take everything, on an emulator too.
const PATIENCE: Duration = Duration::from_secs(120);

/// The result of an attack on the neighbours.
struct Scene {
    /// How many the attacker got.
    held: usize,
    neighbour: String,
    host: String,
}

/// Has one cell take all there is of a kind while another cell and a program outside take a few.
fn scene(kind: &str, few: usize) -> Scene {
    let mut holder = armed(ground());
    // The watches of epoll of one user may take a twenty-fifth of the host's memory.
    holder.spec.limits.memory = ByteSize::gib(3);
    let neighbour = armed(beside(&holder));
    let held = holder.dir.path().join("work/held");
    let peace = holder.dir.path().join("work/peace");
    let hold = format!("exec /attack hold {kind}");
    let take = format!("/attack take {kind} {few} || :");
    let (exit, scene) = block_on(async {
        let both = tokio::join!(holder.run(&hold), async {
            let begun = Instant::now();
            while !held.exists() {
                assert!(begun.elapsed() < PATIENCE, "{kind} have no end");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let ended = neighbour.run(&take).await;
            let host = std::process::Command::new(attacker()).args(["take", kind, &few.to_string()]).output().unwrap();
            holder.file(&peace, "");
            let said = std::fs::read_to_string(&held).unwrap();
            eprintln!("{kind}: {said}");
            let held = said.split(' ').next().unwrap().parse().unwrap();
            Scene { held, neighbour: text(&ended), host: String::from_utf8(host.stdout).unwrap() }
        });
        for bench in [&holder, &neighbour] {
            bench.sandbox.release(&bench.spec.scratch).await.unwrap();
        }
        both
    });
    assert_eq!(exit.end, End::Code(0), "{}", text(&exit));
    scene
}

/// Whether each cell has another user here; prints a line if not.
fn users_are_apart(what: &str) -> bool {
    let is_apart = ground().spec.user.owner().is_some();
    if !is_apart {
        eprintln!(
            "not tested here: {what} (an ordinary user's cells all have that user, and the kernel has no other limit)"
        );
    }
    is_apart
}

/// Asserts that neither the neighbour nor the program outside goes short.
#[track_caller]
fn harmless(kind: &str, few: usize) -> usize {
    let Scene { held, neighbour, host } = scene(kind, few);
    let expected = format!("took {few}\n");
    assert_eq!((neighbour.as_str(), host.as_str()), (expected.as_str(), expected.as_str()), "{kind}");
    held
}

#[test]
fn neighbours_have_users_of_their_own() {
    let one = ground();
    let other = beside(&one);
    let uid = |bench: &Bench| bench.spec.user.owner().map(|owner| owner.uid);
    if users_are_apart("users of their own") {
        assert_ne!(uid(&one), uid(&other));
        let all = [uid(&one), uid(&other), Some(0), Some(nix::unistd::geteuid().as_raw())];
        assert!(all[..2].iter().all(|uid| !all[2..].contains(uid)), "{all:?}");
    }
}

#[test]
fn one_cell_leaves_others_instances_and_watches_of_inotify() {
    assert!(harmless("instances", 8) >= 8);
    assert!(harmless("watches", 100) >= 100);
}

#[test]
fn one_cell_leaves_others_pending_signals_and_message_queues() {
    assert!(harmless("signals", 100) >= 100);
    assert!(harmless("queues", 2) >= 2);
}

#[test]
fn one_cell_leaves_others_what_epoll_watches() {
    if users_are_apart("what epoll watches") {
        harmless("epoll", 100);
    }
}

#[test]
fn one_cell_leaves_others_descriptors_on_their_way() {
    if users_are_apart("descriptors that are in flight") {
        harmless("descriptors", 2);
    }
}

#[test]
fn one_cell_leaves_others_pipes_of_full_size() {
    if users_are_apart("the size of pipes") {
        harmless("pipes", 8);
    }
}

#[test]
fn one_cell_leaves_others_terminals() {
    if is_containers() {
        eprintln!("not tested here: terminals (the Docker daemon can't limit those of a container)");
        return;
    }
    assert_eq!(harmless("terminals", 8), 64);
}

#[test]
fn requests_of_the_old_asynchronous_io_are_refused() {
    // The host has one number for all users.
    let Scene { held, neighbour, host } = scene("requests", 1);
    assert_eq!(held, 0);
    assert!(neighbour.starts_with("took 0 of 1: Function not implemented"), "{neighbour}");
    assert_eq!(host, "took 1\n");
}

#[test]
fn buffers_of_connections_count_as_memory() {
    // Docker counts them with cgroups of version 2 only.
    if is_containers() {
        return;
    }
    let Some(attack) = attack("ulimit -n $(ulimit -Hn); /attack tcp").enforced("memory") else { return };
    let attack = attack.with(|bench| bench.spec.limits.memory = ByteSize::mib(64));
    // A kernel that refuses more lets the attack go on; one that counts them with all else ends it.
    let exit = attack.exit();
    match exit.end {
        End::Code(0) => {
            let filled: usize = text(&exit).trim().rsplit(' ').next().unwrap().parse().unwrap();
            // Each end of a connection may hold a little, even over the limit.
            assert!(filled <= 160, "{filled} MiB");
        }
        end => assert_eq!(end, End::OutOfMemory),
    }
}
