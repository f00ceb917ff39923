//! Every case in one run on two toolchains: the exact verdicts, and the files that the run keeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::Value;

use crate::cases::{self, Case};
use crate::world::{Ran, World, verdict};

pub(crate) struct Shared {
    pub(crate) world: World,
    pub(crate) cases: Vec<Case>,
    first: Ran,
    second: Ran,
}

/// The run of all cases, and the same command once more; none where it can't be.
pub(crate) fn shared() -> Option<&'static Shared> {
    static SHARED: LazyLock<Shared> = LazyLock::new(|| {
        // A static is never dropped: the next run of this test removes its folder.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("experiments");
        let _ = fs::remove_dir_all(&dir);
        let world = World::at(&dir, []);
        let cases = cases::publish(&world);
        let first = world.run(&[]);
        let second = world.run(&[]);
        Shared { world, cases, first, second }
    });
    cases::two_toolchains().then(|| &*SHARED)
}

#[test]
fn every_crate_gets_its_exact_verdict() {
    let Some(Shared { world, cases, first, .. }) = shared() else { return };
    let report = world.report("fixtures");
    let found: Vec<String> = report["crates"].as_array().unwrap().iter().map(verdict).collect();
    let expected: Vec<&str> = cases.iter().map(|case| case.verdict.as_str()).collect();
    assert_eq!(found, expected, "{}", first.stderr);
    assert_eq!(first.code, Some(1), "there are regressions");
}

#[test]
fn every_toolchain_has_its_own_outcome_and_reason() {
    let Some(Shared { world, cases, .. }) = shared() else { return };
    for (krate, case) in world.report("fixtures")["crates"].as_array().unwrap().iter().zip(cases) {
        let results = krate["results"].as_array().unwrap();
        assert_eq!(results.len(), 2, "{krate}");
        for (result, expected) in results.iter().zip(case.outcomes()) {
            assert_eq!(result["outcome"], expected, "{krate}");
            match result["reason"].as_str() {
                None => assert!(matches!(expected, "passed" | "skipped"), "{krate}"),
                Some(reason) => assert!(case.has_reason(reason), "{krate}"),
            }
        }
    }
}

#[test]
fn a_crate_is_prepared_once_for_all_toolchains_and_downloaded_once() {
    let Some(Shared { world, first, .. }) = shared() else { return };
    let steps = first.steps();
    let count = |wanted: &str| steps.iter().filter(|step| *step == wanted).count();
    assert_eq!(count("prepare passes@1.0.0"), 1);
    assert_eq!((count("test passes@1.0.0 stable"), count("test passes@1.0.0 nightly")), (1, 1));
    assert_eq!(world.registry.downloads("passes", "1.0.0"), 1);
    assert_eq!(world.registry.index_requests("versioned"), 1, "three crates need it");
}

#[test]
fn toolchains_see_the_same_files_whatever_an_earlier_one_wrote_beside_them() {
    let Some(Shared { world, .. }) = shared() else { return };
    let digests = |toolchain| {
        let log = world.log(&["writes-beside-its-sources", "--op", "digest", "-t", toolchain]);
        log.lines().filter(|line| line.contains("  ./")).map(str::to_owned).collect::<Vec<_>>()
    };
    let on_stable = digests("stable");
    let files: Vec<&str> = on_stable.iter().map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(files, ["./Cargo.lock", "./Cargo.toml", "./build.rs", "./src/lib.rs"]);
    assert_eq!(on_stable, digests("nightly"));
}

#[test]
fn of_a_flood_the_head_the_tail_and_the_size_are_kept() {
    let Some(Shared { world, .. }) = shared() else { return };
    let log = world.log(&["floods", "--op", "test", "-t", "stable"]);
    let (head, rest) = log.split_once("\n== ").unwrap();
    assert!(head.contains("Running unittests src/lib.rs") && head.contains("the first line"), "{head}");
    let (dropped, tail) = rest.split_once(" bytes were not kept\n").unwrap();
    assert!(tail.contains("the last line") && tail.contains("test result: ok"), "{tail}");
    // 16 bytes a line. Cargo's own lines are not counted.
    let (dropped, flood, kept): (usize, _, _) = (dropped.parse().unwrap(), 16 << 18, 64 << 10);
    assert!((flood - kept..flood).contains(&dropped), "{dropped}");
}

#[test]
fn a_second_run_does_only_what_the_network_kept_it_from_and_says_the_same() {
    let Some(Shared { world, first, second, .. }) = shared() else { return };
    // What only the network stood in the way of, or a rule that may have changed, is tried again.
    let mut steps = second.steps();
    steps.sort_unstable();
    assert_eq!(steps, ["prepare damaged@1.0.0", "prepare from-git@1.0.0"]);
    assert_eq!(second.code, first.code);
    let events = second.events();
    let [start, .., end] = &events[..] else { panic!("{}", second.stdout) };
    assert_eq!(start["already_done"].as_u64().map(|done| done + 2), start["crates"].as_u64());
    assert_eq!((end["event"].as_str(), &end["done"]), (Some("run-end"), &start["crates"]));
    assert_eq!(world.registry.downloads("damaged", "1.0.0"), 4, "tried twice in each of the runs");
}

#[test]
fn a_run_leaves_no_folders_of_jobs() {
    let Some(Shared { world, .. }) = shared() else { return };
    assert_eq!(world.job_folders(), Vec::<PathBuf>::new());
}

#[test]
fn the_report_counts_every_verdict() {
    let Some(Shared { world, cases, .. }) = shared() else { return };
    let report = world.report("fixtures");
    let summary = report["summary"].as_object().unwrap();
    let count = |verdict: &str| cases.iter().filter(|case| case.kind() == verdict).count();
    let expected: Vec<(&str, usize)> = summary.keys().map(|verdict| (verdict.as_str(), count(verdict))).collect();
    let found: Vec<(&str, usize)> = summary.iter().map(|(verdict, count)| (verdict.as_str(), number(count))).collect();
    assert_eq!(found, expected);
    assert_eq!(found.iter().map(|(_, count)| count).sum::<usize>(), cases.len());
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap().try_into().unwrap()
}
