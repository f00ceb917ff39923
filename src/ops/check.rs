//! `check`: does everything in the package, tests and examples included, pass the compiler's checks?

pub(super) const ARGS: &[&str] = &["check", "--frozen", "--all-targets"];
