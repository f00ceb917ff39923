//! Tests of crates one by one: which failures are regressions, how they are repeated, and the effect of a lie about
//! them.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::{Ran, World, text};

/// A crate whose tests see `cfg(nightly)` on a nightly, as many popular crates do.
fn krate(name: &str) -> Fixture {
    let build = r#"fn main() {
        println!("cargo::rustc-check-cfg=cfg(nightly)");
        let rustc = std::env::var("RUSTC").unwrap();
        let version = std::process::Command::new(rustc).arg("--version").output().unwrap();
        if String::from_utf8_lossy(&version.stdout).contains("nightly") {
            println!("cargo::rustc-cfg=nightly");
        }
    }"#;
    Fixture::new(name, "1.0.0").file("build.rs", build)
}

/// A crate whose only tests are those of a program without a harness.
fn without_harness(name: &str, main: &str) -> Fixture {
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[lib]\ndoctest = false\n\
         [[test]]\nname = \"own\"\nharness = false\n"
    );
    krate(name).manifest(&manifest).file("src/lib.rs", "").file("tests/own.rs", &format!("fn main() {{ {main} }}"))
}

fn crates() -> Vec<Fixture> {
    let fake = |result: &str, passed: u8, failed: u8| {
        format!(
            "println!(\"running 1 test\\ntest fake ... {result}\\n\\nfailures:\\n    fake\\n\\ntest result: {result}. \
             {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\\n\");"
        )
    };
    vec![
        // As indoc, and many others that test a compiler's messages.
        krate("compares-errors")
            .lib("/// ```\n/// ```\npub fn documented() {}\n#[test] fn fine() {}")
            .file("tests/ui.rs", "#[test] #[cfg_attr(not(nightly), ignore)] fn ui() { panic!() }"),
        krate("has-a-test-for-nightly").lib("#[test] fn fine() {}\n#[cfg(nightly)] #[test] fn new() { panic!() }"),
        krate("breaks-beside-a-failure").lib(
            "#[test] fn breaks() { assert!(!cfg!(nightly)) }\n#[test] fn fails() { panic!() }\n#[test] fn fine() {}",
        ),
        krate("breaks-among-others").lib(
            "use std::sync::atomic::{AtomicBool, Ordering::SeqCst};\nstatic RAN: AtomicBool = AtomicBool::new(false);\n\
             #[test] fn a() { RAN.store(true, SeqCst) }\n#[test] fn b() {\n\
             for _ in 0..20 { if !RAN.load(SeqCst) { std::thread::sleep(std::time::Duration::from_millis(50)) } }\n\
             assert!(!cfg!(nightly) || !RAN.load(SeqCst)) }",
        ),
        krate("breaks-with-a-dependency")
            .dep("helper", "1")
            .lib("#[test] fn breaks() { assert!(!cfg!(nightly)) }\n#[test] fn fine() {}"),
        krate("crashes").lib("#[test] fn a() { if cfg!(nightly) { std::process::abort() } }"),
        krate("leaves-files").lib(
            "#[test] fn b() { let first = std::fs::File::create_new(\"left\").is_ok(); assert!(first && !cfg!(nightly)) }",
        ),
        without_harness("says-it-passed", &format!("{} std::process::exit(101)", fake("ok", 1, 0))),
        without_harness(
            "blames-its-baseline",
            &format!("{} if cfg!(nightly) {{ std::process::exit(101) }}", fake("FAILED", 0, 1)),
        ),
        krate("is-honest").lib("#[test] fn fake() { assert!(!cfg!(nightly)) }"),
    ]
}

struct Shared {
    world: World,
    ran: Ran,
}

fn shared() -> Option<&'static Shared> {
    static SHARED: LazyLock<Shared> = LazyLock::new(|| {
        let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("single-tests");
        let _ = std::fs::remove_dir_all(&dir);
        let crates = crates();
        let names: Vec<String> = crates.iter().map(|krate| krate.name.clone()).collect();
        let world = World::at(&dir, crates.into_iter().chain([Fixture::new("helper", "1.0.0")]));
        world.write(
            "maar.toml",
            &format!("name = \"fixtures\"\ntoolchains = [\"stable\", \"nightly\"]\ncrates = {names:?}"),
        );
        let ran = world.run(&[]);
        Shared { world, ran }
    });
    two_toolchains().then(|| &*SHARED)
}

#[test]
fn a_regression_is_a_test_that_passed_and_now_fails() {
    let Some(Shared { world, ran }) = shared() else { return };
    assert_eq!(
        world.verdicts("fixtures"),
        [
            "compares-errors@1.0.0 test-fail: test@nightly: tests failed: ui (ignored on stable)",
            "has-a-test-for-nightly@1.0.0 test-fail: test@nightly: tests failed: new (not there on stable)",
            "breaks-beside-a-failure@1.0.0 regressed: test@nightly: tests failed: breaks (1 more failed that stable doesn't pass)",
            "breaks-among-others@1.0.0 regressed: test@nightly: tests failed: b",
            "breaks-with-a-dependency@1.0.0 regressed: test@nightly: tests failed: breaks",
            "crashes@1.0.0 regressed: test@nightly: tests of the library: killed by SIGABRT",
            "leaves-files@1.0.0 regressed: test@nightly: tests failed: b",
            // Their exit codes decide, not their output.
            "says-it-passed@1.0.0 test-fail: test@stable: tests failed: fake",
            "blames-its-baseline@1.0.0 test-fail: test@nightly: tests failed: fake (no test failed each time on nightly and \
             passed on stable)",
            "is-honest@1.0.0 regressed: test@nightly: tests failed: fake",
        ],
        "{}",
        ran.stderr
    );
    assert_eq!(ran.code, Some(1));
}

/// The ops of a crate that ran more than once: `OP TOOLCHAIN`, in the order in which they ran.
fn repeated(ran: &Ran, krate: &str) -> Vec<String> {
    let steps = ran.steps().into_iter().filter(|step| step.contains(&format!(" {krate}@")));
    let all: Vec<String> = steps.map(|step| step.replace(&format!(" {krate}@1.0.0"), "")).collect();
    all.into_iter().skip("prepare build test build test".split(' ').count()).collect()
}

#[test]
fn only_the_tests_that_differ_are_repeated_from_what_was_compiled_unless_that_is_shared() {
    let Some(Shared { world, ran }) = shared() else { return };
    assert_eq!(repeated(ran, "breaks-beside-a-failure"), ["test stable", "test nightly"]);
    let log = world.log(&["breaks-beside-a-failure", "--op", "test", "-t", "nightly"]);
    let (_, again) = log.split_once("attempt 2").unwrap();
    assert!(again.contains("--lib --jobs") && again.contains("-- --exact breaks\n"), "{again}");
    assert!(!again.contains("Compiling") && !again.contains("test fails"), "{again}");
    // With a shared dependency in it, the binary is not evidence.
    assert_eq!(repeated(ran, "breaks-with-a-dependency"), ["test stable", "test nightly"]);
    let log = world.log(&["breaks-with-a-dependency", "--op", "test", "-t", "nightly"]);
    let (_, again) = log.split_once("attempt 2").unwrap();
    assert!(again.contains("-- --exact breaks\n") && again.contains("Compiling helper v1.0.0"), "{again}");
    assert_eq!(repeated(ran, "compares-errors"), [""; 0], "no difference to repeat");
    // A file that the first attempt left is gone.
    assert_eq!(repeated(ran, "leaves-files"), ["test stable", "test nightly"]);
}

#[test]
fn what_tests_alone_do_not_confirm_and_what_fails_outside_of_them_is_repeated_whole() {
    let Some(Shared { ran, .. }) = shared() else { return };
    let whole = ["build stable", "test stable", "build nightly", "test nightly"];
    assert_eq!(repeated(ran, "crashes"), whole);
    let alone_first = [&["test stable", "test nightly"][..], &whole].concat();
    assert_eq!(repeated(ran, "breaks-among-others"), alone_first);
}

#[test]
fn every_test_of_every_target_is_in_the_json_report() {
    let Some(Shared { world, .. }) = shared() else { return };
    let report = world.report("fixtures");
    let ops = |toolchain: usize| report["crates"][0]["results"][toolchain]["ops"].as_array().unwrap();
    let tests =
        |toolchain: usize| ops(toolchain).iter().find(|op| op["op"] == "test").map(|op| op["tests"].clone()).unwrap();
    let listed = |tests: &Value| -> Vec<String> {
        let targets = tests["targets"].as_array().unwrap().iter();
        let of_target = |target: &Value| -> Vec<String> {
            let tests = target["tests"].as_array().unwrap().iter();
            tests
                .map(|test| format!("{}: {} {}", text(&target["target"]), text(&test["name"]), text(&test["result"])))
                .collect()
        };
        targets.flat_map(of_target).collect()
    };
    let on_stable = [
        "unittests src/lib.rs: fine ok",
        "tests/ui.rs: ui ignored",
        "doc-tests compares_errors: src/lib.rs - documented (line 1) ok",
    ];
    assert_eq!(listed(&tests(0)), on_stable);
    assert_eq!(listed(&tests(1)), on_stable.map(|test| test.replace("ui ignored", "ui failed")));
    assert_eq!([&tests(1)["ok"], &tests(1)["failed"], &tests(1)["cut"]], [&json!(2), &json!(1), &json!(false)]);
    assert!(ops(0).iter().filter(|op| op["op"] != "test").all(|op| op["tests"].is_null()));
}

#[test]
fn a_second_run_repeats_nothing_and_says_the_same() {
    let Some(Shared { world, ran }) = shared() else { return };
    let before = world.verdicts("fixtures");
    let again = world.run(&[]);
    assert_eq!(again.steps(), [""; 0]);
    assert_eq!((again.code, world.verdicts("fixtures")), (ran.code, before));
}
