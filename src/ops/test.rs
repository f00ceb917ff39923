//! `test`: do its unit, integration and documentation tests pass?
//!
//! All of them run even if one fails, so that the names of the failing ones can be compared.

pub(super) const ARGS: &[&str] = &["test", "--frozen", "--no-fail-fast"];
