//! The Docker back end on a real daemon: the ends of commands are those of the native sandbox, and nothing is left.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

#[path = "../sandbox/bench.rs"]
#[allow(dead_code, reason = "the other back ends are not tested here")]
mod bench;
mod ends;
mod failures;
mod isolation;
mod lifetime;
mod setup;
