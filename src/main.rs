//! The `maar` command.

fn main() {}
