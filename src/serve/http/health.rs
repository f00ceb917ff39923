//! `/healthz` and `/readyz`: whether the process answers, and whether it can do its work.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use crate::serve::problem::{Kind, Problem};
use crate::serve::state::AppState;

#[derive(OpenApi)]
#[openapi(paths(healthz, readyz))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// The state of the server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, as any other state is a problem.
    #[schema(example = "ok")]
    status: &'static str,
    /// The version of maar.
    version: &'static str,
    /// How long the server has been up, in seconds.
    uptime_s: u64,
}

/// Tell whether the server answers
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, body = Health)))]
async fn healthz(State(state): State<AppState>) -> Json<Health> {
    Json(health(&state))
}

/// Tell whether the server can do its work
///
/// Asks the database, and whether the home can be written to.
#[utoipa::path(get, path = "/readyz", tag = "server", responses(
    (status = 200, body = Health),
    (status = 503, body = Problem, content_type = "application/problem+json")
))]
async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Problem> {
    let home = state.home().clone();
    state
        .database()
        .with(move |store| {
            // Any reading shows that the database answers; this one is cheap.
            store.experiment_names().map_err(Problem::from)?;
            home.check_writable().map_err(|error| {
                crate::serve::state::log(&error);
                Problem::new(Kind::Unavailable, "the home can't be written to; the server's log names the cause")
            })
        })
        .await
        .map_err(|problem: Problem| Problem::new(Kind::Unavailable, problem.detail()).retry_after(10))?;
    Ok(Json(health(&state)))
}

fn health(state: &AppState) -> Health {
    let uptime = state.now().duration_since(state.started()).unwrap_or_default();
    Health { status: "ok", version: env!("CARGO_PKG_VERSION"), uptime_s: uptime.as_secs() }
}
