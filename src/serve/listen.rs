//! Connections: accepted up to a limit, with TLS or on loopback, each with time limits, ended gently.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::ServeError;
use super::access::Peer;
use super::config::{Config, ServerConfig};
use super::state::{self, AppState};
use crate::stop::{Stop, StopLevel};

/// How long a client may take for its part of a TLS handshake, and for the headers of a request.
const SOON: Duration = Duration::from_secs(15);

/// How long open requests may go on when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// A port that is open, with its certificate.
pub(super) struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    host: Option<String>,
}

impl Listener {
    pub(super) async fn bind(config: &Config) -> Result<Self, ServeError> {
        let ServerConfig { listen, hosts, .. } = &config.server;
        let failed = |source| ServeError::Listen { address: *listen, source };
        let tls = acceptor(&config.server)?;
        let tcp = TcpListener::bind(listen).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, address, tls, host: hosts.first().cloned() })
    }

    /// The URL of the page.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        match &self.host {
            Some(host) if self.tls.is_some() => format!("{scheme}://{host}:{}/", self.address.port()),
            Some(_) | None => format!("{scheme}://{}/", self.address),
        }
    }

    /// Answers until `stop` rises.
    pub(super) async fn answer(self, router: Router, state: &AppState, stop: Stop, mut reload: mpsc::Receiver<()>) {
        let Self { tcp, mut tls, .. } = self;
        let config = &state.config().server;
        let permits = Arc::new(Semaphore::new(config.limits.connections));
        let mut stopping = pin!(stop.reached(StopLevel::Drain));
        loop {
            let (stream, peer) = tokio::select! {
                () = &mut stopping => break,
                Some(()) = reload.recv() => {
                    match acceptor(config) {
                        Ok(fresh) => tls = fresh,
                        // The old certificate goes on.
                        Err(error) => state::log(&error),
                    }
                    continue;
                }
                accepted = tcp.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        state::note(&format!("failed to accept a connection: {error}"));
                        // Such as too many open files: others may close.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            // Beyond the limit a connection is closed at once, which costs nothing.
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
            let connection = Connection { router: router.clone(), peer, stop: stop.clone() };
            let tls = tls.clone();
            tokio::spawn(async move {
                let _permit = permit;
                connection.open(stream, tls).await;
            });
        }
        drop(tcp);
        let all = u32::try_from(config.limits.connections).unwrap_or(u32::MAX);
        // Those that take longer are cut off with the process.
        let _ = tokio::time::timeout(FAREWELL, permits.acquire_many(all)).await;
    }
}

struct Connection {
    router: Router,
    peer: SocketAddr,
    stop: Stop,
}

impl Connection {
    async fn open(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        // Events are small and wanted at once.
        let _ = stream.set_nodelay(true);
        match tls {
            None => self.answer(stream).await,
            // A handshake that fails is the client's affair.
            Some(tls) => {
                if let Ok(Ok(stream)) = tokio::time::timeout(SOON, tls.accept(stream)).await {
                    self.answer(stream).await;
                }
            }
        }
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { router, peer, stop } = self;
        let service = hyper::service::service_fn(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let mut router = router.clone();
            async move {
                let answer = tower_service::Service::call(&mut router, request.map(Body::new)).await;
                answer.map_err(|never: Infallible| never)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(SOON).max_buf_size(64 << 10);
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // A client that goes away is not an error of the server.
            _ = &mut connection => {}
            () = stop.reached(StopLevel::Drain) => {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(FAREWELL, connection).await;
            }
        }
    }
}

/// The certificate and key as they are now.
fn acceptor(config: &ServerConfig) -> Result<Option<TlsAcceptor>, ServeError> {
    let (Some(cert), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
    let failed =
        |path: &Path, why: &dyn std::fmt::Display| ServeError::Tls { path: path.to_owned(), why: why.to_string() };
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|error| failed(cert, &error))?;
    if chain.is_empty() {
        return Err(failed(cert, &"it holds no certificate"));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(cert, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| failed(cert, &error))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(tls))))
}
