//! Makes an image from this host's own files, where no registry has one.
//!
//! What goes in is what native cells see: system folders, and the few files of `/etc` that hold no secrets. Left out
//! are documentation, programs installed by hand (`/usr/local`, which may hold a user's credentials), set-user-id bits,
//! and files that are not readable by all.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::TryStreamExt;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::daemon::Daemon;
use super::{Config, DockerError};
use crate::sandbox::SandboxError;
use crate::sandbox::helper::etc::{ETC, NSSWITCH};
use crate::sandbox::helper::rootfs::SYSTEM;

/// Folders that no build needs.
const LEFT_OUT: [&str; 9] = [
    "/usr/lib/firmware",
    "/usr/lib/modules",
    "/usr/local",
    "/usr/share/doc",
    "/usr/share/help",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/src",
];

/// Folders that are there to mount something on.
const EMPTY: [&str; 9] = ["/dev", "/home", "/maar", "/proc", "/run", "/sys", "/tmp", "/usr/local", "/var/tmp"];

/// How much is sent at once.
const CHUNK: usize = 256 << 10;

/// How long the daemon may take to swallow an image.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The sizes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Files, links included.
    pub files: u64,
    /// Their size.
    pub size: ByteSize,
}

/// Makes the image that the configuration names, in place of an older one.
///
/// # Errors
/// When no daemon answers this user, or a file can't be read.
pub async fn build_image(config: Config) -> Result<Built, SandboxError> {
    let Config { host, image, .. } = config;
    let daemon = Daemon::find(host).await?;
    let former = daemon.image_id(&image).await?;
    let (chunks, received) = mpsc::channel(4);
    let packing = tokio::task::spawn_blocking(move || {
        let packed = pack(Pipe(&chunks));
        if packed.is_err() {
            // Ends the request, so that the daemon doesn't take half an image for a whole one.
            let _ = chunks.blocking_send(Err(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        packed
    });
    let (repository, tag) = image.repository_and_tag();
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(repository)
        .tag(tag)
        .message("made by maar from the files of its host")
        .build();
    let stream = futures_util::stream::unfold(received, |mut received: mpsc::Receiver<io::Result<Bytes>>| async {
        received.recv().await.map(|chunk| (chunk, received))
    });
    let client = daemon.client.clone().with_timeout(PATIENCE);
    let sent = client.create_image(Some(options), Some(bollard::body_try_stream(stream)), None);
    let sent: Result<Vec<_>, _> = sent.try_collect().await;
    let packed = match packing.await {
        Ok(packed) => packed,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    match (sent, packed) {
        (Ok(_), Ok(built)) => {
            if let Some(former) = former {
                daemon.remove_image(&former).await;
            }
            Ok(built)
        }
        // A broken pipe is the daemon's doing.
        (Err(error), Ok(_)) => Err(daemon.complain("import the image", error).into()),
        (Err(error), Err(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => {
            Err(daemon.complain("import the image", error).into())
        }
        (_, Err(cause)) => Err(DockerError::Image(cause).into()),
    }
}

/// Hands over written bytes, chunk by chunk.
struct Pipe<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(to: impl Write) -> io::Result<Built> {
    let mut packer = Packer::new(BufWriter::with_capacity(CHUNK, to));
    for path in EMPTY {
        packer.folder(Path::new(path))?;
    }
    for path in SYSTEM.iter().chain(&ETC) {
        packer.tree(PathBuf::from(path))?;
    }
    packer.text("/etc/nsswitch.conf", NSSWITCH)?;
    packer.finish()
}

/// Writes files of the host into an archive where everything belongs to root.
struct Packer<W: Write> {
    archive: Builder<W>,
    /// The first name of files that have several, by device and number.
    names: HashMap<(u64, u64), PathBuf>,
    built: Built,
}

impl<W: Write> Packer<W> {
    fn new(to: W) -> Self {
        Self { archive: Builder::new(to), names: HashMap::new(), built: Built { files: 0, size: ByteSize(0) } }
    }

    /// Adds a file or a folder with all that is in it. What isn't there is left out.
    fn tree(&mut self, root: PathBuf) -> io::Result<()> {
        let mut left = vec![root];
        while let Some(path) = left.pop() {
            let metadata = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata.map_err(at(&path))?,
            };
            let is_public = metadata.is_symlink() || metadata.mode() & 0o004 != 0;
            if !is_public || LEFT_OUT.iter().any(|folder| path == Path::new(folder)) {
                continue;
            }
            if metadata.is_dir() {
                self.folder(&path)?;
                for entry in fs::read_dir(&path).map_err(at(&path))? {
                    left.push(entry.map_err(at(&path))?.path());
                }
            } else {
                self.file(&path, &metadata).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut header = header(EntryType::Regular, metadata.mode());
        header.set_mtime(metadata.mtime().unsigned_abs());
        if metadata.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            self.archive.append_link(&mut header, relative(path), fs::read_link(path)?)?;
        } else if !metadata.is_file() {
            // Devices, pipes and sockets are of this host.
            return Ok(());
        } else if let Some(first) = self.names.get(&(metadata.dev(), metadata.ino())) {
            header.set_entry_type(EntryType::Link);
            self.archive.append_link(&mut header, relative(path), relative(first))?;
        } else {
            header.set_size(metadata.len());
            // A file that shrinks while it is copied would shift all that follows.
            let content = File::open(path)?.chain(io::repeat(0)).take(metadata.len());
            self.archive.append_data(&mut header, relative(path), content)?;
            if metadata.nlink() > 1 {
                self.names.insert((metadata.dev(), metadata.ino()), path.to_owned());
            }
            self.built.size += ByteSize(metadata.len());
        }
        self.built.files += 1;
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        self.archive.append_data(&mut header(EntryType::Directory, 0o755), relative(path), io::empty())
    }

    fn text(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o644);
        header.set_size(text.len() as u64);
        self.archive.append_data(&mut header, relative(Path::new(path)), text.as_bytes())
    }

    fn finish(self) -> io::Result<Built> {
        self.archive.into_inner()?.flush()?;
        Ok(self.built)
    }
}

/// Root's, with no more than the plain permissions.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(OsStr::new("/")).unwrap_or(path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn secrets_and_privileges_stay_on_the_host() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("su", 0o4755), ("public", 0o664), ("secret", 0o640)] {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::hard_link(dir.path().join("public"), dir.path().join("same")).unwrap();
        symlink("su", dir.path().join("link")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap());

        let mut bytes = Vec::new();
        let mut packer = Packer::new(&mut bytes);
        packer.tree(dir.path().to_owned()).unwrap();
        packer.tree(dir.path().join("missing")).unwrap();
        assert_eq!(packer.finish().unwrap(), Built { files: 4, size: ByteSize(2 + 6) });

        let mut archive = tar::Archive::new(&bytes[..]);
        let mut found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
                let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
                (name, header.mode().unwrap())
            })
            .filter(|(name, _)| ["su", "public", "secret", "same", "socket"].contains(&name.as_str()))
            .collect();
        found.sort();
        assert_eq!(found, [("public".to_owned(), 0o644), ("same".to_owned(), 0o644), ("su".to_owned(), 0o755)]);
    }
}
