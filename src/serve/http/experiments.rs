//! `/api/v1/experiments`: create, list, show, edit, abort, rerun, delete.

#![expect(unused_qualifications, reason = "utoipa writes them for the parameters of a query")]

use std::path::Path;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::input;
use super::view::{Experiment, found, manage};
use crate::compare::Verdict;
use crate::experiment::{self, Form, Host, Needs, Sent, SentError, SentFault, SentPlace};
use crate::nearest::nearest;
use crate::registry::select::Selection;
use crate::serve::access::{Admin, Caller, Read, Run};
use crate::serve::config::Guard;
use crate::serve::problem::{Fault, Kind, Place, Problem};
use crate::serve::state::AppState;
use crate::store::service::{Change, Edit, Listed, State as Stage, Submission, Submitted, Via, Which};
use crate::wire::Digest;
use crate::{host, toolchain};

#[derive(OpenApi)]
#[openapi(paths(list, create, show, edit, abort, rerun, remove))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/experiments", get(list).post(create))
        .route("/api/v1/experiments/{name}", get(show).patch(edit).delete(remove))
        .route("/api/v1/experiments/{name}/abort", post(abort))
        .route("/api/v1/experiments/{name}/rerun", post(rerun))
}

/// How many experiments a page of the list has.
const PAGE: usize = 100;
/// The longest Idempotency-Key, in bytes.
const LONGEST_KEY: usize = 200;
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those in this state.
    state: Option<String>,
    /// Only those of this owner.
    owner: Option<String>,
    /// The cursor of the page before.
    after: Option<i64>,
}

/// A page of experiments, the newest first.
#[derive(Debug, Serialize, ToSchema)]
struct Page {
    experiments: Vec<Experiment>,
    /// Give it as `after` for the next page; none on the last one.
    cursor: Option<i64>,
}

/// List experiments
#[utoipa::path(get, path = "/api/v1/experiments", tag = "experiments", params(ListQuery), responses(
    (status = 200, body = Page), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn list(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Query(query): input::Query<ListQuery>,
) -> Result<Json<Page>, Problem> {
    let stage = query.state.as_deref().map(stage).transpose()?;
    let page = Listed { state: stage, owner: query.owner, before: query.after, most: PAGE + 1 };
    let all = state.clone();
    let (experiments, more) = state
        .database()
        .with(move |store| {
            let mut found = store.list_served(&page)?;
            let more = found.len() > PAGE;
            found.truncate(PAGE);
            let open = store.open_experiments()?;
            let shown = found.iter().map(|served| Experiment::of(&all, store, served, &open));
            Ok::<_, Problem>((shown.collect::<Result<Vec<_>, _>>()?, more))
        })
        .await?;
    let cursor = experiments.last().filter(|_| more).map(|last| last.id);
    Ok(Json(Page { experiments, cursor }))
}

fn stage(name: &str) -> Result<Stage, Problem> {
    Stage::of(name).ok_or_else(|| {
        let meant = nearest(name, Stage::ALL.map(Stage::as_str));
        let known = Stage::ALL.map(Stage::as_str).join(", ");
        let shown: String = name.chars().take(80).collect();
        Problem::new(Kind::Invalid, format!("`{}` is not a state; known are {known}", shown.escape_debug()))
            .at(Place::Parameter("state".to_owned()))
            .meant(meant)
    })
}

/// A new experiment.
#[derive(Debug, Serialize, ToSchema)]
struct Created {
    /// Its name.
    name: String,
    /// Its page.
    url: String,
    /// Its state.
    state: String,
}

/// Create an experiment
///
/// The body has the settings of a `maar.toml`, as TOML or JSON, and `priority`, `weight`, `needs`, `confirm`, `notify`.
#[utoipa::path(post, path = "/api/v1/experiments", tag = "experiments", security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body create one experiment")),
    request_body(content((String = "application/toml"), (Object = "application/json"))), responses(
        (status = 201, body = Created), (status = 200, body = Created, description = "The same request came before"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn create(State(state): State<AppState>, caller: Caller<Run>, request: Request) -> Result<Response, Problem> {
    let media_type = input::media_type(request.headers());
    let form = match media_type.as_deref() {
        Some("application/toml") => Form::Toml,
        Some("application/json") => Form::Json,
        other => return Err(input::wrong_media_type(other, &["application/toml", "application/json"])),
    };
    let key = key_of(request.headers())?;
    let body = input::whole(request, &state).await?;
    let text = String::from_utf8(body.into()).map_err(|_| Problem::new(Kind::Malformed, "the body is not UTF-8"))?;
    let digest = Digest::of(text.as_bytes()).to_string();
    // Looking toolchains up starts programs, so that it must not hold one of the database's few connections.
    let sent = tokio::task::spawn_blocking(move || {
        // A client has nothing installed.
        let find = |spec: Option<&toolchain::ToolchainSpec>, _| toolchain::find_or_active(spec);
        let host = Host { cores: host::cores(), folder: Path::new("/"), toolchain: &find };
        Sent { form, text: &text }.load(&host).map(|(loaded, service)| (loaded, service, text))
    });
    let sent = sent.await.map_err(|error| Problem::new(Kind::Internal, error.to_string()))?;
    let (loaded, service, text) = sent?;
    let guard = if caller.is_admin() { Guard::default() } else { state.config().access.guard.run.clone() };
    check_guard(&guard, service.priority, &loaded.experiment.crates)?;
    let edit = edit_of(service.priority, service.weight, None, service.needs.as_ref(), service.notify.as_deref())?;
    let owner = caller.owner().to_owned();
    let submission = Submission { form: form.as_str().to_owned(), text, fresh: false, key, digest, owner };
    let (status, name) = state
        .database()
        .with(move |store| {
            let name = loaded.experiment.name;
            let submitted = store.submit(&name, &submission, (&edit, service.confirm), guard.open_experiments)?;
            outcome(submitted, name)
        })
        .await?;
    if status == StatusCode::CREATED {
        state.events().publish(&name, "state", &serde_json::json!({ "state": "planning", "trouble": null }));
        state.worker().call();
    }
    let url = format!("/ex/{name}");
    let location = format!("/api/v1/experiments/{name}");
    let created = Created { name, url, state: Stage::Planning.as_str().to_owned() };
    Ok((status, [(header::LOCATION, location)], Json(created)).into_response())
}

fn outcome(submitted: Submitted, name: String) -> Result<(StatusCode, String), Problem> {
    match submitted {
        Submitted::Created => Ok((StatusCode::CREATED, name)),
        Submitted::Repeated(name) => Ok((StatusCode::OK, name)),
        Submitted::KeyReused => {
            let detail = "this Idempotency-Key came with another body; use a new one for a new experiment";
            Err(Problem::new(Kind::Conflict, detail).at(Place::Header("idempotency-key".to_owned())))
        }
        Submitted::Taken => {
            let detail = format!("an experiment is named `{name}` already: choose another `name`, or rerun that one");
            Err(Problem::new(Kind::Conflict, detail))
        }
        Submitted::TooManyOpen(open) => {
            let detail =
                format!("{open} of your experiments are open, and you may have no more; wait for one, or abort it");
            Err(Problem::new(Kind::Forbidden, detail))
        }
    }
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let wrong = || {
        let detail = format!("an Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters");
        Problem::new(Kind::Malformed, detail).at(Place::Header("idempotency-key".to_owned()))
    };
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| wrong())?;
    if key.is_empty() || key.len() > LONGEST_KEY || values.next().is_some() {
        return Err(wrong());
    }
    Ok(Some(key.to_owned()))
}

/// Checks the guard rails of a caller. A query counts as one crate: its answer is not known yet.
fn check_guard(guard: &Guard, priority: Option<i64>, crates: &[Selection]) -> Result<(), Problem> {
    if let (Some(most), Some(priority)) = (guard.max_priority, priority)
        && priority > most
    {
        return Err(Problem::new(
            Kind::Forbidden,
            format!("`priority` may be at most {most}; an administrator can raise it"),
        )
        .at(Place::Pointer("/priority".to_owned())));
    }
    if let Some(most) = guard.max_crates
        && crates.len() as u64 > most
    {
        return Err(Problem::new(Kind::Forbidden, format!("an experiment may have at most {most} crates"))
            .at(Place::Pointer("/crates".to_owned())));
    }
    Ok(())
}

impl From<SentError> for Problem {
    fn from(SentError(faults): SentError) -> Self {
        let is_syntax = faults.iter().any(|fault| {
            fault.message.starts_with("this is not JSON") || fault.message.starts_with("this is not TOML")
        });
        let fault = |SentFault { message, help, nearest, place }: SentFault| Fault {
            detail: message,
            help,
            nearest,
            place: place.map(|place| match place {
                SentPlace::Line { line, column } => Place::Line { line, column },
                SentPlace::Pointer(pointer) => Place::Pointer(pointer),
            }),
        };
        let kind = if is_syntax { Kind::Malformed } else { Kind::Invalid };
        Self::of_faults(kind, faults.into_iter().map(fault).collect())
    }
}

/// Show an experiment
#[utoipa::path(get, path = "/api/v1/experiments/{name}", tag = "experiments",
    params(("name" = String, Path, description = "Its name")), responses(
        (status = 200, body = Experiment), (status = 304, description = "It is as the client has it"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn show(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path(name): input::Path<String>,
) -> Result<Response, Problem> {
    shown(&state, name).await
}

/// The answer with one experiment.
async fn shown(state: &AppState, name: String) -> Result<Response, Problem> {
    let all = state.clone();
    let experiment = state
        .database()
        .with(move |store| {
            let served = found(store, &name)?;
            let open = store.open_experiments()?;
            Experiment::of(&all, store, &served, &open)
        })
        .await?;
    let etag = format!("\"{}\"", experiment.etag);
    let etag = HeaderValue::try_from(etag).map_err(|_| Problem::new(Kind::Internal, "the ETag is malformed"))?;
    Ok(([(header::ETAG, etag)], Json(experiment)).into_response())
}

/// An edit; absent: as before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewEdit {
    /// The greatest is first.
    #[schema(minimum = -1_000_000, maximum = 1_000_000)]
    priority: Option<i64>,
    /// The share among experiments of the same priority.
    #[schema(minimum = 0.001, maximum = 1000.0)]
    weight: Option<f64>,
    /// Whether it waits until it is resumed.
    paused: Option<bool>,
    /// The demands on a machine: `os`, `arch`, `sandbox`, `labels`, `memory`.
    #[schema(value_type = Object)]
    needs: Option<Needs>,
    /// The people to notify of its end.
    notify: Option<Vec<String>>,
}

fn edit_of(
    priority: Option<i64>,
    weight: Option<f64>,
    paused: Option<bool>,
    needs: Option<&Needs>,
    notify: Option<&[String]>,
) -> Result<Edit, Problem> {
    let fault = |pointer: &str| {
        let place = Place::Pointer(pointer.to_owned());
        move |error: experiment::BadValue| Problem::new(Kind::Invalid, error.to_string()).at(place)
    };
    priority.map(experiment::priority).transpose().map_err(fault("/priority"))?;
    weight.map(experiment::weight).transpose().map_err(fault("/weight"))?;
    needs.map(Needs::check).transpose().map_err(fault("/needs"))?;
    notify.map(experiment::words).transpose().map_err(fault("/notify"))?;
    Ok(Edit {
        priority,
        weight,
        paused,
        // Our own types are always JSON.
        needs: needs.map(|needs| serde_json::to_string(needs).unwrap_or_default()),
        notify: notify.map(|notify| serde_json::to_string(notify).unwrap_or_default()),
    })
}

/// Edit an experiment
#[utoipa::path(patch, path = "/api/v1/experiments/{name}", tag = "experiments", security(("token" = [])),
    params(("name" = String, Path, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The ETag that the edit is of")),
    request_body = NewEdit, responses(
        (status = 200, body = Experiment), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn edit(
    State(state): State<AppState>,
    caller: Caller<Run>,
    input::Path(name): input::Path<String>,
    headers: HeaderMap,
    input::Json(new): input::Json<NewEdit>,
) -> Result<Response, Problem> {
    let etag = if_match(&headers)?;
    let edit = edit_of(new.priority, new.weight, new.paused, new.needs.as_ref(), new.notify.as_deref())?;
    if edit == Edit::default() {
        let detail = "an edit has at least one of `priority`, `weight`, `paused`, `needs` and `notify`";
        return Err(Problem::new(Kind::Invalid, detail));
    }
    if !caller.is_admin() {
        check_guard(&state.config().access.guard.run, new.priority, &[])?;
    }
    let target = name.clone();
    let edited = state
        .database()
        .with(move |store| {
            let served = manage(store, &name, &caller)?;
            let stage = served.state.filter(|stage| !stage.is_settled()).ok_or_else(|| {
                let shown = served.state.map_or("local", Stage::as_str);
                Problem::new(
                    Kind::Conflict,
                    format!("`{name}` is {shown}; only experiments that are not over are edited"),
                )
            })?;
            if stage == Stage::Aborting {
                return Err(Problem::new(Kind::Conflict, format!("`{name}` is being aborted")));
            }
            let before =
                serde_json::json!({ "priority": served.priority, "weight": served.weight, "paused": served.paused });
            let after = serde_json::json!({ "priority": edit.priority, "weight": edit.weight, "paused": edit.paused });
            let change = Change {
                before: Some(before.to_string()),
                after: Some(after.to_string()),
                ..Change::new(caller.owner(), Via::Api, format!("experiment {name}: edit"))
            };
            match store.edit(&name, etag, &edit, &change)? {
                true => Ok(edit),
                false => Err(Problem::new(
                    Kind::PreconditionFailed,
                    format!("`{name}` has changed, its ETag is \"{}\" now: read it again, then edit", served.etag),
                )
                .at(Place::Header("if-match".to_owned()))),
            }
        })
        .await?;
    let told = serde_json::json!({ "paused": edited.paused, "priority": edited.priority, "weight": edited.weight });
    state.events().publish(&target, "state", &told);
    state.worker().call();
    shown(&state, target).await
}

fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(None);
    }
    let etag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    let etag = etag.filter(|etag| *etag <= i64::MAX.unsigned_abs());
    etag.map(Some).ok_or_else(|| {
        // Well-formed or not, it is not the present one.
        Problem::new(Kind::PreconditionFailed, "If-Match is not an ETag of this server; read the experiment again")
            .at(Place::Header("if-match".to_owned()))
    })
}

/// The state of an experiment after a command.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Its name.
    pub(super) name: String,
    /// Its state.
    pub(super) state: String,
}

pub(super) fn accepted(name: &str, state: Stage) -> (StatusCode, Json<Accepted>) {
    (StatusCode::ACCEPTED, Json(Accepted { name: name.to_owned(), state: state.as_str().to_owned() }))
}

/// Abort an experiment
///
/// Ends its ops within 30 seconds. Its results are kept.
#[utoipa::path(post, path = "/api/v1/experiments/{name}/abort", tag = "experiments", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")), responses(
        (status = 202, body = Accepted), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn abort(
    State(state): State<AppState>,
    caller: Caller<Run>,
    input::Path(name): input::Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let target = name.clone();
    let to = state
        .database()
        .with(move |store| {
            let served = manage(store, &name, &caller)?;
            let change = Change::new(caller.owner(), Via::Api, format!("experiment {name}: abort"));
            let waiting = [Stage::Planning, Stage::Queued];
            if store.turn(&name, &waiting, Stage::Aborted, None, Some(&change))? {
                return Ok(Stage::Aborted);
            }
            let under_way = [Stage::Running, Stage::Confirming, Stage::Reporting];
            if store.turn(&name, &under_way, Stage::Aborting, None, Some(&change))? {
                return Ok(Stage::Aborting);
            }
            let shown = served.state.map_or("an experiment of `maar run`", Stage::as_str);
            Err(Problem::new(Kind::Conflict, format!("`{name}` is {shown}, there is nothing to abort")))
        })
        .await?;
    state.events().publish(&target, "state", &serde_json::json!({ "state": to.as_str(), "trouble": null }));
    state.worker().abort(&target);
    state.worker().call();
    Ok(accepted(&target, to))
}

/// The crates to run again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Again {
    /// `all`, `failed`, `regressed`, `inconclusive`, `missing`, or a list of names such as `itoa` or `itoa@1.0.0`.
    which: WhichCrates,
    /// Whether versions are chosen again and all results forgotten; with `all` only.
    #[serde(default)]
    fresh: bool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
enum WhichCrates {
    /// A group.
    Group(String),
    /// Names of crates.
    Names(Vec<String>),
}

const GROUPS: [&str; 5] = ["all", "failed", "regressed", "inconclusive", "missing"];

fn which(again: &Again) -> Result<Which, Problem> {
    let verdicts = |verdicts: &[Verdict]| Which::Verdicts(verdicts.iter().map(ToString::to_string).collect());
    let at = |pointer: &str| Place::Pointer(pointer.to_owned());
    let which = match &again.which {
        WhichCrates::Group(group) => match group.as_str() {
            "all" => Which::All,
            "failed" => verdicts(&[Verdict::Regressed, Verdict::BuildFail, Verdict::TestFail]),
            "regressed" => verdicts(&[Verdict::Regressed]),
            "inconclusive" => verdicts(&[Verdict::Inconclusive, Verdict::Error]),
            "missing" => verdicts(&[]),
            other => {
                let shown: String = other.chars().take(80).collect();
                let detail =
                    format!("`{}` is not a group of crates; known are {}", shown.escape_debug(), GROUPS.join(", "));
                return Err(Problem::new(Kind::Invalid, detail).at(at("/which")).meant(nearest(other, GROUPS)));
            }
        },
        WhichCrates::Names(names) if names.is_empty() || names.len() > 1000 => {
            return Err(Problem::new(Kind::Invalid, "`which` takes 1 to 1000 names").at(at("/which")));
        }
        WhichCrates::Names(names) => Which::Names(names.clone()),
    };
    if again.fresh && which != Which::All {
        let detail = "`fresh` forgets all results, so it goes with `\"which\": \"all\"` only";
        return Err(Problem::new(Kind::Invalid, detail).at(at("/fresh")));
    }
    Ok(which)
}

/// Run crates again
#[utoipa::path(post, path = "/api/v1/experiments/{name}/rerun", tag = "experiments", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")), request_body = Again, responses(
        (status = 202, body = Accepted), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn rerun(
    State(state): State<AppState>,
    caller: Caller<Run>,
    input::Path(name): input::Path<String>,
    input::Json(again): input::Json<Again>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let which = which(&again)?;
    let target = name.clone();
    state
        .database()
        .with(move |store| {
            let served = manage(store, &name, &caller)?;
            if let Which::Names(names) = &which {
                for (place, krate) in names.iter().enumerate() {
                    let (krate_name, version) =
                        krate.split_once('@').map_or((krate.as_str(), None), |(n, v)| (n, Some(v)));
                    if store.positions(&name, krate_name, version)?.is_empty() {
                        let shown: String = krate.chars().take(80).collect();
                        let detail = format!("`{name}` has no crate `{}`", shown.escape_debug());
                        return Err(Problem::new(Kind::Invalid, detail).at(Place::Pointer(format!("/which/{place}"))));
                    }
                }
            }
            let change = Change::new(caller.owner(), Via::Api, format!("experiment {name}: rerun"));
            let from = [Stage::Done, Stage::Aborted, Stage::ReportFailed, Stage::Invalid];
            if store.rerun(&name, &from, &which, again.fresh, &change)? {
                return Ok(());
            }
            let shown = served.state.map_or("an experiment of `maar run`, which goes on with it", Stage::as_str);
            Err(Problem::new(Kind::Conflict, format!("`{name}` is {shown}; only experiments that are over run again")))
        })
        .await?;
    state.events().publish(&target, "state", &serde_json::json!({ "state": "planning", "trouble": null }));
    state.worker().call();
    Ok(accepted(&target, Stage::Planning))
}

/// Delete an experiment and its results
#[utoipa::path(delete, path = "/api/v1/experiments/{name}", tag = "experiments", security(("token" = [])),
    params(("name" = String, Path, description = "Its name")), responses(
        (status = 202, body = Accepted), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller<Admin>,
    input::Path(name): input::Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let (target, home) = (name.clone(), state.home().clone());
    let was = state
        .database()
        .with(move |store| {
            let served = found(store, &name)?;
            let stage = served.state.filter(|stage| stage.is_settled()).ok_or_else(|| {
                let shown = served.state.map_or("an experiment of `maar run`: `maar clean` deletes it", Stage::as_str);
                Problem::new(Kind::Conflict, format!("`{name}` is {shown}; only experiments that are over are deleted"))
            })?;
            store.delete(&name)?;
            store.audit(&Change::new(caller.owner(), Via::Api, format!("experiment {name}: delete")))?;
            if let Err(error) = home.remove_report(&name) {
                // The experiment is gone all the same.
                crate::serve::state::log(&error);
            }
            Ok::<_, Problem>(stage)
        })
        .await?;
    state.events().publish(&target, "gone", &serde_json::json!({}));
    Ok(accepted(&target, was))
}
