//! The answers of a run about its own request: exit codes, names, the age of results, and likely mistakes of the user.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::{Ran, World, text};

fn krate(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0")
}

/// A world with crates for every end.
fn world() -> World {
    World::new([
        krate("passes").lib("#[test] fn passes() {}"),
        krate("fails").lib("#[test] fn fails() { panic!() }"),
        krate("hangs").lib("#[test] fn hangs() { loop { std::thread::sleep(std::time::Duration::from_secs(1)) } }"),
    ])
}

fn run(world: &World, args: &[&str]) -> Ran {
    world.maar(&[&["run", "--timeout", "4s", "--progress", "plain", "-t", "stable"], args].concat())
}

#[test]
fn exit_codes_tell_success_from_crates_that_could_not_be_tested() {
    let world = world();
    for (crates, args, code) in [
        (&["passes"][..], &[][..], 0),
        (&["passes", "fails"], &[], 1),
        (&["fails", "misspelt"], &[], 1),
        (&["passes", "hangs"], &[], 4),
        (&["passes", "misspelt"], &[], 4),
        (&["hangs"], &[], 5),
        (&["misspelt", "hangs"], &[], 5),
        // What counts can be chosen; that nothing was tested is never a success.
        (&["passes", "hangs", "misspelt"], &["--fail-on", "regressed"], 0),
        (&["passes", "fails"], &["--fail-on", "inconclusive"], 0),
        (&["passes", "hangs"], &["--fail-on", "build-fail,inconclusive"], 1),
        (&["passes", "misspelt"], &["--fail-on", "broken"], 1),
        (&["misspelt"], &["--fail-on", "regressed"], 5),
    ] {
        let crates = crates.iter().flat_map(|name| ["-c", name]);
        let args: Vec<&str> = crates.chain(args.iter().copied()).collect();
        let ran = run(&world, &args);
        assert_eq!(ran.code, Some(code), "{args:?}: {}{}", ran.stdout, ran.stderr);
        let said = ran.stdout.lines().any(|line| line.starts_with(&format!("exit    code {code}: ")));
        assert_eq!(said, code >= 4, "{}", ran.stdout);
    }
    let misspelt = run(&world, &["-c", "passes", "--fail-on", "regresed"]);
    assert_eq!(misspelt.code, Some(2));
    assert!(misspelt.stderr.contains("did you mean `regressed`?"), "{}", misspelt.stderr);
}

/// The name that a run ends with.
fn name(ran: &Ran) -> &str {
    let line = ran.stdout.lines().find_map(|line| line.strip_prefix("name    "));
    line.unwrap_or_else(|| panic!("no name: {}{}", ran.stdout, ran.stderr))
}

#[test]
fn runs_without_a_file_have_names_of_their_own_and_go_on_under_them() {
    let world = world();
    let passes = run(&world, &["-c", "passes"]);
    let both = run(&world, &["-c", "passes", "-c", "fails"]);
    assert!(name(&passes).starts_with("passes-") && name(&both).starts_with("fails-and-1-"), "{}", name(&both));
    assert_eq!(world.verdicts(name(&passes)), ["passes@1.0.0 pass"]);
    assert_eq!(world.verdicts(name(&both)).len(), 2);
    let again = run(&world, &["-c", "passes", "--skip", "test"]);
    assert_eq!(name(&again), name(&passes));
    assert!(again.stdout.contains("reused  nothing ran: all 2 results are from earlier runs, "), "{}", again.stdout);
}

#[test]
fn a_run_says_how_much_it_reuses_and_how_old_that_is() {
    let world = world();
    let first = run(&world, &["-c", "passes", "--skip", "test"]);
    assert!(!first.stdout.contains("reused"), "{}", first.stdout);
    let more = run(&world, &["-c", "passes"]);
    let said = "reused  1 of 3 results are from earlier runs, less than a minute old";
    assert!(more.stdout.lines().any(|line| line == said), "{}", more.stdout);
    let json = world.run(&["-t", "stable", "-c", "passes"]);
    let notes: Vec<Value> = json.events().into_iter().filter(|event| event["event"] == "note").collect();
    assert!(text(&notes.last().unwrap()["text"]).starts_with("nothing ran: all 3 results"), "{}", json.stdout);
}

#[test]
fn update_selects_again_and_keeps_the_results_of_what_did_not_change() {
    let world = world();
    let args = ["-c", "passes", "-c", "fails", "--skip", "test"];
    let first = run(&world, &args);
    world.registry.publish(&Fixture::new("passes", "1.1.0"));
    let verdicts = |version| [format!("passes@{version} pass"), "fails@1.0.0 pass".to_owned()];
    assert_eq!(run(&world, &args).code, Some(0));
    assert_eq!(world.verdicts(name(&first)), verdicts("1.0.0"));
    let updated = run(&world, &[&args[..], &["--update"]].concat());
    assert_eq!(world.verdicts(name(&first)), verdicts("1.1.0"));
    assert!(updated.stdout.contains("reused  2 of 4 results"), "{}", updated.stdout);
}

#[test]
fn every_crate_has_a_verdict_in_events_and_lines_also_without_anything_to_run() {
    let world = world();
    let file = "name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [\"passes\", \"misspelt\", \"fails\"]\n\
                [crate.fails]\nops = []\n";
    world.write("maar.toml", file);
    let verdicts = |ran: &Ran| -> BTreeMap<String, (String, bool)> {
        let events = ran.events().into_iter().filter(|event| event["event"] == "verdict");
        events
            .map(|event| (text(&event["crate"]).to_owned(), (text(&event["verdict"]).to_owned(), event["ran"] == true)))
            .collect()
    };
    let expected = |passes: bool| {
        BTreeMap::from([
            ("fails@1.0.0".to_owned(), ("skipped".to_owned(), false)),
            ("misspelt".to_owned(), ("broken".to_owned(), false)),
            ("passes@1.0.0".to_owned(), ("pass".to_owned(), passes)),
        ])
    };
    assert_eq!(verdicts(&world.run(&[])), expected(true));
    let again = world.run(&[]);
    assert_eq!(verdicts(&again), expected(false));
    let end = again.events().pop().unwrap();
    assert_eq!((&end["crates"], &end["done"]), (&3.into(), &3.into()));
    let plain = world.maar(&["run", "--progress", "plain"]);
    let lines: Vec<&str> = plain.stderr.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(lines.len(), 3, "{}", plain.stderr);
    assert!(lines[0].starts_with("[1/3] pass") && lines[1].starts_with("[2/3] broken"), "{lines:?}");
}

#[test]
fn settings_of_a_crate_that_is_not_selected_are_reported() {
    let world = world();
    let file = "name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [\"passes\"]\nops = [\"prepare\"]\n\
                [crate.pases]\nskip = [\"test\"]\n";
    world.write("maar.toml", file);
    let said = "`[crate.pases]` has no effect, as no crate of that name is selected; did you mean `passes`?";
    let ran = world.run(&[]);
    let notes: Vec<Value> = ran.events().into_iter().filter(|event| event["text"] == said).collect();
    assert_eq!((ran.code, notes.len()), (Some(0), 1), "{}", ran.stdout);
    let report = world.maar(&["report", "fixtures"]);
    assert!(report.stdout.contains(said), "{}", report.stdout);
}

#[test]
fn one_compiler_under_two_names_is_reported() {
    if !two_toolchains() {
        return;
    }
    let world = world();
    let stable = maar::toolchain::find(&"stable".parse().unwrap()).unwrap();
    let version = stable.version.to_string();
    let Ok(named) = maar::toolchain::find(&version.parse().unwrap()) else {
        eprintln!("not run: rustup has no toolchain {version} beside stable");
        return;
    };
    assert_eq!(named.identity, stable.identity);
    let ran = world.run(&["--name", "same", "-c", "passes", "-t", "stable", "-t", &version, "--ops", "prepare"]);
    let said = format!("`stable` and `{version}` are the same compiler, {}", stable.identity);
    assert!(
        ran.events().iter().any(|event| event["text"].as_str().is_some_and(|note| note.starts_with(&said))),
        "{}",
        ran.stdout
    );
}
