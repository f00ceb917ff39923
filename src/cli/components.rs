//! The programs that ops need, checked before anything runs: a missing program would look like a failure.
//!
//! Doesn't look into images for containers: only commands in them could.

use std::path::{Path, PathBuf};

use super::exit::Misuse;
use super::install::Installer;
use crate::experiment::{Installing, Loaded, SandboxKind};
use crate::nearest::nearest;
use crate::ops::{CommandOp, Op};
use crate::registry;
use crate::toolchain::{self, Missing, Toolchain};

/// Where cells look for programs besides the toolchain and cargo's own folder.
const SYSTEM: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// Makes sure that every toolchain, and the host, have what the ops and the toolchains' settings need. Installs what
/// toolchains lack, where the user allows it.
pub(super) fn check(loaded: &Loaded, installer: Installer) -> anyhow::Result<()> {
    let Loaded { experiment, toolchains, notes: _, installing } = loaded;
    let installer = match installing {
        Installing::WhatIsMissing => installer,
        Installing::Nothing => Installer(Installing::Nothing),
    };
    let patterns = experiment.crate_patterns.iter().map(|(_, settings)| settings);
    let of_crates = experiment.crate_settings.values().chain(patterns).filter_map(|settings| settings.ops.as_deref());
    let ops: Vec<&Op> = of_crates.chain([&*experiment.ops]).flatten().collect();
    for toolchain in toolchains {
        check_runner(toolchain, &ops)?;
        complete(toolchain, &ops, installer)?;
    }
    if let (SandboxKind::None, Some(command)) =
        (&experiment.sandbox, ops.iter().find(|op| matches!(op, Op::Command(_))))
        && let Some(toolchain) = toolchains.iter().find(|toolchain| !toolchain.settings().patches.is_empty())
    {
        return Err(Misuse(format!(
            "with `--sandbox none`, op `{}` of your own can't be given the patch of `{}`: use the native sandbox, or take \
             the op off",
            command.name(),
            toolchain.label()
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

/// Makes sure that a toolchain has its components, and the standard library of its target.
fn complete(toolchain: &Toolchain, ops: &[&Op], installer: Installer) -> anyhow::Result<()> {
    let settings = toolchain.settings();
    let clippy = ops.contains(&&Op::Clippy) && !has(&toolchain.sysroot, "cargo-clippy");
    let is_missing = |component: &&str| toolchain::is_installed(toolchain, component) == Some(false);
    let of_settings = settings.components.iter().map(String::as_str);
    if let Some(unknown) = of_settings.clone().find(|component| toolchain::is_installed(toolchain, component).is_none())
    {
        return Err(Misuse(format!(
            "toolchain `{}` is a folder, of which can't be told whether it has component `{unknown}`: take \
             `+component={unknown}` out",
            toolchain.label()
        ))
        .into());
    }
    let components = of_settings.filter(is_missing).chain(clippy.then_some("clippy"));
    let builds_std = settings.cargoflags.iter().any(|flag| flag.contains("build-std"));
    let target = settings.target.as_deref().filter(|target| !builds_std && !toolchain.has_target(target));
    let missing = components.map(|name| (name, "component")).chain(target.map(|name| (name, "target")));
    for (name, kind) in missing {
        let Some(of_rustup) = toolchain.rustup_name() else {
            return Err(Misuse(format!(
                "toolchain `{}` has no {kind} `{name}`, and is a folder, to which rustup adds nothing: build it there",
                toolchain.label()
            ))
            .into());
        };
        let (name, of_rustup) = (name.to_owned(), of_rustup.to_owned());
        installer.install(&match kind {
            "component" => Missing::Component { name, toolchain: of_rustup },
            _ => Missing::Target { name, toolchain: of_rustup },
        })?;
    }
    Ok(())
}

/// Makes sure that tests for another platform have something that runs them.
fn check_runner(toolchain: &Toolchain, ops: &[&Op]) -> anyhow::Result<()> {
    let settings = toolchain.settings();
    let Some(target) = settings.target.as_deref().filter(|target| !Toolchain::runs_here(target)) else { return Ok(()) };
    let variable = format!("CARGO_TARGET_{}_RUNNER", target.to_uppercase().replace(['-', '.'], "_"));
    let in_flags = settings.cargoflags.iter().any(|flag| flag.contains(".runner"));
    if !ops.contains(&&Op::Test) || in_flags || settings.env.contains_key(&variable) {
        return Ok(());
    }
    Err(Misuse(format!(
        "op `test` runs programs of `{target}`, the target of toolchain `{}`, which this host can't: name a program that \
         can, such as `+env={variable}=qemu-{}`, or take the op off with `--skip test`",
        toolchain.label(),
        target.split('-').next().unwrap_or(target)
    ))
    .into())
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
    let is_there = |program: &str| {
        has(&toolchain.sysroot, program)
            || program == "cargo"
            || folders.iter().any(|folder| folder.join(program).is_file())
    };
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
        toolchain.label()
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
    fn tests_for_a_platform_that_does_not_run_here_need_a_runner() {
        let check = |spec: &str, ops: &[&Op]| {
            let (version, sysroot) = (semver::Version::new(1, 95, 0), PathBuf::from("/x"));
            let toolchain = Toolchain::new(spec.parse().unwrap(), version, String::new(), sysroot);
            check_runner(&toolchain, ops).map_err(|error| error.to_string())
        };
        let foreign = "stable+target=sparc64-unknown-linux-gnu";
        let error = check(foreign, &[&Op::Test]).unwrap_err();
        assert!(error.contains("`+env=CARGO_TARGET_SPARC64_UNKNOWN_LINUX_GNU_RUNNER=qemu-sparc64`"), "{error}");
        assert_eq!(check(foreign, &[&Op::Build]), Ok(()));
        assert_eq!(check("stable", &[&Op::Test]), Ok(()));
        let with_runner = format!("{foreign}+env=CARGO_TARGET_SPARC64_UNKNOWN_LINUX_GNU_RUNNER=x");
        assert_eq!(check(&with_runner, &[&Op::Test]), Ok(()));
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
