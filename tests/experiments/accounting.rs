//! A run's account of itself: its figures, its trace, and its time on other machines.

use serde_json::Value;

use crate::support::fixture::Fixture;
use crate::world::{World, text};

#[test]
fn a_run_accounts_for_itself_and_can_be_replayed() {
    let crates = ["one", "two"].map(|name| Fixture::new(name, "1.0.0").file("src/lib.rs", ""));
    let world = World::new(crates);
    world.write("maar.toml", "name = \"mine\"\ncrates = [\"one\", \"two\"]\nops = [\"prepare\", \"check\"]\n");

    let ran = world.maar(&["run", "--progress", "none", "--trace", "trace.json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for label in ["took    ", "units   ", "busy    fetch ", "waited  fetch ", "report  "] {
        assert!(ran.stdout.lines().any(|line| line.starts_with(label)), "no line `{label}` in {}", ran.stdout);
    }

    let trace: Value = serde_json::from_slice(&std::fs::read(world.path("trace.json")).unwrap()).unwrap();
    let ops = trace.as_array().unwrap().iter().filter(|event| event["ph"] == "X");
    let mut names: Vec<&str> = ops.map(|event| text(&event["args"]["op"])).collect();
    names.sort_unstable();
    assert_eq!(names, ["check", "check", "prepare", "prepare"]);

    let runs = &world.report("mine")["runs"];
    assert_eq!(runs.as_array().unwrap().len(), 1);
    let ops: Vec<_> = runs[0]["pools"].as_array().unwrap().iter().map(|pool| &pool["ops"]).collect();
    assert_eq!(ops, [2, 2, 0]);

    let ran = world.maar(&["simulate", "mine", "--crates", "50", "--cores", "4", "--workers", "build=1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("\nrun time    "), "{}", ran.stdout);
    assert!(ran.stdout.contains("\nbest split  --workers fetch="), "{}", ran.stdout);
}
