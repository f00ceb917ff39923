//! Where maar and its steward in a container meet: a socket in a folder that only they see.

use std::fs::{self, DirBuilder, File};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};

use super::request::{GROUP, PASSWD};
use crate::sandbox::helper::etc;
use crate::sandbox::helper::steward::SOCKET;
use crate::sandbox::{Owner, SandboxError};

/// The folder, with maar listening in it.
#[derive(Debug)]
pub(super) struct Door {
    folder: Folder,
    listener: UnixListener,
}

/// The folder of a door. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

/// The connection to a steward. Closing it ends the steward, and with it the container.
#[derive(Debug)]
pub(super) struct Steward {
    stream: UnixStream,
    /// Its process number, to the host.
    pub(super) pid: u32,
}

impl Door {
    /// Opens one in `scratch` for a steward that is `owner`.
    pub(super) fn open(scratch: &Path, owner: Owner) -> Result<Self, SandboxError> {
        let path = scratch.join("door");
        let failed = |source| SandboxError::Path { doing: "listen in", path: path.clone(), source };
        let listener = furnish(&path, owner).map_err(failed)?;
        Ok(Self { folder: Folder(path), listener })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// Waits for the steward to come, and takes the socket away behind it: its commands have the same user.
    pub(super) async fn steward(self, owner: Owner) -> io::Result<(Steward, Folder)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?;
            let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|&pid| pid > 0);
            // Only root may enter the folder.
            let (Some(pid), true) = (pid, peer.uid() == owner.uid) else { continue };
            fs::remove_file(self.folder().join(SOCKET))?;
            return Ok((Steward { stream, pid }, self.folder));
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The rest goes with the job's folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Steward {
    /// Waits until it can take a command; once for each.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        self.stream.read_u8().await.map(drop)
    }

    /// Hands over the socket, the terminal and, if it has one, the outlet of the next command.
    pub(super) fn hand(&self, streams: [Option<&OwnedFd>; 3]) -> io::Result<()> {
        let fds: Vec<_> = streams.into_iter().flatten().map(AsRawFd::as_raw_fd).collect();
        let message = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(self.stream.as_raw_fd(), &[IoSlice::new(&[0])], &message, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// Whether it is still there.
    pub(super) fn is_there(&self) -> bool {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        matches!(recv(self.stream.as_raw_fd(), &mut [0], flags), Ok(1) | Err(Errno::EAGAIN))
    }
}

fn furnish(folder: &Path, owner: Owner) -> io::Result<UnixListener> {
    let Owner { uid, gid } = owner;
    DirBuilder::new().mode(0o700).create(folder)?;
    chown(folder, Some(uid), Some(gid))?;
    fs::write(folder.join(PASSWD), etc::passwd(uid, gid))?;
    fs::write(folder.join(GROUP), etc::group(gid))?;
    // The addresses of sockets are short; homes may be deep.
    let open = File::open(folder)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()))?;
    chown(folder.join(SOCKET), Some(uid), Some(gid))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn a_steward_is_known_until_it_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("a".repeat(120));
        fs::create_dir(&scratch).unwrap();
        let owner = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        let door = Door::open(&scratch, owner).unwrap();
        let place = File::open(door.folder()).unwrap();
        let mut theirs =
            std::os::unix::net::UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", place.as_raw_fd())).unwrap();
        let (mut steward, folder) = door.steward(owner).await.unwrap();
        assert!(!scratch.join("door").join(SOCKET).exists(), "whoever comes later finds nobody");
        assert_eq!(steward.pid, std::process::id());
        assert!(steward.is_there());
        theirs.write_all(b"!").unwrap();
        assert!(steward.is_there());
        steward.ready().await.unwrap();
        drop(theirs);
        assert!(!steward.is_there());
        assert!(steward.ready().await.is_err());
        drop(folder);
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    }
}
