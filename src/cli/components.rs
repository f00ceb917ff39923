//! The programs that ops need, checked before anything runs: a missing program would look like a failure.
//!
//! Doesn't look into images for containers: only commands in them could.

use std::path::{Path, PathBuf};

use super::exit::Misuse;
use crate::experiment::{Loaded, SandboxKind};
use crate::nearest::nearest;
use crate::ops::{CommandOp, Op};
use crate::registry;
use crate::toolchain::{self, Toolchain};

/// Where cells look for programs besides the toolchain and cargo's own folder.
const SYSTEM: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Makes sure that every toolchain, and the host, have the programs of the ops.
pub(super) fn check(loaded: &Loaded) -> anyhow::Result<()> {
    let Loaded { experiment, toolchains, notes: _ } = loaded;
    let patterns = experiment.crate_patterns.iter().map(|(_, settings)| settings);
    let of_crates = experiment.crate_settings.values().chain(patterns).filter_map(|settings| settings.ops.as_deref());
    let ops: Vec<&Op> = of_crates.chain([&*experiment.ops]).flatten().collect();
    if ops.contains(&&Op::Clippy)
        && let Some(Toolchain { spec, .. }) = toolchains.iter().find(|one| !has(&one.sysroot, "cargo-clippy"))
    {
        return Err(Misuse(format!(
            "toolchain `{spec}` has no clippy, which the ops need; `rustup component add clippy --toolchain {spec}` adds it"
        ))
        .into());
    }
    let folders = match experiment.sandbox {
        SandboxKind::Native | SandboxKind::None => system_folders(),
        SandboxKind::Docker(_) => return Ok(()),
    };
    for op in ops {
        if let Op::Command(command) = op {
            toolchains.iter().try_for_each(|toolchain| check_command(command, toolchain, &folders))?;
        }
    }
    Ok(())
}

fn has(sysroot: &Path, program: &str) -> bool {
    sysroot.join("bin").join(program).is_file()
}

fn system_folders() -> Vec<PathBuf> {
    SYSTEM.iter().map(PathBuf::from).chain(registry::cargo_bin()).collect()
}

/// Checks that the program of a user's op, and a cargo's subcommand, are where its cell looks.
fn check_command(command: &CommandOp, toolchain: &Toolchain, folders: &[PathBuf]) -> anyhow::Result<()> {
    let CommandOp { name, run, .. } = command;
    let is_there =
        |program: &str| has(&toolchain.sysroot, program) || folders.iter().any(|folder| folder.join(program).is_file());
    let [program, args @ ..] = run.as_slice() else { return Ok(()) };
    // A path may lead to a file of the crate.
    if !program.contains('/') && !is_there(program) {
        return Err(Misuse(format!(
            "op `{name}` runs `{program}`, which is not where cells look: in the toolchain, {} and cargo's `bin` folder",
            SYSTEM.join(", ")
        ))
        .into());
    }
    // What follows an option may be its value.
    let subcommand = args.first().filter(|arg| program == "cargo" && !arg.starts_with(['-', '+']));
    let Some(subcommand) = subcommand.filter(|name| !is_there(&format!("cargo-{name}"))) else { return Ok(()) };
    let known = toolchain::cargo_commands(toolchain)?;
    if known.contains(subcommand) {
        return Ok(());
    }
    let meant = nearest(subcommand, known.iter().map(String::as_str));
    let meant = meant.map(|meant| format!(" (did you mean `{meant}`?)")).unwrap_or_default();
    Err(Misuse(format!(
        "op `{name}` runs `cargo {subcommand}`, which toolchain `{}` doesn't have{meant}; \
         `cargo install cargo-{subcommand}` may install it where cells find it",
        toolchain.spec
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Stage;

    fn check(run: &[&str], folders: &[PathBuf]) -> Result<(), String> {
        let run = run.iter().map(|&word| word.to_owned()).collect();
        let command = CommandOp { name: "own".parse().unwrap(), stage: Stage::Build, run };
        let toolchain = toolchain::active().unwrap();
        check_command(&command, &toolchain, folders).map_err(|error| error.to_string())
    }

    #[test]
    fn commands_that_are_there_are_found_and_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["cargo-own", "tool"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let folders = [folder.path().to_owned()];
        for run in [
            &["cargo", "test"][..],
            &["cargo", "b"],
            &["cargo", "own", "--flag"],
            &["cargo", "--verbose", "nope"],
            &["cargo"],
            &["tool", "nope"],
            &["./script"],
        ] {
            assert_eq!(check(run, &folders), Ok(()), "{run:?}");
        }
        let error = check(&["cargo", "tset"], &folders).unwrap_err();
        assert!(error.starts_with("op `own` runs `cargo tset`, which toolchain `"), "{error}");
        assert!(error.contains("(did you mean `test`?); `cargo install cargo-tset`"), "{error}");
        let error = check(&["nope"], &folders).unwrap_err();
        assert!(error.starts_with("op `own` runs `nope`, which is not where cells look"), "{error}");
    }
}
