//! `build`: does the package build, as its dependents would build it?

pub(super) const ARGS: &[&str] = &["build", "--frozen"];
