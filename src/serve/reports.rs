//! Reports of agents: checked against the plan, and kept if they are the first on their crate.
//!
//! Nothing in a report is believed that can be checked: the steps follow from the plan, toolchains are those that were
//! pinned, and logs unpack to their declared sizes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;

use super::incoming::Incoming;
use super::leases::{Agent, Dispatcher, key};
use super::problem::{Kind, Place, Problem};
use super::state::log;
use crate::compare::OpResult;
use crate::krate::CrateId;
use crate::lease::Claims;
use crate::libtest::Tests;
use crate::ops::Tally;
use crate::outcome::Outcome;
use crate::plan::{CratePlan, Step};
use crate::progress::Update;
use crate::run::{Earlier, Replayed, Reported, replay};
use crate::sandbox::Output;
use crate::store::service::Accepted;
use crate::store::{Record, StoreError};
use crate::wire::bundle::{self, Span};
use crate::wire::{Assigned, Report, StepReport};

/// How much text a report's bundle may unpack to, all together.
const MOST_UNPACKED: u64 = 512 << 20;

/// The answer to a report.
pub(super) enum Decision {
    /// It was taken: the experiment, and the crate's results so far.
    Accepted(String, Update),
    /// It came too late, and why.
    Late(String),
    /// It doesn't follow from the plan: the agent is of another version, or lies.
    Implausible(Problem),
}

/// Checks a report and keeps it.
pub(super) async fn take(
    dispatcher: &Dispatcher,
    incoming: &Incoming,
    agent: &Agent,
    report: Report,
) -> Result<Decision, Problem> {
    let number = agent.record.id;
    let void = || Problem::new(Kind::Gone, "the lease was not given to this agent by this server");
    let Claims { job, handout, receipt } = dispatcher.open(number, &report.lease).ok_or_else(void)?;
    let database = &dispatcher.inner().database;
    let read = database.with(move |store| {
        let facts = store.job_facts(key(job))?;
        let Some(name) = store.name_of(job.experiment, job.generation)? else { return Ok(None) };
        let Some(plan) = store.crate_plan(job.experiment, job.position)? else { return Ok(None) };
        let (finished, attempts) = store.earlier_results(job.experiment, &plan)?;
        Ok::<_, StoreError>(Some((facts, name, plan, Earlier { finished, attempts })))
    });
    let late = |why: &str| Decision::Late(why.to_owned());
    let Some((facts, name, plan, earlier)) = read.await? else {
        return Ok(late("the experiment is gone, or runs another time"));
    };
    let blob = report.bundle.as_ref().map(|blob| blob.sha256);
    if !facts.waits {
        dispatcher.let_go(job, number, handout);
        blob.into_iter().for_each(|digest| incoming.remove(digest));
        database.with(move |store| store.end_handout(handout, crate::store::service::How::Refused)).await?;
        return Ok(late("the crate has a result, or its experiment hands out nothing any more"));
    }
    let assigned = dispatcher.assigned(job.experiment, job.generation).await?;
    let bundle = match &report.bundle {
        None => Vec::new(),
        Some(blob) => {
            let (incoming, digest) = (incoming.clone(), blob.sha256);
            let read = tokio::task::spawn_blocking(move || incoming.get(digest)).await;
            let read = read.map_err(std::io::Error::other).flatten().map_err(|error| {
                log(&error);
                Problem::new(Kind::Unavailable, "the bundle can't be read now").retry_after(10)
            })?;
            let missing =
                || Problem::new(Kind::Conflict, "the bundle of the report has not been uploaded: upload it first");
            read.filter(|bytes| bytes.len() as u64 == blob.bytes).ok_or_else(missing)?
        }
    };
    let environment = report.environment.to_string();
    let checked = {
        let assigned = Arc::clone(&assigned);
        // Inflates and replays.
        tokio::task::spawn_blocking(move || records(&assigned, &name, &plan, &earlier, report, &bundle)).await
    };
    let (records, verdict) = match checked.map_err(|error| Problem::new(Kind::Internal, error.to_string()))? {
        Ok(checked) => checked,
        Err(problem) => return Ok(Decision::Implausible(problem)),
    };
    let cpu: Duration = records.iter().map(|record| record.result.cpu).sum();
    let bundle = blob.map(|digest| digest.to_string());
    let accepted = Accepted { job: key(job), handout, agent: number, environment, bundle, records };
    let is_first = database.with(move |store| store.accept(&accepted)).await?;
    let receipt = dispatcher.let_go(job, number, handout).unwrap_or(receipt);
    dispatcher.end(&receipt).await;
    blob.into_iter().for_each(|digest| incoming.remove(digest));
    dispatcher.correct_share(job.experiment, cpu.as_secs_f64());
    dispatcher.wake();
    if is_first {
        Ok(Decision::Accepted(assigned.experiment.name.clone(), verdict))
    } else {
        Ok(late("another report was first"))
    }
}

/// The results of a report and the crate's verdict, if they follow from the plan.
fn records(
    assigned: &Assigned,
    name: &str,
    plan: &CratePlan,
    earlier: &Earlier,
    report: Report,
    bundle: &[u8],
) -> Result<(Vec<Record>, Update), Problem> {
    let pinned = assigned.toolchains.iter().map(|toolchain| toolchain.identity.as_str());
    if !report.toolchains.iter().map(String::as_str).eq(pinned) {
        let detail = "the toolchains of the report are not those of the experiment";
        return Err(Problem::new(Kind::Invalid, detail).at(Place::Pointer("/toolchains".to_owned())));
    }
    let spans = report.steps.iter().flat_map(|step| [Some(step.head), Some(step.tail), step.tests, step.lockfile]);
    let unpacked = spans.flatten().map(|span| span.unpacked).fold(0, u64::saturating_add);
    if unpacked > MOST_UNPACKED {
        let detail = format!("the bundle unpacks to {unpacked} bytes, and {MOST_UNPACKED} are the most");
        return Err(Problem::new(Kind::Invalid, detail).at(Place::Pointer("/bundle".to_owned())));
    }
    let mut reported = Vec::new();
    for (place, step) in report.steps.iter().enumerate() {
        let tests = step.tests.map(|span| tests(bundle, span, place)).transpose()?;
        let StepReport { fingerprint, attempt, outcome, .. } = step;
        reported.push(Reported { fingerprint: *fingerprint, attempt: *attempt, outcome: outcome.clone(), tests });
    }
    let replayed = replay(&assigned.experiment, &assigned.toolchains, plan, earlier, &reported).map_err(|error| {
        let detail = format!("the report does not follow from the plan: {error}");
        Problem::new(Kind::Invalid, detail).at(Place::Pointer("/steps".to_owned()))
    })?;
    let Replayed { steps, verdict: (verdict, reason) } = replayed;
    let all = report.steps.into_iter().zip(steps).zip(reported).enumerate();
    let records: Result<Vec<Record>, Problem> = all
        .map(|(place, ((step, planned), reported))| {
            let text = |span: Span| bundle::read(bundle, span).map_err(|error| bad_span(place, &error));
            let output = Output { head: text(step.head)?, tail: text(step.tail)?, dropped: step.dropped };
            let lockfile = step.lockfile.map(text).transpose()?;
            let toolchain = identity(assigned, &planned);
            let result = result(step, reported.tests);
            Ok(Record {
                experiment: name.to_owned(),
                step: planned,
                krate: plan.krate.id.clone(),
                toolchain,
                result,
                output,
                lockfile,
                patched: Vec::new(),
            })
        })
        .collect();
    let verdict = Update::Verdict { krate: plan.krate.id.to_string(), verdict, reason };
    Ok((records?, verdict))
}

fn result(step: StepReport, tests: Option<Arc<Tests>>) -> OpResult {
    let units = step.units;
    let count = |count: u64| usize::try_from(count.min(u32::MAX.into())).unwrap_or(usize::MAX);
    // The database counts in 63 bits.
    let micros = |count: u64| Duration::from_micros(count.min(u64::MAX >> 2));
    OpResult {
        outcome: step.outcome,
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(step.started_ms.min(u64::from(u32::MAX) * 1000)),
        wall: micros(step.wall_us),
        cpu: micros(step.cpu_us),
        peak_memory: step.peak.map(|bytes| ByteSize(bytes.min(u64::MAX >> 2))),
        waited: micros(step.waited_us),
        worker: step.worker as usize,
        units: Tally {
            compiled: count(units.compiled),
            reused: count(units.reused),
            in_op: count(units.in_op),
            again: count(units.again),
        },
        tests,
    }
}

fn tests(bundle: &[u8], span: Span, place: usize) -> Result<Arc<Tests>, Problem> {
    let text = bundle::read(bundle, span).map_err(|error| bad_span(place, &error))?;
    let tests = serde_json::from_slice(&text);
    tests.map(Arc::new).map_err(|error| {
        let detail = format!("the results of tests can't be read: {error}");
        Problem::new(Kind::Invalid, detail).at(Place::Pointer(format!("/steps/{place}/tests")))
    })
}

fn bad_span(place: usize, error: &bundle::BundleError) -> Problem {
    Problem::new(Kind::Invalid, error.to_string()).at(Place::Pointer(format!("/steps/{place}")))
}

fn identity(assigned: &Assigned, step: &Step) -> Option<(String, String)> {
    let toolchain = assigned.toolchains.get(step.toolchain?)?;
    Some((toolchain.label().to_owned(), toolchain.identity.clone()))
}

/// The record of a step that the server itself has an outcome for.
pub(super) fn without_commands(assigned: &Assigned, plan: &CratePlan, step: Step, outcome: Outcome) -> Record {
    let krate: CrateId = plan.krate.id.clone();
    Record {
        experiment: assigned.experiment.name.clone(),
        toolchain: identity(assigned, &step),
        step,
        krate,
        result: OpResult { started: SystemTime::now(), ..OpResult::of(outcome) },
        output: Output::default(),
        lockfile: None,
        patched: Vec::new(),
    }
}
