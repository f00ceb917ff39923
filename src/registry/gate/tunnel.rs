//! Connections to https hosts: opened to a checked address, then carried byte by byte within bounds.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::address::is_elsewhere;
use super::denial::Denial;
use super::target::{AllowedHost, HTTPS, Target};

/// How long looking up a name and connecting may take together.
const CONNECT: Duration = Duration::from_secs(30);

/// How long a tunnel may be silent in both directions.
const SILENCE: Duration = Duration::from_secs(120);

/// How much is carried at once.
const CHUNK: usize = 16 << 10;

/// How much the tunnels of one command may carry together, in both directions.
#[derive(Debug)]
pub(super) struct Allowance {
    limit: ByteSize,
    left: AtomicU64,
}

impl Allowance {
    pub(super) fn new(limit: ByteSize) -> Self {
        Self { limit, left: AtomicU64::new(limit.as_u64()) }
    }

    fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes this much off. `None`: so much is not left.
    fn take(&self, bytes: usize) -> Option<()> {
        let less = |left: u64| left.checked_sub(bytes as u64);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if taken.is_err() {
            self.left.store(0, Ordering::Relaxed);
        }
        taken.ok().map(drop)
    }
}

/// Connects to a target, if it may be reached.
pub(super) async fn open(target: &Target, allowed: &[AllowedHost], allowance: &Allowance) -> Result<TcpStream, Denial> {
    if allowance.left() == 0 {
        return Err(Denial::too_much(target, allowance.limit));
    }
    match tokio::time::timeout(CONNECT, connect(target, allowed)).await {
        Ok(connected) => connected,
        Err(_) => Err(Denial::unreachable(target, format!("no answer in {} seconds", CONNECT.as_secs()))),
    }
}

async fn connect(target: &Target, allowed: &[AllowedHost]) -> Result<TcpStream, Denial> {
    let is_allowed = allowed.iter().any(|host| host.is(target));
    if !is_allowed && target.port != HTTPS {
        return Err(Denial::port(target));
    }
    let unreachable = |error: io::Error| Denial::unreachable(target, error);
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(unreachable)?;
    // The checked address is the one that is connected to: a second lookup of the name could return another.
    let (elsewhere, refused): (Vec<SocketAddr>, Vec<_>) =
        found.partition(|address| is_allowed || is_elsewhere(address.ip()));
    let mut failure = None;
    for address in elsewhere {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(match (failure, refused.first()) {
        (Some(error), _) => unreachable(error),
        (None, Some(address)) => Denial::address(target, address.ip()),
        (None, None) => Denial::unreachable(target, "its name has no address"),
    })
}

/// Carries bytes both ways until both sides have ended, either breaks off, nothing moves any more, or it was too much,
/// which is returned.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite,
    server: TcpStream,
    target: &Target,
    allowance: &Allowance,
) -> Result<(), Denial> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = server.into_split();
    let moved = AtomicU64::new(0);
    let both = async {
        tokio::try_join!(
            pump(from_client, to_server, &moved, allowance),
            pump(from_server, to_client, &moved, allowance)
        )
    };
    tokio::select! {
        Err(Broken::TooMuch) = both => Err(Denial::too_much(target, allowance.limit)),
        () = silence(&moved) => Ok(()),
        else => Ok(()),
    }
}

/// Why bytes are carried no further.
enum Broken {
    Off,
    TooMuch,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Off
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
    allowance: &Allowance,
) -> Result<(), Broken> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        allowance.take(count).ok_or(Broken::TooMuch)?;
        to.write_all(&buffer[..count]).await?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Ends when nothing has moved for a while.
async fn silence(moved: &AtomicU64) {
    let mut before = None;
    loop {
        let now = moved.load(Ordering::Relaxed);
        if before == Some(now) {
            return;
        }
        before = Some(now);
        tokio::time::sleep(SILENCE).await;
    }
}
