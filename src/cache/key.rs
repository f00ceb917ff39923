//! What layers are particular to: everything that a unit depends on and that cargo's own hashes leave out.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::toolchain::Toolchain;

/// The form of what is on disk. Layers of another form are never read.
const FORM: u32 = 3;

/// What the system's compilers, libraries and headers are: installing one changes the time of its folder, and of the
/// package manager's own notes.
const SYSTEM: [&str; 12] = [
    "/etc/os-release",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/pkgconfig",
    "/usr/local/bin",
    "/usr/local/include",
    "/usr/local/lib",
    "/usr/share/pkgconfig",
    "/var/lib/dpkg/status",
    "/var/lib/rpm",
];

/// What layers are particular to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
}

impl Key {
    /// The key of what `toolchain` compiles from the registry at `index` with these variables, on this host as it is.
    pub fn new(toolchain: &Toolchain, index: &str, env: &[(String, String)]) -> Self {
        let mut text = format!("form {FORM}\ntoolchain {}\n", toolchain.identity);
        for folder in ["bin/cargo", "bin/rustc", "lib", "lib/rustlib"] {
            text.push_str(&state(&toolchain.sysroot.join(folder)));
        }
        let others = [("cargo", &toolchain.cargo), ("rustdoc", &toolchain.rustdoc)];
        for (name, other) in others.into_iter().filter_map(|(name, other)| Some((name, other.as_ref()?))) {
            text.push_str(&state(&other.sysroot.join("bin").join(name)));
        }
        text.push_str(&format!("registry {index}\n"));
        text.push_str(&ids());
        for (name, value) in env {
            text.push_str(&format!("env {name}={value}\n"));
        }
        text.push_str(&system());
        Self { text }
    }

    /// A file name.
    pub(super) fn name(&self) -> String {
        let digest = Sha256::digest(&self.text);
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// All of it, for people.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

/// The part of a key that is the same for all toolchains and registries: the state of this host. Two hosts with the same
/// text compile the same.
pub fn environment() -> String {
    ids() + &system()
}

/// Files of cells belong to ids that exist only where the same ids are mapped.
fn ids() -> String {
    let ids = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    format!("ids {}\n", ids.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn system() -> String {
    SYSTEM.iter().map(|path| state(Path::new(path))).collect()
}

/// A line on a file or folder: when it last changed, and how large it is.
fn state(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(metadata) => {
            let (seconds, nanos) = (metadata.mtime(), metadata.mtime_nsec());
            format!("{} {seconds}.{nanos:09} {}\n", path.display(), metadata.size())
        }
        Err(_) => format!("{} absent\n", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_unit_depends_on_makes_another_key() {
        let sysroot = tempfile::tempdir().unwrap();
        let toolchain = |identity: &str| {
            let (spec, version) = ("x".parse().unwrap(), "1.95.0".parse().unwrap());
            Toolchain::new(spec, version, identity.to_owned(), sysroot.path().to_owned())
        };
        let env = |flags: &str| [("RUSTFLAGS".to_owned(), flags.to_owned())];
        let key = Key::new(&toolchain("rustc 1"), "index", &env("-a"));
        assert_eq!(key, Key::new(&toolchain("rustc 1"), "index", &env("-a")));
        let others = [
            Key::new(&toolchain("rustc 2"), "index", &env("-a")),
            Key::new(&toolchain("rustc 1"), "other", &env("-a")),
            Key::new(&toolchain("rustc 1"), "index", &env("-b")),
        ];
        fs::create_dir(sysroot.path().join("lib")).unwrap();
        let rebuilt = Key::new(&toolchain("rustc 1"), "index", &env("-a"));
        let names: std::collections::BTreeSet<String> = others.iter().chain([&key, &rebuilt]).map(Key::name).collect();
        assert_eq!(names.len(), 5);
    }
}
