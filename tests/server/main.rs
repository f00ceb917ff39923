//! `maar serve` over a real socket: experiments from end to end, every route, and every bad request.

#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../support/mod.rs"]
mod support;
#[allow(dead_code, reason = "each suite uses a part of it")]
#[path = "../experiments/world.rs"]
mod world;

mod bad_input;
mod client;
mod experiments;
mod tokens;
