//! Editing op lists: an op with a result isn't run again, whichever list it was run for.

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::World;

fn world(toolchains: &str) -> World {
    let tested = Fixture::new("tested", "1.0.0").lib("#[test] fn passes() {}");
    let broken = Fixture::new("broken-build", "1.0.0").lib("pub fn f() -> u8 { \"\" }");
    let world = World::new([tested, broken]);
    let file = format!("name = \"fixtures\"\ntoolchains = {toolchains}\ncrates = [\"tested\", \"broken-build\"]");
    world.write("maar.toml", &file);
    world
}

/// The ops that ran, sorted: `OP CRATE TOOLCHAIN`.
fn steps(world: &World, args: &[&str]) -> Vec<String> {
    let ran = world.run(args);
    let mut steps: Vec<String> = ran.steps().iter().map(|step| step.replace("@1.0.0", "")).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn an_op_that_is_added_runs_and_nothing_else_but_prepare() {
    let world = world("[\"stable\"]");
    assert_eq!(
        steps(&world, &["--skip", "test"]),
        ["build broken-build stable", "build tested stable", "prepare broken-build", "prepare tested"]
    );
    let verdicts =
        ["tested@1.0.0 pass", "broken-build@1.0.0 build-fail: build@stable: does not compile: E0308: mismatched types"];
    assert_eq!(world.verdicts("fixtures"), verdicts);
    assert_eq!(steps(&world, &[]), ["prepare tested", "test tested stable"]);
    assert_eq!(world.verdicts("fixtures"), verdicts);
    assert_eq!(steps(&world, &["--ops", "prepare,test,build"]), ["prepare broken-build", "test broken-build stable"]);
}

#[test]
fn an_op_that_is_dropped_leaves_the_others_as_they_are() {
    let world = world("[\"stable\"]");
    assert_eq!(steps(&world, &[]).len(), 5);
    for args in [&["--skip", "test"][..], &["--ops", "prepare,build"], &["--skip", "build"], &["--ops", "prepare"], &[]]
    {
        let again = steps(&world, args);
        // Without `build`, the tests of a crate that doesn't build are asked for the first time.
        let expected: &[&str] =
            if args == ["--skip", "build"] { &["prepare broken-build", "test broken-build stable"] } else { &[] };
        assert_eq!(again, expected, "{args:?}");
    }
    assert_eq!(steps(&world, &["--ops", "prepare,build,doc"]), ["doc tested stable", "prepare tested"]);
}

#[test]
fn toolchains_are_compared_by_the_same_form_of_build() {
    if !two_toolchains() {
        return;
    }
    let world = world("[\"stable\"]");
    steps(&world, &["--skip", "test"]);
    let added = steps(&world, &["-t", "stable", "-t", "nightly"]);
    assert!(!added.iter().any(|step| step.starts_with("build") && step.ends_with("stable")), "{added:?}");
    for toolchain in ["stable", "nightly"] {
        let log = world.log(&["tested", "--op", "build", "-t", toolchain]);
        assert!(log.contains("$ cargo build --frozen --jobs "), "{log}");
    }
    assert_eq!(steps(&world, &["-t", "stable", "-t", "nightly"]), [""; 0]);
}
