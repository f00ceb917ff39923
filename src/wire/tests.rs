//! Messages come back as they were, unknown fields are ignored, and a bundle that lies is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::bundle::{Bundle, BundleError, MAX_UNPACKED, Span, read};
use super::*;
use crate::krate::{CrateId, Origin, Selected};
use crate::libtest::{Target, Test, TestResult, Tests};
use crate::ops::Op;
use crate::outcome::{Breakage, Cause, Failure, Outcome};
use crate::plan::{Fingerprint, Step};

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 8]>().prop_map(|bytes| Digest::of(&bytes))
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    "[a-z]{1,8}".prop_map(|text| Fingerprint::of(&text))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Passed),
        any::<i32>().prop_map(|code| Outcome::Failed(Failure::Exit(code))),
        (vec(".*", 0..3), any::<usize>()).prop_map(|(names, more)| Outcome::Failed(Failure::Tests { names, more })),
        ".*".prop_map(|what| Outcome::Broken(Breakage::Archive(what))),
        any::<u32>().prop_map(|secs| Outcome::Inconclusive(Cause::TimedOut(Duration::from_secs(secs.into())))),
        (1_u64..1000).prop_map(|mib| Outcome::Inconclusive(Cause::OutOfMemory(ByteSize::mib(mib)))),
        Just(Outcome::Skipped),
        ".*".prop_map(Outcome::Error),
    ]
}

fn tests() -> impl Strategy<Value = Tests> {
    let test = (".*", prop_oneof![Just(TestResult::Ok), Just(TestResult::Failed), Just(TestResult::Ignored)]);
    let target = (".*", any::<bool>(), vec(test, 0..3)).prop_map(|(target, complete, tests)| Target {
        target,
        flag: None,
        complete,
        tests: tests.into_iter().map(|(name, result)| Test { name, result }).collect(),
    });
    (vec(target, 0..3), any::<[bool; 3]>()).prop_map(|(targets, [cut, selected, accounted])| Tests {
        targets,
        cut,
        selected,
        accounted,
    })
}

fn selected() -> impl Strategy<Value = Selected> {
    let origin =
        prop_oneof!["[0-9a-f]{64}".prop_map(|checksum| Origin::Registry { checksum }), ".*".prop_map(Origin::Missing),];
    ("[a-z][a-z0-9_-]{0,20}", any::<[u16; 3]>(), origin).prop_map(|(name, [major, minor, patch], origin)| Selected {
        id: CrateId {
            name: name.parse().unwrap(),
            version: Some(semver::Version::new(major.into(), minor.into(), patch.into())),
        },
        origin,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![Just(Op::Prepare), Just(Op::Build), Just(Op::Test), Just(Op::Clippy)];
    (op, option::of(0_usize..9), 1_u32..9, fingerprint()).prop_map(|(op, toolchain, attempt, fingerprint)| Step {
        op,
        toolchain,
        attempt,
        fingerprint,
    })
}

prop_compose! {
    fn handout()(
        lease in "[A-Za-z0-9_-]{1,80}",
        (experiment, generation, suspect) in any::<(u32, u32, bool)>(),
        krate in selected(),
        steps in vec(step(), 0..5),
        finished in btree_map(fingerprint(), outcome(), 0..3),
        history in btree_map(fingerprint(), vec((1_u32..9, outcome(), option::of(tests())), 0..3), 0..3),
        expect in btree_map("[a-z]{1,8}", (any::<u64>(), option::of(any::<u64>())), 0..3),
        lockfile in option::of(".*"),
    ) -> Handout {
        let past = |(attempt, outcome, tests)| Past { attempt, outcome, tests };
        let expected = |(wall_ms, peak): (u64, Option<u64>)| Expected { wall_ms, peak: peak.map(ByteSize) };
        Handout {
            lease: Lease(lease),
            experiment,
            generation,
            suspect,
            krate,
            steps,
            finished,
            history: history.into_iter().map(|(step, all)| (step, all.into_iter().map(past).collect())).collect(),
            expect: expect.into_iter().map(|(op, of)| (op.parse().unwrap(), expected(of))).collect(),
            lockfile,
        }
    }
}

fn span() -> impl Strategy<Value = Span> {
    any::<(u64, u64, u64)>().prop_map(Span::from)
}

prop_compose! {
    fn step_report()(
        fingerprint in fingerprint(),
        outcome in outcome(),
        attempt in 1_u32..9,
        numbers in any::<[u64; 5]>(),
        peak in option::of(any::<u64>()),
        worker in any::<u32>(),
        spans in (span(), span(), option::of(span()), option::of(span())),
        [compiled, reused, in_op, again] in any::<[u64; 4]>(),
    ) -> StepReport {
        let [started_ms, wall_us, cpu_us, waited_us, dropped] = numbers;
        let (head, tail, tests, lockfile) = spans;
        let units = Units { compiled, reused, in_op, again };
        StepReport {
            fingerprint, attempt, outcome, started_ms, wall_us, cpu_us, peak, waited_us, worker, units, head, tail, dropped,
            tests, lockfile,
        }
    }
}

prop_compose! {
    fn report()(
        lease in "[A-Za-z0-9_-]{1,80}",
        environment in digest(),
        toolchains in vec(".*", 0..3),
        steps in vec(step_report(), 0..5),
        bundle in option::of((digest(), any::<u64>())),
    ) -> Report {
        let bundle = bundle.map(|(sha256, bytes)| Blob { sha256, bytes });
        Report { lease: Lease(lease), agent: "0.1.0".to_owned(), environment, toolchains, steps, bundle }
    }
}

prop_compose! {
    fn hello()(
        texts in any::<[u8; 3]>(),
        (wire, cores, cap, now_ms) in any::<(u32, u32, u32, u64)>(),
        memory in option::of(any::<u64>()),
        environment in digest(),
        labels in btree_set("[a-z]{1,5}", 0..3),
    ) -> Hello {
        let [version, os, arch] = texts.map(|text| text.to_string());
        Hello {
            version, wire, os, arch, cores, memory: memory.map(ByteSize), disk: None,
            sandbox: labels.clone(), environment, labels, cap, now_ms,
        }
    }
}

/// Writes a message, adds a field of a later version to the objects at these paths, and reads it again.
fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T, objects: &[&str]) {
    let mut value = serde_json::to_value(message).unwrap();
    for path in objects {
        if let Some(Value::Object(fields)) = value.pointer_mut(path) {
            fields.insert("of-a-later-version".to_owned(), json!({"any": ["thing"]}));
        }
    }
    assert_eq!(&serde_json::from_value::<T>(value).unwrap(), message);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn handouts_come_back_and_later_fields_are_ignored(jobs in vec(handout(), 0..3)) {
        survives(&Handouts { jobs }, &["", "/jobs/0", "/jobs/0/krate", "/jobs/0/steps/0"]);
    }

    #[test]
    fn reports_come_back_and_later_fields_are_ignored(report in report()) {
        survives(&report, &["", "/steps/0", "/steps/0/units", "/bundle"]);
    }

    #[test]
    fn the_small_messages_come_back(hello in hello(), lease in ".*", want in any::<u32>()) {
        survives(&hello, &[""]);
        survives(&Pull { want, wait_ms: 5 }, &[""]);
        survives(&Renew { leases: vec![Lease(lease.clone())], running: want, load: Some(0.5) }, &[""]);
        survives(&Renewed { drop: vec![(Lease(lease.clone()), "aborted".to_owned())] }, &[""]);
        survives(&GiveBack { leases: vec![Lease(lease)], reason: Reason::Incapable, detail: String::new(), keep: None }, &[""]);
        survives(&Answer { accepted: false, why: Some("late".to_owned()) }, &[""]);
        survives(&Welcome { name: "a1".to_owned(), lease_ms: 1, renew_ms: 2, poll_ms: 3, cap: 4, now_ms: 5 }, &[""]);
    }

    #[test]
    fn texts_come_back_from_a_bundle(texts in vec(vec(any::<u8>(), 0..300), 0..8)) {
        let mut bundle = Bundle::default();
        let spans: Vec<Span> = texts.iter().map(|text| bundle.append(text)).collect();
        let bytes = bundle.into_bytes();
        for (text, span) in texts.iter().zip(spans) {
            prop_assert_eq!(&read(&bytes, span).unwrap(), text);
        }
    }

    #[test]
    fn no_span_makes_reading_panic(bytes in vec(any::<u8>(), 0..100), span in span()) {
        let _ = read(&bytes, span);
    }
}

#[test]
fn a_bundle_that_lies_is_refused() {
    let mut bundle = Bundle::default();
    let span = bundle.append(&[b'x'; 1_000_000]);
    assert!(span.length < 10_000, "{span:?}");
    let bytes = bundle.into_bytes();
    let bomb = Span { unpacked: 10, ..span };
    assert!(matches!(read(&bytes, bomb), Err(BundleError::Damaged { .. })));
    let short = Span { unpacked: 1_000_001, ..span };
    assert!(matches!(read(&bytes, short), Err(BundleError::Damaged { .. })));
    let outside = Span { length: span.length + 1, ..span };
    assert!(matches!(read(&bytes, outside), Err(BundleError::Outside { .. })));
    let wrapping = Span { offset: u64::MAX, ..span };
    assert!(matches!(read(&bytes, wrapping), Err(BundleError::Outside { .. })));
    let huge = Span { unpacked: MAX_UNPACKED + 1, ..span };
    assert!(matches!(read(&bytes, huge), Err(BundleError::TooLong { .. })));
}

#[test]
fn another_version_is_refused_by_its_number() {
    assert_eq!(check_version(VERSION), Ok(()));
    let error = check_version(2).unwrap_err().to_string();
    assert_eq!(error, "wire version 2 is not supported, this maar has version 1: install the same maar on both hosts");
}

#[test]
fn a_digest_has_one_spelling() {
    let digest = Digest::of(b"x");
    assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    for text in ["", "../../etc/passwd", &digest.to_string().to_uppercase(), &digest.to_string()[1..]] {
        assert!(text.parse::<Digest>().is_err(), "{text} was accepted");
    }
}

#[test]
fn optional_fields_may_be_absent() {
    let lean = json!({"lease": "x", "experiment": 1, "generation": 1, "krate": {"id": {"name": "a", "version": "1.0.0"},
        "origin": {"missing": "no crate"}}, "steps": []});
    let handout: Handout = serde_json::from_value(lean).unwrap();
    assert_eq!((handout.suspect, handout.history, handout.lockfile), (false, BTreeMap::new(), None));
}
