//! The sandbox on the real kernel: as root and, from there, once more as an ordinary user.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they leave out")]

mod bench;
mod isolation;
mod lifetime;
mod limits;
mod plain;
mod probe;
mod renames;
mod rootless;
mod systemd;
mod unconfined;

#[test]
fn the_same_holds_for_an_ordinary_user() {
    rootless::again(&[]);
}

#[test]
fn the_same_holds_for_an_ordinary_user_with_subordinate_ids() {
    rootless::again_with_ids(&[]);
}
