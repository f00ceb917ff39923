//! A group for maar on systems with systemd: a scope, delegated to maar, which systemd's manager makes on request.
//!
//! Asks over D-Bus with zbus, which cgroups-rs brings along: that crate's own client knows only the manager of the
//! system, and waits without end. The groups below the scope are made elsewhere, and nothing is moved but this process.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use nix::unistd::Uid;
use zbus::blocking::connection::Builder;
use zbus::zvariant::Value;

use super::hierarchy::{self, Version};
use crate::sandbox::id_map;

/// A folder that is there where systemd is the first process: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Where the manager of the system is found, according to the D-Bus specification.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// How long the manager may take to answer, and then to do it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How far apart this process's group is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A unit's property by name.
type Property<'a> = (&'a str, Value<'a>);

/// Why no scope could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoScope {
    /// The host has no systemd that works for this user. That is not an error.
    #[error("no manager of systemd answers")]
    NoManager,
    #[error("failed to reach systemd at {}: {source}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("systemd refused maar a scope: {0}")]
    Refused(#[from] zbus::Error),
    #[error("systemd at {} did not answer within {} s", socket.display(), patience.as_secs())]
    Silent { socket: PathBuf, patience: Duration },
    #[error("systemd did not move maar to {scope}: see its journal for the reason")]
    NotMoved { scope: String },
}

/// Moves this process to a new scope and returns the folder of that group.
///
/// Root asks the manager of the system, others their own. The limits of the former group are left behind, as
/// with `systemd-run --scope`.
pub(super) fn enter() -> Result<PathBuf, NoScope> {
    if !Path::new(BOOTED).is_dir() {
        return Err(NoScope::NoManager);
    }
    // Process numbers are not unique where containers share a manager.
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    let scope = format!("maar-{}-{now}.scope", std::process::id());
    request(&bus(id_map::caller()), &scope, PATIENCE)?;
    arrival(&scope, PATIENCE)
}

/// The bus on which a user's manager is.
fn bus(user: Uid) -> PathBuf {
    if user.is_root() { SYSTEM_BUS.into() } else { format!("/run/user/{user}/bus").into() }
}

/// Asks for a scope with this process in it.
fn request(bus: &Path, scope: &str, patience: Duration) -> Result<(), NoScope> {
    let socket = || bus.to_owned();
    let stream = UnixStream::connect(bus).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NoScope::NoManager,
        _ => NoScope::Unreachable { socket: socket(), source },
    })?;
    let (answer, answered) = mpsc::sync_channel(1);
    let name = scope.to_owned();
    // On a thread, since nothing else ends the wait for a bus that accepts and stays silent.
    std::thread::spawn(move || answer.send(start(stream, &name)));
    match answered.recv_timeout(patience) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(NoScope::Silent { socket: socket(), patience }),
    }
}

/// Calls [`StartTransientUnit`](https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html).
fn start(stream: UnixStream, scope: &str) -> zbus::Result<()> {
    let connection = Builder::async_io_unix_stream(stream)
        // The bus goes by the user's id on the host, not by that in a user namespace.
        .user_id(id_map::caller().as_raw())
        .build()?;
    let properties: [Property<'_>; 5] = [
        ("Description", "maar and the commands of crates".into()),
        // The sender, under any process number that the manager has for it.
        ("PIDs", vec![0_u32].into()),
        ("Delegate", true.into()),
        // Not even a failure is kept.
        ("CollectMode", "inactive-or-failed".into()),
        // Every command has its own limit.
        ("TasksMax", u64::MAX.into()),
    ];
    let others: [(&str, Vec<Property<'_>>); 0] = [];
    let manager = "org.freedesktop.systemd1.Manager";
    let arguments = (scope, "fail", properties.as_slice(), others.as_slice());
    connection
        .call_method(
            Some("org.freedesktop.systemd1"),
            "/org/freedesktop/systemd1",
            Some(manager),
            "StartTransientUnit",
            &arguments,
        )
        .map(drop)
}

/// Waits until this process is in the scope: the manager answers before it has moved anyone.
fn arrival(scope: &str, patience: Duration) -> Result<PathBuf, NoScope> {
    let looks = patience.as_millis() / BETWEEN_LOOKS.as_millis();
    for _ in 0..looks {
        let unified = hierarchy::here().into_iter().find(|hierarchy| hierarchy.version == Version::Two);
        if let Some(own) = unified.map(|hierarchy| hierarchy.own).filter(|own| own.ends_with(scope)) {
            return Ok(own);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Err(NoScope::NotMoved { scope: scope.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn root_asks_the_system_and_others_their_own_manager() {
        assert_eq!(bus(Uid::from_raw(0)), Path::new("/run/dbus/system_bus_socket"));
        assert_eq!(bus(Uid::from_raw(1000)), Path::new("/run/user/1000/bus"));
    }

    #[test]
    fn where_nobody_listens_nothing_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let bus = dir.path().join("bus");
        let ask = || request(&bus, "x.scope", Duration::from_secs(1)).unwrap_err();
        assert!(matches!(ask(), NoScope::NoManager));
        drop(UnixListener::bind(&bus).unwrap());
        assert!(matches!(ask(), NoScope::NoManager));
    }

    #[test]
    fn a_bus_that_says_nothing_is_waited_for_no_longer_than_that() {
        let dir = tempfile::tempdir().unwrap();
        let bus = dir.path().join("bus");
        let _listener = UnixListener::bind(&bus).unwrap();
        let error = request(&bus, "x.scope", Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.to_string(), format!("systemd at {} did not answer within 0 s", bus.display()));
    }

    #[test]
    fn a_refusal_is_told_in_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let bus = dir.path().join("bus");
        let listener = UnixListener::bind(&bus).unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"REJECTED EXTERNAL\r\n"));
        let error = request(&bus, "x.scope", PATIENCE).unwrap_err();
        assert!(error.to_string().starts_with("systemd refused maar a scope: "), "{error}");
        server.join().unwrap().unwrap();
    }
}
