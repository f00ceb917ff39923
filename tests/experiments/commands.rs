//! The output of the other commands for experiments that ran, and the errors of a run that can't begin.

use std::fs;

use crate::support::fixture::Fixture;
use crate::verdicts::{Shared, shared};
use crate::world::World;

/// Exit code, and what went to stderr.
fn refusal(world: &World, args: &[&str]) -> (Option<i32>, String) {
    let ran = world.maar(args);
    assert_eq!(ran.stdout, "", "{args:?}");
    (ran.code, ran.stderr)
}

#[test]
fn a_report_has_four_formats_and_goes_where_it_is_sent() {
    let Some(Shared { world, .. }) = shared() else { return };
    let regressed = "does not compile: E0308";
    for format in ["text", "markdown", "json"] {
        let printed = world.maar(&["report", "fixtures", "--format", format]);
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{format}");
        assert!(printed.stdout.contains(regressed), "{format}");
        let path = world.path(&format!("out.{format}"));
        let written = world.maar(&["report", "fixtures", "--format", format, "-o", path.to_str().unwrap()]);
        assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""), "{format}");
        assert_eq!(fs::read_to_string(path).unwrap(), printed.stdout, "{format}");
    }
    let folder = world.path("pages");
    let html = world.maar(&["report", "fixtures", "--format", "html", "-o", folder.to_str().unwrap()]);
    assert_eq!((html.code, html.stdout.trim_end()), (Some(0), folder.join("index.html").to_str().unwrap()));
    assert!(fs::read_to_string(folder.join("index.html")).unwrap().contains(regressed));
    assert!(world.home().join("reports/fixtures/index.html").is_file(), "the run writes one too");
}

#[test]
fn logs_are_those_of_the_op_and_toolchain_asked_for() {
    let Some(Shared { world, .. }) = shared() else { return };
    let headings = |args: &[&str]| {
        let log = world.log(args);
        log.lines().filter(|line| line.starts_with("== ")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        headings(&["fails-on-nightly"]),
        [
            "== prepare: passed",
            "== build@stable: passed",
            "== test@stable: passed",
            "== test@stable, attempt 2: passed",
            "== build@nightly: passed",
            "== test@nightly: failed: tests failed: is_stable",
            "== test@nightly, attempt 2: failed: tests failed: is_stable",
        ]
    );
    assert_eq!(
        headings(&["breaks-on-nightly@1.0.0", "--op", "build", "-t", "stable"]),
        ["== build@stable: passed", "== build@stable, attempt 2: passed"]
    );
    for (args, words) in [
        (["passses", "-t", "stable"], "`passses` is not in experiment `fixtures`; did you mean `passes`?"),
        (["passes@1.0.0", "-t", "beta"], "experiment `fixtures` has no toolchain `beta`, only stable, nightly"),
        (
            ["unwanted", "-t", "stable"],
            "no such op of unwanted@1.0.0 has run yet; `maar report fixtures` shows what has",
        ),
    ] {
        let args = [&["logs", "fixtures"], &args[..]].concat();
        assert_eq!(refusal(world, &args), (Some(2), format!("error: {words}\n")));
    }
}

#[test]
fn status_lists_experiments_and_knows_the_nearest_name() {
    let Some(Shared { world, cases, .. }) = shared() else { return };
    let status = world.maar(&["status"]);
    let [heading, line] = status.stdout.lines().collect::<Vec<_>>()[..] else { panic!("{}", status.stdout) };
    let columns: Vec<&str> = heading.split_whitespace().collect();
    assert_eq!(columns, ["EXPERIMENT", "DONE", "VERDICTS"]);
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[..2], ["fixtures", &format!("{0}/{0}", cases.len())]);
    let passes = cases.iter().filter(|case| case.kind() == "pass").count();
    assert!(line.contains(&format!(" {passes} pass (")), "{line}");
    assert_eq!(world.maar(&["status", "fixtures"]).stdout, status.stdout);
    let words = "error: no experiment is named `fixture`; did you mean `fixtures`?\n";
    for args in [&["status", "fixture"][..], &["report", "fixture"], &["logs", "fixture", "a"], &["clean", "fixture"]] {
        assert_eq!(refusal(world, args), (Some(2), words.to_owned()), "{args:?}");
    }
}

#[test]
fn clean_empties_the_caches_and_with_a_name_removes_an_experiment() {
    let world = World::new([Fixture::new("a", "1.0.0")]);
    for name in ["kept", "removed"] {
        assert_eq!(world.run(&["--name", name, "-c", "a", "--ops", "prepare"]).code, Some(0));
    }
    let cached = || fs::read_dir(world.home().join("cache")).unwrap().count();
    assert_ne!(cached(), 0);

    let clean = world.maar(&["clean"]);

    assert_eq!(clean.code, Some(0), "{}", clean.stderr);
    assert!(clean.stdout.starts_with("freed ") && clean.stdout.contains("; results are kept"), "{}", clean.stdout);
    assert_eq!(cached(), 0);
    let removed = world.maar(&["clean", "removed"]);
    assert_eq!((removed.code, removed.stdout.as_str()), (Some(0), "removed removed\n"));
    assert!(!world.home().join("reports/removed").exists());
    assert_eq!(world.verdicts("kept"), ["a@1.0.0 pass"]);
    assert_eq!(world.maar(&["report", "removed"]).code, Some(2));
}

#[test]
fn a_mistake_in_the_file_is_said_in_its_place_before_anything_is_fetched() {
    let world = World::new([]);
    let list = world.path("nowhere.txt");
    for (text, words) in [
        ("toolchain = [\"stable\"]", ["unknown key `toolchain`", "1:1", "^^^^^^^^^ did you mean `toolchains`?"]),
        (
            "toolchains = [\"stabel\"]",
            ["toolchain `stabel` is not installed (did you mean `stable`?)", "1:15", "^^^^^^^^\n"],
        ),
        (
            "crates = [\"list:nowhere.txt\"]",
            [&format!("failed to read {}: No such file", list.display()), "1:11", "^^^^^^^^^^^^^^^^^^\n"],
        ),
        ("crates = [\"a b\"]", ["`a b` is not a crate name", "1:11", "^^^^^\n"]),
        (
            "ops = [\"build\"]",
            [
                "the first op must be `prepare`, not `build`",
                "1:8",
                "^^^^^^^ every other op works on what `prepare` leaves",
            ],
        ),
        ("limits.memory = \"4Gig\"", ["`4Gig` is not a size", "1:17", "^^^^^^ did you mean `GiB`?"]),
        ("limits.timeout = \"1 year\"", ["`1 year` is out of range", "1:18", "^^^^^^^^ it must be from 1s to 7days"]),
    ] {
        world.write("maar.toml", text);
        let (code, stderr) = refusal(&world, &["run"]);
        assert_eq!(code, Some(2), "{text}");
        let [what, place, help] = words;
        assert!(stderr.starts_with(&format!("error: {what}")), "{stderr}");
        assert!(stderr.contains(&format!("\n --> maar.toml:{place}\n  |\n1 | {text}\n")), "{stderr}");
        assert!(stderr.contains(help), "{stderr}");
    }
    assert_eq!(world.registry.all_requests(), 0);
    assert!(!world.home().exists());
}

#[test]
fn doctor_says_what_a_run_would_meet() {
    let mut world = World::new([]);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let well = lines(&world.maar(&["doctor"]).stdout);
    let url = world.registry.url();
    assert!(well.contains(&format!("ok    registry     {url} answers")), "{well:#?}");
    let names: Vec<_> = well.iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    for name in ["kernel", "namespaces", "overlay", "cgroups", "disk", "toolchains", "registry"] {
        assert!(names.contains(&name), "{well:#?}");
    }
    world.registry.go_away();
    let ill = world.maar(&["doctor"]);
    assert_eq!(ill.code, Some(3));
    assert!(lines(&ill.stdout).iter().any(|line| line.starts_with("FAIL  registry ")), "{}", ill.stdout);
}

#[test]
fn an_unknown_toolchain_is_answered_with_the_nearest_and_with_how_to_install_it() {
    let world = World::new([]);
    let (code, words) = refusal(&world, &["run", "-c", "a", "-t", "stabel"]);
    assert_eq!(code, Some(2));
    let expected = "toolchain `stabel` is not installed (did you mean `stable`?); `rustup toolchain install stabel`";
    assert!(words.contains(expected), "{words}");
}

#[test]
fn completions_are_a_script_that_bash_can_read() {
    let world = World::new([]);
    let completions = world.maar(&["completions", "bash"]);
    world.write("completions.bash", &completions.stdout);
    let path = world.path("completions.bash");
    let bash = std::process::Command::new("bash").arg("-n").arg(&path).status().unwrap();
    assert!(bash.success());
    assert!(completions.stdout.contains("--idle-timeout"));
}
