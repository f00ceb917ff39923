//! An op of the user's own: any command, run like a built-in one.
//!
//! A command whose program is `cargo` is run as the user wrote it: features are not added to it, for not every cargo
//! subcommand knows the flag.

use crate::ops::CommandOp;

pub(super) fn argv(command: &CommandOp) -> Vec<String> {
    command.run.clone()
}
