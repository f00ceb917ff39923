//! `clippy`: does clippy accept it? Warnings are logged; only what clippy denies is a failure.

pub(super) const ARGS: &[&str] = &["clippy", "--frozen", "--all-targets"];
