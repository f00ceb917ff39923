//! The command line's settings, which override the file's.

use super::*;

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn containers_are_made_from_the_image_that_was_named_last() {
    let image = |name: &str| SandboxKind::Docker(name.parse().unwrap());
    let docker = Overrides { sandbox: Some(SandboxName::Docker), ..Overrides::default() };
    let other = Overrides { image: Some("other".parse().unwrap()), ..docker.clone() };
    let sandbox = |file: &str, overrides: &Overrides| {
        load_text(&format!("crates = [\"itoa\"]\n{file}"), overrides).unwrap().sandbox
    };
    assert_eq!(sandbox("", &docker), image("maar"));
    assert_eq!(sandbox("image = \"debian:12\"", &docker), image("debian:12"));
    assert_eq!(sandbox("image = \"debian:12\"", &other), image("other"));
    assert_eq!(sandbox("image = \"debian:12\"", &Overrides::default()), SandboxKind::Native);
}

#[test]
fn flags_go_over_the_file_and_leave_the_rest() {
    let overrides = Overrides {
        name: Some("mine".to_owned()),
        toolchains: vec!["nightly".parse().unwrap()],
        crates: texts(&["ryu"]),
        ops: Some(texts(&["prepare", "check"])),
        skip: Vec::new(),
        workers: WorkersPatch { build: Some(3), ..WorkersPatch::default() },
        in_flight: Some(7),
        overcommit: Some(2.5),
        limits: LimitsPatch { memory: Some(ByteSize::gib(1)), ..LimitsPatch::default() },
        sandbox: Some(SandboxName::None),
        image: None,
        allow_hosts: Vec::new(),
        cache: Some(Caching::Off),
        as_of: Some("2024-06-01".parse().unwrap()),
    };
    let file = r#"
        name = "theirs"
        toolchains = ["stable"]
        crates = ["itoa"]
        skip = ["check"]
        workers = { fetch = 2, build = 2 }
        in-flight = 3
        limits = { memory = "2GiB", cpus = 2 }
        lockfile = "packaged"
    "#;
    let experiment = load_text(file, &overrides).unwrap();
    assert_eq!(experiment.name, "mine");
    assert_eq!(experiment.toolchains, ["nightly".parse().unwrap()]);
    assert_eq!(experiment.crates, [Selection::Newest(name("ryu"))]);
    assert_eq!(experiment.ops, [Op::Prepare, Op::Check]);
    assert_eq!(experiment.workers, Workers { fetch: 2, build: 3, test: 1 });
    assert_eq!((experiment.in_flight, experiment.overcommit), (7, 2.5));
    assert_eq!(experiment.limits, Limits { memory: ByteSize::gib(1), cpus: 2.0, ..DEFAULT_LIMITS });
    assert_eq!(experiment.lockfile, LockfileMode::Packaged);
    assert_eq!(experiment.sandbox, SandboxKind::None);
    assert_eq!(experiment.cache, Caching::Off);
}

#[test]
fn skip_takes_an_op_off_every_list() {
    let overrides = Overrides { skip: texts(&["test"]), ..Overrides::default() };
    let file = "crates = [\"a\"]\n[crate.a]\nops = [\"prepare\", \"test\", \"doc\"]\n[crate.b]\nskip = [\"build\"]";
    let experiment = load_text(file, &overrides).unwrap();
    assert_eq!(experiment.ops, [Op::Prepare, Op::Build]);
    assert_eq!(experiment.ops_of(&name("a")), [Op::Prepare, Op::Doc]);
    assert_eq!(experiment.ops_of(&name("b")), [Op::Prepare]);
}

#[test]
fn crates_of_the_users_own_are_no_demo() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = Overrides { crates: texts(&["ryu"]), ..Overrides::default() };
    let experiment = load_in(folder.path(), &overrides).unwrap();
    assert!(experiment.name.starts_with("ryu-"), "{}", experiment.name);
    assert_eq!(experiment.crates, [Selection::Newest(name("ryu"))]);
}

#[track_caller]
fn refused(overrides: &Overrides, expected: &str) {
    let error = load_text("crates = [\"a\"]", overrides).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_flag_that_is_wrong_is_named() {
    refused(
        &Overrides { ops: Some(texts(&["prepare", "tset"])), ..Overrides::default() },
        "error: `--ops`: unknown op `tset`\n |\n = help: did you mean `test`?",
    );
    refused(
        &Overrides { ops: Some(texts(&["build", "test"])), ..Overrides::default() },
        "error: `--ops`: the first op must be `prepare`, not `build`\n |\n = help: every other op works on what `prepare` leaves",
    );
    refused(
        &Overrides { skip: texts(&["doc", "doc"]), ..Overrides::default() },
        "error: `--skip`: `doc` is there twice",
    );
    refused(
        &Overrides { toolchains: vec!["nightyl".parse().unwrap()], ..Overrides::default() },
        "error: `--toolchain`: toolchain `nightyl` is not installed (did you mean `nightly`?); \
         `rustup toolchain install nightyl` installs it",
    );
    refused(
        &Overrides { crates: texts(&["1a"]), ..Overrides::default() },
        "error: `--crates`: `1a` is not a crate name: it must begin with a letter",
    );
}

#[test]
fn problems_of_file_and_flags_are_said_together() {
    let overrides = Overrides { skip: texts(&["doc", "nope"]), ..Overrides::default() };
    let error = load_text("crates = [\"a\"]\nops = [\"prepare\", \"tset\"]\nin-flight = 0", &overrides).unwrap_err();
    let places: Vec<&Place> = error.problems().iter().map(|problem| &problem.place).collect();
    assert!(matches!(places[..], [Place::File(_), Place::File(_), Place::Flag("--skip")]), "{places:?}");
}
