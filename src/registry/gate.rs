//! The gate between a command without a network and the world: an HTTP proxy, set in cargo's configuration.
//!
//! It serves the registry itself, at a reserved name, and opens tunnels to https hosts at public addresses. All else
//! is refused, and each refusal is returned to the caller. The bytes in a tunnel are encrypted, and are not looked at.

mod address;
mod answer;
mod denial;
mod target;
mod tunnel;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub use self::denial::Denial;
pub use self::target::{AllowedHost, BadHost};

use self::answer::Answer;
use self::target::Target;
use self::tunnel::Allowance;
use super::{Access, Registry};

/// The registry's name behind the gate. No host has it: RFC 2606 keeps `invalid` free.
const REGISTRY: &str = "maar.invalid";
/// The most open connections of one command; a cargo opens a few.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may take to send a request, idling between requests included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How many bytes the head of a request may have.
const MAX_HEAD: usize = 16 << 10;
/// How many denials of one command are kept.
const MAX_DENIALS: usize = 50;

/// The way out for commands of `prepare`. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate {
    registry: Registry,
    allowed: Arc<[AllowedHost]>,
}

/// What serving one command shares between its connections.
#[derive(Debug)]
struct Visit {
    gate: Gate,
    allowance: Allowance,
    denials: Mutex<Vec<Denial>>,
}

/// A tunnel that was agreed on, and waits for the client's side of the connection.
type Agreed = Mutex<Option<(OnUpgrade, TcpStream, Target)>>;

impl Gate {
    /// A gate to this registry, and to these hosts besides all public ones.
    pub fn new(registry: Registry, allowed: &[AllowedHost]) -> Self {
        Self { registry, allowed: allowed.into() }
    }

    /// The registry behind the gate, as cargo's configuration spells it.
    pub fn registry_url() -> String {
        format!("sparse+http://{REGISTRY}/")
    }

    /// Serves the connections of one command until there will be no more, and then ends those that are left. Tunnels
    /// may carry `limit` together. Returns the refused requests.
    pub async fn serve(&self, mut accepted: impl Stream<Item = TcpStream> + Unpin, limit: ByteSize) -> Vec<Denial> {
        let visit = Arc::new(Visit { gate: self.clone(), allowance: Allowance::new(limit), denials: Mutex::default() });
        // Dropping the set ends the connections.
        let mut connections = JoinSet::new();
        while let Some(stream) = accepted.next().await {
            while connections.try_join_next().is_some() {}
            // More than a cargo needs are turned away.
            if connections.len() < MAX_CONNECTIONS {
                connections.spawn(Arc::clone(&visit).converse(stream));
            }
        }
        connections.shutdown().await;
        std::mem::take(&mut *visit.denials.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Visit {
    /// Serves one connection: requests to the registry, or one tunnel.
    async fn converse(self: Arc<Self>, stream: TcpStream) {
        let agreed = Agreed::default();
        let service = service_fn(|request| async { Ok::<_, Infallible>(self.answer(request, &agreed).await) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // A client that breaks off or sends nonsense affects no other connection.
        let _ = connection.await;
        let agreed = agreed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some((upgrade, server, target)) = agreed else { return };
        let Ok(client) = upgrade.await else { return };
        if let Err(denial) = tunnel::carry(TokioIo::new(client), server, &target, &self.allowance).await {
            self.note(denial);
        }
    }

    async fn answer(&self, request: Request<Incoming>, agreed: &Agreed) -> Answer {
        let Some(authority) = request.uri().authority() else {
            return answer::text(StatusCode::BAD_REQUEST, "this is a proxy: the whole URL is needed");
        };
        if request.method() == Method::CONNECT {
            return match Target::parse(authority.as_str(), None) {
                Some(target) => self.connect(request, target, agreed).await,
                None => answer::text(StatusCode::BAD_REQUEST, "CONNECT needs a host and a port"),
            };
        }
        if authority.as_str() == REGISTRY {
            return answer::answer(&self.gate.registry, &request).await;
        }
        // Without the user and password that it may begin with.
        let (host, port) = (authority.host(), authority.port());
        let denial = Denial::plain_http(&port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")));
        self.deny(StatusCode::FORBIDDEN, denial)
    }

    async fn connect(&self, request: Request<Incoming>, target: Target, agreed: &Agreed) -> Answer {
        if self.gate.registry.access() == Access::Offline {
            return self.deny(StatusCode::BAD_GATEWAY, Denial::unreachable(&target, "--offline fetches nothing"));
        }
        match tunnel::open(&target, &self.gate.allowed, &self.allowance).await {
            Ok(server) => {
                let upgrade = hyper::upgrade::on(request);
                *agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, server, target));
                answer::empty()
            }
            Err(denial @ Denial::Refused { .. }) => self.deny(StatusCode::FORBIDDEN, denial),
            Err(denial @ Denial::Unreachable { .. }) => self.deny(StatusCode::BAD_GATEWAY, denial),
        }
    }

    fn deny(&self, status: StatusCode, denial: Denial) -> Answer {
        let answer = answer::text(status, &denial.to_string());
        self.note(denial);
        answer
    }

    fn note(&self, denial: Denial) {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that tries again is denied again.
        if denials.len() < MAX_DENIALS && !denials.contains(&denial) {
            denials.push(denial);
        }
    }
}

#[cfg(test)]
mod tests;
