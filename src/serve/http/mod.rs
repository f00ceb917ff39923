//! The routes, one file per subject, and what all answers have in common.
//!
//! Each file has `routes()` and its part of the OpenAPI document; `PARTS` lists them.

mod agents;
mod events;
mod experiments;
mod health;
mod input;
mod live;
mod overview;
mod pages;
mod results;
mod tokens;
mod view;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use utoipa::OpenApi;

use super::access;
use super::problem::{Kind, Problem};
use super::state::AppState;
use crate::stop::Stop;

/// How long an answer may take to begin. An agent's long poll takes a minute.
const LONGEST: Duration = Duration::from_secs(90);

/// The OpenAPI document without the parts of the subjects.
#[derive(OpenApi)]
#[openapi(info(
    title = "maar",
    description = "Experiments over many Rust crates: create, watch, edit, report. docs/server.md has a guide."
))]
struct Document;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for part in [
        experiments::Document::openapi(),
        results::Document::openapi(),
        live::Document::openapi(),
        events::Document::openapi(),
        overview::Document::openapi(),
        tokens::Document::openapi(),
        health::Document::openapi(),
    ] {
        document.merge(part);
    }
    document
}

/// All routes.
pub(super) fn router(state: AppState, stop: Stop) -> Router {
    let limit = usize::try_from(state.config().server.limits.body.as_u64()).unwrap_or(usize::MAX);
    Router::new()
        .merge(agents::routes())
        .merge(experiments::routes())
        .merge(results::routes())
        .merge(live::routes())
        .merge(events::routes())
        .merge(overview::routes())
        .merge(tokens::routes())
        .merge(pages::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(limit))
        .layer(middleware::from_fn_with_state(state.clone(), access::identify))
        // Not counted: a health check must not fail because others ask too much.
        .merge(health::routes())
        .layer(axum::Extension(stop))
        .layer(middleware::from_fn(answer))
        .with_state(state)
}

/// What all answers have in common: an end, even if the handler panics or hangs, and headers that keep browsers from
/// guessing, framing and sending the URL on.
async fn answer(request: Request, next: Next) -> Response {
    let is_head = request.method() == Method::HEAD;
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = match tokio::time::timeout(LONGEST, handled).await {
        Ok(Ok(response)) => response,
        // The panic has been printed.
        Ok(Err(_)) => Problem::new(Kind::Internal, "the server panicked; this is a defect of maar").into_response(),
        Err(_) => Problem::new(Kind::Unavailable, "the answer took too long").retry_after(10).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_head {
        // The body of an error is made before anything knows that it isn't sent.
        *response.body_mut() = axum::body::Body::empty();
    }
    response
}

async fn unknown(uri: Uri) -> Problem {
    let shown: String = uri.path().chars().take(200).collect();
    Problem::new(
        Kind::NotFound,
        format!("there is no `{}`; /api/v1/openapi.json lists the routes", shown.escape_debug()),
    )
}

async fn wrong_method(method: Method) -> Problem {
    let shown: String = method.as_str().chars().take(40).collect();
    Problem::new(Kind::MethodNotAllowed, format!("{} is not a method of this resource", shown.escape_debug()))
}
