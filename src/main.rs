//! The `maar` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a sandbox helper is this same program, and must have no threads.
    maar::sandbox::helper_main_if_asked();
    maar::cli::main()
}
