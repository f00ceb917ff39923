use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use semver::Version;

use super::*;
use crate::experiment::{Caching, CrateSettings, DEFAULT_LIMITS, SandboxKind, Workers};
use crate::krate::CrateId;
use crate::ops::{CommandOp, Features, LockfileMode, Stage};
use crate::outcome::{Cause, Failure};

pub(crate) fn experiment(ops: &[Op]) -> Experiment {
    Experiment {
        name: "test".to_owned(),
        toolchains: Vec::new(),
        crates: Vec::new(),
        ops: ops.to_vec(),
        workers: Workers { fetch: 1, build: 1, test: 1 },
        in_flight: 1,
        overcommit: 1.0,
        limits: DEFAULT_LIMITS,
        op_limits: BTreeMap::new(),
        crate_settings: BTreeMap::new(),
        crate_patterns: Vec::new(),
        lockfile: LockfileMode::Latest,
        sandbox: SandboxKind::Native,
        allow_hosts: Vec::new(),
        as_of: None,
        cache: Caching::On,
        cache_budget: ByteSize(0),
    }
}

fn default_experiment() -> Experiment {
    experiment(&[Op::Prepare, Op::Build, Op::Test])
}

fn toolchain(version: &str) -> Toolchain {
    let (spec, sysroot) = (version.parse().unwrap(), PathBuf::from("/toolchains").join(version));
    Toolchain::new(spec, Version::parse(version).unwrap(), format!("rustc {version}"), sysroot)
}

fn toolchains() -> Vec<Toolchain> {
    vec![toolchain("1.0.0"), toolchain("2.0.0")]
}

fn krate(name: &str, origin: Origin) -> Selected {
    Selected { id: CrateId { name: name.parse().unwrap(), version: Some(Version::new(1, 0, 0)) }, origin }
}

fn registry_crate() -> Selected {
    krate("a", Origin::Registry { checksum: "00".to_owned() })
}

fn plan_of(experiment: &Experiment) -> CratePlan {
    plan(experiment, &toolchains(), [registry_crate()]).remove(0)
}

/// Steps in short: `prepare build@0 test@0`.
fn shown<'s>(steps: impl IntoIterator<Item = &'s Step>) -> String {
    let shown = steps.into_iter().map(|step| match step.toolchain {
        Some(toolchain) => format!("{}@{toolchain}", step.op.name()),
        None => step.op.name().to_string(),
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// The outcomes that tests write as `+` passed, `-` failed, `t` timed out, `n` no network, `s` skipped.
fn outcome(sign: &str) -> Outcome {
    match sign {
        "+" => Outcome::Passed,
        "-" => Outcome::Failed(Failure::Exit(101)),
        "t" => Outcome::Inconclusive(Cause::TimedOut(DEFAULT_LIMITS.timeout)),
        "n" => Outcome::Inconclusive(Cause::Network("refused".to_owned())),
        "s" => Outcome::Skipped,
        _ => panic!("no outcome is written {sign:?}"),
    }
}

/// What remains of the default plan when its steps have these outcomes; `.` has none.
#[track_caller]
fn check_remaining(outcomes: &str, expected: &str) {
    let plan = plan_of(&default_experiment());
    let signs = outcomes.split_whitespace();
    let with_outcome = plan.steps.iter().zip(signs).filter(|(_, sign)| *sign != ".");
    let finished = with_outcome.map(|(step, sign)| (step.fingerprint, outcome(sign))).collect();
    assert_eq!(shown(&remaining(&default_experiment(), &plan, &finished)), expected, "after {outcomes}");
}

#[test]
fn a_crate_is_prepared_once_and_goes_through_one_toolchain_after_the_other() {
    assert_eq!(shown(&plan_of(&default_experiment()).steps), "prepare build@0 test@0 build@1 test@1");
}

#[test]
fn an_op_of_the_users_own_runs_on_every_toolchain_where_it_stands_in_the_list() {
    let geiger = CommandOp { name: "geiger".parse().unwrap(), stage: Stage::Build, run: vec!["geiger".to_owned()] };
    let plan = plan_of(&experiment(&[Op::Prepare, Op::Command(geiger), Op::Build]));
    assert_eq!(shown(&plan.steps), "prepare geiger@0 build@0 geiger@1 build@1");
}

#[test]
fn a_missing_crate_and_an_empty_list_have_no_steps_and_keep_their_place() {
    let mut experiment = default_experiment();
    let none = CrateSettings { ops: Some(Vec::new()), ..CrateSettings::default() };
    experiment.crate_settings.insert("b".parse().unwrap(), none);
    let checksum = "00".to_owned();
    let crates = [
        krate("a", Origin::Missing("no crate named `a`".to_owned())),
        krate("b", Origin::Registry { checksum: checksum.clone() }),
        krate("c", Origin::Registry { checksum }),
    ];
    let plans = plan(&experiment, &toolchains(), crates.clone());
    let steps: Vec<usize> = plans.iter().map(|plan| plan.steps.len()).collect();
    assert_eq!(steps, [0, 0, 5]);
    assert!(plans.iter().zip(&crates).all(|(plan, krate)| plan.krate == *krate));
}

#[test]
fn what_is_finished_is_not_queued_again() {
    check_remaining(". . . . .", "prepare build@0 test@0 build@1 test@1");
    check_remaining("+ + + + +", "");
    check_remaining("+ + + - .", "");
    check_remaining("+ - . - .", "");
    check_remaining("+ - . + s", "");
}

#[test]
fn prepare_is_repeated_for_whatever_remains() {
    check_remaining("+ . . . .", "prepare build@0 test@0 build@1 test@1");
    check_remaining("+ + + + .", "prepare test@1");
    check_remaining("+ + . + +", "prepare test@0");
    check_remaining(". + + + +", "prepare");
}

#[test]
fn a_failure_ends_its_own_toolchain_only() {
    check_remaining("+ - . . .", "prepare build@1 test@1");
    check_remaining("+ . . - .", "prepare build@0 test@0");
    check_remaining("+ t . + .", "prepare test@1");
    // Its result is of an op that comes later in the list than the one that has none.
    check_remaining("+ . - + +", "prepare build@0");
}

fn own_op(name: &str) -> Op {
    let name = name.parse().unwrap();
    Op::Command(CommandOp { name, stage: Stage::Build, run: vec!["true".to_owned()] })
}

#[test]
fn an_own_op_is_repeated_for_what_comes_after_it_on_the_same_toolchain() {
    let experiment = experiment(&[Op::Prepare, own_op("patch"), Op::Build, own_op("check-docs")]);
    let plan = plan_of(&experiment);
    let mut finished: HashMap<_, _> = plan.steps.iter().map(|step| (step.fingerprint, Outcome::Passed)).collect();
    assert_eq!(shown(&remaining(&experiment, &plan, &finished)), "");
    let build = plan.steps.iter().find(|step| step.op == Op::Build && step.toolchain == Some(1)).unwrap();
    finished.remove(&build.fingerprint);
    assert_eq!(shown(&remaining(&experiment, &plan, &finished)), "prepare patch@1 build@1");
}

#[test]
fn a_result_depends_on_the_own_ops_before_it_and_not_on_others() {
    let build_after = |ops: &[Op]| {
        let plan = plan_of(&experiment(ops));
        plan.steps.into_iter().find(|step| step.op == Op::Build).unwrap().fingerprint
    };
    let plain = build_after(&[Op::Prepare, Op::Build]);
    assert_eq!(plain, build_after(&[Op::Prepare, Op::Check, Op::Build, own_op("patch")]));
    assert_ne!(plain, build_after(&[Op::Prepare, own_op("patch"), Op::Build]));
}

#[test]
fn a_failed_prepare_leaves_nothing_to_do() {
    check_remaining("- . . . .", "");
    check_remaining("t . . . .", "");
    check_remaining("- + + . .", "");
}

#[test]
fn what_only_the_host_stopped_is_tried_again() {
    check_remaining("n . . . .", "prepare build@0 test@0 build@1 test@1");
    check_remaining("+ n . + +", "prepare build@0 test@0");
    check_remaining("+ n - + +", "prepare build@0");
}

#[test]
fn what_a_limit_cut_short_is_tried_again_under_a_greater_one() {
    let mut experiment = default_experiment();
    let plan = plan_of(&experiment);
    let limits = experiment.limits;
    let hits = [Cause::TimedOut(limits.timeout), Cause::Idle(limits.idle_timeout), Cause::OutOfMemory(limits.memory)];
    for hit in hits {
        let finished = HashMap::from([(plan.steps[0].fingerprint, Outcome::Inconclusive(hit))]);
        assert_eq!(shown(&remaining(&experiment, &plan, &finished)), "");
        experiment.limits.timeout *= 2;
        experiment.limits.idle_timeout *= 2;
        experiment.limits.memory = ByteSize::b(limits.memory.as_u64() * 2);
        assert_eq!(remaining(&experiment, &plan, &finished).len(), 5);
        experiment.limits = limits;
    }
}

#[test]
fn a_plan_of_prepare_alone_ends_with_it() {
    let plan = plan_of(&experiment(&[Op::Prepare]));
    let finished = HashMap::from([(plan.steps[0].fingerprint, Outcome::Passed)]);
    assert_eq!(shown(&remaining(&default_experiment(), &plan, &HashMap::new())), "prepare");
    assert_eq!(shown(&remaining(&default_experiment(), &plan, &finished)), "");
}

#[test]
fn a_step_that_does_not_pass_drops_what_depends_on_it() {
    for (place, sign, left) in [
        (0, "+", "build@0 test@0 build@1 test@1"),
        (0, "-", ""),
        (0, "n", ""),
        (1, "+", "test@0 build@1 test@1"),
        (1, "-", "build@1 test@1"),
        (1, "t", "build@1 test@1"),
        (2, "-", "build@1 test@1"),
        (3, "-", ""),
        (4, "-", ""),
    ] {
        let mut queue: Queue = plan_of(&default_experiment()).steps.into();
        let step = queue.drain(..=place).next_back().unwrap();
        after(&mut queue, &step, &outcome(sign));
        assert_eq!(shown(&queue), left, "{} {sign}", shown([&step]));
    }
}

#[test]
fn fingerprints_are_the_same_from_one_release_to_the_next() {
    let plan = plan_of(&default_experiment());
    // sha256sum of {"name":"a","version":"1.0.0","sources":"00","command":["cargo","test","--frozen","--no-run"],
    // "op":"build-tests","after":[],"locked_by":"1.0.0","build_env":{"CARGO_INCREMENTAL":"0",
    // "CARGO_PROFILE_DEV_DEBUG":"1","RUSTDOCFLAGS":"--cap-lints=warn","RUSTFLAGS":"--cap-lints=warn"},
    // "toolchain":"rustc 1.0.0","features":"Default","env":{},"lockfile":"latest","sandbox":"native"},
    // without the line breaks.
    let expected = "00b078ab00fd8937491756f21eee8336946630edf0b0ace91166b623b72e4ebd";
    assert_eq!(plan.steps[1].fingerprint.to_string(), expected);
    assert_eq!(expected.parse(), Ok(plan.steps[1].fingerprint));
    for bad in ["", "00", &expected[1..], &expected.replace('a', "g"), &"é".repeat(32)] {
        assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
    }
}

#[test]
fn build_is_answered_by_the_first_half_of_test_where_that_follows() {
    for (ops, expected) in [
        (vec![Op::Build, Op::Test], Op::BuildTests),
        (vec![Op::Build, Op::Doc, Op::Test], Op::BuildTests),
        (vec![Op::Build], Op::Build),
        (vec![Op::Test, Op::Build], Op::Build),
        (vec![Op::Build, own_op("patch"), Op::Test], Op::Build),
    ] {
        let ops: Vec<Op> = [Op::Prepare].into_iter().chain(ops).collect();
        let steps = plan_of(&experiment(&ops)).steps;
        let build = steps.iter().find(|step| step.op.name().as_str() == "build").unwrap();
        assert_eq!(build.op, expected, "{ops:?}");
    }
}

#[test]
fn a_lockfile_is_made_anew_for_an_older_toolchain_and_kept_for_a_newer_one() {
    let steps = |versions: &[&str]| {
        let toolchains: Vec<_> = versions.iter().map(|version| toolchain(version)).collect();
        plan(&default_experiment(), &toolchains, [registry_crate()]).remove(0).steps
    };
    let before = steps(&["1.90.0"]);
    assert_eq!(before, steps(&["1.90.0", "1.95.0"])[..3]);
    let after = steps(&["1.90.0", "1.75.0"]);
    assert!(before.iter().all(|step| !after.iter().any(|other| other.fingerprint == step.fingerprint)));
}

/// The fingerprints of `test` with each of these toolchains, which are one compiler; and that of `prepare`.
fn fingerprints(specs: &[&str]) -> (Vec<Fingerprint>, Fingerprint) {
    let toolchain = |spec: &&str| {
        let mut toolchain = toolchain("1.95.0");
        toolchain.spec = spec.parse().unwrap();
        toolchain
    };
    let toolchains: Vec<Toolchain> = specs.iter().map(toolchain).collect();
    let steps = plan(&default_experiment(), &toolchains, [registry_crate()]).remove(0).steps;
    let tests = steps.iter().filter(|step| step.op == Op::Test).map(|step| step.fingerprint);
    (tests.collect(), steps[0].fingerprint)
}

#[test]
fn settings_of_one_toolchain_keep_the_finished_work_of_another() {
    let (plain, prepared) = fingerprints(&["stable"]);
    for settings in ["rustflags=-Copt-level=1", "cargoflags=-q", "target=x", "profile=release", "env=A=1", "cargo=beta"]
    {
        let (both, shared) = fingerprints(&["stable", &format!("stable+{settings}")]);
        assert_eq!((both[0], shared), (plain[0], prepared), "{settings}");
        assert_ne!(both[1], plain[0], "{settings}");
        // Another cargo shows in the identity, once it is found.
        if !settings.starts_with("cargo=") {
            assert_ne!(both[1], fingerprints(&["stable", "stable"]).0[1], "{settings}");
        }
    }
    // Flags about lints lift the cap on all toolchains.
    assert_ne!(fingerprints(&["stable", "stable+rustflags=-Dwarnings"]).0[0], plain[0]);
}

#[test]
fn the_same_toolchain_twice_has_steps_of_its_own_for_each() {
    let (tests, _) = fingerprints(&["stable", "stable", "1.95.0"]);
    let distinct: std::collections::BTreeSet<_> = tests.iter().collect();
    assert_eq!(distinct.len(), 3);
    assert_eq!(tests[..2], fingerprints(&["stable", "stable"]).0);
}

#[test]
fn patches_make_other_lockfiles_and_other_fingerprints() {
    let patched = |digest: &str| {
        let (root, version) = ("/p".into(), Version::new(1, 0, 0));
        let source = crate::toolchain::Patched::Folder {
            root,
            member: "".into(),
            version,
            digest: digest.to_owned(),
            copy: None,
        };
        let mut toolchain = toolchain("1.95.0");
        toolchain.patches.push(crate::toolchain::Patch { name: "dep".to_owned(), source });
        toolchain
    };
    let steps = |toolchains: &[Toolchain]| plan(&default_experiment(), toolchains, [registry_crate()]).remove(0).steps;
    let plain = steps(&[toolchain("1.95.0")]);
    let [one, other] = ["1", "2"].map(|digest| steps(&[toolchain("1.95.0"), patched(digest)]));
    assert_eq!(plain[1..], one[1..3], "the toolchain without patches keeps its work");
    assert_ne!(plain[0].fingerprint, one[0].fingerprint);
    assert_ne!(one[0].fingerprint, other[0].fingerprint);
    assert_ne!(one[3].fingerprint, other[3].fingerprint);
    let key = |digest| one[0].fingerprint.of_patched(&patched(digest));
    assert_ne!(key("1"), key("2"));
}

#[test]
fn every_step_has_a_fingerprint_of_its_own() {
    let steps = plan_of(&default_experiment()).steps;
    let distinct: std::collections::BTreeSet<_> = steps.iter().map(|step| &step.fingerprint).collect();
    assert_eq!(distinct.len(), steps.len());
}

#[test]
fn a_fingerprint_tells_whatever_changes_a_result_and_nothing_else() {
    let fingerprint = |experiment: &Experiment, krate: &Selected| {
        let toolchain = toolchain("1.0.0");
        let toolchains = &[toolchain];
        let particulars = Particulars { op: &Op::Build, before: &[], toolchains, toolchain: Some(0) };
        Fingerprint::new(experiment, krate, particulars)
    };
    let with = |change: &dyn Fn(&mut Experiment, &mut Selected)| {
        let (mut experiment, mut krate) = (default_experiment(), registry_crate());
        change(&mut experiment, &mut krate);
        fingerprint(&experiment, &krate)
    };
    let settings = |settings: CrateSettings| {
        with(&move |experiment, _| {
            experiment.crate_settings.insert("a".parse().unwrap(), settings.clone());
        })
    };
    let same = with(&|_, _| ());
    let env = |value: &str| BTreeMap::from([("X".to_owned(), value.to_owned())]);
    let folder =
        |dir: &str, digest: &str| Origin::Path { dir: dir.into(), digest: digest.to_owned(), member: "".into() };

    assert_eq!(same, with(&|experiment, _| experiment.limits.cpus = 2.0));
    assert_eq!(same, with(&|experiment, _| experiment.name = "other".to_owned()));
    assert_eq!(same, with(&|experiment, _| experiment.ops.clear()));
    assert_eq!(same, settings(CrateSettings { ops: Some(vec![Op::Prepare]), ..CrateSettings::default() }));

    let different = [
        same,
        with(&|_, krate| krate.origin = Origin::Registry { checksum: "01".to_owned() }),
        with(&|_, krate| krate.id.version = Some(Version::new(1, 0, 1))),
        with(&|_, krate| krate.id.name = "b".parse().unwrap()),
        with(&|_, krate| krate.origin = folder("/here", "02")),
        with(&|experiment, _| experiment.lockfile = LockfileMode::Packaged),
        with(&|experiment, _| experiment.sandbox = SandboxKind::None),
        settings(CrateSettings { features: Features::With(vec!["f".to_owned()]), ..CrateSettings::default() }),
        settings(CrateSettings { env: env("1"), ..CrateSettings::default() }),
        settings(CrateSettings { env: env("2"), ..CrateSettings::default() }),
    ];
    let distinct: std::collections::BTreeSet<_> = different.iter().collect();
    assert_eq!(distinct.len(), different.len());

    let here = with(&|_, krate| krate.origin = folder("/here", "02"));
    assert_eq!(here, with(&|_, krate| krate.origin = folder("/there", "02")));
}

#[test]
fn a_skipped_crate_has_no_steps_and_keeps_its_reason_and_its_source() {
    let mut experiment = default_experiment();
    let skip = CrateSettings { skip: Some("needs a GPU".to_owned()), ..CrateSettings::default() };
    experiment.crate_settings.insert("a".parse().unwrap(), skip);
    let plan = plan_of(&experiment);
    assert!(plan.steps.is_empty());
    let source = Box::new(registry_crate().origin);
    assert_eq!(plan.krate.origin.source(), &*source);
    assert_eq!(plan.krate.origin, Origin::Skipped { reason: "needs a GPU".to_owned(), source });
}

/// A plan of these ops, where these have results from a run of other lists, each with its sign: `build@0+`.
fn adopted(ops: &[Op], earlier: &[(&[Op], &str)]) -> Vec<Op> {
    let mut finished = HashMap::new();
    for (list, results) in earlier {
        let steps = plan_of(&experiment(list)).steps;
        for result in results.split_whitespace() {
            let (step, sign) = result.split_at(result.len() - 1);
            let step = steps.iter().find(|known| shown([*known]) == step).unwrap();
            finished.insert(step.fingerprint, outcome(sign));
        }
    }
    let experiment = experiment(ops);
    let mut plans = vec![plan_of(&experiment)];
    adopt(&mut plans, &experiment, &toolchains(), &finished);
    let builds = plans.remove(0).steps.into_iter().map(|step| step.op);
    builds.filter(|op| op.name().as_str() == "build").collect()
}

#[test]
fn a_result_of_either_form_answers_build() {
    let (alone, tested): (&[Op], &[Op]) = (&[Op::Prepare, Op::Build], &[Op::Prepare, Op::Build, Op::Test]);
    let patched = [Op::Prepare, own_op("patch"), Op::Build];
    for (ops, earlier, expected) in [
        (tested, vec![], Op::BuildTests),
        (alone, vec![], Op::Build),
        (tested, vec![(alone, "build@0+ build@1+")], Op::Build),
        (tested, vec![(alone, "build@0-")], Op::Build),
        (alone, vec![(tested, "build@0+ build@1-")], Op::BuildTests),
        // Both toolchains have the same form.
        (tested, vec![(alone, "build@0+"), (tested, "build@0+ build@1+")], Op::BuildTests),
        (tested, vec![(alone, "build@0+"), (tested, "build@1+")], Op::BuildTests),
        // These say nothing about the crate.
        (tested, vec![(alone, "build@0n build@1n")], Op::BuildTests),
        // The sources were others.
        (tested, vec![(&patched, "build@0+ build@1+")], Op::BuildTests),
    ] {
        assert_eq!(adopted(ops, &earlier), [expected.clone(), expected], "{ops:?} {earlier:?}");
    }
}
