//! maar runs experiments over many Rust crates and reports what a change breaks.
//!
//! Data flows one way: selection → plan → pipeline → store → compare → report. ARCHITECTURE.md has the map.

#[cfg(feature = "server")]
pub mod agent;
pub mod cache;
pub mod cli;
pub mod compare;
#[cfg(feature = "server")]
pub mod dispatch;
pub mod event;
pub mod exact;
pub mod experiment;
pub mod home;
pub mod host;
pub mod krate;
#[cfg(feature = "server")]
pub mod lease;
pub mod libtest;
pub mod nearest;
pub mod ops;
pub mod outcome;
pub mod owner;
pub mod pipeline;
pub mod plan;
pub mod prebuild;
pub mod printable;
pub mod progress;
pub mod registry;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod schedule;
#[cfg(feature = "server")]
pub mod serve;
pub mod simulate;
pub mod stop;
pub mod store;
pub mod toolchain;
pub mod trace;
#[cfg(feature = "server")]
pub mod wire;
