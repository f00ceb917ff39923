//! Hostile commands, each with the exact way it ends, beside a neighbour that is not to notice.
//!
//! The table knows nothing of back ends. Hostile archives, manifests and names never come as far as a sandbox: their
//! cases are those of `src/registry/unpack/tests.rs`, `src/registry/tree.rs` and `src/krate.rs`.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

mod arena;
#[path = "../sandbox/bench.rs"]
#[allow(dead_code, reason = "another suite's, which uses all of it")]
mod bench;
mod output;
mod processes;
mod resources;
#[path = "../sandbox/rootless.rs"]
mod rootless;
mod sight;
mod system;

#[test]
fn the_same_holds_for_an_ordinary_user() {
    rootless::again(&[(arena::ATTACKER, arena::attacker())]);
}
