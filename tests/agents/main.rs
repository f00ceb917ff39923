//! A server, a real nats-server and agents, each a separate process, over the tests' own crates: machines die, halt and
//! come back, and every crate gets one result, the one that `maar run` finds.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "the suite uses a part of it")]
#[path = "../experiments/world.rs"]
mod world;

mod chaos;
mod cluster;
mod death;
mod strangers;
