//! The pages: queue, one experiment, one crate; and the static report. Whole without scripts; one small script keeps
//! them up to date. Nothing on them changes anything.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::input;
use super::live;
use super::overview::{Machine, machines, read_queue};
use super::results::crate_report;
use super::view::{Experiment, ensure, found};
use crate::compare::{CrateReport, Verdict};
use crate::serve::access::{Caller, Read};
use crate::serve::problem::{Kind, Place, Problem};
use crate::serve::state::AppState;
use crate::store::service::Listed;

/// How many crates a page has.
const CRATES: usize = 200;
/// How many experiments that are over the first page has.
const EXPERIMENTS: usize = 50;
/// How much of a log a page has, from its end.
const LOG: usize = 64 << 10;

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/", get(index))
        .route("/ex/{name}", get(experiment))
        .route("/ex/{name}/crates/{crate}", get(krate))
        .route("/ex/{name}/report/{*file}", get(report))
        .route("/style.css", get(async || asset("text/css; charset=utf-8", include_str!("style.css"))))
        .route("/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("live.js"))))
}

fn asset(kind: &'static str, body: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")], body).into_response()
}

/// A page. `events` is the stream that brings news of it; `poll`: whether it is read again every few seconds.
fn page(title: &str, events: &str, poll: bool, body: &Markup) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · maar" }
                link rel="stylesheet" href="/style.css";
                script src="/live.js" defer data-events=(events) data-poll[poll] {}
            }
            body {
                header { a href="/" { "maar" } span #live {} }
                main { (body) }
            }
        }
    };
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, markup.into_string()).into_response()
}

async fn index(State(state): State<AppState>, _: Caller<Read>) -> Result<Response, Problem> {
    let queue = read_queue(&state).await?.experiments;
    let all = state.clone();
    let over = state
        .database()
        .with(move |store| {
            let recent = store.list_served(&Listed { most: EXPERIMENTS * 2, ..Listed::default() })?;
            let over = recent.iter().filter(|served| served.state.is_none_or(|state| state.is_settled()));
            let over = over.take(EXPERIMENTS).map(|served| Experiment::of(&all, store, served, &[]));
            over.collect::<Result<Vec<_>, _>>()
        })
        .await?;
    let machines = machines(&state).await?;
    let body = html! {
        h1 { "Queue" }
        @if queue.is_empty() {
            p.quiet { "Nothing waits. " code { "maar submit FILE --server URL --token-file F" } " sends an experiment." }
        } @else { (table(&queue)) }
        h2 { "Machines" }
        (agents(&machines))
        @if !over.is_empty() { h2 { "Finished" } (table(&over)) }
    };
    Ok(page("Queue", "/api/v1/events", false, &body))
}

fn table(experiments: &[Experiment]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { th { "Experiment" } th { "State" } th.number { "Priority" } th { "Progress" } th { "Verdicts" } th { "Left" } } }
            tbody { @for one in experiments { tr {
                td { a href=(one.url) { (one.name) } }
                td { (badge(&one.state)) @if let Some(position) = one.position { span.quiet { " no. " (position) } } }
                td.number data-label="priority" { (one.priority) }
                td { (bar(one)) }
                td { (counts(one)) }
                td { (left(one)) }
            } } }
        } }
    }
}

fn badge(state: &str) -> Markup {
    html! { span.badge.(state) { (state) } }
}

fn bar(one: &Experiment) -> Markup {
    html! {
        @if one.crates > 0 {
            progress max=(one.crates) value=(one.done) {} " "
            span.quiet { (one.done) " of " (one.crates) }
        }
    }
}

fn counts(one: &Experiment) -> Markup {
    html! {
        @for (verdict, count) in &one.verdicts {
            a.verdict.(verdict) href={ (one.url) "?verdict=" (verdict) } { (count) " " (verdict) } " "
        }
    }
}

fn left(one: &Experiment) -> Markup {
    html! {
        @if let Some(seconds) = one.eta_s { (in_words(seconds)) }
        @else if let Some(ended) = &one.ended { time.quiet datetime=(ended) { (ended) } }
    }
}

/// A time span for people, in its two largest units.
fn in_words(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn agents(machines: &[Machine]) -> Markup {
    html! {
        @if machines.is_empty() { p.quiet { "No machine runs experiments." } }
        @for machine in machines {
            p { strong { (machine.name) } ", " (machine.cores) " cores, maar " (machine.version) ": "
                @match (&machine.experiment, machine.crates) {
                    (Some(name), _) => { "runs " a href={ "/ex/" (name) } { (name) } }
                    (None, Some(crates)) if crates > 0 => { "holds " (crate::printable::crates(crates)) }
                    (None, _) => span.quiet { "idle" }
                }
                @if machine.paused { ", paused" }
                @if machine.crates.is_some() { span.quiet { ", " (heard(machine.silent_s)) } }
            }
            (ops(machine.experiment.as_deref().unwrap_or_default(), &machine.ops))
        }
    }
}

/// The age of an agent's last message.
fn heard(silent_s: Option<u64>) -> String {
    silent_s.map_or_else(
        || "not heard of since the server's start".to_owned(),
        |seconds| format!("heard of {seconds} s ago"),
    )
}

fn ops(experiment: &str, ops: &[crate::serve::worker::Active]) -> Markup {
    html! {
        @if !ops.is_empty() { ul.ops { @for op in ops { li {
            code { (op.op) @if let Some(toolchain) = &op.toolchain { "@" (toolchain) } } " "
            a href={ "/ex/" (experiment) "/crates/" (op.krate) } { (op.krate) }
        } } } }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    verdict: Option<String>,
    after: Option<String>,
}

async fn experiment(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path(name): input::Path<String>,
    input::Query(filter): input::Query<Filter>,
) -> Result<Response, Problem> {
    let all = state.clone();
    let shown = filter.verdict.as_deref().and_then(|name| Verdict::ALL.into_iter().find(|it| it.as_str() == name));
    let after = filter.after.unwrap_or_default();
    let (one, crates, causes, has_report) = state
        .database()
        .with(move |store| {
            let served = found(store, &name)?;
            let open = store.open_experiments()?;
            let one = Experiment::of(&all, store, &served, &open)?;
            let crates = store.verdicts(&name, shown.map(Verdict::as_str), &after, CRATES + 1)?;
            let has_report = all.home().reports().join(&name).join("index.html").exists();
            Ok::<_, Problem>((one, crates, store.causes(&name, 10)?, has_report))
        })
        .await?;
    let api = format!("/api/v1/experiments/{}", one.name);
    let next = crates.get(CRATES).and(crates.get(CRATES - 1)).map(|(krate, ..)| krate.clone());
    let verdict = shown.map(Verdict::as_str).unwrap_or_default();
    let body = html! {
        h1 { (one.name) " " (badge(&one.state)) }
        @if let Some(trouble) = &one.trouble { pre.trouble { (trouble) } }
        p {
            (bar(&one))
            @if let Some(seconds) = one.eta_s { ", about " strong { (in_words(seconds)) } " left" }
            @if let Some(position) = one.position { "no. " (position) " in the queue" }
        }
        p { (counts(&one)) @if shown.is_some() { a href=(one.url) { "all" } } }
        p.quiet {
            "priority " (one.priority) ", weight " (one.weight)
            @if let Some(owner) = &one.owner { ", by " (owner) }
            ", created " time datetime=(one.created) { (one.created) }
            @if let Some(ended) = &one.ended { ", ended " time datetime=(ended) { (ended) } }
            ", " (in_words(one.cpu_ms / 1000)) " of CPU time, generation " (one.generation)
        }
        p {
            @if has_report { a href={ (one.url) "/report/index.html" } { "report" } " · " }
            a href={ (api) "/report" } { "JSON" } " · " a href={ (api) "/report?format=markdown" } { "Markdown" }
            @for verdict in ["regressed", "inconclusive"] {
                @if one.verdicts.contains_key(verdict) {
                    " · " a href={ (api) "/list?which=" (verdict) } { "list of " (verdict) " crates" }
                }
            }
        }
        @if !one.ops.is_empty() { h2 { "Now" } (ops(&one.name, &one.ops)) }
        @if !causes.is_empty() {
            h2 { "Causes" }
            ul.causes { @for (verdict, reason, count) in &causes { li {
                span.number { (count) } " " span.verdict.(verdict) { (verdict) } " " (reason)
            } } }
        }
        @if !crates.is_empty() {
            h2 { "Crates" }
            div.wide { table {
                thead { tr { th { "Crate" } th { "Verdict" } th { "Why" } } }
                tbody { @for (krate, verdict, reason) in crates.iter().take(CRATES) { tr {
                    td { a href={ (one.url) "/crates/" (krate) } { (krate) } }
                    td { span.verdict.(verdict) { (verdict) } }
                    td { (reason.as_deref().unwrap_or_default()) }
                } } }
            } }
            @if let Some(next) = next {
                p { a href={ (one.url) "?after=" (next) @if shown.is_some() { "&verdict=" (verdict) } } { "more" } }
            }
        }
    };
    Ok(page(&one.name, &format!("{api}/events"), false, &body))
}

async fn krate(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path((name, krate)): input::Path<(String, String)>,
) -> Result<Response, Problem> {
    let home = state.home().clone();
    let (of, which) = (name.clone(), krate.clone());
    let (report, running, logs) = state
        .database()
        .with(move |store| {
            let report = crate_report(store, &of, &which)?;
            let running = live::output(&home, &of, &which);
            let mut logs = Vec::new();
            for log in &report.crates[0].evidence {
                if let Some(output) = store.log(&of, *log)? {
                    logs.push((*log, [output.head, output.tail].concat()));
                }
            }
            Ok::<_, Problem>((report, running, logs))
        })
        .await?;
    let one = &report.crates[0];
    let mut toolchains = one.results.iter().zip(&report.toolchains);
    let body = html! {
        h1 { (krate) " " span.verdict.(one.verdict) { (one.verdict) } }
        p { a href={ "/ex/" (name) } { (name) } @if let Some(reason) = &one.verdict_reason { ": " (reason) } }
        @if let Some((heading, output)) = &running {
            h2 { "Now: " code { (heading) } }
            pre.log.live { (tail(output)) }
        }
        h2 { "Ops" }
        div.wide { table {
            thead { tr { th { "Toolchain" } th { "Op" } th { "Outcome" } th.number { "Time" } th { "Log" } } }
            tbody { @for (result, toolchain) in &mut toolchains { @for op in &result.ops { tr {
                td { (toolchain.spec) }
                td { (op.op) @if op.attempt > 1 { span.quiet { " attempt " (op.attempt) } } }
                td { (outcome(op)) }
                td.number { (format!("{:.1} s", op.wall_ms as f64 / 1000.0)) }
                td { a href=(log_url(&name, op.log)) { "log" } }
            } } } }
        } }
        @for (log, output) in &logs {
            h2 { "Why: " a href=(log_url(&name, *log)) { "whole log" } }
            pre.log { (tail(output)) }
        }
    };
    let events = format!("/api/v1/experiments/{name}/events");
    Ok(page(&krate, &events, running.is_some(), &body))
}

fn outcome(op: &crate::compare::OpReport) -> Markup {
    // In the shape of the JSON report, which has the words.
    let value = serde_json::to_value(&op.standing).unwrap_or_default();
    let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    html! { span.outcome.(word("outcome")) { (word("outcome")) } " " (word("reason")) }
}

fn log_url(experiment: &str, log: crate::plan::LogId) -> String {
    format!("/api/v1/experiments/{experiment}/logs/{}/{}", log.step, log.attempt)
}

/// The URLs of a crate's logs, for its JSON.
pub(super) fn logs_of(experiment: &str, krate: &CrateReport) -> Vec<String> {
    krate.results.iter().flat_map(|result| &result.ops).map(|op| log_url(experiment, op.log)).collect()
}

/// The end of a log, without control sequences of a terminal.
fn tail(log: &[u8]) -> String {
    let end = &log[log.len().saturating_sub(LOG)..];
    let text = console::strip_ansi_codes(&String::from_utf8_lossy(end)).into_owned();
    text.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect()
}

/// A file of the static report.
async fn report(
    State(state): State<AppState>,
    _: Caller<Read>,
    input::Path((name, file)): input::Path<(String, String)>,
) -> Result<Response, Problem> {
    let absent = || {
        Problem::new(Kind::NotFound, "the report has no such file; a rerun or `POST …/report` writes it")
            .at(Place::Path("file".to_owned()))
    };
    let parts: Vec<&str> = file.split('/').collect();
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    if !parts.iter().all(|part| plain(part)) || parts.len() > 3 {
        return Err(absent());
    }
    let kind = match file.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some(_) | None => "text/plain; charset=utf-8",
    };
    let home = state.home().clone();
    let name = state.database().with(move |store| ensure(store, &name).map(|()| name)).await?;
    let read = tokio::fs::read(home.reports().join(name).join(&file)).await;
    let body = read.map_err(|_| absent())?;
    // The pages bring a policy of their own, with digests of their scripts.
    let policy = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, policy)], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_has_its_largest_units() {
        for (seconds, words) in
            [(5, "5 s"), (65, "1 min"), (3600, "1 h 0 min"), (90_000, "1 d 1 h"), (864_000, "10 d 0 h")]
        {
            assert_eq!(in_words(seconds), words);
        }
    }

    #[test]
    fn a_log_is_shown_without_what_a_terminal_obeys() {
        assert_eq!(tail(b"\x1b[31mred\x1b[0m\x07\tx\n\xff"), "red\tx\n\u{fffd}");
    }
}
