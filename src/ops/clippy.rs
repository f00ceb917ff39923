//! `clippy`: does clippy accept it? Warnings are logged; what clippy or the crate itself denies is a failure.

pub(super) const ARGS: &[&str] = &["clippy", "--frozen", "--all-targets"];
