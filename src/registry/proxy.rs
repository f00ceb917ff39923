//! The registry once more, served on loopback for the cargos of cells.
//!
//! All cells of a run see one state of the index, no lock is shared between them, and nothing is fetched twice. Serves
//! what cargo asks a sparse registry for, and nothing else: no search, no publishing.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Registry;
use super::error::RegistryError;
use crate::krate::CrateName;

/// Connections at one time; a cargo opens a few.
const MAX_CONNECTIONS: usize = 512;
/// How long a connection may take to send a request, idling between requests included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How many bytes the head of a request may have.
const MAX_HEAD: usize = 16 << 10;
/// How much of a tarball is in memory at one time.
const CHUNK: usize = 64 << 10;

type Answer = Response<Either<Full<Bytes>, FileBody>>;

/// A server of the registry. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(registry: Registry) -> Result<Self, RegistryError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |source: io::Error| RegistryError::Serve { source: Arc::new(source) };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(accept(listener, registry, address));
        Ok(Self { address, task })
    }

    /// The URL for cargo's configuration: `sparse+http://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("sparse+http://{}/", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections until it is aborted, which ends them as well: the set owns them.
async fn accept(listener: TcpListener, registry: Registry, address: SocketAddr) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of file descriptors, or the peer is gone already: neither is a reason to stop, nor to spin.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let registry = registry.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let registry = registry.clone();
                async move { Ok::<_, std::convert::Infallible>(answer(&registry, &request, address).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(REQUEST_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off or talks nonsense concerns nobody else.
            let _ = connection.await;
            drop(permit);
        });
    }
}

async fn answer(registry: &Registry, request: &Request<Incoming>, address: SocketAddr) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed");
    }
    match route(registry, request.uri().path(), address).await {
        Ok(Some(answer)) => answer,
        Ok(None) => text(StatusCode::NOT_FOUND, "the registry has no such file"),
        Err(error @ RegistryError::NotFound { .. }) => text(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => text(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn route(registry: &Registry, path: &str, address: SocketAddr) -> Result<Option<Answer>, RegistryError> {
    let index = &registry.0.index;
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
    match parts[..] {
        ["config.json"] => {
            let config = format!("{{\"dl\":\"http://{address}/dl\"}}");
            Ok(Some(whole(StatusCode::OK, "application/json", config.into())))
        }
        ["dl", name, version, "download"] => {
            let (Ok(name), Ok(version)) = (name.parse(), version.parse()) else { return Ok(Some(bad_request())) };
            let Some(package) = index.package(&name, &version).await? else { return Ok(None) };
            let tarball = registry.tarball(&package).await?;
            let file = FileBody::open(&tarball).await.map_err(RegistryError::io("read", &tarball))?;
            Ok(Some(Response::new(Either::Right(file))))
        }
        [.., last] => {
            let Ok(name) = last.parse::<CrateName>() else { return Ok(Some(bad_request())) };
            // Each crate has one path: another one would be another crate's.
            if index.path_of(&name) != path.trim_start_matches('/') {
                return Ok(Some(bad_request()));
            }
            let raw = index.raw(&name).await?;
            Ok(raw.map(|raw| whole(StatusCode::OK, "text/plain", raw.into())))
        }
        [] => Ok(None),
    }
}

fn bad_request() -> Answer {
    text(StatusCode::BAD_REQUEST, "no path of a sparse registry")
}

fn text(status: StatusCode, message: &str) -> Answer {
    whole(status, "text/plain", format!("{message}\n").into())
}

fn whole(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}

/// A file as a body, read as it is sent.
struct FileBody {
    file: File,
    left: u64,
    buffer: Box<[u8]>,
}

impl FileBody {
    async fn open(path: &std::path::Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let left = file.metadata().await?.len();
        Ok(Self { file, left, buffer: vec![0; CHUNK].into() })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { file, left, buffer } = self.get_mut();
        if *left == 0 {
            return Poll::Ready(None);
        }
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(file).poll_read(context, &mut read))?;
        let Some(rest) = left.checked_sub(read.filled().len() as u64).filter(|_| !read.filled().is_empty()) else {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        };
        *left = rest;
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(read.filled())))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
