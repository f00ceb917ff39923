//! Runs whose crates come over a channel and whose results go over another, as an agent's do, on a sandbox that only
//! pretends.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::job::tests::Play;
use super::*;
use crate::event::EventKind;
use crate::ops::Op;
use crate::outcome::{Outcome, OutcomeKind};
use crate::sandbox::End;
use crate::sandbox::fake::exit;
use crate::stop::{StopLevel, channel};
use crate::store::Record;

/// Crates from a channel.
struct Leases {
    tasks: async_channel::Receiver<Task>,
    left: Arc<AtomicUsize>,
}

impl Intake for Leases {
    async fn next(&self) -> Option<Next> {
        let task = self.tasks.recv().await.ok()?;
        Some(Next { task, left: Left::of(&self.left) })
    }
}

/// A message of the keeper: a result of the crate with this number, or the crate's end.
#[derive(Debug, PartialEq)]
enum Sent {
    Result(usize, String, OutcomeKind),
    End(usize, CrateEnd),
}

struct Reports(async_channel::Sender<Sent>);

impl Keeper for Reports {
    async fn keep(&self, task: &Arc<Task>, record: Record) -> Result<(), KeepError> {
        let Record { step, result, .. } = record;
        let sent = Sent::Result(task.place, step.op.name().to_string(), result.outcome.kind());
        self.0.send(sent).await.map_err(KeepError::new)
    }

    async fn end(&self, task: &Arc<Task>, end: CrateEnd) -> Result<(), KeepError> {
        self.0.send(Sent::End(task.place, end)).await.map_err(KeepError::new)
    }
}

/// Runs so many copies of the play's crate, the results of which go to `reports`.
async fn ran(play: &Play, crates: usize, reports: async_channel::Sender<Sent>) -> (Result<Ran, RunError>, StopLevel) {
    let (ran, level, _) = followed(play, crates, reports).await;
    (ran, level)
}

/// The same with the run's events.
async fn followed(
    play: &Play,
    crates: usize,
    reports: async_channel::Sender<Sent>,
) -> (Result<Ran, RunError>, StopLevel, Vec<RunEvent>) {
    let (sender, tasks) = async_channel::unbounded();
    for place in 0..crates {
        sender.send(Task { place, ..play.task() }).await.unwrap();
    }
    drop(sender);
    let (bench, left) = (play.bench(), Arc::new(AtomicUsize::new(crates)));
    let shape = Shape { workers: Workers { fetch: 1, build: 1, test: 1 }, in_flight: 2, overcommit: 1.0 };
    let (stopper, stop) = channel();
    let (intake, keeper) = (Leases { tasks, left }, Reports(reports));
    let mut events = Vec::new();
    let mut follow = |event| events.push(event);
    let ran = drive(&bench, &shape, (&intake, &keeper), (&mut follow, None), (&stopper, &stop)).await;
    (ran, stop.level(), events)
}

fn of_crate(sent: &[Sent], wanted: usize) -> Vec<&Sent> {
    sent.iter().filter(|(Sent::Result(of, ..) | Sent::End(of, _))| *of == wanted).collect()
}

#[tokio::test]
async fn crates_come_over_a_channel_and_results_go_over_another() {
    let play = Play::new(&[Op::Check], |_, _, _| exit(End::Code(0), ""));
    let (reports, sent) = async_channel::unbounded();
    let (ran, _) = ran(&play, 3, reports).await;
    assert_eq!(ran.unwrap().summary.finished, 3);
    let mut all = Vec::new();
    while let Ok(one) = sent.recv().await {
        all.push(one);
    }
    for place in 0..3 {
        let passed = |op: &str| Sent::Result(place, op.to_owned(), Outcome::Passed.kind());
        let expected = [passed("prepare"), passed("check"), Sent::End(place, CrateEnd::Whole)];
        assert_eq!(of_crate(&all, place), expected.iter().collect::<Vec<_>>(), "the end comes after the results");
    }
}

#[tokio::test]
async fn a_crate_that_a_stop_cuts_short_is_given_back() {
    let (stopper, own_stop) = channel();
    let mut play = Play::new(&[Op::Check, Op::Test], move |_, command, _| {
        if command.argv[1] == "check" {
            stopper.raise(StopLevel::Drain);
        }
        exit(End::Code(0), "")
    });
    play.own_stop = own_stop;
    let (reports, sent) = async_channel::unbounded();
    let (ran, level) = ran(&play, 1, reports).await;
    assert_eq!((ran.unwrap().summary.finished, level), (1, StopLevel::Run), "the run itself goes on");
    let mut all = Vec::new();
    while let Ok(one) = sent.recv().await {
        all.push(one);
    }
    assert_eq!(all.last(), Some(&Sent::End(0, CrateEnd::Cut)));
    assert_eq!(all.len(), 3, "{all:?}");
}

#[tokio::test]
async fn a_keeper_that_fails_ends_the_run() {
    let play = Play::new(&[Op::Check], |_, _, _| exit(End::Code(0), ""));
    let (reports, sent) = async_channel::unbounded();
    drop(sent);
    let (ran, level) = ran(&play, 3, reports).await;
    assert!(matches!(ran, Err(RunError::Keep(_))), "{ran:?}");
    assert_eq!(level, StopLevel::Kill);
}

#[tokio::test]
async fn a_crate_without_remaining_steps_is_passed_over() {
    let play = Play::new(&[], |_, _, _| exit(End::Code(0), ""));
    let mut task = play.task();
    let finished = task.plan.steps.iter().map(|step| (step.fingerprint, Outcome::Passed));
    task.earlier.finished = finished.collect();
    let (sender, tasks) = async_channel::unbounded();
    sender.send(task).await.unwrap();
    drop(sender);
    let bench = play.bench();
    let intake = Leases { tasks, left: Arc::new(AtomicUsize::new(1)) };
    let (removal, _removers) = removal::start(1);
    let jobs = Jobs { intake: &intake, bench, removal };
    assert!(pipeline::Source::next(&jobs).await.is_none());
}

#[tokio::test]
async fn every_change_of_a_run_is_an_event() {
    let play = Play::new(&[Op::Check], |_, _, _| exit(End::Code(0), ""));
    let (reports, _sent) = async_channel::unbounded();
    let (_, _, events) = followed(&play, 1, reports).await;
    let mut kinds = Vec::new();
    for event in &events {
        assert_eq!((event.experiment.as_deref(), event.krate.as_deref()), (Some("test"), Some("a@1.0.0")));
        kinds.push(match &event.kind {
            EventKind::Queued(step) => format!("queued {}", step.op),
            EventKind::Started(step) => format!("started {}", step.op),
            EventKind::Finished { step, outcome, .. } => format!("finished {}: {}", step.op, outcome.unwrap()),
            EventKind::Verdict { verdict, ran, .. } => format!("{verdict}, ran: {ran}"),
            EventKind::Dropped(_) | EventKind::Note { .. } => panic!("{event:?}"),
        });
    }
    let expected = [
        "queued prepare",
        "started prepare",
        "finished prepare: passed",
        "queued check",
        "started check",
        "finished check: passed",
        "pass, ran: true",
    ];
    assert_eq!(kinds, expected);
}
