//! `doc`: can its documentation be built?

pub(super) const ARGS: &[&str] = &["doc", "--frozen", "--no-deps"];
