//! `…/events`: the events of an experiment, as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Sse, KeepAlive};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::stream;
use tokio::sync::broadcast::error::RecvError;
use utoipa::OpenApi;

use super::input;
use super::view::{found, state_name};
use crate::serve::access::{Caller, Read};
use crate::serve::events::{Event, Subscription};
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::state::AppState;
use crate::stop::{Stop, StopLevel};

#[derive(OpenApi)]
#[openapi(paths(of_experiment, of_all))]
pub(super) struct Document;

pub(super) fn routes() -> Router<AppState> {
    Router::new().route("/api/v1/experiments/{name}/events", get(of_experiment)).route("/api/v1/events", get(of_all))
}

/// Follow an experiment
///
/// Events `state`, `plan`, `count`, `op`, `verdict`, `log` and `gone`, each with JSON. A stream without `Last-Event-ID`
/// begins with the present `state`, `plan` and `count`; one that missed too much begins with `reset`.
#[utoipa::path(get, path = "/api/v1/experiments/{name}/events", tag = "results",
    params(("name" = String, Path, description = "Its name"),
        ("Last-Event-ID" = Option<String>, Header, description = "The last event that the client has")), responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn of_experiment(
    State(state): State<AppState>,
    _: Caller<Read>,
    Extension(stop): Extension<Stop>,
    input::Path(name): input::Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_id(&headers)?;
    let permit = state.limits().stream()?;
    // Before the state is read, so that no change falls between the two.
    let subscription = state.events().subscribe(after);
    let latest = state.events().latest();
    let of = name.clone();
    let all = state.clone();
    let now = state
        .database()
        .with(move |store| {
            let served = found(store, &of)?;
            let counts = store.verdict_counts(&of)?;
            let told = |kind, data: serde_json::Value| {
                Arc::new(Event { id: latest, experiment: of.clone(), kind, data: data.to_string() })
            };
            let mut now = vec![told(
                "state",
                serde_json::json!({ "state": state_name(&served), "trouble": served.trouble, "paused": served.paused }),
            )];
            if let Some(plan) = all.worker().snapshot().filter(|it| it.name == of).and_then(|it| it.plan) {
                now.push(told("plan", serde_json::json!(plan)));
            }
            let counts: serde_json::Map<String, serde_json::Value> =
                counts.into_iter().map(|(verdict, count)| (verdict, count.into())).collect();
            now.push(told("count", serde_json::json!({ "crates": served.crates, "verdicts": counts })));
            Ok::<_, Problem>(now)
        })
        .await?;
    Ok(answer(subscription, after.is_some(), now, Some(name), stop, permit))
}

/// Follow all experiments
///
/// As for one experiment; the data of each event is wrapped in `{"experiment", "data"}`.
#[utoipa::path(get, path = "/api/v1/events", tag = "results",
    params(("Last-Event-ID" = Option<String>, Header, description = "The last event that the client has")), responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = "4XX", body = Problem, content_type = "application/problem+json")))]
async fn of_all(
    State(state): State<AppState>,
    _: Caller<Read>,
    Extension(stop): Extension<Stop>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = last_id(&headers)?;
    let permit = state.limits().stream()?;
    let subscription = state.events().subscribe(after);
    Ok(answer(subscription, after.is_some(), Vec::new(), None, stop, permit))
}

fn last_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|id| *id < u64::MAX);
    id.map(Some).ok_or_else(|| {
        Problem::new(Kind::Malformed, "Last-Event-ID is not a number of this server")
            .at(Place::Header("last-event-id".to_owned()))
    })
}

/// The state of a stream.
struct Follow<P> {
    waiting: VecDeque<Arc<Event>>,
    coming: tokio::sync::broadcast::Receiver<Arc<Event>>,
    only: Option<String>,
    stop: Stop,
    _permit: P,
}

fn answer<P: Send + 'static>(
    subscription: Subscription,
    goes_on: bool,
    now: Vec<Arc<Event>>,
    only: Option<String>,
    stop: Stop,
    permit: P,
) -> Response {
    let Subscription { missed, is_broken, coming } = subscription;
    let mut waiting = VecDeque::new();
    if is_broken {
        let data = "{}".to_owned();
        waiting.push_back(Arc::new(Event { id: 0, experiment: String::new(), kind: "reset", data }));
    }
    if !goes_on || is_broken {
        waiting.extend(now);
    }
    if !is_broken {
        waiting.extend(missed.into_iter().filter(|event| is_wanted(event, only.as_deref())));
    }
    let follow = Follow { waiting, coming, only, stop, _permit: permit };
    let events = stream::unfold(follow, |mut follow| async move {
        let event = next(&mut follow).await?;
        let mut sse = Sse::default().event(event.kind);
        if event.id > 0 {
            sse = sse.id(event.id.to_string());
        }
        let data = match &follow.only {
            Some(_) => event.data.clone(),
            // Data is JSON already.
            None => format!("{{\"experiment\":{},\"data\":{}}}", serde_json::json!(event.experiment), event.data),
        };
        Some((Ok::<_, Infallible>(sse.data(data)), follow))
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(20));
    axum::response::sse::Sse::new(events).keep_alive(keep_alive).into_response()
}

async fn next<P>(follow: &mut Follow<P>) -> Option<Arc<Event>> {
    loop {
        if let Some(event) = follow.waiting.pop_front() {
            return Some(event);
        }
        let received = tokio::select! {
            received = follow.coming.recv() => received,
            () = follow.stop.reached(StopLevel::Drain) => return None,
        };
        match received {
            Ok(event) if is_wanted(&event, follow.only.as_deref()) => return Some(event),
            Ok(_) => {}
            // The client is too slow: it comes back with its last event, and gets the kept ones.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
        }
    }
}

fn is_wanted(event: &Event, only: Option<&str>) -> bool {
    only.is_none_or(|only| event.experiment == only)
}
