//! The command line: arguments → one function → exit code; one file per subcommand.
