//! Fetches files over HTTP: bounded in size, time and number, tried again when trying again may help.
//!
//! Doesn't look into the files.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Certificate, Client, Response, StatusCode};
use tokio::sync::Semaphore;

use super::Access;
use super::error::RegistryError;
use super::upstream::Upstream;
use crate::printable::innermost;

/// The most concurrent requests; cargo's own client allows about as many.
const MAX_REQUESTS: usize = 32;
/// How often a request is tried before the network is given up.
const ATTEMPTS: u32 = 4;
/// The pause after the first failure; every further one is four times as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a server may say nothing: cargo's `http.timeout`.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time for one file, so that a server that drips bytes can't block a caller without end.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(900);

/// A client for one registry.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    permits: Semaphore,
    downloaded: AtomicU64,
    access: Access,
}

/// A registry's answer to a request for a small file.
#[derive(Debug)]
pub(super) enum Reply {
    /// The file, and the tag by which it can be asked for again.
    File { body: Vec<u8>, encoding: Encoding, etag: Option<String> },
    /// The file is still the one with the tag that was sent.
    Unchanged,
}

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

/// Whether a failure may pass.
enum Failure {
    Passing(RegistryError),
    Lasting(RegistryError),
}

impl Http {
    /// A client that trusts the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` included) and uses the
    /// environment's proxy, except for a registry on loopback, which no proxy could reach.
    pub(super) fn new(upstream: &Upstream, access: Access) -> Result<Self, RegistryError> {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(concat!("maar/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .timeout(TOTAL_TIMEOUT);
        if upstream.index.is_loopback() {
            builder = builder.no_proxy();
        }
        if let Some(file) = &upstream.ca_file {
            builder = builder.tls_certs_merge(certificates(file)?);
        }
        let client = builder.build().map_err(|error| RegistryError::Tls { reason: reason(&error) })?;
        Ok(Self { client, permits: Semaphore::new(MAX_REQUESTS), downloaded: AtomicU64::new(0), access })
    }

    /// Fetches a file into memory, unless it is still the one that `etag` names.
    pub(super) async fn get(&self, url: &str, etag: Option<&str>, limit: ByteSize) -> Result<Reply, RegistryError> {
        self.check_access(url)?;
        self.persist(|| async {
            let mut request = self.client.get(url).header(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
            if let Some(etag) = etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            let response = self.send(url, request).await?;
            if response.status() == StatusCode::NOT_MODIFIED && etag.is_some() {
                return Ok(Reply::Unchanged);
            }
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let etag = header(ETAG).map(str::to_owned);
            let encoding = match header(CONTENT_ENCODING) {
                None | Some("identity") => Encoding::Identity,
                Some("gzip") => Encoding::Gzip,
                Some(other) => {
                    let reason = format!("its encoding `{}` was not asked for", other.escape_debug());
                    return Err(Failure::Lasting(RegistryError::Malformed { url: url.to_owned(), reason }));
                }
            };
            let mut body = Vec::new();
            self.body(url, response, limit, |chunk| {
                body.extend_from_slice(chunk);
                Ok(())
            })
            .await?;
            Ok(Reply::File { body, encoding, etag })
        })
        .await
    }

    /// Fetches a file into a writer that `sink` makes for every attempt.
    pub(super) async fn download<S>(
        &self,
        url: &str,
        limit: ByteSize,
        sink: impl Fn() -> Result<S, RegistryError>,
        write: impl Fn(&mut S, &[u8]) -> Result<(), RegistryError>,
    ) -> Result<S, RegistryError> {
        self.check_access(url)?;
        self.persist(|| async {
            let mut sink = sink().map_err(Failure::Lasting)?;
            let response = self.send(url, self.client.get(url)).await?;
            self.body(url, response, limit, |chunk| write(&mut sink, chunk)).await?;
            Ok(sink)
        })
        .await
    }

    /// Whether requests are sent.
    pub(super) fn access(&self) -> Access {
        self.access
    }

    /// How many bytes of bodies arrived.
    pub(super) fn downloaded_bytes(&self) -> u64 {
        self.downloaded.load(Ordering::Relaxed)
    }

    fn check_access(&self, url: &str) -> Result<(), RegistryError> {
        match self.access {
            Access::Online => Ok(()),
            Access::Offline => Err(RegistryError::Offline { url: url.to_owned() }),
        }
    }

    /// Tries until it works, fails for good, or has been tried often enough. Pauses hold no permit.
    async fn persist<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 1;
        loop {
            // The semaphore is never closed, so that an error could only mean a permit too many.
            let permit = self.permits.acquire().await;
            let result = attempt().await;
            drop(permit);
            match result {
                Ok(value) => return Ok(value),
                Err(Failure::Passing(_)) if attempts < ATTEMPTS => {
                    tokio::time::sleep(pause).await;
                    pause *= 4;
                    attempts += 1;
                }
                Err(Failure::Passing(error) | Failure::Lasting(error)) => return Err(error),
            }
        }
    }

    async fn send(&self, url: &str, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| failure(url, &error))?;
        let status = response.status();
        let says = || RegistryError::Network { url: url.to_owned(), reason: format!("the server answered {status}") };
        match status {
            StatusCode::OK | StatusCode::NOT_MODIFIED => Ok(response),
            // The three that cargo takes for "no such crate".
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => {
                Err(Failure::Lasting(RegistryError::NotFound { url: url.to_owned() }))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(Failure::Passing(says())),
            _ if status.is_server_error() => Err(Failure::Passing(says())),
            _ => Err(Failure::Lasting(says())),
        }
    }

    async fn body(
        &self,
        url: &str,
        mut response: Response,
        limit: ByteSize,
        mut write: impl FnMut(&[u8]) -> Result<(), RegistryError>,
    ) -> Result<(), Failure> {
        let mut left = limit.as_u64();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(url, &error))? {
            self.downloaded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            left = left
                .checked_sub(chunk.len() as u64)
                .ok_or_else(|| Failure::Lasting(RegistryError::TooLarge { url: url.to_owned(), limit }))?;
            write(&chunk).map_err(Failure::Lasting)?;
        }
        Ok(())
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, RegistryError> {
    let pem = std::fs::read(file).map_err(RegistryError::io("read", file))?;
    let bad = |reason| RegistryError::Tls { reason: format!("{}: {reason}", file.display()) };
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err(bad("there is no certificate in it".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(bad(reason(&error))),
    }
}

fn failure(url: &str, error: &reqwest::Error) -> Failure {
    let network = RegistryError::Network { url: url.to_owned(), reason: reason(error) };
    // A URL or a redirect that can't be followed won't be better next time; all else is the network.
    if error.is_builder() || error.is_redirect() { Failure::Lasting(network) } else { Failure::Passing(network) }
}

fn reason(error: &reqwest::Error) -> String {
    let cause = innermost(error);
    if error.is_timeout() { format!("timed out: {cause}") } else { cause.to_string() }
}
