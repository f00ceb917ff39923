//! Errors of the API: problem details as RFC 9457 describes them, with the place of each fault and the nearest name.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::StoreError;

/// The kinds of problems, each with its status and title.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the titles say it")]
pub enum Kind {
    Malformed,
    Unauthorised,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    Conflict,
    Gone,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    RangeNotSatisfiable,
    Misdirected,
    Invalid,
    UpgradeRequired,
    TooManyRequests,
    Internal,
    Unavailable,
}

impl Kind {
    /// Its status, type and title.
    fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "urn:maar:problem:malformed", "The request is malformed"),
            Self::Unauthorised => {
                (StatusCode::UNAUTHORIZED, "urn:maar:problem:unauthorised", "A valid token is needed")
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, "urn:maar:problem:forbidden", "This is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "urn:maar:problem:not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "urn:maar:problem:method-not-allowed",
                "The resource doesn't have this method",
            ),
            Self::Conflict => {
                (StatusCode::CONFLICT, "urn:maar:problem:conflict", "The present state doesn't allow this")
            }
            Self::Gone => (StatusCode::GONE, "urn:maar:problem:gone", "This is not kept any more"),
            Self::PreconditionFailed => {
                (StatusCode::PRECONDITION_FAILED, "urn:maar:problem:precondition-failed", "The resource has changed")
            }
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "urn:maar:problem:too-large", "The body is too large"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "urn:maar:problem:unsupported-media-type",
                "The body has the wrong media type",
            ),
            Self::RangeNotSatisfiable => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "urn:maar:problem:range-not-satisfiable",
                "The range is outside of the log",
            ),
            Self::Misdirected => {
                (StatusCode::MISDIRECTED_REQUEST, "urn:maar:problem:misdirected", "This server has another name")
            }
            Self::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "urn:maar:problem:invalid", "The request asks for something invalid")
            }
            Self::UpgradeRequired => {
                (StatusCode::UPGRADE_REQUIRED, "urn:maar:problem:upgrade-required", "The versions don't fit")
            }
            Self::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "urn:maar:problem:too-many-requests", "Too many requests")
            }
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "urn:maar:problem:internal", "The server failed"),
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "urn:maar:problem:unavailable", "The server can't do this now")
            }
        }
    }
}

/// A problem, as it is sent.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// A URN of the kind of problem.
    #[serde(rename = "type")]
    #[schema(example = "urn:maar:problem:not-found")]
    kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The problem in words, with a remedy.
    detail: String,
    /// Where the first fault is.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<Box<Place>>,
    /// The nearest known name.
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<String>,
    /// All faults, if there are several kinds of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip)]
    which: Kind,
    #[serde(skip)]
    retry_after: Option<u16>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Fault {
    /// The fault.
    pub detail: String,
    /// A remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The nearest known name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// Where a fault is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In a TOML body: line and column, both from 1.
    Line {
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
    },
    /// In a JSON body: a JSON pointer (RFC 6901).
    Pointer(String),
    /// In the query of the URL: a parameter's name.
    Parameter(String),
    /// In the path of the URL.
    Path(String),
    /// In a header: its name.
    Header(String),
}

/// The media type of problems.
pub const MEDIA_TYPE: &str = "application/problem+json";

impl Problem {
    /// A problem of that kind.
    pub fn new(which: Kind, detail: impl Into<String>) -> Self {
        let (status, name, title) = which.words();
        Self {
            kind: name,
            title,
            status: status.as_u16(),
            detail: detail.into(),
            place: None,
            nearest: None,
            errors: Vec::new(),
            which,
            retry_after: None,
        }
    }

    /// A problem with these faults; their order is kept.
    pub fn of_faults(which: Kind, faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [] => which.words().2.to_owned(),
            [only] => in_words(only),
            [first, ..] => format!("{} faults, the first: {}", faults.len(), in_words(first)),
        };
        let first = faults.first().cloned();
        let (place, nearest) = first.map(|first| (first.place, first.nearest)).unwrap_or_default();
        let place = place.map(Box::new);
        Self { place, nearest, errors: faults, ..Self::new(which, detail) }
    }

    /// With the place of the fault.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(Box::new(place)), ..self }
    }

    /// With the nearest known name.
    #[must_use]
    pub fn meant(self, nearest: Option<&str>) -> Self {
        Self { nearest: nearest.map(str::to_owned), ..self }
    }

    /// With the seconds after which the request may succeed.
    #[must_use]
    pub fn retry_after(self, seconds: u16) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.which
    }

    /// The problem in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

fn in_words(fault: &Fault) -> String {
    match &fault.help {
        Some(help) => format!("{}; {help}", fault.detail),
        None => fault.detail.clone(),
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, _, _) = self.which.words();
        // Strings and numbers are always JSON.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.which == Kind::Unauthorised {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"maar\""));
        }
        response
    }
}

/// Errors of the database go to the server's log: their messages name paths of this host.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unknown { name, .. } => {
                Self::new(Kind::NotFound, format!("no experiment is named `{}`", name.escape_debug()))
            }
            StoreError::Busy { .. } | StoreError::Full { .. } => {
                super::state::log(&error);
                Self::new(Kind::Unavailable, "the database can't be written now").retry_after(10)
            }
            StoreError::Folder { .. }
            | StoreError::NotOurs { .. }
            | StoreError::Damaged { .. }
            | StoreError::Newer { .. }
            | StoreError::ReadOnly { .. }
            | StoreError::Copy { .. }
            | StoreError::Sql { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Thread(_)
            | StoreError::Stopped(_)
            | StoreError::Panicked => {
                super::state::log(&error);
                Self::new(Kind::Internal, "the database failed; the server's log names the cause")
            }
        }
    }
}
