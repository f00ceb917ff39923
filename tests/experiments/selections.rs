//! Queries from end to end: answered from a dump, pinned, excluded from, run again, resolved as of a day.

use std::fs;

use crate::support::dump::dump;
use crate::support::fixture::Fixture;
use crate::world::World;

fn krate(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0")
}

/// A world whose `dump` has three crates: `b` is the most popular, `c` depends on `a`.
fn popular() -> World {
    let fixtures = [(krate("a"), 20), (krate("b"), 30), (krate("c").dep("a", "1"), 10)];
    let world = World::new(fixtures.iter().map(|(fixture, _)| fixture.clone()));
    fs::write(world.path("dump"), dump(&fixtures)).unwrap();
    world
}

#[test]
fn a_query_is_answered_once_and_a_run_that_goes_on_needs_no_dump() {
    let world = popular();
    world.write("maar.toml", "name = \"top\"\ncrates = [\"top:2\"]\nskip = [\"test\"]");
    let first = world.run(&["--dump", "dump"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stderr.contains("reading the registry's database dump: "), "{}", first.stderr);
    assert_eq!(world.verdicts("top"), ["b@1.0.0 pass", "a@1.0.0 pass"]);
    let notes = world.report("top")["notes"].to_string();
    assert!(notes.contains("`top:2` is from the database dump of 2026-06-01, "), "{notes}");
    fs::remove_file(world.path("dump")).unwrap();
    fs::remove_dir_all(world.home().join("cache/dumps")).unwrap();
    world.registry.publish(&Fixture::new("b", "2.0.0"));

    let again = world.run(&[]);

    assert_eq!((again.code, again.steps()), (Some(0), Vec::new()), "{}", again.stderr);
    assert_eq!(world.verdicts("top"), ["b@1.0.0 pass", "a@1.0.0 pass"]);
}

#[test]
fn without_a_dump_the_error_says_how_to_get_one() {
    let world = popular();
    let ran = world.maar(&["run", "-c", "top:2"]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("db-dump.tar.gz does not exist"), "{}", ran.stderr);
    assert!(ran.stderr.contains("download it and name it with --dump FILE"), "{}", ran.stderr);
}

#[test]
fn the_registrys_own_dump_is_fetched_once() {
    let world = popular();
    world.registry.serve("/db-dump.tar.gz", fs::read(world.path("dump")).unwrap());
    for _ in 0..2 {
        let ran = world.maar(&["run", "-c", "all", "-c", "!a", "--dry-run"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.contains("\nb@1.0.0\nc@1.0.0\n# 2 crates, 2 with work left: 6 ops\n"), "{}", ran.stdout);
    }
    assert_eq!(world.registry.file_requests("/db-dump.tar.gz"), 1);
}

#[test]
fn a_dry_run_prints_a_list_that_selects_the_same_and_runs_nothing() {
    let world = popular();
    let dry = world.maar(&["run", "-c", "rdeps:a", "-c", "b", "-c", "gone", "--dump", "dump", "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{}", dry.stderr);
    let expected = "c@1.0.0\nb@1.0.0\n# gone: no crate named `gone` in the registry\n# 3 crates, 2 with work left: 6 ops\n\
                    # 2 min 00 s of work (6 of 6 ops by guess, for want of recorded times)\n# about ";
    let (note, list) = dry.stdout.split_once('\n').unwrap();
    assert!(note.starts_with("# `rdeps:a` is from the database dump of 2026-06-01, "), "{note}");
    assert!(list.starts_with(expected), "{list}");
    assert_eq!(world.registry.downloads("b", "1.0.0"), 0);
    assert_eq!(world.maar(&["status"]).stdout.lines().count(), 1);
    world.write("list.txt", &dry.stdout);
    let again = world.maar(&["run", "-c", "list:list.txt", "--dry-run"]);
    assert!(again.stdout.starts_with("c@1.0.0\nb@1.0.0\n# 2 crates, "), "{}", again.stdout);
}

#[test]
fn a_random_choice_prints_its_seed_and_keeps_it() {
    let world = popular();
    world.write("maar.toml", "name = \"random\"\ncrates = [\"random:1\"]\nops = []");
    assert_eq!(world.run(&["--dump", "dump"]).code, Some(0));
    let chosen = world.verdicts("random");
    let notes = world.report("random")["notes"].to_string();
    let seeded = notes.split('`').find(|text| text.starts_with("random:1@")).unwrap();
    let dry = world.maar(&["run", "-c", seeded, "--dump", "dump", "--dry-run"]);
    assert!(dry.stdout.contains(chosen[0].split(' ').next().unwrap()), "{chosen:?}: {}", dry.stdout);
    for _ in 0..3 {
        assert_eq!(world.run(&[]).code, Some(0));
        assert_eq!(world.verdicts("random"), chosen);
    }
}

#[test]
fn a_list_on_another_host_is_read_and_names_no_file_of_this_one() {
    let world = popular();
    world.registry.serve("/good", "# mine\nb\na@1 # why\n!b\n");
    world.registry.serve("/bad", "a\npath:/etc\n");
    let select =
        |path: &str| world.maar(&["run", "--dry-run", "-c", &format!("list:{}", world.registry.file_url(path))]);
    let good = select("/good");
    assert!(good.stdout.starts_with("a@1.0.0\n# 1 crate, "), "{}{}", good.stdout, good.stderr);
    let bad = select("/bad");
    assert!(bad.stderr.contains("/bad, line 2: `/etc` leads to another host or back"), "{}", bad.stderr);
    let gone = select("/gone");
    assert!(gone.stderr.contains("/gone does not exist"), "{}", gone.stderr);
}

#[test]
fn every_version_of_a_crate_is_selected_newest_first_but_for_yanked_ones_and_pre_releases() {
    let version = |version: &str| Fixture::new("v", version);
    let world = World::new([version("1.0.0"), version("2.0.0-rc.1"), version("1.10.0"), version("1.9.0").yanked()]);
    let dry = world.maar(&["run", "--dry-run", "-c", "v@*"]);
    assert!(dry.stdout.starts_with("v@1.10.0\nv@1.0.0\n# 2 crates, "), "{}", dry.stdout);
}

#[test]
fn sources_that_earlier_runs_downloaded_are_searched() {
    let world = World::new([
        krate("with").lib("// needle 42"),
        krate("without").lib("// hay"),
        krate("unseen").lib("// needle 7"),
    ]);
    world.write("maar.toml", "name = \"fetched\"\ncrates = [\"with\", \"without\"]\nops = [\"prepare\"]");
    assert_eq!(world.run(&[]).code, Some(0));
    let dry = world.maar(&["run", "--dry-run", "-c", r"where:needle \d+"]);
    let (note, list) = dry.stdout.split_once('\n').unwrap();
    assert!(note.contains("looked only into the sources that earlier runs downloaded"), "{note}");
    assert!(list.starts_with("with@1.0.0\n# 1 crate, "), "{list}");
    let none = world.maar(&["run", "--dry-run", "-c", "where:haystack"]);
    assert_eq!((none.code, none.stderr.lines().last()), (Some(2), Some("error: `where:haystack` selects no crate")));
}

#[test]
fn as_of_a_day_crates_and_their_dependencies_are_those_of_that_day() {
    let at = |fixture: Fixture, day: &str| fixture.published(&format!("{day}T12:00:00Z"));
    let world = World::new([
        at(krate("top").dep("below", "1").lib("pub use below::OLD;"), "2020-01-01"),
        at(Fixture::new("top", "2.0.0").lib("compile_error!(\"too new\");"), "2024-01-01"),
        at(krate("below").lib("pub const OLD: () = ();"), "2020-01-01"),
        at(Fixture::new("below", "1.1.0"), "2024-01-01"),
        krate("undated"),
    ]);
    world.write(
        "maar.toml",
        "name = \"past\"\ncrates = [\"top\", \"undated\"]\nskip = [\"test\"]\nas-of = \"2021-01-01\"",
    );
    world.run(&[]);
    let [top, undated] = &world.verdicts("past")[..] else { panic!("two crates") };
    assert_eq!(top, "top@1.0.0 pass");
    assert!(
        undated.starts_with("undated inconclusive: ") && undated.contains("doesn't tell when `undated-1.0.0`"),
        "{undated}"
    );
    let moved = world.run(&["--as-of", "2022-01-01"]);
    assert_eq!(moved.code, Some(2));
    assert!(
        moved.stderr.contains("chose its versions as of another moment: give this one another --name"),
        "{}",
        moved.stderr
    );
    let future = world.maar(&["run", "--as-of", "9999-01-01"]);
    assert!(future.stderr.contains("expected a day of the past such as `2026-06-01`"), "{}", future.stderr);
}

#[test]
fn a_retried_crate_keeps_its_version_and_its_lockfile() {
    let world = World::new([
        krate("slow").dep("below", "1").lib("pub use below::OLD;"),
        krate("below").lib("pub const OLD: () = ();"),
        krate("fine"),
    ]);
    let stuck = "[op.wait]\nstage = \"build\"\nrun = [\"sleep\", \"60\"]\n[op.wait.limits]\nidle-timeout = \"1s\"\n\
                 [crate.slow]\nops = [\"prepare\", \"wait\"]\n";
    world.write("first.toml", &format!("name = \"first\"\ncrates = [\"slow\", \"fine\"]\nskip = [\"test\"]\n{stuck}"));
    world.run(&["first.toml"]);
    let [slow, fine] = &world.verdicts("first")[..] else { panic!("two crates") };
    assert!(slow.starts_with("slow@1.0.0 inconclusive") && fine == "fine@1.0.0 pass", "{slow}, {fine}");
    // A newer version of everything would break the build.
    world.registry.publish(&Fixture::new("below", "1.1.0"));
    world.registry.publish(&Fixture::new("slow", "1.1.0").lib("compile_error!(\"too new\");"));
    let list = world.maar(&["report", "first", "--format", "retry"]);
    assert!(list.stdout.starts_with("# 1 crate to run again\nslow@1.0.0 # inconclusive: wait@"), "{}", list.stdout);
    let kept = world.maar(&["report", "first", "--format", "retry", "-o", "again.txt"]);
    assert_eq!(kept.code, Some(0), "{}", kept.stderr);

    world.write("maar.toml", "skip = [\"test\"]\ncrates = [\"fine\"]");
    for (name, selection) in [("stored", "retry:first"), ("listed", "list:again.txt")] {
        world.run(&["-c", selection, "--name", name]);
        assert_eq!(world.verdicts(name), ["slow@1.0.0 pass"], "{selection}");
    }
    world.run(&["-c", "slow@1.0.0", "--name", "anew"]);
    assert!(world.verdicts("anew")[0].contains("does not compile"), "the lockfile made no difference");
    let unknown = world.run(&["-c", "retry:frist"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("no experiment is named `frist`; did you mean `first`?"), "{}", unknown.stderr);
}

#[test]
fn a_skip_list_is_in_the_report_with_its_reasons_and_its_crates_keep_their_versions() {
    let world =
        World::new([krate("gpu"), krate("aws-a").lib("compile_error!(\"no\");"), krate("aws-b"), krate("fine")]);
    let crates = "name = \"marked\"\ncrates = [\"gpu\", \"aws-a\", \"aws-b\", \"fine\"]\nskip = [\"test\"]\n";
    let marks = "[crate.gpu]\nskip = \"needs a GPU\"\n[crate.\"aws-*\"]\nbroken = true\n\
                 [crate.fine]\nskip = { reason = \"old\", until = 2001-01-01 }\n";
    world.write("maar.toml", &format!("{crates}{marks}"));
    let ran = world.run(&[]);
    assert_eq!(ran.code, Some(0), "an expected failure is no news: {}", ran.stderr);
    let verdicts = world.verdicts("marked");
    assert_eq!(verdicts[0], "gpu@1.0.0 skipped: needs a GPU");
    assert!(verdicts[1].starts_with("aws-a@1.0.0 build-fail: "), "{}", verdicts[1]);
    assert_eq!(verdicts[2..], ["aws-b@1.0.0 pass: healed: it is marked `broken` and passes", "fine@1.0.0 pass"]);
    let report = world.report("marked");
    assert_eq!(report["crates"][1]["expected"], true);
    assert!(report["notes"].to_string().contains("the skip of `fine` ended on 2001-01-01: old"), "{}", report["notes"]);
    world.registry.publish(&Fixture::new("gpu", "2.0.0"));
    world.write("maar.toml", crates);
    assert_eq!(world.run(&[]).code, Some(1));
    assert_eq!(world.verdicts("marked")[0], "gpu@1.0.0 pass");
}

#[test]
fn a_configuration_is_checked_with_the_names_in_it() {
    let world = popular();
    let good =
        "crates = [\"a\", \"rdeps:b\", \"!c\", \"path:mine\"]\n[crate.a]\nquiet = true\n[crate.mine]\nskip = \"x\"";
    world.write("mine/Cargo.toml", "[package]\nname = \"mine\"\nversion = \"0.1.0\"");
    world.write("maar.toml", good);
    let fine = world.maar(&["check-config"]);
    assert_eq!((fine.code, fine.stdout.as_str()), (Some(0), "maar.toml: fine, 4 selections\n"), "{}", fine.stderr);
    world.write(
        "bad.toml",
        "crates = [\"a\", \"gone\", \"!nix\"]\n[crate.serde]\nskip = \"x\"\n[crate.A]\nquiet = true",
    );
    let bad = world.maar(&["check-config", "bad.toml"]);
    assert_eq!(bad.code, Some(2));
    let expected = "error: `gone`: no crate named `gone` in the registry\n       `!nix`: no crate named `nix` in the registry\n       \
                    `[crate.serde]`: no crate named `serde` in the registry\n";
    assert_eq!(bad.stderr, expected);
    world.write("typo.toml", "crates = [\"a\"]\n[crate.a]\nquite = true");
    let typo = world.maar(&["check-config", "typo.toml"]);
    assert!(typo.stderr.contains("did you mean `quiet`?"), "{}", typo.stderr);
    world.write("config.toml", "[crates]\na = { skip = true } # no network\n");
    let imported = world.maar(&["import", "crater-config", "config.toml"]);
    assert_eq!(imported.stdout, "# From crater's configuration.\n\n[crate.a]\nskip = \"no network\"\n");
}

#[test]
fn a_fifo_in_place_of_a_list_a_lockfile_or_a_dump_is_refused_at_once() {
    let world = popular();
    nix::unistd::mkfifo(&world.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for args in [&["-c", "list:fifo"][..], &["-c", "lock:fifo"], &["-c", "top:2", "--dump", "fifo"]] {
        let ran = world.maar(&[&["run", "--dry-run"], args].concat());
        assert_ne!(ran.code, Some(0), "{args:?}");
        assert!(ran.stderr.contains("it is not a regular file; copy its contents to one"), "{}", ran.stderr);
    }
}

#[test]
fn update_answers_a_query_again_and_the_new_answer_stays() {
    let world = popular();
    world.write("maar.toml", "name = \"top\"\ncrates = [\"top:2\"]\nskip = [\"test\"]");
    assert_eq!(world.run(&["--dump", "dump"]).code, Some(0));
    let fixtures = [(krate("a"), 20), (krate("b"), 1), (krate("c").dep("a", "1"), 30)];
    fs::write(world.path("dump"), dump(&fixtures)).unwrap();

    for args in [&["--update", "--dump", "dump"][..], &[]] {
        let ran = world.run(args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_eq!(world.verdicts("top"), ["c@1.0.0 pass", "a@1.0.0 pass"], "{args:?}");
    }
}

#[test]
fn offline_the_kept_dump_answers_and_without_one_nothing_is_fetched() {
    let world = popular();
    world.registry.serve("/db-dump.tar.gz", fs::read(world.path("dump")).unwrap());
    let ran = world.maar(&["run", "-c", "b", "--skip", "test"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let refused = world.maar(&["run", "-c", "top:1", "--dry-run", "--offline"]);
    assert_eq!(refused.code, Some(3), "{}", refused.stdout);
    assert!(refused.stderr.contains("--offline fetches nothing"), "{}", refused.stderr);
    assert_eq!(world.registry.file_requests("/db-dump.tar.gz"), 0);
    assert_eq!(world.maar(&["run", "-c", "top:1", "--dry-run"]).code, Some(0));
    let requests = world.registry.all_requests();

    let ran = world.maar(&["run", "-c", "top:1", "--skip", "test", "--offline"]);

    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(world.registry.all_requests(), requests);
}

#[test]
fn a_pattern_that_matches_is_not_remarked_on_and_one_that_does_not_is() {
    let world = popular();
    world.write("maar.toml", "crates = [\"a\"]\n[crate.\"a*\"]\nskip = [\"test\"]\n[crate.\"x-*\"]\nskip = [\"test\"]");
    let ran = world.maar(&["run", "--dry-run"]);
    assert!(
        ran.stdout.contains("# `[crate.\"x-*\"]` has no effect, as it matches no selected crate"),
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("a*"), "{}", ran.stdout);
}
