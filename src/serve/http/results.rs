//! The results of an experiment: reports, crates, lists, logs.

#![expect(unused_qualifications, reason = "utoipa writes them for the parameters of a query")]

use std::io::Write;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream;
use serde::Deserialize;
use utoipa::{IntoParams, OpenApi};

use super::experiments::{Accepted, accepted};
use super::input;
use super::view::{ensure, manage};
use crate::compare::{Report, Verdict};
use crate::nearest::nearest;
use crate::plan::LogId;
use crate::report::text::Width;
use crate::report::{json, markdown, text};
use crate::run;
use crate::serve::access::{Caller, Read, Run};
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::state::AppState;
use crate::serve::worker::finish_report;
use crate::store::Store;
use crate::store::service::{Change, State as Stage, Via};

#[derive(OpenApi)]
#[openapi(paths(report, retry_report, results, list, krate, log))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/experiments/{name}/report", get(report).post(retry_report))
        .route("/api/v1/experiments/{name}/results", get(results))
        .route("/api/v1/experiments/{name}/list", get(list))
        .route("/api/v1/experiments/{name}/crates/{crate}", get(krate))
        .route("/api/v1/experiments/{name}/logs/{fingerprint}/{attempt}", get(log))
}

/// How many crates are read from the database at a time.
const BATCH: u64 = 200;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReportQuery {
    /// `json`, `html`, `markdown` or `text`; `json` if absent.
    format: Option<String>,
}

/// Read the report
#[utoipa::path(get, path = "/api/v1/experiments/{name}/report", tag = "results",
    params(("name" = String, Path, description = "Its name"), ReportQuery), responses(
        (status = 200, content((Object = "application/json"), (String = "text/markdown"), (String = "text/plain"))),
        (status = 303, description = "The pages of the HTML report"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn report(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path(name): input::Path<String>,
    input::Query(query): input::Query<ReportQuery>,
) -> Result<Response, Problem> {
    let format = query.format.unwrap_or_else(|| "json".to_owned());
    let media_type = match format.as_str() {
        "json" => "application/json",
        "markdown" => "text/markdown; charset=utf-8",
        "text" => "text/plain; charset=utf-8",
        "html" => {
            let name = state.database().with(move |store| ensure(store, &name).map(|()| name)).await?;
            return Ok(
                (StatusCode::SEE_OTHER, [(header::LOCATION, format!("/ex/{name}/report/index.html"))]).into_response()
            );
        }
        other => {
            let known = ["json", "html", "markdown", "text"];
            let shown: String = other.chars().take(80).collect();
            let detail = format!("`{}` is not a format; known are {}", shown.escape_debug(), known.join(", "));
            return Err(Problem::new(Kind::Invalid, detail)
                .at(Place::Parameter("format".to_owned()))
                .meant(nearest(other, known)));
        }
    };
    let body = state
        .database()
        .with(move |store| {
            ensure(store, &name)?;
            let results = if format == "json" { store.results_with_tests(&name)? } else { store.results(&name)? };
            let results = results.ok_or_else(|| Problem::new(Kind::NotFound, format!("`{name}` was deleted")))?;
            let report = run::report(store, &results)?;
            let log = |log: LogId| store.log(&name, log);
            let mut body = Vec::new();
            match format.as_str() {
                "markdown" => markdown::write(&report, &log, &mut body),
                "text" => text::write(&report, Width::Whole, &mut anstream::StripStream::new(&mut body)),
                _ => json::write(&report, &mut body),
            }
            .map_err(|error| {
                crate::serve::state::log(&error);
                Problem::new(Kind::Internal, "the report can't be written; the server's log names the cause")
            })?;
            Ok::<_, Problem>(body)
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, media_type)], body).into_response())
}

/// Write the report again
///
/// For experiments in the state `report-failed`.
#[utoipa::path(post, path = "/api/v1/experiments/{name}/report", tag = "results", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")), responses(
        (status = 202, body = Accepted), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn retry_report(
    State(state): State<AppState>,
    caller: Caller<Run>,
    input::Path(name): input::Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let Some(runner) = state.runner().cloned() else {
        return Err(Problem::new(Kind::Conflict, "this server writes no reports, as [worker] is not enabled"));
    };
    let target = name.clone();
    state
        .database()
        .with(move |store| {
            let served = manage(store, &name, &caller)?;
            let change = Change::new(caller.owner(), Via::Api, format!("experiment {name}: retry the report"));
            match store.turn(&name, &[Stage::ReportFailed, Stage::Done], Stage::Reporting, None, Some(&change))? {
                true => Ok(()),
                false => {
                    let shown = served.state.map_or("an experiment of `maar run`", Stage::as_str);
                    Err(Problem::new(Kind::Conflict, format!("`{name}` is {shown}; it has no report to write again")))
                }
            }
        })
        .await?;
    let (writing, written) = (state.clone(), target.clone());
    tokio::task::spawn_blocking(move || {
        if let Err(error) = finish_report(&writing, &*runner, &written) {
            crate::serve::state::log(&error);
        }
    });
    Ok(accepted(&target, Stage::Reporting))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ResultsQuery {
    /// Only crates with this verdict.
    verdict: Option<String>,
    /// How many crates of the plan to leave out at the beginning.
    #[param(minimum = 0)]
    after: Option<u32>,
}

fn verdict(name: &str) -> Result<Verdict, Problem> {
    Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == name).ok_or_else(|| {
        let known = Verdict::ALL.map(Verdict::as_str);
        let shown: String = name.chars().take(80).collect();
        let detail = format!("`{}` is not a verdict; known are {}", shown.escape_debug(), known.join(", "));
        Problem::new(Kind::Invalid, detail).at(Place::Parameter("verdict".to_owned())).meant(nearest(name, known))
    })
}

/// Stream the results
///
/// One JSON object a line for each crate, as in the JSON report, in the order of the plan.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/results", tag = "results",
    params(("name" = String, Path, description = "Its name"), ResultsQuery), responses(
        (status = 200, body = String, content_type = "application/x-ndjson"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn results(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path(name): input::Path<String>,
    input::Query(query): input::Query<ResultsQuery>,
) -> Result<Response, Problem> {
    let wanted = query.verdict.as_deref().map(verdict).transpose()?;
    let permit = state.limits().stream()?;
    let name = state.database().with(move |store| ensure(store, &name).map(|()| name)).await?;
    let from = u64::from(query.after.unwrap_or(0));
    let lines = stream::try_unfold((state, name, from, permit), move |(state, name, from, permit)| async move {
        let of = name.clone();
        let read = state.database().with(move |store| lines(store, &of, from, wanted)).await;
        match read {
            Ok(Some(lines)) => Ok(Some((Bytes::from(lines), (state, name, from + BATCH, permit)))),
            Ok(None) => Ok(None),
            // It was deleted, or the database failed: a stream that breaks off shows that to the client.
            Err(problem) => Err(std::io::Error::other(problem.detail().to_owned())),
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The next crates as lines of JSON; none: there are no more.
fn lines(store: &Store, name: &str, from: u64, wanted: Option<Verdict>) -> Result<Option<Vec<u8>>, Problem> {
    let results = store.some_results(name, from, BATCH)?;
    let results = results.ok_or_else(|| Problem::new(Kind::NotFound, format!("`{name}` was deleted")))?;
    if results.crates.is_empty() {
        return Ok(None);
    }
    let report = run::report(store, &results)?;
    let mut lines = Vec::new();
    for krate in report.crates.iter().filter(|krate| wanted.is_none_or(|wanted| krate.verdict == wanted)) {
        // Our own types are always JSON, and memory takes them.
        let _ = serde_json::to_writer(&mut lines, krate);
        let _ = lines.write_all(b"\n");
    }
    Ok(Some(lines))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The verdict of the crates.
    which: String,
}

/// Read a list of crates
///
/// A line for each crate with the verdict, `NAME@VERSION`, fit for `crates = [...]` and `list:FILE`.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/list", tag = "results",
    params(("name" = String, Path, description = "Its name"), ListQuery), responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path(name): input::Path<String>,
    input::Query(query): input::Query<ListQuery>,
) -> Result<Response, Problem> {
    let wanted = verdict(&query.which).map_err(|problem| problem.at(Place::Parameter("which".to_owned())))?;
    let crates = state
        .database()
        .with(move |store| {
            ensure(store, &name)?;
            Ok::<_, Problem>(store.verdicts(&name, Some(wanted.as_str()), "", usize::MAX >> 1)?)
        })
        .await?;
    let text: String = crates.into_iter().map(|(krate, ..)| format!("{krate}\n")).collect();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// Read the results of one crate
#[utoipa::path(get, path = "/api/v1/experiments/{name}/crates/{crate}", tag = "results",
    params(("name" = String, Path, description = "Its name"),
        ("crate" = String, Path, description = "`NAME` or `NAME@VERSION`")), responses(
        (status = 200, body = Object), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn krate(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path((name, krate)): input::Path<(String, String)>,
) -> Result<Response, Problem> {
    let body = state
        .database()
        .with(move |store| {
            let report = crate_report(store, &name, &krate)?;
            let logs = super::pages::logs_of(&name, &report.crates[0]);
            let mut value = serde_json::to_value(&report.crates[0]).unwrap_or_default();
            value["logs"] = logs.into();
            Ok::<_, Problem>(value)
        })
        .await?;
    Ok(Json(body).into_response())
}

/// The report of one crate: the first of its name, if several versions were run and none is named.
pub(super) fn crate_report(store: &Store, name: &str, krate: &str) -> Result<Report, Problem> {
    ensure(store, name)?;
    let (of, version) = krate.split_once('@').map_or((krate, None), |(name, version)| (name, Some(version)));
    let absent = || {
        let shown: String = krate.chars().take(80).collect();
        Problem::new(Kind::NotFound, format!("`{name}` has no crate `{}`", shown.escape_debug()))
            .at(Place::Path("crate".to_owned()))
    };
    let position = store.positions(name, of, version)?.first().copied().ok_or_else(absent)?;
    let results = store.some_results(name, position, 1)?.ok_or_else(absent)?;
    if results.crates.is_empty() {
        return Err(absent());
    }
    Ok(run::report(store, &results)?)
}

/// Read a log
///
/// The output of an op, as the crate wrote it. Takes one range of bytes.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/logs/{fingerprint}/{attempt}", tag = "results",
    params(("name" = String, Path, description = "Its name"),
        ("fingerprint" = String, Path, description = "The step"),
        ("attempt" = u32, Path, description = "The attempt, from 1")), responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 206, body = String, content_type = "text/plain"),
        (status = 416, body = Problem, content_type = "application/problem+json"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn log(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path((name, fingerprint, attempt)): input::Path<(String, String, u32)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let step = fingerprint.parse().map_err(|error: crate::plan::BadFingerprint| {
        Problem::new(Kind::NotFound, error.to_string()).at(Place::Path("fingerprint".to_owned()))
    })?;
    let output = state
        .database()
        .with(move |store| {
            ensure(store, &name)?;
            let output = store.log(&name, LogId { step, attempt })?;
            output
                .ok_or_else(|| Problem::new(Kind::NotFound, "this step has no log: it hasn't run, or printed nothing"))
        })
        .await?;
    let mut whole = output.head;
    if output.dropped > 0 {
        whole.extend_from_slice(format!("\n… {} bytes were not kept …\n", output.dropped).as_bytes());
    }
    whole.extend_from_slice(&output.tail);
    let plain = (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned());
    let ranges = (header::ACCEPT_RANGES, "bytes".to_owned());
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    match asked.map_or(Asked::Whole, |asked| range(asked, whole.len())) {
        Asked::Whole => Ok(([plain, ranges], whole).into_response()),
        Asked::Part(from, to) => {
            let of = (header::CONTENT_RANGE, format!("bytes {from}-{}/{}", to - 1, whole.len()));
            Ok((StatusCode::PARTIAL_CONTENT, [plain, ranges, of], whole[from..to].to_owned()).into_response())
        }
        Asked::Beyond => {
            let problem = Problem::new(Kind::RangeNotSatisfiable, format!("the log has {} bytes", whole.len()));
            let mut response = problem.at(Place::Header("range".to_owned())).into_response();
            if let Ok(of) = format!("bytes */{}", whole.len()).try_into() {
                response.headers_mut().insert(header::CONTENT_RANGE, of);
            }
            Ok(response)
        }
    }
}

/// The bytes that a client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// From one, to one behind the last.
    Part(usize, usize),
    Beyond,
}

/// Reads a header `Range`. One that is malformed, of another unit or of several parts counts as none, as RFC 9110 has
/// it.
fn range(text: &str, length: usize) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Asked::Whole;
    };
    match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => match first < length {
            true => Asked::Part(first, length.min(last.saturating_add(1))),
            false => Asked::Beyond,
        },
        (Ok(first), Err(_)) if last.is_empty() => {
            if first < length {
                Asked::Part(first, length)
            } else {
                Asked::Beyond
            }
        }
        (Err(_), Ok(last)) if first.is_empty() => match last.min(length) {
            0 => Asked::Beyond,
            last => Asked::Part(length - last, length),
        },
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_of_bytes_and_within_the_log() {
        for (text, asked) in [
            ("bytes=0-4", Asked::Part(0, 5)),
            ("bytes=5-", Asked::Part(5, 10)),
            ("bytes=-3", Asked::Part(7, 10)),
            ("bytes=-30", Asked::Part(0, 10)),
            ("bytes=8-99", Asked::Part(8, 10)),
            ("bytes=10-", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("lines=0-4", Asked::Whole),
            ("bytes=99999999999999999999-", Asked::Whole),
            ("bytes=-", Asked::Whole),
        ] {
            assert_eq!(range(text, 10), asked, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Asked::Beyond);
    }
}
