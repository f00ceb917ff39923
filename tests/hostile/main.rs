//! Hostile commands, each with the exact way it ends, beside a neighbour that is not to notice.
//!
//! One table for all back ends: it runs on the native one as root and, from there, as an ordinary user and in Docker's
//! containers. Hostile archives, manifests and names never come as far as a sandbox, or are no more than a command in
//! one: their cases are those of `src/registry/unpack/tests.rs`, `src/registry/tree.rs`, `src/krate.rs`, and
//! `tests/experiments/cases.rs`.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

mod arena;
#[path = "../sandbox/bench.rs"]
#[allow(dead_code, reason = "another suite's, which uses all of it")]
mod bench;
#[path = "../docker/setup.rs"]
#[allow(dead_code, reason = "another suite's, which uses all of it")]
mod docker;
mod ground;
mod neighbours;
mod outlet;
mod output;
mod processes;
mod resources;
#[path = "../sandbox/rootless.rs"]
mod rootless;
mod short;
mod sight;
mod system;

#[test]
fn the_same_holds_for_an_ordinary_user() {
    rootless::again(&[(arena::ATTACKER, arena::attacker())]);
}

#[test]
fn the_same_holds_for_an_ordinary_user_with_subordinate_ids() {
    rootless::again_with_ids(&[(arena::ATTACKER, arena::attacker())]);
}

#[test]
fn the_same_holds_in_containers() {
    ground::again_in_containers();
}
