//! The `rustc` that cargo finds in cells that compile ahead: a script that refuses all packages but a few.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::{AheadError, at};
use crate::ops::cell::{TOOLCHAIN, VENDOR};

/// The list of packages that the stand-in for rustc may compile, beside it.
const ALLOWED: &str = "allowed";

/// The words before the folder of a package that the stand-in for rustc refuses.
pub(super) const REFUSED: &str = "maar-refused: ";

/// Writes the stand-in for `rustc`, which compiles nothing before [`allow`] names packages.
///
/// It looks like the same file in all cells, so that cargo knows it again.
pub(super) fn write(dir: &Path) -> Result<(), AheadError> {
    let path = dir.join("rustc");
    // Cargo lists its units only if it takes itself for a nightly one. The rustc that it asks must not.
    let script = format!(
        "#!/bin/sh\n\
         unset RUSTC_BOOTSTRAP\n\
         . \"${{0%/*}}/{ALLOWED}\"\n\
         echo \"{REFUSED}$CARGO_MANIFEST_DIR\" >&2\n\
         exit 1\n"
    );
    fs::write(&path, script)
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
        .and_then(|()| File::options().write(true).open(&path)?.set_modified(UNIX_EPOCH + Duration::from_secs(1)))
        .map_err(at("write", &path))
}

/// Has the stand-in answer questions, and compile these packages and no others.
///
/// Cargo names the package in a variable, which is not set when cargo asks for the version.
pub(super) fn allow<'a>(dir: &Path, packages: impl Iterator<Item = &'a str>) -> Result<(), AheadError> {
    let path = dir.join(ALLOWED);
    let mut patterns = String::from("''");
    for package in packages {
        // Names and versions hold nothing that a shell would take for more than a letter.
        patterns.push_str(&format!(" | '{VENDOR}/{package}'"));
    }
    let script = format!(
        "case \"${{CARGO_MANIFEST_DIR-}}\" in\n\
         {patterns}) exec {TOOLCHAIN}/bin/rustc \"$@\" ;;\n\
         esac\n"
    );
    fs::write(&path, script).map_err(at("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_compiles_what_it_is_told_to_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        allow(dir.path(), ["a-1.0.0", "b-2.0.0+x"].into_iter()).unwrap();
        let allowed = dir.path().join(ALLOWED);
        let script = fs::read_to_string(&allowed).unwrap();
        fs::write(
            &allowed,
            script.replace(&format!("exec {TOOLCHAIN}/bin/rustc"), "exec echo compiled ${RUSTC_BOOTSTRAP-}"),
        )
        .unwrap();
        let run = |folder: Option<&str>| {
            let mut command = std::process::Command::new("/bin/sh");
            command.arg(dir.path().join("rustc")).arg("arg").env_clear().env("RUSTC_BOOTSTRAP", "1");
            command.envs(folder.map(|folder| ("CARGO_MANIFEST_DIR", folder)));
            let output = command.output().unwrap();
            (
                output.status.code(),
                String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
            )
        };
        let compiled = (Some(0), "compiled arg\n".to_owned());
        assert_eq!(run(None), compiled);
        assert_eq!(run(Some("/cargo/vendor/a-1.0.0")), compiled);
        assert_eq!(run(Some("/cargo/vendor/b-2.0.0+x")), compiled);
        for refused in ["/crate", "/cargo/vendor/a-1.0.0/", "/cargo/vendor/a-1.0.0/sub", "/cargo/vendor/a-1.0.01", "x"]
        {
            assert_eq!(run(Some(refused)), (Some(1), format!("maar-refused: {refused}\n")));
        }
    }
}
