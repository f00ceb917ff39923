//! The abilities of this host, found by trial: for `maar doctor`, and for `maar run` when it can't start.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use super::disk::space_left;
use super::id_map::IdMap;
use super::native::Native;
use super::{Command, Cores, End, Limits, Mount, MountKind, Network, Sandbox, SandboxError, Spec};
use crate::stop::Stop;

/// The oldest kernel with all that cells are made of: `mount_setattr` came with 5.12.
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// Less than this, and a handful of crates fill the disk.
const LITTLE_SPACE: ByteSize = ByteSize::gib(5);

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The checked ability, in a word or two.
    pub name: &'static str,
    /// Whether it will do.
    pub status: Status,
    /// The result.
    pub detail: String,
    /// What to do about it, where something is missing.
    pub remedy: Option<String>,
}

/// Whether something will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It will.
    Ok,
    /// Something is not enforced, or will not last.
    Warn,
    /// Native sandboxes don't work without.
    Fail,
}

/// Checks all that native sandboxes need; `dir` is an existing folder of maar, on the disk for the run.
pub async fn probe(native: &Native, dir: &Path) -> Vec<Check> {
    let mut checks = vec![kernel(&read("/proc/sys/kernel/osrelease"))];
    checks.extend(namespaces_and_overlay(native, dir).await);
    checks.push(cgroups(native));
    checks.push(disk(dir, space_left(dir)));
    checks
}

fn kernel(release: &str) -> Check {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let detail = format!("Linux {release}");
    if version >= OLDEST_KERNEL {
        return Check { name: "kernel", status: Status::Ok, detail, remedy: None };
    }
    let (major, minor) = OLDEST_KERNEL;
    let remedy = Some(format!("upgrade to Linux {major}.{minor} or newer, or use --sandbox none for crates you trust"));
    Check { name: "kernel", status: Status::Fail, detail, remedy }
}

/// Runs `true` in a cell without and with an overlay.
async fn namespaces_and_overlay(native: &Native, dir: &Path) -> Vec<Check> {
    let failed = |name, error: &SandboxError| Check {
        name,
        status: Status::Fail,
        detail: error.to_string(),
        remedy: hints(&|path| fs::read_to_string(path).ok()).or_else(|| {
            Some(
                "run maar where namespaces and mounts are allowed, or use --sandbox none for crates you trust"
                    .to_owned(),
            )
        }),
    };
    let ok = |name, detail: &str| Check { name, status: Status::Ok, detail: detail.to_owned(), remedy: None };
    if let Err(error) = try_cell(native, dir, Trial::Plain).await {
        return vec![failed("namespaces", &error)];
    }
    let user = native.user();
    let who = user.owner().map(|owner| IdMap::of_users().outside(owner.uid));
    let who = match who {
        Some(id) if user.is_alone() => {
            format!("cells work; each crate's commands are a user of their own to the host, such as {id}")
        }
        Some(id) => format!("cells work; commands are user {id} to the host"),
        None => "cells work, rootless".to_owned(),
    };
    let overlay = match try_cell(native, dir, Trial::Overlay).await {
        Ok(()) => ok("overlay", &format!("works in {}", dir.display())),
        Err(error) => failed("overlay", &error),
    };
    vec![ok("namespaces", &who), overlay]
}

/// The mounts of a trial cell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    Plain,
    Overlay,
}

async fn try_cell(native: &Native, dir: &Path, trial: Trial) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Path { doing: "make a trial folder in", path: dir.to_owned(), source };
    let trial_dir = tempfile::Builder::new().prefix("probe-").tempdir_in(dir).map_err(failed)?;
    let folder = |name: &str| {
        let path = trial_dir.path().join(name);
        fs::create_dir(&path).map_err(failed).map(|()| path)
    };
    let mut spec = Spec {
        label: "probe".to_owned(),
        user: native.user(),
        scratch: folder("scratch")?,
        mounts: Vec::new(),
        network: Network::Loopback,
        limits: Limits {
            cpus: 1.0,
            memory: ByteSize::mib(64),
            pids: 16,
            timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(20),
            output: ByteSize::kib(4),
            disk: ByteSize::mib(64),
            cores: Cores::Shared,
        },
        live: None,
    };
    if trial == Trial::Overlay {
        let what = MountKind::Overlay { lower: folder("lower")?, upper: folder("upper")?, work: folder("work")? };
        spec.mounts.push(Mount { at: "/overlay".into(), what });
    }
    let command = Command { argv: vec!["true".to_owned()], env: Vec::new(), cwd: "/".into() };
    let mut cell = Sandbox::Native(native.clone()).open(spec).await?;
    let exit = cell.run(&command, &Stop::never()).await?;
    cell.close().await?;
    match exit.end {
        End::Code(0) => Ok(()),
        end => {
            Err(SandboxError::Spec { label: "probe".to_owned(), reason: format!("`true` ended with {end:?} in it") })
        }
    }
}

/// Which settings of the kernel commonly forbid namespaces, and how to change the first that does here.
fn hints(read: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let settings = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "15000"),
    ];
    settings.into_iter().find_map(|(name, forbids, allows)| {
        let value = read(&format!("/proc/sys/{}", name.replace('.', "/")))?;
        (value.trim() == forbids)
            .then(|| format!("`sudo sysctl -w {name}={allows}` (it is {forbids}, which forbids namespaces to users)"))
    })
}

fn cgroups(native: &Native) -> Check {
    let cgroups = &native.launcher().cgroups;
    let usable: Vec<_> = cgroups.usable().collect();
    let missing: Vec<_> = cgroups.missing().map(|(name, reason)| format!("{name}: {reason}")).collect();
    let version = cgroups.version().map_or_else(String::new, |version| format!("version {version}, "));
    if missing.is_empty() {
        let detail = format!("{version}limits by {}", usable.join(", "));
        return Check { name: "cgroups", status: Status::Ok, detail, remedy: None };
    }
    Check {
        name: "cgroups",
        status: Status::Warn,
        detail: format!("{version}not usable: {}", missing.join("; ")),
        remedy: Some(remedy_for(&cgroups.missing().map(|(name, _)| name).collect::<Vec<_>>())),
    }
}

/// How to get controllers that can't be used.
fn remedy_for(missing: &[&str]) -> String {
    if missing == ["cpuset"] {
        // systemd gives the managers of users all other controllers unasked.
        return "run maar as root, or have systemd give cores to users: `sudo systemctl edit user@.service`, there \
                `[Service]` and `Delegate=cpu cpuset memory pids`, and log in anew"
            .to_owned();
    }
    "run maar as root, in a group delegated to you, or where systemd gives it one: logged in as yourself instead of by \
     `su` or `sudo`, with the packages dbus and dbus-user-session installed"
        .to_owned()
}

fn disk(dir: &Path, left: Option<ByteSize>) -> Check {
    let (status, detail, remedy) = match left {
        None => (Status::Fail, format!("{} can't be read", dir.display()), Some("choose another --home".to_owned())),
        Some(left) => {
            let detail = format!("{} left at {}", left.display().iec(), dir.display());
            let remedy = format!("make room, at least {}, or choose another --home", LITTLE_SPACE.display().iec());
            if left < LITTLE_SPACE { (Status::Warn, detail, Some(remedy)) } else { (Status::Ok, detail, None) }
        }
    };
    Check { name: "disk", status, detail, remedy }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_fail() {
        for (release, status) in [
            ("6.18.44-generic", Status::Ok),
            ("5.12.0", Status::Ok),
            ("5.11.22", Status::Fail),
            ("4.18.0-553.el8", Status::Fail),
            ("", Status::Fail),
        ] {
            assert_eq!(kernel(release).status, status, "{release}");
        }
    }

    #[test]
    fn the_setting_that_forbids_namespaces_is_named() {
        let with = |name: &'static str, value: &'static str| {
            hints(&move |path| (path == format!("/proc/sys/{name}")).then(|| value.to_owned()))
        };
        assert_eq!(
            with("kernel/apparmor_restrict_unprivileged_userns", "1\n").unwrap(),
            "`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (it is 1, which forbids namespaces to users)"
        );
        assert_eq!(with("kernel/apparmor_restrict_unprivileged_userns", "0\n"), None);
        assert_eq!(with("user/max_user_namespaces", "96365\n"), None);
    }

    #[test]
    fn the_remedy_for_cores_alone_is_systemds_setting() {
        assert!(remedy_for(&["cpuset"]).contains("`Delegate=cpu cpuset memory pids`"));
        for missing in [&["cpu", "cpuset"][..], &["memory"]] {
            assert!(remedy_for(missing).starts_with("run maar as root, in a group delegated to you"), "{missing:?}");
        }
    }

    #[test]
    fn a_nearly_full_disk_is_a_warning() {
        let check = |left| disk(Path::new("/home"), left).status;
        assert_eq!(check(Some(ByteSize::gib(6))), Status::Ok);
        assert_eq!(check(Some(ByteSize::gib(1))), Status::Warn);
        assert_eq!(check(None), Status::Fail);
    }
}
