//! The `maar` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    maar::cli::main()
}
