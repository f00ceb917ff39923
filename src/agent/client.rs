//! Requests to the server: JSON with the agent's token, and how long to wait before the next try.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::printable::innermost;
use crate::wire::Digest;

/// How long the server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the server may be silent, longer than any long poll.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(90);

/// The longest answer that is read: handouts with their lockfiles and the results of earlier runs.
const LONGEST_ANSWER: usize = 64 << 20;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The address of a server, such as `https://maar.example.org`.
#[derive(Debug, Clone)]
pub struct ServerUrl(Url);

/// Why a text is not the address of a server.
#[derive(Debug, thiserror::Error)]
pub enum BadServerUrl {
    /// It is not a URL.
    #[error("`{text}` is not a URL such as https://maar.example.org: {why}")]
    NotAUrl {
        /// The text.
        text: String,
        /// Why.
        why: String,
    },
    /// The token would travel unencrypted.
    #[error("{0} would carry the token unencrypted over the network: use https, or an ssh tunnel to 127.0.0.1")]
    Unencrypted(String),
}

impl std::str::FromStr for ServerUrl {
    type Err = BadServerUrl;

    fn from_str(text: &str) -> Result<Self, BadServerUrl> {
        let bad = |why: String| BadServerUrl::NotAUrl { text: text.escape_debug().to_string(), why };
        let mut url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
        let host = url.host_str().ok_or_else(|| bad("it has no host".to_owned()))?;
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            "http" => return Err(BadServerUrl::Unencrypted(url.to_string())),
            other => return Err(bad(format!("its scheme is `{other}`"))),
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

/// A connection to the server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    bearer: HeaderValue,
}

/// Shows no token.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum CallError {
    #[error("{server} does not answer: {why}")]
    Unreachable { server: String, why: String },
    #[error("{server} answers {status}: {detail}")]
    Status { server: String, status: StatusCode, detail: String, retry_after: Option<Duration> },
    #[error("{server} answers something that this maar can't read: {why}")]
    Unreadable { server: String, why: String },
    #[error("the token can't be sent: it holds characters other than those of tokens")]
    Token,
    #[error("failed to set up TLS: {0}")]
    Tls(String),
}

impl CallError {
    /// Whether the same request may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unreadable { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT
                    )
            }
            Self::Token | Self::Tls(_) => false,
        }
    }

    /// How long the server asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Unreachable { .. } | Self::Unreadable { .. } | Self::Token | Self::Tls(_) => None,
        }
    }
}

impl Client {
    /// A client of a server. Sends nothing yet.
    ///
    /// # Errors
    /// A token that no header can hold, or certificates that can't be read.
    pub fn new(server: ServerUrl, token: &str) -> Result<Self, CallError> {
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| CallError::Token)?;
        bearer.set_sensitive(true);
        let ServerUrl(server) = server;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("maar/", env!("CARGO_PKG_VERSION")))
            // The token is for this server only.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT);
        if server.scheme() == "http" {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| CallError::Tls(error.to_string()))?;
        Ok(Self { http, server, bearer })
    }

    /// The server's address.
    pub fn server(&self) -> &Url {
        &self.server
    }

    /// Sends a message and reads the answer; none if it has no content.
    pub async fn post<B: Serialize, A: DeserializeOwned>(&self, route: &str, body: &B) -> Result<Option<A>, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| self.unreadable(error))?;
        let response = self.send(Method::POST, route, "application/json", body).await?;
        self.read(response).await
    }

    /// Reads the answer of a route.
    pub async fn get<A: DeserializeOwned>(&self, route: &str) -> Result<Option<A>, CallError> {
        let response = self.send(Method::GET, route, "application/json", Vec::new()).await?;
        self.read(response).await
    }

    /// Uploads bytes under their digest.
    pub async fn upload(&self, digest: Digest, bytes: Vec<u8>) -> Result<(), CallError> {
        let route = format!("blobs/{digest}");
        self.send(Method::PUT, &route, "application/octet-stream", bytes).await.map(drop)
    }

    async fn send(
        &self,
        method: Method,
        route: &str,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<Response, CallError> {
        let url = self.server.join(&format!("agent/v1/{route}")).map_err(|error| self.unreadable(error))?;
        let request = self.http.request(method, url).header(AUTHORIZATION, self.bearer.clone());
        let response = request.header(CONTENT_TYPE, kind).body(body).send().await;
        let response = response.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = self.body(response, 64 << 10).await.unwrap_or_default();
        Err(CallError::Status {
            server: self.server.to_string(),
            status,
            detail: detail(&text),
            retry_after: seconds.map(Duration::from_secs),
        })
    }

    async fn read<A: DeserializeOwned>(&self, response: Response) -> Result<Option<A>, CallError> {
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let body = self.body(response, LONGEST_ANSWER).await?;
        serde_json::from_slice(&body).map(Some).map_err(|error| self.unreadable(error))
    }

    async fn body(&self, mut response: Response, longest: usize) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > longest {
                return Err(self.unreadable(format!("more than {longest} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        // Its first words are always the same, and name the URL once more.
        CallError::Unreachable { server: self.server.to_string(), why: innermost(error).to_string() }
    }

    fn unreadable(&self, why: impl ToString) -> CallError {
        CallError::Unreadable { server: self.server.to_string(), why: why.to_string() }
    }
}

/// The words of a problem (RFC 9457), or the beginning of another text.
fn detail(body: &[u8]) -> String {
    let problem = serde_json::from_slice::<serde_json::Value>(body).ok();
    let words = problem.as_ref().and_then(|problem| problem["detail"].as_str());
    let words = words.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    crate::printable::one_line(&words).chars().take(400).collect()
}

/// Pauses between tries: each up to twice as long as the one before, at random, so that many agents don't come back at
/// one moment.
#[derive(Debug)]
pub(super) struct Backoff {
    most: Duration,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { most: Duration::from_millis(500), tries: 0 }
    }
}

impl Backoff {
    /// The next pause: half of the present limit and a random part of the other half.
    pub(super) fn next(&mut self) -> Duration {
        let most = self.most;
        self.most = (2 * most).min(LONGEST_PAUSE);
        self.tries += 1;
        most / 2 + most.mul_f64(random() / 2.0)
    }

    /// The next pause, at least as long as the server asks for.
    pub(super) fn after(&mut self, error: &CallError) -> Duration {
        self.next().max(error.retry_after().unwrap_or_default().min(Duration::from_secs(600)))
    }

    /// Whether no try has failed yet.
    pub(super) fn is_first(&self) -> bool {
        self.tries == 0
    }

    /// Starts over, after a success.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A number from 0 to 1. A generator that fails costs only the spread.
fn random() -> f64 {
    let drawn = ring::rand::generate::<[u8; 4]>(&ring::rand::SystemRandom::new());
    drawn.map_or(0.5, |bytes| f64::from(u32::from_le_bytes(bytes.expose())) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_travels_unencrypted() {
        for url in ["https://maar.example.org", "http://127.0.0.1:4242", "http://[::1]:1/sub", "http://localhost:4242/"]
        {
            assert!(url.parse::<ServerUrl>().is_ok(), "{url}");
        }
        for url in ["http://maar.example.org", "http://10.0.0.1", "ftp://127.0.0.1", "127.0.0.1:4242", "x", ""] {
            assert!(url.parse::<ServerUrl>().is_err(), "{url}");
        }
    }

    #[test]
    fn a_server_below_a_path_is_found_there() {
        let ServerUrl(url) = "https://example.org/maar".parse().unwrap();
        assert_eq!(url.join("agent/v1/hello").unwrap().as_str(), "https://example.org/maar/agent/v1/hello");
    }

    #[test]
    fn pauses_grow_to_a_minute_and_differ() {
        let (mut one, mut other) = (Backoff::default(), Backoff::default());
        let pauses: Vec<Duration> = (0..12).map(|_| one.next()).collect();
        assert!(pauses[0] <= Duration::from_millis(500), "{pauses:?}");
        assert!(pauses[11] <= LONGEST_PAUSE && pauses[11] >= LONGEST_PAUSE / 2, "{pauses:?}");
        assert_ne!(pauses, (0..12).map(|_| other.next()).collect::<Vec<_>>());
    }

    #[test]
    fn a_client_shows_no_token() {
        let client = Client::new("http://127.0.0.1:1".parse().unwrap(), "maar_agent_secret").unwrap();
        assert!(!format!("{client:?}").contains("secret"));
        assert!(matches!(Client::new("http://127.0.0.1:1".parse().unwrap(), "a\nb"), Err(CallError::Token)));
    }
}
