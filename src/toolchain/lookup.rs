//! Finds installed toolchains: through rustup where there is one, else the rustc in `PATH`.
//!
//! Never installs or downloads anything; errors name the command that would. The current folder has no influence:
//! `program` runs every command in another folder.
//!
//! A compiler without a cargo, such as `stage1` of a build of rustc, gets the cargo of the active toolchain, as with
//! rustup.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Output;

use semver::Version;

use super::spec::Base;
use super::{Program, Toolchain, ToolchainSpec, program};
use crate::nearest::nearest;

/// Why a toolchain can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// rustup has no toolchain of that name.
    #[error("toolchain `{name}` is not installed{}; `rustup toolchain install {name}` installs it", meant(.nearest))]
    NotInstalled {
        /// rustup's name, or the user's version of it.
        name: String,
        /// The installed toolchain that may have been meant.
        nearest: Option<String>,
    },
    /// Toolchains have names only where there is rustup.
    #[error(
        "toolchain `{0}` can't be looked up: there is no `rustup` in PATH; without it only the active rustc is known"
    )]
    NoRustup(String),
    /// rustup could not install something.
    #[error("{what} is not installed, and `{command}` failed: run it where there is a network, or take it out")]
    NotInstallable {
        /// What.
        what: String,
        /// The command line.
        command: String,
    },
    /// Something is missing that maar may not install now.
    #[error("{what} is not installed; `{command}` installs it")]
    NotAllowed {
        /// What.
        what: String,
        /// The command line.
        command: String,
    },
    /// A folder has no compiler.
    #[error("`path:{}` has no `bin/rustc`; such a folder is one like `build/host/stage1`, or a copied toolchain", .0.display())]
    NoCompiler(PathBuf),
    /// The host has no compiler.
    #[error("no active toolchain: there is no `rustc` in PATH; install rustup, or a rustc with its cargo")]
    NoRustc,
    /// The toolchain lacks a program.
    #[error("toolchain `{spec}` has no `{program}` in {}; `rustup component add {program} --toolchain {spec}` adds it", .folder.display())]
    MissingProgram {
        /// The toolchain.
        spec: String,
        /// `cargo` or `rustc`.
        program: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A command of the toolchain couldn't be started.
    #[error("failed to run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command of the toolchain failed.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// The command line.
        command: String,
        /// Its output.
        message: String,
    },
    /// A command of the toolchain printed unexpected output.
    #[error("`{command}` printed `{}`, expected its version", .output.escape_debug())]
    Unreadable {
        /// The command line.
        command: String,
        /// Its output.
        output: String,
    },
}

fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// The names of all installed toolchains, as rustup lists them.
///
/// # Errors
/// [`ToolchainError::Start`] with [`io::ErrorKind::NotFound`] without rustup.
pub fn installed() -> Result<Vec<String>, ToolchainError> {
    Ok(parse_list(&output("rustup", &["toolchain", "list"])?))
}

/// The toolchain of a spec, with the programs of others that it names. Patches are not looked at.
pub fn find(spec: &ToolchainSpec) -> Result<Toolchain, ToolchainError> {
    let Found { sysroot, released } = locate(spec.base())?;
    let mut toolchain = inspect(spec.clone(), &sysroot, released)?;
    let settings = spec.settings();
    for (name, base) in [("cargo", &settings.cargo), ("rustdoc", &settings.rustdoc)] {
        let is_lacking = name == "cargo" && !sysroot.join("bin/cargo").is_file();
        let from = match base {
            Some(base) => locate(base)?.sysroot,
            None if !is_lacking => continue,
            None if released => {
                let folder = sysroot.join("bin");
                return Err(ToolchainError::MissingProgram { spec: spec.to_string(), program: "cargo", folder });
            }
            None => active()?.sysroot,
        };
        let Some((other, identity)) = other(name, &from, &toolchain)? else { continue };
        toolchain.identity = format!("{}; {identity}", toolchain.identity);
        match name {
            "cargo" => toolchain.cargo = Some(other),
            _ => toolchain.rustdoc = Some(other),
        }
    }
    Ok(toolchain)
}

/// Where a toolchain is.
struct Found {
    /// Without links.
    sysroot: PathBuf,
    /// Whether rustup installed it from a channel, so that its version identifies it.
    released: bool,
}

fn locate(base: &Base) -> Result<Found, ToolchainError> {
    match base {
        Base::Named(name) => {
            let sysroot = real(Path::new(&named(name)?))?;
            let released = is_released(&sysroot);
            Ok(Found { sysroot, released })
        }
        Base::Path(folder) => {
            let rustc = folder.join("bin/rustc");
            if !rustc.is_file() {
                return Err(ToolchainError::NoCompiler(folder.clone()));
            }
            // Its programs may be links to those of another folder, and cells see one folder only.
            let sysroot = output(&rustc.display().to_string(), &["--print", "sysroot"])?;
            // A copy may have been changed, and keeps the note of its original.
            Ok(Found { sysroot: real(Path::new(sysroot.trim()))?, released: false })
        }
    }
}

/// The folder of the toolchain that rustup knows under this name.
fn named(name: &str) -> Result<String, ToolchainError> {
    match output("rustup", &["run", name, "rustc", "--print", "sysroot"]) {
        Ok(sysroot) => Ok(sysroot.trim().to_owned()),
        Err(error) if is_absent(&error) => Err(ToolchainError::NoRustup(name.to_owned())),
        Err(error) => {
            let names = installed()?;
            // A partial name stands for the one of this host: `stable` for `stable-x86_64-unknown-linux-gnu`.
            let listed = names.iter().any(|listed| listed == name || short(listed) == name);
            Err(if listed { error } else { not_installed(name, &names) })
        }
    }
}

/// A program of the toolchain at `from`, and its own version line. `None`: `toolchain` has the same one.
fn other(name: &'static str, from: &Path, toolchain: &Toolchain) -> Result<Option<(Program, String)>, ToolchainError> {
    if from == toolchain.sysroot {
        return Ok(None);
    }
    let path = from.join("bin").join(name);
    if !path.is_file() {
        let (spec, folder) = (toolchain.spec.to_string(), from.join("bin"));
        return Err(ToolchainError::MissingProgram { spec, program: name, folder });
    }
    let command = path.display().to_string();
    let identity = output(&command, &["--version"])?.trim().to_owned();
    let version = parse_version(name, &format!("{command} --version"), &identity)?;
    Ok(Some((Program { sysroot: from.to_owned(), version }, identity)))
}

/// The user's own toolchain: that of `RUSTUP_TOOLCHAIN`, else rustup's default, else the rustc in `PATH`.
///
/// A `rust-toolchain.toml` of the current folder and `rustup override set` don't count: an experiment doesn't depend on
/// the folder where it starts, and a stranger's folder must not choose a program that runs outside a cell.
pub fn active() -> Result<Toolchain, ToolchainError> {
    let active = output("rustup", &["show", "active-toolchain"]);
    if let Some(name) = active.ok().as_deref().and_then(|line| line.split_whitespace().next())
        && let Ok(spec) = short(name).parse()
    {
        return find(&spec);
    }
    let sysroot = output("rustc", &["--print", "sysroot"])
        .map_err(|error| if is_absent(&error) { ToolchainError::NoRustc } else { error })?;
    let version = output("rustc", &["--version"])?;
    let spec = parse_version("rustc", "rustc --version", &version)?.to_string();
    let sysroot = real(Path::new(sysroot.trim()))?;
    let folder = sysroot.join("bin");
    if !folder.join("cargo").is_file() {
        return Err(ToolchainError::MissingProgram { spec, program: "cargo", folder });
    }
    match spec.parse() {
        Ok(spec) => inspect(spec, &sysroot, is_released(&sysroot)),
        Err(_) => Err(ToolchainError::Unreadable { command: "rustc --version".to_owned(), output: version }),
    }
}

/// The toolchain of that name; the active one where no name is given.
pub fn find_or_active(spec: Option<&ToolchainSpec>) -> Result<Toolchain, ToolchainError> {
    spec.map_or_else(active, find)
}

/// The folder without links: rustup may link one toolchain's folder to another's, and cells mount real folders only.
fn real(sysroot: &Path) -> Result<PathBuf, ToolchainError> {
    Path::new(program::NEUTRAL)
        .join(sysroot)
        .canonicalize()
        .map_err(|source| ToolchainError::Start { command: format!("{}/bin/rustc", sysroot.display()), source })
}

fn inspect(spec: ToolchainSpec, sysroot: &Path, released: bool) -> Result<Toolchain, ToolchainError> {
    let folder = sysroot.join("bin");
    if !folder.join("rustc").is_file() {
        return Err(ToolchainError::MissingProgram { spec: spec.to_string(), program: "rustc", folder });
    }
    let rustc = folder.join("rustc").display().to_string();
    let identity = output(&rustc, &["--version"])?.trim().to_owned();
    let version = parse_version("rustc", &format!("{rustc} --version"), &identity)?;
    let identity = if released { identity } else { identity + &built(sysroot) };
    Ok(Toolchain::new(spec, version, identity, sysroot.to_owned()))
}

/// Whether rustup installed it from a channel, whose manifest it keeps there: then its version identifies it.
fn is_released(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/multirust-channel-manifest.toml").is_file()
}

/// The build time of a local toolchain: its version stays `1.98.0-dev` from one build to the next.
fn built(sysroot: &Path) -> String {
    let drivers = std::fs::read_dir(sysroot.join("lib")).into_iter().flatten().flatten();
    let driver = drivers.map(|entry| entry.path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("librustc_driver"))
    });
    let modified =
        std::fs::metadata(driver.unwrap_or_else(|| sysroot.join("bin/rustc"))).and_then(|file| file.modified());
    let since = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map(|since| format!(", built {}.{:09}", since.as_secs(), since.subsec_nanos())).unwrap_or_default()
}

fn not_installed(name: &str, names: &[String]) -> ToolchainError {
    let candidates = names.iter().flat_map(|name| [short(name), name.as_str()]);
    ToolchainError::NotInstalled { name: name.to_owned(), nearest: nearest(name, candidates).map(str::to_owned) }
}

/// `rustup toolchain list` prints a name a line, with remarks in parentheses.
fn parse_list(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    // Without any toolchain it prints a sentence: `no installed toolchains`.
    names.filter(|name| *name != "no").map(str::to_owned).collect()
}

/// A name without the host that rustup appends to those it installs: `nightly-2026-05-15-x86_64-unknown-linux-gnu`.
fn short(name: &str) -> &str {
    let host = format!("-{}-unknown-linux-", std::env::consts::ARCH);
    name.find(&host).map_or(name, |end| &name[..end])
}

/// `rustc 1.97.0-nightly (0123abcd 2026-05-15)` → `1.97.0-nightly`.
fn parse_version(program: &str, command: &str, line: &str) -> Result<Version, ToolchainError> {
    let rest = line.strip_prefix(program).and_then(|rest| rest.strip_prefix(' '));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| Version::parse(word).ok()).ok_or_else(|| ToolchainError::Unreadable {
        command: command.to_owned(),
        output: line.trim().chars().take(200).collect(),
    })
}

fn is_absent(error: &ToolchainError) -> bool {
    matches!(error, ToolchainError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The subcommands and aliases that a toolchain's cargo has by itself, without those that the user has installed.
pub fn cargo_commands(toolchain: &Toolchain) -> Result<BTreeSet<String>, ToolchainError> {
    let cargo = toolchain.cargo_path().display().to_string();
    let list = output_of(&cargo, &["--list"], program::run_alone)?;
    // `    build                Compile a local package`, below a title.
    let commands = list.lines().filter_map(|line| line.strip_prefix("    ")?.split_whitespace().next());
    Ok(commands.map(str::to_owned).collect())
}

fn output(program: &str, args: &[&str]) -> Result<String, ToolchainError> {
    output_of(program, args, program::run)
}

fn output_of(
    program: &str,
    args: &[&str],
    run: impl FnOnce(&str, &[&str]) -> io::Result<Output>,
) -> Result<String, ToolchainError> {
    let command = || [&[program], args].concat().join(" ");
    let output = run(program, args).map_err(|source| ToolchainError::Start { command: command(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = match String::from_utf8_lossy(&output.stderr).trim() {
        "" => output.status.to_string(),
        stderr => stderr.chars().take(1000).collect(),
    };
    Err(ToolchainError::Failed { command: command(), message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_without_the_commit() {
        for (line, expected) in [
            ("rustc 1.95.0 (59807616e 2026-04-14)\n", Some("1.95.0")),
            ("rustc 1.97.0-nightly (abc 2026-05-15)", Some("1.97.0-nightly")),
            ("rustc 1.97.0-beta.2 (abc 2026-05-15)", Some("1.97.0-beta.2")),
            ("rustc 1.97.0-dev", Some("1.97.0-dev")),
            ("rustc 1.75.0 (82e1608df 2023-12-21) (built from a source tarball)", Some("1.75.0")),
            ("clang 18", None),
            ("rustc", None),
            ("", None),
        ] {
            assert_eq!(
                parse_version("rustc", "", line).ok().map(|version| version.to_string()).as_deref(),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn lists_are_read_without_the_remarks() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-2026-05-15\nmine\n";
        assert_eq!(parse_list(list), ["stable-x86_64-unknown-linux-gnu", "nightly-2026-05-15", "mine"]);
        assert!(parse_list("no installed toolchains\n").is_empty());
    }

    #[test]
    fn the_host_is_no_part_of_a_short_name() {
        let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        for name in ["stable", "1.95.0", "nightly-2026-05-15"] {
            assert_eq!(short(&format!("{name}-{host}")), name);
        }
        assert_eq!(short("stage1"), "stage1");
    }

    #[test]
    fn an_unknown_toolchain_is_answered_with_the_nearest_one_and_a_command() {
        let names = [format!("nightly-{}-unknown-linux-gnu", std::env::consts::ARCH), "stable".to_owned()];
        let check = |spec: &str, expected: &str| {
            assert_eq!(not_installed(spec, &names).to_string(), expected);
        };
        check(
            "nightyl",
            "toolchain `nightyl` is not installed (did you mean `nightly`?); \
             `rustup toolchain install nightyl` installs it",
        );
        check("1.60.0", "toolchain `1.60.0` is not installed; `rustup toolchain install 1.60.0` installs it");
    }

    #[test]
    fn the_active_toolchain_is_whole() {
        let toolchain = active().unwrap();
        assert!(toolchain.sysroot.join("bin/cargo").is_file(), "{toolchain:?}");
        assert!(toolchain.identity.starts_with(&format!("rustc {}", toolchain.version)), "{toolchain:?}");
    }

    #[test]
    fn a_rebuilt_toolchain_of_ones_own_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let driver = dir.path().join("lib/librustc_driver-0.so");
        std::fs::create_dir_all(dir.path().join("lib/rustlib")).unwrap();
        let build = |seconds: u64| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::create(&driver).unwrap().set_modified(time).unwrap();
            built(dir.path())
        };
        assert_eq!((build(1), build(2)), (", built 1.000000000".to_owned(), ", built 2.000000000".to_owned()));
        assert!(!is_released(dir.path()));
        std::fs::write(dir.path().join("lib/rustlib/multirust-channel-manifest.toml"), "").unwrap();
        assert!(is_released(dir.path()));
    }

    #[test]
    fn a_folder_is_a_toolchain_with_or_without_a_cargo_of_its_own() {
        let active = active().unwrap();
        let folder = |programs: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("bin")).unwrap();
            for program in programs {
                let to = dir.path().join("bin").join(program);
                std::os::unix::fs::symlink(active.sysroot.join("bin").join(program), to).unwrap();
            }
            let spec: ToolchainSpec = format!("path:{}", dir.path().display()).parse().unwrap();
            (find(&spec), dir)
        };
        let (found, _dir) = folder(&["rustc"]);
        let found = found.unwrap();
        // A folder of links is the toolchain that they lead to.
        assert_eq!((&found.sysroot, &found.cargo), (&active.sysroot, &None));
        assert!(found.identity.contains(", built "), "{}", found.identity);
        let (found, _dir) = folder(&["cargo"]);
        assert!(matches!(found, Err(ToolchainError::NoCompiler(_))), "{found:?}");
    }

    #[test]
    fn a_name_that_nobody_has_is_no_toolchain() {
        let error = find(&"maar-has-no-such-toolchain".parse().unwrap()).unwrap_err();
        let expected = matches!(error, ToolchainError::NotInstalled { .. } | ToolchainError::NoRustup(_));
        assert!(expected, "{error:?}");
    }
}
