//! A disk that runs short, and folders that move while they are counted.

use bytesize::ByteSize;
use maar::sandbox::native::{Config, Native};
use maar::sandbox::{End, Mount, MountKind, Sandbox};

use crate::arena::attack;
use crate::bench::{block_on, helper, is_root};
use crate::ground::{ground, is_containers};
use crate::rootless::AGAIN;

#[test]
fn folders_that_are_moved_about_count_all_the_same() {
    // Moves folders from parts not yet counted to parts already counted.
    attack(
        "mkdir -p a b; ln -s / l; (while :; do mv a/x b/x; mv b/x a/x; done) 2>/dev/null &
         mkdir a/x; i=0; while :; do i=$((i+1)); for d in a b; do head -c 4M /dev/zero > $d/x/$i; done; done 2>/dev/null",
    )
    .with(|bench| bench.spec.limits.disk = ByteSize::mib(64))
    .ends(End::OverDisk);
}

#[test]
fn memory_is_limited_as_a_whole_where_no_controller_counts_it() {
    if is_containers() {
        return;
    }
    for script in [
        "exec /attack memfd",
        "head -c 500M /dev/zero > /dev/shm/a; sleep 60",
        // Mapped by each process, private to it.
        "for i in 1 2 3 4; do /attack shared & done; wait; sleep 60",
        "exec /attack headless memory",
        "for i in 1 2 3 4; do head -c 90M /dev/zero | tail -c 89M >/tmp/$i & done; wait; sleep 60",
        // Each holds less than its own limit, all together more.
        "for i in 1 2 3 4 5; do (head -c 80M /dev/zero | tail -c 79M | (sleep 30; cat >/dev/null)) & done; wait",
    ] {
        attack(script)
            .seconds(60)
            .with(|bench| {
                bench.sandbox = Sandbox::Native(Native::without_cgroups(Config { helper: helper(), locks: None }));
                // The limit of one file in memory is more than the bytes written between two looks.
                bench.spec.limits.disk = ByteSize::gib(6);
            })
            .ends(End::OutOfMemory);
    }
}

#[test]
fn deleted_files_count_while_they_are_open() {
    attack(
        "for i in 3 4 5 6 7; do eval \"exec $i>f$i\"; rm f$i; head -c 40M /dev/zero >&$i || exit 8; done
         echo $(ls | wc -l); exec sleep 600",
    )
    .seconds(60)
    .with(|bench| bench.spec.limits.disk = ByteSize::mib(64))
    .ends(End::OverDisk);
}

#[test]
fn deleted_files_of_an_overlay_count_too() {
    attack(
        "cd /overlay; for i in 3 4 5 6 7; do eval \"exec $i>f$i\"; rm f$i; head -c 40M /dev/zero >&$i || exit 8; done
         exec sleep 600",
    )
    .seconds(60)
    .with(|bench| {
        bench.overlay();
        bench.spec.limits.disk = ByteSize::mib(64);
    })
    .ends(End::OverDisk);
}

#[test]
fn files_of_a_process_without_a_main_thread_count() {
    attack("exec /attack headless files")
        .seconds(60)
        .with(|bench| bench.spec.limits.disk = ByteSize::mib(64))
        .ends(End::OverDisk);
}

#[test]
fn closed_folders_do_not_hide_others() {
    // An ordinary user can list such a folder, and can't look at the files in it.
    attack(
        "for i in $(seq 50); do mkdir shut$i; chmod 400 shut$i; done; mkdir open
         for i in 1 2 3 4 5; do head -c 40M /dev/zero > open/$i || exit 8; done; exec sleep 600",
    )
    .seconds(60)
    .with(|bench| bench.spec.limits.disk = ByteSize::mib(64))
    .ends(End::OverDisk);
}

#[test]
fn a_neighbour_of_who_fills_the_disk_does_not_fail_by_itself() {
    // Only root may mount a disk that can be filled, and containers see folders that the daemon mounts.
    if is_containers() || !is_root() || std::env::var_os(AGAIN).is_some() {
        return eprintln!("not tested here: a full disk (only root may mount one)");
    }
    let bench = ground();
    let disk = bench.folder("disk");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=256m,mode=777")).unwrap();
    let spec = |folder: &str| {
        let scratch = bench.dir.path().join(format!("scratch-{folder}"));
        let own = disk.join(folder);
        for path in [&scratch, &own] {
            std::fs::create_dir(path).unwrap();
        }
        if let Some(owner) = bench.spec.user.owner() {
            std::os::unix::fs::chown(&own, Some(owner.uid), Some(owner.gid)).unwrap();
        }
        let mut spec = bench.spec.clone();
        spec.scratch = scratch;
        spec.mounts = vec![Mount { at: "/work".into(), what: MountKind::Writable(own) }];
        // The disk is full before any command is over a limit.
        spec.limits.disk = ByteSize::gib(1);
        spec.limits.memory = ByteSize::gib(1);
        spec
    };
    let run = async |folder: &str, script: &str| {
        let mut cell = bench.sandbox.open(spec(folder)).await.unwrap();
        let command = bench.shell(&cell, script);
        let exit = cell.run(&command, &maar::stop::Stop::never()).await.unwrap();
        cell.close().await.unwrap();
        exit.end
    };
    // Fills the disk and makes room again at once, many times.
    let filler =
        "for i in $(seq 40); do cat /dev/zero > x 2>/dev/null; rm x; sleep 0.02; done; touch ../work/done; exit 0";
    // Ends at its first failure.
    let innocent = "for i in $(seq 800); do head -c 200K /dev/zero > y && rm y || exit 7; done; exit 0";
    let (filled, others) = block_on(async {
        let innocents = async {
            let mut ends = Vec::new();
            for round in 0..6 {
                ends.push(run(&format!("innocent-{round}"), innocent).await);
            }
            ends
        };
        tokio::join!(run("filler", filler), innocents)
    });
    nix::mount::umount(&disk).unwrap();
    assert!(matches!(filled, End::Code(0) | End::OutOfDisk), "{filled:?}");
    assert!(others.iter().all(|end| matches!(end, End::Code(0) | End::OutOfDisk)), "{others:?}");
    assert!(others.contains(&End::OutOfDisk), "nobody was in need: {others:?}");
}
