//! `…/crates/CRATE/live`: the output of a crate's op while it runs.
//!
//! Reads the file that a job copies its running command's output to.

use std::fs::File;
use std::io::{Read as _, Seek, SeekFrom};

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi;

use super::input;
use super::view::ensure;
use crate::home::Home;
use crate::ops::activity::Running;
use crate::ops::workspace::live_files;
use crate::serve::access::{Caller, Read};
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::state::AppState;

#[derive(OpenApi)]
#[openapi(paths(live))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/api/v1/experiments/{name}/crates/{crate}/live", get(live))
}

/// How much of the output is shown, from its end.
const TAIL: u64 = 64 << 10;
/// The longest first line of such a file, which describes the op.
const HEADING: u64 = 16 << 10;

/// Read the output of a running op
///
/// The last 64 KiB, as the crate wrote it.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/crates/{crate}/live", tag = "results",
    params(("name" = String, Path, description = "Its name"),
        ("crate" = String, Path, description = "`NAME` or `NAME@VERSION`")), responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn live(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path((name, krate)): input::Path<(String, String)>,
) -> Result<Response, Problem> {
    let home = state.home().clone();
    let name = state.database().with(move |store| ensure(store, &name).map(|()| name)).await?;
    let read = tokio::task::spawn_blocking(move || output(&home, &name, &krate)).await;
    let shown = read.map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    match shown {
        Some((heading, output)) => {
            let body = [format!("== {heading}\n").into_bytes(), output].concat();
            Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
        }
        None => Err(Problem::new(Kind::NotFound, "no op of this crate runs now").at(Place::Path("crate".to_owned()))),
    }
}

/// The op of a crate that runs now, and the end of its output.
pub(super) fn output(home: &Home, experiment: &str, krate: &str) -> Option<(String, Vec<u8>)> {
    let jobs = home.jobs_of(experiment)?;
    live_files(&jobs).into_iter().find_map(|path| {
        let mut file = File::open(path).ok()?;
        let mut start = Vec::new();
        file.by_ref().take(HEADING).read_to_end(&mut start).ok()?;
        let end = start.iter().position(|byte| *byte == b'\n')?;
        let running: Running = serde_json::from_slice(&start[..end]).ok()?;
        let is_it = running.krate.to_string() == krate || running.krate.name.as_str() == krate;
        if !is_it {
            return None;
        }
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start((end as u64 + 1).max(length.saturating_sub(TAIL)))).ok()?;
        let mut output = Vec::new();
        file.take(TAIL).read_to_end(&mut output).ok()?;
        let toolchain = running.toolchain.map(|toolchain| format!("@{toolchain}")).unwrap_or_default();
        Some((format!("{}{toolchain}", running.op), output))
    })
}
