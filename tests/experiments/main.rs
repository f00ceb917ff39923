//! Experiments from end to end: the binary, over crates of our own, from a registry of our own.
//!
//! The parts are tested in detail in their own modules; these tests show a user's view.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

#[path = "../support/mod.rs"]
mod support;

mod accounting;
mod again;
mod asked;
mod blame;
mod cases;
mod commands;
mod doubt;
mod edited_lists;
mod fidelity;
mod git_host;
mod graphs;
mod host;
mod layers;
mod mounts;
mod network;
mod owners;
mod planted;
mod poison;
mod promises;
mod reasons;
mod selections;
mod shell;
mod single_tests;
mod stops;
mod strangers;
mod subordinate;
mod toolchains;
mod user;
mod verdicts;
mod world;
