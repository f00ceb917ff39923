//! `/api/v1/queue`, `/api/v1/agents`, `/metrics` and the OpenAPI document.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};

use super::view::{Experiment, state_name};
use crate::serve::access::{Caller, Metrics, Read};
use crate::serve::dispatch;
use crate::serve::problem::{Kind, Problem};
use crate::serve::state::AppState;
use crate::serve::worker::Active;
use crate::store::service::{AgentRecord, Listed};
use crate::wire::Hello;

#[derive(OpenApi)]
#[openapi(paths(queue, agents, metrics, openapi))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api/v1/queue", get(queue))
        .route("/api/v1/agents", get(agents))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
}

/// The queue.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    /// The experiments that are not over: those under way, then those that wait, in order.
    pub(super) experiments: Vec<Experiment>,
}

/// Read the queue
#[utoipa::path(get, path = "/api/v1/queue", tag = "server", responses(
    (status = 200, body = Queue), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn queue(State(state): State<AppState>, _: Caller<Read>) -> Result<Json<Queue>, Problem> {
    read_queue(&state).await.map(Json)
}

pub(super) async fn read_queue(state: &AppState) -> Result<Queue, Problem> {
    let all = state.clone();
    state
        .database()
        .with(move |store| {
            let open = store.open_experiments()?;
            let waiting = dispatch::order(&open);
            let under_way = open.iter().filter(|one| !waiting.iter().any(|other| other.name == one.name));
            let ordered = under_way.chain(waiting.iter().copied());
            let experiments = ordered.map(|served| Experiment::of(&all, store, served, &open));
            Ok(Queue { experiments: experiments.collect::<Result<_, _>>()? })
        })
        .await
}

/// A machine that runs experiments.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Machine {
    /// Its name; `server` is the worker of this process.
    pub(super) name: String,
    /// Whether it runs something now.
    pub(super) busy: bool,
    /// The experiment that it runs.
    pub(super) experiment: Option<String>,
    /// The ops that it runs.
    pub(super) ops: Vec<Active>,
    /// How many cores it has.
    pub(super) cores: usize,
    /// Its version of maar.
    pub(super) version: String,
    /// The number of crates that it holds; null for the worker of this process.
    pub(super) crates: Option<usize>,
    /// The seconds since its last message; null for the worker of this process, and before an agent's first message
    /// since the server's start.
    pub(super) silent_s: Option<u64>,
    /// Whether it gets no more crates.
    pub(super) paused: bool,
}

/// Read the work of the machines
#[utoipa::path(get, path = "/api/v1/agents", tag = "server", responses(
    (status = 200, body = Vec<Machine>), (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn agents(State(state): State<AppState>, _: Caller<Read>) -> Result<Json<Vec<Machine>>, Problem> {
    machines(&state).await.map(Json)
}

/// The worker of this process, if it has one, and the agents, by name.
pub(super) async fn machines(state: &AppState) -> Result<Vec<Machine>, Problem> {
    let records = match state.agents() {
        Some(_) => state.database().with(|store| store.agents().map_err(Problem::from)).await?,
        None => Vec::new(),
    };
    let agents = records.into_iter().filter(|record| !record.banned).map(|record| agent(state, record));
    Ok(own(state).into_iter().chain(agents).collect())
}

fn agent(state: &AppState, record: AgentRecord) -> Machine {
    let (crates, silent) = state.agents().map(|agents| agents.dispatcher.load(record.id)).unwrap_or_default();
    // One that has not introduced itself has no cores and no version yet.
    let hello = record.hello.as_deref().and_then(|hello| serde_json::from_str::<Hello>(hello).ok());
    Machine {
        name: record.name,
        busy: crates > 0,
        experiment: None,
        ops: Vec::new(),
        cores: hello.as_ref().map_or(0, |hello| hello.cores as usize),
        version: hello.map(|hello| hello.version).unwrap_or_default(),
        crates: Some(crates),
        silent_s: silent.map(|silent| silent.as_secs()),
        paused: record.paused,
    }
}

/// The worker of this process, if it has one.
fn own(state: &AppState) -> Option<Machine> {
    state.runner()?;
    let running = state.worker().snapshot();
    Some(Machine {
        name: "server".to_owned(),
        busy: running.is_some(),
        experiment: running.as_ref().map(|running| running.name.clone()),
        ops: running.map(|running| running.ops).unwrap_or_default(),
        cores: crate::host::cores(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        crates: None,
        silent_s: None,
        paused: false,
    })
}

/// Read the OpenAPI document
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server", responses((status = 200, body = Object)))]
async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(super::document())
}

/// Read the metrics
///
/// In the format of Prometheus. From other hosts than the server's it takes a token.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"),
    (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn metrics(State(state): State<AppState>, _: Caller<Metrics>) -> Result<Response, Problem> {
    let (experiments, verdicts, cpu) = state
        .database()
        .with(|store| {
            let all = store.list_served(&Listed { most: 10_000, ..Listed::default() })?;
            let (mut states, mut verdicts) = (Vec::new(), Vec::new());
            let mut cpu = 0;
            for served in &all {
                states.push(state_name(served));
                cpu += served.spent;
            }
            for served in store.open_experiments()? {
                for (verdict, count) in store.verdict_counts(&served.name)? {
                    verdicts.push((served.name.clone(), verdict, count));
                }
            }
            Ok::<_, Problem>((states, verdicts, cpu))
        })
        .await?;
    let mut registry = Registry::with_prefix("maar");
    let by_state = Family::<Vec<(String, String)>, Gauge>::default();
    for state in experiments {
        by_state.get_or_create(&vec![("state".to_owned(), state.to_owned())]).inc();
    }
    registry.register("experiments", "Experiments by state", by_state);
    let by_verdict = Family::<Vec<(String, String)>, Gauge>::default();
    for (experiment, verdict, count) in verdicts {
        let labels = vec![("experiment".to_owned(), experiment), ("verdict".to_owned(), verdict)];
        by_verdict.get_or_create(&labels).set(count.cast_signed());
    }
    registry.register("crates", "Crates of open experiments by verdict", by_verdict);
    let running = state.worker().snapshot().map(|running| running.ops.len()).unwrap_or(0);
    let number = |value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value.cast_signed());
        gauge
    };
    registry.register("ops_running", "Ops that run in this process", number(running as u64));
    registry.register("cpu_seconds", "CPU time of the ops of all experiments", number(cpu / 1_000_000));
    let uptime = state.now().duration_since(state.started()).unwrap_or_default();
    registry.register("uptime_seconds", "How long the server has been up", number(uptime.as_secs()));
    let mut body = String::new();
    encode(&mut body, &registry).map_err(|_| Problem::new(Kind::Internal, "the metrics can't be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}
