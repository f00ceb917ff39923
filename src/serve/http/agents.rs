//! `/agent/v1`: the routes that agents use, each with an agent's token.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::de::DeserializeOwned;

use super::input;
use crate::progress::Update;
use crate::serve::access::{self, Caller};
use crate::serve::engine::Agents;
use crate::serve::event::RunEvent;
use crate::serve::incoming::UploadError;
use crate::serve::leases::Agent;
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::reports::{self, Decision};
use crate::serve::state::{AppState, log, note};
use crate::wire::{
    self, Answer, Assigned, Digest, GiveBack, Handouts, Hello, MAX_BUNDLE, MAX_MESSAGE, MAX_REPORT, Pull, Renew,
    Renewed, Report, Welcome,
};

/// The most leases in one message.
const MOST_LEASES: usize = 4096;

pub(super) fn routes() -> Router<AppState> {
    // A lease is a few hundred bytes.
    let many_leases = DefaultBodyLimit::max(MOST_LEASES * 512);
    Router::new()
        .route("/agent/v1/hello", post(hello).layer(DefaultBodyLimit::max(MAX_MESSAGE)))
        .route("/agent/v1/jobs", post(jobs).layer(DefaultBodyLimit::max(MAX_MESSAGE)))
        .route("/agent/v1/experiments/{experiment}/{generation}", get(experiment))
        .route("/agent/v1/renew", post(renew).layer(many_leases))
        .route("/agent/v1/give-back", post(give_back).layer(many_leases))
        .route("/agent/v1/blobs/{digest}", put(blob).layer(DefaultBodyLimit::max(MAX_BUNDLE)))
        .route("/agent/v1/results", post(results).layer(DefaultBodyLimit::max(MAX_REPORT)))
}

async fn hello(
    State(state): State<AppState>,
    caller: Caller<access::Agent>,
    body: Bytes,
) -> Result<Json<Welcome>, Problem> {
    let agents = agents(&state)?;
    // Before anything else: a message of another version may not even be readable.
    #[derive(serde::Deserialize)]
    struct Version {
        wire: u32,
    }
    let Version { wire } = read(&body)?;
    wire::check_version(wire).map_err(|error| Problem::new(Kind::UpgradeRequired, error.to_string()))?;
    let hello: Hello = read(&body)?;
    let record = record(&state, &caller).await?;
    let (number, name) = (record.id, record.name.clone());
    let text = String::from_utf8_lossy(&body).into_owned();
    let labels = serde_json::to_string(&hello.labels).unwrap_or_default();
    state.database().with(move |store| store.introduce(number, &text, &labels)).await?;
    let cap = hello.cap.min(agents.dispatcher.cap());
    agents.dispatcher.introduced(&Agent { record, hello });
    let times = agents.dispatcher.times();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let now = state.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Json(Welcome {
        name,
        lease_ms: millis(times.lease),
        renew_ms: millis(times.renew),
        poll_ms: millis(times.poll),
        cap,
        now_ms: millis(now),
    }))
}

async fn jobs(State(state): State<AppState>, caller: Caller<access::Agent>, body: Bytes) -> Result<Response, Problem> {
    let agent = agent(&state, &caller).await?;
    if agent.record.paused {
        let detail = format!("agent `{}` is paused; an administrator resumes it", agent.record.name);
        return Err(Problem::new(Kind::Conflict, detail).retry_after(60));
    }
    let Pull { want, wait_ms } = read(&body)?;
    let dispatcher = &agents(&state)?.dispatcher;
    let jobs = dispatcher.pull(&agent, want.min(dispatcher.cap()), Duration::from_millis(wait_ms)).await?;
    if jobs.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(Json(Handouts { jobs }).into_response())
}

async fn experiment(
    State(state): State<AppState>,
    caller: Caller<access::Agent>,
    input::Path((experiment, generation)): input::Path<(u32, u32)>,
) -> Result<Json<Assigned>, Problem> {
    agent(&state, &caller).await?;
    let assigned = agents(&state)?.dispatcher.assigned(experiment, generation).await?;
    Ok(Json(Arc::unwrap_or_clone(assigned)))
}

async fn renew(
    State(state): State<AppState>,
    caller: Caller<access::Agent>,
    body: Bytes,
) -> Result<Json<Renewed>, Problem> {
    let agent = agent(&state, &caller).await?;
    let Renew { leases, .. } = read(&body)?;
    at_most(leases.len())?;
    Ok(Json(agents(&state)?.dispatcher.renew(&agent, leases).await?))
}

async fn give_back(
    State(state): State<AppState>,
    caller: Caller<access::Agent>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let agent = agent(&state, &caller).await?;
    let GiveBack { leases, reason, detail, keep } = read(&body)?;
    at_most(leases.len())?;
    if !detail.is_empty() {
        let detail: String = detail.chars().take(400).collect();
        note(&format!("agent `{}` gives back {} crates: {detail}", agent.record.name, leases.len()));
    }
    let dispatcher = &agents(&state)?.dispatcher;
    dispatcher.give_back(&agent, leases, reason).await?;
    if let Some(keep) = keep {
        dispatcher.give_back_others(&agent, &keep).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn blob(
    State(state): State<AppState>,
    caller: Caller<access::Agent>,
    input::Path(digest): input::Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    agent(&state, &caller).await?;
    let place = || Place::Path("digest".to_owned());
    let digest: Digest =
        digest.parse().map_err(|error: wire::BadDigest| Problem::new(Kind::Invalid, error.to_string()).at(place()))?;
    let incoming = agents(&state)?.incoming.clone();
    let kept = tokio::task::spawn_blocking(move || incoming.put(digest, &body)).await;
    match kept.map_err(|error| Problem::new(Kind::Internal, error.to_string()))? {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ UploadError::Digest { .. }) => Err(Problem::new(Kind::Invalid, error.to_string()).at(place())),
        Err(error @ UploadError::Io(_)) => {
            log(&error);
            Err(Problem::new(Kind::Unavailable, error.to_string()).retry_after(30))
        }
    }
}

async fn results(
    State(state): State<AppState>,
    caller: Caller<access::Agent>,
    body: Bytes,
) -> Result<Json<Answer>, Problem> {
    let agent = agent(&state, &caller).await?;
    let report: Report = read(&body)?;
    let Agents { dispatcher, incoming } = agents(&state)?;
    match reports::take(dispatcher, incoming, &agent, report).await? {
        Decision::Late(why) => Ok(Json(Answer { accepted: false, why: Some(why) })),
        Decision::Accepted(name, update) => {
            let event = RunEvent::of(&update);
            state.events().publish(&name, event.kind(), &event);
            if let Update::Verdict { krate, verdict, reason } = update {
                let verdicts = [(krate, verdict.to_string(), reason)];
                state.database().with(move |store| store.keep_verdicts(&name, &verdicts, false)).await?;
            }
            Ok(Json(Answer { accepted: true, why: None }))
        }
        Decision::Implausible(problem) => {
            let (number, name) = (agent.record.id, agent.record.name.clone());
            state.database().with(move |store| store.pause_agent(number, &name)).await?;
            note(&format!("agent `{}` is paused: {}", agent.record.name, problem.detail()));
            Err(problem)
        }
    }
}

/// The part of the server for agents, if it has one.
fn agents(state: &AppState) -> Result<&Agents, Problem> {
    let detail = "this server has no agents: set [engine] in its settings";
    state.agents().ok_or_else(|| Problem::new(Kind::NotFound, detail))
}

/// The agent with the caller's token, which must have introduced itself.
async fn agent(state: &AppState, caller: &Caller<access::Agent>) -> Result<Agent, Problem> {
    agents(state)?;
    let record = record(state, caller).await?;
    let unknown = || Problem::new(Kind::Conflict, "the agent has not introduced itself: POST /agent/v1/hello first");
    let hello: Hello =
        record.hello.as_deref().and_then(|hello| serde_json::from_str(hello).ok()).ok_or_else(unknown)?;
    wire::check_version(hello.wire).map_err(|error| Problem::new(Kind::UpgradeRequired, error.to_string()))?;
    Ok(Agent { record, hello })
}

async fn record(
    state: &AppState,
    caller: &Caller<access::Agent>,
) -> Result<crate::store::service::AgentRecord, Problem> {
    let Some(token) = caller.token() else {
        return Err(Problem::new(Kind::Unauthorised, "this takes a token of the role agent"));
    };
    let (id, name) = (token.id.clone(), token.name.clone());
    let record = state.database().with(move |store| store.agent(&id, &name)).await?;
    if record.banned {
        let detail = format!("agent `{}` is banned", record.name);
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    Ok(record)
}

/// A message. Fields that this version doesn't define are ignored.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let place = Place::Line { line: error.line(), column: error.column() };
        Problem::new(Kind::Malformed, format!("the message can't be read: {error}")).at(place)
    })
}

fn at_most(leases: usize) -> Result<(), Problem> {
    let detail = || format!("{leases} leases are more than the {MOST_LEASES} that one message may have");
    if leases > MOST_LEASES { Err(Problem::new(Kind::TooLarge, detail())) } else { Ok(()) }
}
