//! The cost of an experiment's runs: time, CPU, the load of pools, the waits of ops. Pure.
//!
//! Counts the current plan. Steps that a later run repeated count for that run only, as only its last result is
//! kept.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use serde::Serialize;

use super::report::{millis, rfc3339};
use super::{CrateResults, OpResult, Results};
use crate::ops::{OpName, Stage, Tally};
use crate::outcome::OutcomeKind;
use crate::plan::Step;

/// How an experiment was run once. The runs of one experiment never overlap: its lock sees to that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// When it began.
    pub started: SystemTime,
    /// How many workers each stage had.
    pub workers: BTreeMap<Stage, usize>,
    /// How long it took; none if it was killed, or goes on.
    pub wall: Option<Duration>,
    /// How long removing the folders of its jobs took, summed over the threads that do it; none if it was killed, or
    /// goes on.
    pub removal: Option<Duration>,
    /// The downloaded bytes; `None` if it was killed, or goes on.
    pub downloaded: Option<ByteSize>,
}

/// The cost of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// When it began.
    #[serde(serialize_with = "rfc3339")]
    pub started: Option<SystemTime>,
    /// How long its pools were at it. Of a run that was killed, up to the end of its last op.
    #[serde(rename = "wall_ms", serialize_with = "as_millis")]
    pub wall: Duration,
    /// User and system time of all ops.
    #[serde(rename = "cpu_ms", serialize_with = "as_millis")]
    pub cpu: Duration,
    /// The units of dependencies of all its ops.
    pub units: Tally,
    /// How long removing the folders of its jobs took, beside its ops; none if it was killed.
    #[serde(rename = "removal_ms", serialize_with = "as_optional_millis")]
    pub removal: Option<Duration>,
    /// The downloaded bytes; `None` if it was killed.
    pub downloaded_bytes: Option<u64>,
    /// What its pools did, in the order in which crates pass them.
    pub pools: Vec<PoolReport>,
    /// Its ops, by pool, worker and time.
    #[serde(skip)]
    pub spans: Vec<Span>,
}

/// The counts and times of a pool in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolReport {
    /// Its stage.
    pub stage: Stage,
    /// How many workers it had.
    pub workers: usize,
    /// How many ops it ran.
    pub ops: usize,
    /// How long its workers were at it, summed over them.
    #[serde(rename = "busy_ms", serialize_with = "as_millis")]
    pub busy: Duration,
    /// How long its ops waited until they could start, summed over them.
    #[serde(rename = "waited_ms", serialize_with = "as_millis")]
    pub waited: Duration,
}

/// One op of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its pool.
    pub stage: Stage,
    /// The worker's number in the pool, from 0.
    pub worker: usize,
    /// When it started, from the beginning of the run.
    pub from: Duration,
    /// How long it took.
    pub wall: Duration,
    /// How long it waited before that.
    pub waited: Duration,
    /// Its crate's place in the report.
    pub krate: usize,
    /// The op.
    pub op: OpName,
    /// Its toolchain's place in the report; none for all.
    pub toolchain: Option<usize>,
    /// Its outcome.
    pub outcome: OutcomeKind,
}

impl RunReport {
    /// Counts ops that a stop ended, too, which have no result: how long each pool was at it, in the order of the
    /// pools.
    pub fn count_stopped(&mut self, busy: impl IntoIterator<Item = Duration>) {
        for (pool, busy) in self.pools.iter_mut().zip(busy) {
            pool.busy = pool.busy.max(busy);
        }
    }

    /// How many ops it ran.
    pub fn ops(&self) -> usize {
        self.pools.iter().map(|pool| pool.ops).sum()
    }
}

impl PoolReport {
    /// The part of its workers' time in which they were busy, from 0 to 1, in a run that took `wall`.
    pub fn utilisation(&self, wall: Duration) -> f64 {
        let available = wall.as_secs_f64() * self.workers as f64;
        if available > 0.0 { (self.busy.as_secs_f64() / available).min(1.0) } else { 0.0 }
    }

    /// How long an op waited on average.
    pub fn mean_wait(&self) -> Duration {
        self.waited.checked_div(u32::try_from(self.ops).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

/// Accounts for every run, the first one first.
pub(super) fn account(results: &Results) -> Vec<RunReport> {
    let mut ops = results.runs.iter().map(|_| Vec::new()).collect::<Vec<_>>();
    for (krate, CrateResults { steps, .. }) in results.crates.iter().enumerate() {
        for (step, result) in steps.iter().filter_map(|(step, result)| Some((step, result.as_ref()?))) {
            // An op belongs to the last run that began before it.
            let run = results.runs.partition_point(|run| run.started <= result.started).saturating_sub(1);
            if let Some(ops) = ops.get_mut(run) {
                ops.push((krate, step, result));
            }
        }
    }
    results.runs.iter().zip(ops).map(|(run, ops)| report(run, &ops)).collect()
}

fn report(run: &RunRecord, ops: &[(usize, &Step, &OpResult)]) -> RunReport {
    let mut pools: Vec<PoolReport> = Stage::ALL
        .into_iter()
        .map(|stage| PoolReport {
            stage,
            workers: run.workers.get(&stage).copied().unwrap_or(0),
            ops: 0,
            busy: Duration::ZERO,
            waited: Duration::ZERO,
        })
        .collect();
    let (mut cpu, mut units) = (Duration::ZERO, Tally::default());
    let mut spans = Vec::with_capacity(ops.len());
    for (krate, step, result) in ops {
        let span = span(run, *krate, step, result);
        if let Some(pool) = pools.iter_mut().find(|pool| pool.stage == span.stage) {
            pool.ops += 1;
            pool.busy = pool.busy.saturating_add(result.wall);
            pool.waited = pool.waited.saturating_add(result.waited);
        }
        cpu = cpu.saturating_add(result.cpu);
        units = units.plus(result.units);
        spans.push(span);
    }
    spans.sort_by_key(|span| (span.stage, span.worker, span.from));
    let last_end = spans.iter().map(|span| span.from.saturating_add(span.wall)).max().unwrap_or_default();
    RunReport {
        started: Some(run.started),
        wall: run.wall.unwrap_or(last_end),
        cpu,
        units,
        removal: run.removal,
        downloaded_bytes: run.downloaded.map(|bytes| bytes.as_u64()),
        pools,
        spans,
    }
}

fn span(run: &RunRecord, krate: usize, step: &Step, result: &OpResult) -> Span {
    Span {
        stage: step.op.stage(),
        worker: result.worker,
        from: result.started.duration_since(run.started).unwrap_or_default(),
        wall: result.wall,
        waited: result.waited,
        krate,
        op: step.op.name(),
        toolchain: step.toolchain,
        outcome: result.outcome.kind(),
    }
}

fn as_optional_millis<S: serde::Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(millis).serialize(serializer)
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(millis(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// One crate whose five ops take ten seconds each, the first at the beginning of the run; each waited for one
    /// second.
    fn results(runs: Vec<RunRecord>) -> Results {
        let mut krate = sample::crate_of('p', &["pp", "pf"]);
        for (place, (_, result)) in krate.steps.iter_mut().enumerate() {
            let result = result.as_mut().unwrap();
            result.started = sample::start() + second(10 * place as u64);
            (result.wall, result.cpu, result.waited) = (second(10), second(4), second(1));
        }
        Results { runs, ..sample::results(2, vec![krate]) }
    }

    fn run(started: u64, wall: Option<u64>) -> RunRecord {
        RunRecord {
            started: sample::start() + second(started),
            workers: BTreeMap::from([(Stage::Fetch, 8), (Stage::Build, 2), (Stage::Test, 1)]),
            wall: wall.map(second),
            removal: wall.map(|_| second(3)),
            downloaded: wall.map(|_| ByteSize::mib(1)),
        }
    }

    #[test]
    fn a_run_is_the_sum_of_its_ops() {
        let [run] = &account(&results(vec![run(0, Some(100))]))[..] else { panic!("one run") };
        assert_eq!((run.wall, run.cpu, run.downloaded_bytes, run.ops()), (second(100), second(20), Some(1 << 20), 5));
        let pool = |stage, workers, ops| PoolReport {
            stage,
            workers,
            ops,
            busy: second(10 * ops as u64),
            waited: second(ops as u64),
        };
        assert_eq!(run.pools, [pool(Stage::Fetch, 8, 1), pool(Stage::Build, 2, 2), pool(Stage::Test, 1, 2)]);
        assert_eq!(run.units, Tally { compiled: 5, reused: 100, ..Tally::default() });
        assert_eq!(run.pools[1].utilisation(run.wall), 0.1);
        assert_eq!(run.pools[1].mean_wait(), second(1));
        let spans: Vec<_> = run.spans.iter().map(|span| (span.stage, span.from.as_secs(), span.outcome)).collect();
        let passed = OutcomeKind::Passed;
        assert_eq!(
            spans,
            [
                (Stage::Fetch, 0, passed),
                (Stage::Build, 10, passed),
                (Stage::Build, 30, passed),
                (Stage::Test, 20, passed),
                (Stage::Test, 40, OutcomeKind::Failed)
            ]
        );
    }

    #[test]
    fn an_op_belongs_to_the_run_that_it_started_in() {
        let runs = account(&results(vec![run(0, None), run(25, Some(60))]));
        assert_eq!(runs.iter().map(RunReport::ops).collect::<Vec<_>>(), [3, 2]);
        assert_eq!((runs[0].wall, runs[0].downloaded_bytes), (second(30), None), "killed: up to its last op");
        assert_eq!(runs[1].spans[0].from, second(5));
    }

    #[test]
    fn a_run_without_ops_or_workers_divides_by_nothing() {
        let [empty] = &account(&Results { runs: vec![run(0, Some(0))], ..sample::results(1, Vec::new()) })[..] else {
            panic!("one run")
        };
        assert_eq!((empty.ops(), empty.pools[0].utilisation(empty.wall)), (0, 0.0));
        assert_eq!(empty.pools[0].mean_wait(), Duration::ZERO);
    }

    #[test]
    fn workers_of_ops_that_a_stop_ended_were_busy() {
        let mut runs = account(&results(vec![run(0, Some(100))]));
        runs[0].count_stopped([second(10), second(90), second(5)]);
        let busy: Vec<Duration> = runs[0].pools.iter().map(|pool| pool.busy).collect();
        assert_eq!(busy, [second(10), second(90), second(20)]);
    }

    #[test]
    fn results_without_a_run_are_no_error() {
        assert!(account(&results(Vec::new())).is_empty());
    }
}
