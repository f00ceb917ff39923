//! The registry once more, served to the cargos of cells.
//!
//! All cells of a run see one state of the index, no lock is shared between them, and nothing is fetched twice. Serves
//! cargo's requests to a sparse registry, and nothing else: no search, no publishing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Method, Request, Response, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};

use super::REGISTRY;
use crate::krate::CrateName;
use crate::registry::{Registry, RegistryError};

/// The part of a tarball that is in memory, in bytes.
const CHUNK: usize = 64 << 10;

pub(super) type Answer = Response<Either<Full<Bytes>, FileBody>>;

/// Answers a request for a file of the registry.
pub(super) async fn answer(registry: &Registry, request: &Request<Incoming>) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are allowed");
    }
    match route(registry, request.uri().path()).await {
        Ok(Some(answer)) => answer,
        Ok(None) => text(StatusCode::NOT_FOUND, "the registry has no such file"),
        Err(error @ RegistryError::NotFound { .. }) => text(StatusCode::NOT_FOUND, &error.to_string()),
        Err(error) => text(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn route(registry: &Registry, path: &str) -> Result<Option<Answer>, RegistryError> {
    let index = &registry.0.index;
    let parts: Vec<&str> = path.trim_start_matches('/').splitn(6, '/').collect();
    match parts[..] {
        ["config.json"] => {
            let config = format!("{{\"dl\":\"http://{REGISTRY}/dl\"}}");
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

/// An answer without anything: a tunnel begins after it.
pub(super) fn empty() -> Answer {
    Response::new(Either::Left(Full::new(Bytes::new())))
}

/// A line of text.
pub(super) fn text(status: StatusCode, message: &str) -> Answer {
    whole(status, "text/plain", format!("{message}\n").into())
}

fn whole(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    answer
}

/// A file as a body, read as it is sent.
pub(super) struct FileBody {
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
