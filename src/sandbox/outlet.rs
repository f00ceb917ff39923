//! The one way out of a cell that has no network: a port on its own loopback, answered by the caller of the command.
//!
//! A socket belongs to the network namespace in which it was made. The helper listens inside, hands the listener out of
//! the cell, and maar accepts outside: nothing is routed, and the cell reaches nothing but this port. The bytes on the
//! connections, this file doesn't know.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;

/// Where commands find the outlet. A new network namespace has no other listener.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3128);

/// How long accepting pauses after a failure, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The end of an outlet that a running command is given. Dropping it closes the outlet.
#[derive(Debug)]
pub struct Outlet(mpsc::Sender<TcpStream>);

/// The other end: the connections that commands make.
#[derive(Debug)]
pub struct Connections(mpsc::Receiver<TcpStream>);

/// Makes an outlet.
pub fn outlet() -> (Outlet, Connections) {
    // The kernel queues what isn't accepted yet.
    let (sender, receiver) = mpsc::channel(1);
    (Outlet(sender), Connections(receiver))
}

impl Outlet {
    /// Hands out a connection that the caller accepted. Returns whether the other end is still there.
    pub async fn hand(&self, connection: TcpStream) -> bool {
        self.0.send(connection).await.is_ok()
    }
}

/// Ends when the outlet is closed.
impl Stream for Connections {
    type Item = TcpStream;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<TcpStream>> {
        self.get_mut().0.poll_recv(context)
    }
}

/// Where an outlet's listener comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// The helper sends it over this socket.
    Helper(UnixStream),
    /// It listens on the host already.
    Host(TcpListener),
}

/// A source inside a cell, and the socket over which the helper there sends its listener.
pub(super) fn inside() -> io::Result<(Source, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((Source::Helper(ours), theirs.into_std()?.into()))
}

/// Does `work`, and hands out the connections to the outlet until it is done.
pub(super) async fn during<T>(source: Option<(Source, Outlet)>, work: impl Future<Output = T>) -> T {
    let Some((source, outlet)) = source else { return work.await };
    tokio::select! {
        done = work => done,
        never = serve(source, outlet) => match never {},
    }
}

async fn serve(source: Source, outlet: Outlet) -> std::convert::Infallible {
    let listener = match source {
        Source::Host(listener) => Some(listener),
        // Without a listener the helper's report has the cause.
        Source::Helper(socket) => receive(&socket).await.ok(),
    };
    if let Some(listener) = listener {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => {
                    if !outlet.hand(connection).await {
                        break;
                    }
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
    std::future::pending().await
}

/// Listens on [`ADDRESS`] in this process's network namespace, and sends the listener over `socket`.
pub(super) fn open(socket: &OwnedFd) -> io::Result<()> {
    let listener = std::net::TcpListener::bind(ADDRESS)?;
    let fds = [listener.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives what [`open`] sends.
async fn receive(socket: &UnixStream) -> io::Result<TcpListener> {
    let receive = || receive_descriptors(socket).map(|(_, descriptors)| descriptors);
    let received = socket.async_io(Interest::READABLE, receive).await?;
    let [listener] = <[OwnedFd; 1]>::try_from(received).map_err(|_| io::ErrorKind::InvalidData)?;
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Receives one byte, and the descriptors that come with it: at most three. Returns how many bytes came: 0 at the end.
pub(super) fn receive_descriptors(socket: &impl AsFd) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let mut room = nix::cmsg_space!([i32; 3]);
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<()>(socket, &mut data, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for item in message.cmsgs()? {
        let ControlMessageOwned::ScmRights(fds) = item else { continue };
        // SAFETY: the kernel has just made these descriptors for this process, so they have no other owner.
        received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    Ok((message.bytes, received))
}
