//! Restrictions of cells that a failure may come from, told by what the command printed. Pure.
//!
//! Adds words to a reason, and changes no verdict: `docs/fidelity.md` lists all restrictions.

use crate::outcome::Restriction;

/// What cargo prints where no rustup takes the toolchain off its arguments, and shells where there is no rustup.
const NO_RUSTUP: [&str; 3] = ["error: no such command: `+", "rustup: not found", "rustup: command not found"];

/// What Rust prints of EXDEV.
const CROSSES_DEVICES: [&str; 2] = ["Invalid cross-device link (os error 18)", "kind: CrossesDevices"];

/// The restriction that a failed command probably met.
pub(super) fn met(text: &str) -> Option<Restriction> {
    let has = |phrases: &[&str]| text.lines().any(|line| phrases.iter().any(|phrase| line.contains(phrase)));
    if has(&NO_RUSTUP) {
        Some(Restriction::NoRustup)
    } else if has(&CROSSES_DEVICES) {
        Some(Restriction::CrossesDevices)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restriction_is_told_by_what_cargo_a_shell_or_rust_prints() {
        for (text, expected) in [
            (
                "error: no such command: `+nightly`\n\n\thelp: invoke `cargo` through `rustup`",
                Some(Restriction::NoRustup),
            ),
            ("sh: 1: rustup: not found", Some(Restriction::NoRustup)),
            ("Os { code: 18, kind: CrossesDevices, message: \"..\" }", Some(Restriction::CrossesDevices)),
            ("error: no such command: `geiger`", None),
        ] {
            assert_eq!(met(text), expected, "{text}");
        }
    }
}
