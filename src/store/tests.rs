//! The store as a whole: runs that continue, readers beside the writer, crashes, full disks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use rusqlite::Connection;

use super::{ExperimentRecord, Record, RunCost, Store, StoreError, Writer};
use crate::compare::{CrateResults, sample};
use crate::ops::{Op, Stage};
use crate::plan::{Attempt, CratePlan, Fingerprint};
use crate::sandbox::Output;
use crate::schedule::Recorded;

/// A new home, and made-up results to keep in it.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn db(&self) -> PathBuf {
        self.folder.path().join("new").join("maar.db")
    }

    fn open(&self) -> Store {
        Store::open(&self.db()).unwrap()
    }
}

/// Begins an experiment as a run would.
fn begin(store: &mut Store, name: &str, crates: &[CrateResults]) {
    let plan = |krate: &CrateResults| CratePlan {
        krate: krate.krate.clone(),
        steps: krate.steps.iter().map(|(step, _)| step.clone()).collect(),
    };
    let plans: Vec<CratePlan> = crates.iter().map(plan).collect();
    let record = ExperimentRecord {
        name: name.to_owned(),
        toolchains: sample::toolchains(2),
        settings: "{}".to_owned(),
        notes: vec!["this host can't limit memory".to_owned()],
        crates: plans.iter().map(|plan| (plan.krate.id.name.to_string(), plan)).collect(),
        queries: Vec::new(),
    };
    store.begin(&record).unwrap();
}

/// The results that a run would append, step by step.
fn records(name: &str, crates: &[CrateResults]) -> Vec<Record> {
    let toolchains = sample::toolchains(2);
    let mut records = Vec::new();
    for krate in crates {
        for (step, result) in &krate.steps {
            let Some(result) = result.clone() else { continue };
            let toolchain = step.toolchain.map(|place| &toolchains[place]);
            records.push(Record {
                experiment: name.to_owned(),
                step: step.clone(),
                krate: krate.krate.id.clone(),
                toolchain: toolchain.map(|toolchain| (toolchain.label().to_owned(), toolchain.identity.clone())),
                result,
                output: Output {
                    head: step.fingerprint.to_string().into_bytes(),
                    tail: b"\xff end".to_vec(),
                    dropped: 12,
                },
                lockfile: step.toolchain.is_none().then(|| b"version = 4\n".to_vec()),
                patched: Vec::new(),
            });
        }
    }
    records
}

async fn append_all(writer: &Writer, records: Vec<Record>) {
    for record in records {
        writer.append(record).await.unwrap();
    }
    writer.flush().await.unwrap();
}

#[tokio::test]
async fn results_come_back_as_they_were() {
    let home = Home::new();
    let mut store = home.open();
    let expected = sample::results(2, sample::every_verdict().crates);
    begin(&mut store, "sample", &expected.crates);
    append_all(&store.writer().unwrap(), records("sample", &expected.crates)).await;
    assert_eq!(store.results("sample").unwrap().unwrap(), expected);
    assert_eq!(store.results("other").unwrap(), None);
}

#[test]
fn a_run_is_there_from_its_beginning_and_its_cost_from_its_end() {
    let home = Home::new();
    let mut store = home.open();
    begin(&mut store, "sample", &[]);
    let workers = BTreeMap::from([(Stage::Fetch, 8), (Stage::Build, 2), (Stage::Test, 1)]);
    let _killed = store.begin_run("sample", &workers).unwrap();
    let second = store.begin_run("sample", &workers).unwrap();
    let cost =
        RunCost { wall: Duration::from_millis(1500), removal: Duration::from_millis(70), downloaded: ByteSize::kib(3) };
    store.end_run(second, cost).unwrap();
    let runs = store.results("sample").unwrap().unwrap().runs;
    assert_eq!(runs.iter().map(|run| &run.workers).collect::<Vec<_>>(), [&workers; 2]);
    assert_eq!((runs[0].wall, runs[0].downloaded), (None, None));
    assert_eq!((runs[1].wall, runs[1].downloaded), (Some(Duration::from_millis(1500)), Some(ByteSize::kib(3))));
    let error = store.begin_run("nobody", &workers).unwrap_err();
    assert!(matches!(&error, StoreError::Unknown { name, .. } if name == "nobody"), "{error}");
    store.fresh("sample").unwrap();
    assert!(store.results("sample").unwrap().unwrap().runs.is_empty());
}

#[tokio::test]
async fn what_an_op_of_a_crate_cost_is_known_across_experiments() {
    let home = Home::new();
    let mut store = home.open();
    for (name, seconds, peak) in [("one", 10, Some(100)), ("two", 30, Some(300)), ("three", 20, None)] {
        let mut crates = [sample::named("a", "1.0.0", 'p', &["p"]), sample::named("b", "1.0.0", 'p', &["p"])];
        for (_, result) in crates.iter_mut().flat_map(|krate| &mut krate.steps) {
            let result = result.as_mut().unwrap();
            (result.wall, result.peak_memory) = (Duration::from_secs(seconds), peak.map(ByteSize::mib));
        }
        begin(&mut store, name, &crates);
        append_all(&store.writer().unwrap(), records(name, &crates)).await;
    }
    let cost = |op: Op| Recorded {
        krate: "a".parse().unwrap(),
        op: op.name(),
        wall: Duration::from_secs(20),
        peak: Some(ByteSize::mib(300)),
    };
    assert_eq!(store.costs(|krate| krate.as_str() == "a").unwrap(), [cost(Op::Build), cost(Op::Prepare)]);
}

#[tokio::test]
async fn a_log_and_a_lockfile_come_back_as_they_were() {
    let home = Home::new();
    let mut store = home.open();
    let crates = [sample::crate_of('p', &["pp", "pp"])];
    begin(&mut store, "sample", &crates);
    let records = records("sample", &crates);
    let (prepare, build) = (records[0].step.clone(), records[1].step.clone());
    let log = records[1].output.clone();
    append_all(&store.writer().unwrap(), records).await;
    assert_eq!(store.log("sample", build.log_id()).unwrap(), Some(log));
    assert_eq!(store.log("other", build.log_id()).unwrap(), None);
    assert_eq!(store.lockfile("sample", &prepare.fingerprint).unwrap().unwrap(), b"version = 4\n");
    assert_eq!(store.lockfile("sample", &build.fingerprint).unwrap(), None);
}

#[tokio::test]
async fn a_result_that_comes_again_replaces_the_first_with_its_log() {
    let home = Home::new();
    let mut store = home.open();
    let crates = [sample::crate_of('p', &["f-"])];
    begin(&mut store, "sample", &crates);
    let mut again = records("sample", &crates).remove(1);
    let writer = store.writer().unwrap();
    append_all(&writer, records("sample", &crates)).await;
    again.result.outcome = crate::outcome::Outcome::Passed;
    again.output = Output::default();
    append_all(&writer, vec![again.clone()]).await;
    assert_eq!(store.finished("sample").unwrap()[&again.step.fingerprint], crate::outcome::Outcome::Passed);
    assert_eq!(store.log("sample", again.step.log_id()).unwrap(), None);
}

#[tokio::test]
async fn a_repetition_is_kept_beside_what_it_repeats_until_that_runs_anew() {
    let home = Home::new();
    let mut store = home.open();
    let crates = [sample::crate_of('p', &["f-"])];
    begin(&mut store, "sample", &crates);
    let first = records("sample", &crates);
    let mut again = first[1].clone();
    again.step.attempt = 2;
    again.result.outcome = crate::outcome::Outcome::Passed;
    let writer = store.writer().unwrap();
    append_all(&writer, first.iter().cloned().chain([again.clone()]).collect()).await;

    let steps = store.results("sample").unwrap().unwrap().crates.remove(0).steps;
    let shown: Vec<_> = steps.iter().map(|(step, result)| (step.log_id(), result.clone())).collect();
    let build = |record: &Record| (record.step.log_id(), Some(record.result.clone()));
    assert_eq!(shown[1..3], [build(&first[1]), build(&again)]);
    assert_eq!(store.finished("sample").unwrap()[&again.step.fingerprint], crate::outcome::Outcome::Passed);
    let attempt = |number, outcome| Attempt { number, outcome, tests: None };
    let attempts = vec![attempt(1, first[1].result.outcome.clone()), attempt(2, crate::outcome::Outcome::Passed)];
    assert_eq!(store.attempts("sample").unwrap(), [(again.step.fingerprint, attempts)].into());
    assert_eq!(store.log("sample", again.step.log_id()).unwrap(), Some(again.output.clone()));

    // An earlier pass does not excuse later ops.
    let mut failed = first[1].clone();
    failed.step.attempt = 3;
    append_all(&writer, vec![failed]).await;
    assert_eq!(store.finished("sample").unwrap()[&again.step.fingerprint], crate::outcome::Outcome::Passed);

    append_all(&writer, vec![first[1].clone()]).await;
    assert_eq!(store.results("sample").unwrap().unwrap().crates, crates);
    assert!(store.attempts("sample").unwrap().is_empty());
}

#[tokio::test]
async fn single_tests_are_read_where_verdicts_need_them_or_all_are_asked_for() {
    let home = Home::new();
    let mut store = home.open();
    let mut fine = sample::tested(&[&["p a+ b~"]]);
    fine.krate.id.name = "fine".parse().unwrap();
    fine.steps.iter_mut().for_each(|(step, _)| step.fingerprint = Fingerprint::of(&format!("fine {step:?}")));
    let failed = sample::tested(&[&["p a+", "p% a+"], &["f a-", "f% a-"]]);
    let crates = [fine, failed];
    let planned = crates.clone().map(|mut krate| {
        krate.steps.retain(|(step, _)| step.attempt == 1);
        krate
    });
    begin(&mut store, "sample", &planned);
    append_all(&store.writer().unwrap(), records("sample", &crates)).await;

    let mut all = store.results_with_tests("sample").unwrap().unwrap().crates;
    assert_eq!(all[0], crates[0]);
    let needed = store.results("sample").unwrap().unwrap().crates;
    assert_eq!(needed[1], all[1]);
    all[0].steps.iter_mut().filter_map(|(_, result)| result.as_mut()).for_each(|result| result.tests = None);
    assert_eq!(needed[0], all[0]);

    let test = |krate: &CrateResults| krate.steps.last().unwrap().0.fingerprint;
    let attempts = store.attempts("sample").unwrap();
    assert!(!attempts.contains_key(&test(&crates[0])));
    let tests: Vec<bool> = attempts[&test(&crates[1])].iter().map(|attempt| attempt.tests.is_some()).collect();
    assert_eq!(tests, [true, true]);
    // Some tests that pass alone don't make the op pass.
    let mut alone = records("sample", &crates).pop().unwrap();
    alone.step.attempt = 3;
    alone.result.outcome = crate::outcome::Outcome::Passed;
    append_all(&store.writer().unwrap(), vec![alone]).await;
    assert_eq!(store.finished("sample").unwrap()[&test(&crates[1])].kind(), crate::outcome::OutcomeKind::Failed);
}

#[tokio::test]
async fn a_new_plan_keeps_results_and_shows_only_its_own() {
    let home = Home::new();
    let mut store = home.open();
    let both = [sample::named("a", "1.0.0", 'p', &["pp", "pp"]), sample::named("b", "1.0.0", 'p', &["pp", "pp"])];
    begin(&mut store, "sample", &both);
    append_all(&store.writer().unwrap(), records("sample", &both)).await;
    begin(&mut store, "sample", &both[1..]);
    assert_eq!(store.results("sample").unwrap().unwrap().crates, both[1..]);
    assert_eq!(store.finished("sample").unwrap().len(), 10);
    let overview = &store.experiments().unwrap()[0];
    assert_eq!((overview.crates, overview.steps, overview.finished), (1, 5, 5));
}

#[tokio::test]
async fn pins_are_the_versions_chosen_until_started_over() {
    let home = Home::new();
    let mut store = home.open();
    let crates = [sample::crate_of('p', &["pp", "pp"]), sample::missing_crate("no crate named `absent`")];
    assert_eq!(store.pins("sample").unwrap(), []);
    begin(&mut store, "sample", &crates);
    append_all(&store.writer().unwrap(), records("sample", &crates)).await;
    let pins = [("absent".to_owned(), crates[1].krate.clone()), ("sample".to_owned(), crates[0].krate.clone())];
    assert_eq!(store.pins("sample").unwrap(), pins);
    begin(&mut store, "sample", &crates[..1]);
    assert_eq!(store.pins("sample").unwrap(), pins, "a narrower run forgot what it left out");
    store.fresh("sample").unwrap();
    assert_eq!(store.pins("sample").unwrap(), []);
    assert!(store.finished("sample").unwrap().is_empty());
}

#[tokio::test]
async fn deleting_an_experiment_gives_its_space_back_and_leaves_the_others() {
    let home = Home::new();
    let mut store = home.open();
    let crates = sample::every_verdict().crates;
    for name in ["keep", "drop"] {
        begin(&mut store, name, &crates);
        append_all(&store.writer().unwrap(), records(name, &crates)).await;
    }
    store.delete("drop").unwrap();
    assert_eq!(store.results("drop").unwrap(), None);
    assert_eq!(store.results("keep").unwrap().unwrap().crates, crates);
    let unused: i64 = store.connection.query_row("PRAGMA freelist_count", [], |row| row.get(0)).unwrap();
    let logs: i64 = store.connection.query_row("SELECT count(*) FROM logs", [], |row| row.get(0)).unwrap();
    assert_eq!((unused, logs as usize), (0, records("keep", &crates).len()));
    let error = store.delete("drop").unwrap_err();
    assert!(matches!(&error, StoreError::Unknown { name, .. } if name == "drop"), "{error}");
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_everything_committed_readable() {
    let home = Home::new();
    let mut store = home.open();
    let crates = sample::every_verdict().crates;
    begin(&mut store, "sample", &crates);
    let writer = store.writer().unwrap();
    append_all(&writer, records("sample", &crates)).await;
    // The files after a kill: as they are while the writer lives, the last page half written.
    let crashed = home.folder.path().join("crashed.db");
    std::fs::copy(home.db(), &crashed).unwrap();
    let mut log = std::fs::read(home.db().with_extension("db-wal")).unwrap();
    assert!(!log.is_empty());
    log.extend_from_slice(&[0x5a; 1000]);
    std::fs::write(home.folder.path().join("crashed.db-wal"), log).unwrap();
    drop(writer);
    let survivor = Store::open_existing(&crashed).unwrap().unwrap();
    assert_eq!(survivor.results("sample").unwrap().unwrap().crates, crates);
    let check: String = survivor.connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
}

#[tokio::test]
async fn dropping_the_writer_keeps_what_was_handed_over() {
    let home = Home::new();
    let mut store = home.open();
    let crates = sample::every_verdict().crates;
    begin(&mut store, "sample", &crates);
    let writer = store.writer().unwrap();
    for record in records("sample", &crates) {
        writer.append(record).await.unwrap();
    }
    drop(writer);
    assert_eq!(store.results("sample").unwrap().unwrap().crates, crates);
}

#[tokio::test]
async fn others_read_while_the_writer_is_in_a_transaction() {
    let home = Home::new();
    let mut store = home.open();
    let crates = [sample::crate_of('p', &["pp", "pp"])];
    begin(&mut store, "sample", &crates);
    let busy = Connection::open(home.db()).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE; DELETE FROM steps;").unwrap();
    let reader = Store::open_existing(&home.db()).unwrap().unwrap();
    assert_eq!(reader.results("sample").unwrap().unwrap().crates[0].steps.len(), 5);
}

#[test]
fn processes_that_create_the_same_home_at_once_all_succeed() {
    let home = Home::new();
    let path = &home.db();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            scope.spawn(move || {
                let mut store = Store::open(path).unwrap();
                begin(&mut store, name, &sample::every_verdict().crates);
            });
        }
    });
    assert_eq!(home.open().experiments().unwrap().len(), 4);
}

#[tokio::test]
async fn a_full_disk_is_told_to_whoever_appends_or_flushes() {
    let home = Home::new();
    let mut store = home.open();
    let crates = [sample::crate_of('p', &["pp", "pp"])];
    begin(&mut store, "sample", &crates);
    let second = home.open();
    let pages: i64 = second.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    second.connection.pragma_update(None, "max_page_count", pages + 1).unwrap();
    let writer = Writer::start(second).unwrap();
    let mut record = records("sample", &crates).remove(0);
    // Bytes that don't compress.
    let noise = std::iter::successors(Some(1u32), |x| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    record.output.head = noise.take(100_000).map(|x| (x >> 24) as u8).collect();
    let _ = writer.append(record.clone()).await;
    let error = writer.flush().await.unwrap_err();
    assert!(matches!(&error, StoreError::Stopped(why) if matches!(**why, StoreError::Full { .. })), "{error:?}");
    let error = writer.append(record).await.unwrap_err();
    assert!(matches!(error, StoreError::Stopped(_)), "{error:?}");
    drop(writer);
    assert!(store.finished("sample").unwrap().is_empty());
}

#[tokio::test]
async fn a_result_of_an_experiment_that_never_began_is_an_error_that_names_it() {
    let home = Home::new();
    let writer = home.open().writer().unwrap();
    let record = records("nobody", &[sample::crate_of('p', &["pp"])]).remove(0);
    writer.append(record).await.unwrap();
    let StoreError::Stopped(why) = writer.flush().await.unwrap_err() else { panic!("another error") };
    assert_eq!(why.to_string(), format!("there is no experiment `nobody` in {}", home.db().display()));
}

#[test]
fn a_file_that_is_no_database_is_an_error_that_names_it() {
    let home = Home::new();
    let path = home.folder.path().join("maar.db");
    std::fs::write(&path, "not a database at all, but long enough to look at".repeat(20)).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
}

#[test]
fn looking_for_a_home_does_not_create_it() {
    assert!(Store::open_existing(Path::new("no/such/home/maar.db")).unwrap().is_none());
    assert!(!Path::new("no").exists());
}
