//! Who makes a request, and whether its role allows it.
//!
//! A layer identifies the caller and counts the request; a handler demands a role by taking a [`Caller`] of it.

use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header, uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::limits::{Admitted, Key};
use super::problem::{Kind, Place, Problem};
use super::state::AppState;
use super::token;
use crate::store::service::{Role, TokenRecord};

/// The other end of a connection. The listener adds it to every request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who makes a request. The layer adds it.
#[derive(Debug, Clone)]
struct Identity {
    token: Option<TokenRecord>,
    peer: IpAddr,
}

/// A right that a handler demands.
pub(in crate::serve) trait Right: Send + Sync + 'static {
    /// Whether a token of that role has the right.
    fn has(role: Role) -> bool;
    /// The role that has it, for messages.
    const ROLE: &'static str;
    /// Whether a caller without a token has it, from that address.
    fn has_anybody(_state: &AppState, _peer: IpAddr) -> bool {
        false
    }
}

/// Reads experiments, results, logs, the queue.
#[derive(Debug)]
pub(in crate::serve) struct Read;
/// Creates experiments and manages its own.
#[derive(Debug)]
pub(in crate::serve) struct Run;
/// Manages everything.
#[derive(Debug)]
pub(in crate::serve) struct Admin;
/// Takes jobs and reports results.
#[derive(Debug)]
pub(in crate::serve) struct Agent;
/// Reads the metrics.
#[derive(Debug)]
pub(in crate::serve) struct Metrics;

impl Right for Read {
    const ROLE: &'static str = "read";

    fn has(role: Role) -> bool {
        match role {
            Role::Read | Role::Run | Role::Admin => true,
            Role::Agent => false,
        }
    }

    fn has_anybody(state: &AppState, _: IpAddr) -> bool {
        state.config().server.public
    }
}

impl Right for Run {
    const ROLE: &'static str = "run";

    fn has(role: Role) -> bool {
        match role {
            Role::Run | Role::Admin => true,
            Role::Read | Role::Agent => false,
        }
    }
}

impl Right for Admin {
    const ROLE: &'static str = "admin";

    fn has(role: Role) -> bool {
        role == Role::Admin
    }
}

impl Right for Agent {
    const ROLE: &'static str = "agent";

    fn has(role: Role) -> bool {
        role == Role::Agent
    }
}

impl Right for Metrics {
    const ROLE: &'static str = "read";

    fn has(role: Role) -> bool {
        Read::has(role)
    }

    fn has_anybody(_: &AppState, peer: IpAddr) -> bool {
        peer.is_loopback()
    }
}

/// A caller with a right.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Caller<R> {
    token: Option<TokenRecord>,
    right: PhantomData<fn() -> R>,
}

impl<R> Caller<R> {
    /// Its token; `None` for a caller without one.
    pub(in crate::serve) fn token(&self) -> Option<&TokenRecord> {
        self.token.as_ref()
    }

    /// Whose experiments are its own.
    pub(in crate::serve) fn owner(&self) -> &str {
        self.token.as_ref().map_or("anybody", |token| &token.owner)
    }

    /// Whether it may manage the experiments of others.
    pub(in crate::serve) fn is_admin(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.role == Role::Admin)
    }
}

impl<R: Right> FromRequestParts<AppState> for Caller<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Some(identity) = parts.extensions.get::<Identity>() else {
            return Err(Problem::new(Kind::Internal, "the request has not been identified"));
        };
        match &identity.token {
            Some(token) if R::has(token.role) => {}
            // A token never takes a right away.
            _ if R::has_anybody(state, identity.peer) => {}
            Some(token) => {
                let detail = format!("token `{}` has the role {}, and this takes {}", token.name, token.role, R::ROLE);
                return Err(Problem::new(Kind::Forbidden, detail));
            }
            None => {
                let detail = format!(
                    "this takes a token of the role {}, as `Authorization: Bearer TOKEN`; `maar token create` makes one",
                    R::ROLE
                );
                return Err(Problem::new(Kind::Unauthorised, detail).at(Place::Header("authorization".to_owned())));
            }
        }
        Ok(Self { token: identity.token.clone(), right: PhantomData })
    }
}

/// Identifies the caller, and counts the request. A wrong token is refused even where none is needed.
pub(super) async fn identify(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    // A body can't be shared between threads, so the future below must not hold the request.
    let claim = Claim::of(&state, &request);
    match identified(&state, claim).await {
        Ok((identity, _admitted)) => {
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// The identity that a request claims.
struct Claim {
    peer: IpAddr,
    presented: Option<String>,
}

impl Claim {
    fn of(state: &AppState, request: &Request) -> Result<Self, Problem> {
        check_host(state, request)?;
        let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        Ok(Self { peer, presented: bearer(request.headers())?.map(str::to_owned) })
    }
}

async fn identified(state: &AppState, claim: Result<Claim, Problem>) -> Result<(Identity, Admitted), Problem> {
    let Claim { peer, presented } = claim?;
    let Some(presented) = presented else {
        let admitted = state.limits().admit(Key::of(peer))?;
        return Ok((Identity { token: None, peer }, admitted));
    };
    let token = state.database().with(move |store| token::check(store, &presented)).await?;
    let Some(token) = token else {
        // Guesses count for the address.
        state.limits().admit(Key::of(peer))?;
        let detail = "the token is unknown, expired or revoked; `maar token list` shows the valid ones";
        return Err(Problem::new(Kind::Unauthorised, detail).at(Place::Header("authorization".to_owned())));
    };
    let admitted = state.limits().admit(Key::Token(token.id.clone()))?;
    Ok((Identity { token: Some(token), peer }, admitted))
}

/// The token in the headers.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || {
        Problem::new(Kind::Unauthorised, "expected one header `Authorization: Bearer TOKEN`")
            .at(Place::Header("authorization".to_owned()))
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    match scheme.eq_ignore_ascii_case("bearer") {
        true => Ok(Some(token.trim())),
        false => Err(malformed()),
    }
}

/// Refuses requests for other hosts where the server is on loopback: a page of another site, whose name leads to
/// 127.0.0.1, would read data meant for this machine's users.
fn check_host(state: &AppState, request: &Request) -> Result<(), Problem> {
    let config = &state.config().server;
    if !config.listen.ip().is_loopback() && config.hosts.is_empty() {
        return Ok(());
    }
    let in_header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = request.uri().authority().map(uri::Authority::as_str).or(in_header).unwrap_or_default();
    let name = host.parse::<uri::Authority>().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback || config.hosts.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
        return Ok(());
    }
    let detail = format!(
        "this server isn't known as `{}`; behind a proxy, name the host in `hosts` of [server]",
        name.escape_debug()
    );
    Err(Problem::new(Kind::Misdirected, detail).at(Place::Header("host".to_owned())))
}
