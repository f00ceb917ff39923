//! The back end under attack: native, or Docker where this process was started for that.

use std::process::Command;

use maar::sandbox::Sandbox;

use crate::arena::{ATTACKER, attacker};
use crate::bench::{Bench, bench, block_on, native};
use crate::docker;

/// The variable that selects containers.
const CONTAINERS: &str = "MAAR_TEST_CONTAINERS";

/// A bench in the sandbox that is attacked.
pub(crate) fn ground() -> Bench {
    if is_containers() { block_on(docker::docker()) } else { native() }
}

/// Another bench in the same sandbox.
pub(crate) fn beside(one: &Bench) -> Bench {
    match &one.sandbox {
        Sandbox::Docker(docker) => docker::on(docker.clone()),
        other => bench(other.clone()),
    }
}

/// Whether containers are attacked.
pub(crate) fn is_containers() -> bool {
    std::env::var_os(CONTAINERS).is_some()
}

/// Runs the whole suite once more, in containers, of which none is left.
pub(crate) fn again_in_containers() {
    if docker::daemon().is_none() {
        return;
    }
    // Most attacks wait for something, containers above all.
    let suite = Command::new(std::env::current_exe().unwrap())
        .args(["--skip", "the_same_holds", "--test-threads", "4"])
        .env(CONTAINERS, "1")
        .env(ATTACKER, attacker())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = suite.id();
    let output = suite.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(block_on(docker::containers_of(&docker::client(), pid)), Vec::<String>::new());
}
