//! No process or container outlives its owner.

use std::process::{Command, Stdio};
use std::time::Duration;

use maar::sandbox::End;
use maar::stop::Stop;

use crate::bench::{Bench, block_on, text};
use crate::setup::{client, connect, containers_of, daemon, docker, on};

/// Names the word on the command line of a driver's child: this test program, started again to be killed.
const DRIVER: &str = "MAAR_TEST_DOCKER_DRIVER";

fn is_running(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    processes.filter(|entry| *entry.file_name() != *own).any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|argument| argument == word.as_bytes())
    })
}

/// Waits for something that comes by itself, at most twenty seconds.
async fn wait_until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come");
}

#[test]
fn a_daemon_dies_with_the_command_and_holds_nothing_up() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let bench = docker().await;
        let exit = bench.run("(setsid sh -c 'trap \"\" TERM HUP; sleep 7780001' &) ; sleep 0.1; echo done").await;
        assert_eq!(exit.end, End::Code(0));
        assert!(!is_running("7780001"));
    });
}

#[test]
fn a_crate_keeps_its_container_from_op_to_op_until_it_is_released() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        let container = async |bench: &Bench| text(&bench.run("cut -d' ' -f22 /proc/1/stat").await);
        let first = container(&bench).await;
        bench.spec.label = "another-op".to_owned();
        assert_eq!(container(&bench).await, first);
        bench.spec.limits.pids += 1;
        let other = container(&bench).await;
        assert_ne!(other, first, "other limits need another container");
        bench.sandbox.release(&bench.spec.scratch).await.unwrap();
        assert_ne!(container(&bench).await, other);
    });
}

#[test]
fn a_dropped_run_is_killed_and_its_container_goes() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let bench = docker().await;
        let run = tokio::time::timeout(Duration::from_secs(3), bench.run("sleep 7780003"));
        assert!(run.await.is_err());
        wait_until(async || !is_running("7780003")).await;
    });
}

#[test]
fn a_killed_maar_leaves_no_process_and_no_container() {
    if daemon().is_none() {
        return;
    }
    let mut driver = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifetime::drive", "--nocapture"])
        .env(DRIVER, "7780004")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = driver.id();
    block_on(async {
        wait_until(async || is_running("7780004")).await;
        assert_eq!(containers_of(&client(), pid).await.len(), 1);
        driver.kill().unwrap();
        driver.wait().unwrap();
        wait_until(async || !is_running("7780004")).await;
        wait_until(async || containers_of(&client(), pid).await.is_empty()).await;
    });
}

#[test]
fn what_a_dead_run_left_is_swept_and_what_a_live_one_has_is_kept() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let live = docker().await;
        assert_eq!(live.run("true").await.end, End::Code(0));
        let client = client().negotiate_version().await.unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let label = format!("{}x/1/999999998/1", boot.trim());
        let body = bollard::models::ContainerCreateBody {
            image: Some(crate::setup::IMAGE.to_owned()),
            cmd: Some(vec!["/none".to_owned()]),
            labels: Some([("maar.run".to_owned(), label)].into()),
            ..Default::default()
        };
        client.create_container(None, body).await.unwrap();
        assert_eq!(containers_of(&client, 999_999_998).await.len(), 1);
        let _second = on(connect(crate::setup::IMAGE).await.unwrap());
        assert_eq!(containers_of(&client, 999_999_998).await.len(), 0);
        assert_eq!(live.run("true").await.end, End::Code(0));
    });
}

/// Not a test: what `a_killed_maar_leaves_no_process_and_no_container` starts and kills.
#[test]
fn drive() {
    let Ok(word) = std::env::var(DRIVER) else { return };
    block_on(async {
        let bench = docker().await;
        bench
            .run_until(&format!("setsid sh -c 'trap \"\" HUP TERM; sleep {word}' & sleep {word}"), &Stop::never())
            .await;
    });
}
