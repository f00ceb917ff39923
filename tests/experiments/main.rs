//! Experiments from end to end: the binary, over crates of our own, from a registry of our own.
//!
//! What the parts do in detail is tested where they are; this is what a user sees.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

#[path = "../support/mod.rs"]
mod support;

mod accounting;
mod again;
mod blame;
mod cases;
mod commands;
mod git_host;
mod graphs;
mod host;
mod layers;
mod mounts;
mod network;
mod planted;
mod poison;
mod shell;
mod stops;
mod strangers;
mod user;
mod verdicts;
mod world;
