//! The problems of a file, and their messages.

use super::*;

/// Each problem of the file as `LINE:COLUMN TEXT: MESSAGE; HELP`, where TEXT is the underlined part.
pub(super) fn problems(text: &str) -> Vec<String> {
    let error = load_text(text, &Overrides::default()).expect_err("the file was accepted");
    let shown = error.problems().iter().map(|problem| match &problem.place {
        Place::File(span) => {
            let before = &text[..span.start];
            let line = before.matches('\n').count() + 1;
            let column = before.len() - before.rfind('\n').map_or(0, |end| end + 1) + 1;
            format!("{line}:{column} {}: {}", &text[span.clone()], problem.what)
        }
        Place::Flag(flag) => format!("{flag}: {}", problem.what),
        Place::Nowhere => problem.what.to_string(),
    });
    shown.collect()
}

/// A file that selects a crate and then says this has exactly this problem.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(problems(&format!("crates = [\"a\"]\n{text}")), [expected], "{text}");
}

#[test]
fn a_problem_is_shown_like_one_of_rustcs() {
    let error = load_text("crates = [\"a\"]\n\ntolchains = [\"stable\"]\n", &Overrides::default()).unwrap_err();
    let expected = "
error: unknown key `tolchains`
 --> maar.toml:3:1
  |
3 | tolchains = [\"stable\"]
  | ^^^^^^^^^ did you mean `toolchains`?";
    assert_eq!(format!("\n{error}"), expected);
}

#[test]
fn all_problems_are_shown_in_the_order_of_the_file() {
    let text = "crates = [\"1a\", \"b/c\"]\nskp = []\n[limits]\nmemory = \"4Gig\"\npids = 0\n";
    assert_eq!(
        problems(text),
        [
            "1:11 \"1a\": `1a` is not a crate name: it must begin with a letter",
            "1:17 \"b/c\": `b/c` is not a crate name: only ASCII letters, digits, `-` and `_` are allowed; a folder is selected with `path:b/c`",
            "2:1 skp: unknown key `skp`; did you mean `skip`?",
            "4:10 \"4Gig\": `4Gig` is not a size; did you mean `GiB`?",
            "5:8 0: `0` is out of range; a whole number from 16 to 4194304",
        ]
    );
}

#[test]
fn more_problems_than_one_can_read_are_counted() {
    let error = load_text(&"[".repeat(100_000), &Overrides::default()).unwrap_err();
    assert!(error.to_string().lines().count() < 200);
    let keys: String = (0..50).map(|i| format!("key{i} = 1\n")).collect();
    let error = load_text(&format!("crates = [\"a\"]\n{keys}"), &Overrides::default()).unwrap_err();
    assert_eq!(error.to_string().matches("error:").count(), 20);
    assert!(error.to_string().ends_with("… and 30 more"));
}

#[test]
fn a_budget_that_is_no_size_is_refused() {
    check("cache-budget = 20", "2:16 20: expected a size such as \"20GiB\", found a whole number");
    check("cache-budget = \"20Gig\"", "2:16 \"20Gig\": `20Gig` is not a size; did you mean `GiB`?");
    check("cache-budget = \"2000TiB\"", "2:16 \"2000TiB\": `2000TiB` is out of range; it must be from 0 B to 1.0 PiB");
    check("cache_budget = \"1GiB\"", "2:1 cache_budget: unknown key `cache_budget`; did you mean `cache-budget`?");
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    check("opps = []", "2:1 opps: unknown key `opps`; did you mean `ops`?");
    check("workers = { biuld = 1 }", "2:13 biuld: unknown key `biuld`; did you mean `build`?");
    check(
        "limits = { idle = \"1m\" }",
        "2:12 idle: unknown key `idle`; known are `cpus`, `cpuset`, `memory`, `pids`, `timeout`, `idle-timeout`, `output`, `disk`",
    );
    check("[limits]\ncpu = 1", "3:1 cpu: unknown key `cpu`; did you mean `cpus`?");
    check("[op.test]\nlimit = {}", "3:1 limit: unknown key `limit`; did you mean `limits`?");
    check(
        "[op.test.limits]\nmem = 1",
        "3:1 mem: unknown key `mem`; known are `cpus`, `cpuset`, `memory`, `pids`, `timeout`, `idle-timeout`, `output`, `disk`",
    );
    check("[crate.a]\nfeature = []", "3:1 feature: unknown key `feature`; did you mean `features`?");
    check("[crate.a.limits]\ntimout = \"1m\"", "3:1 timout: unknown key `timout`; did you mean `timeout`?");
}

#[test]
fn unknown_ops_and_stages_are_refused_wherever_they_are_named() {
    check("ops = [\"prepare\", \"tset\"]", "2:19 \"tset\": unknown op `tset`; did you mean `test`?");
    check("skip = [\"clipy\"]", "2:9 \"clipy\": unknown op `clipy`; did you mean `clippy`?");
    check("[crate.a]\nops = [\"prepare\", \"dok\"]", "3:19 \"dok\": unknown op `dok`; did you mean `doc`?");
    check("[crate.a]\nskip = [\"tests\"]", "3:9 \"tests\": unknown op `tests`; did you mean `test`?");
    check(
        "skip = [\"x\"]",
        "2:9 \"x\": unknown op `x`; known are `prepare`, `check`, `build`, `test`, `clippy`, `doc`",
    );
    check("[op.tset.limits]\ncpus = 2", "2:5 tset: there is no op `tset`; did you mean `test`?");
    let run = "run = [\"x\"]";
    check(&format!("[op.x]\nstage = \"bild\"\n{run}"), "3:9 \"bild\": unknown stage `bild`; did you mean `build`?");
    check(
        &format!("[op.x]\nstage = \"fetch\"\n{run}"),
        "3:9 \"fetch\": an op of your own can't run in stage `fetch`; use `build` or `test`",
    );
}

#[test]
fn ops_of_the_users_own_are_whole_and_shadow_nothing() {
    let both = "an op of your own needs both, such as `stage = \"build\"` and `run = [\"cargo\", \"geiger\"]`";
    check("[op.geiger]", &format!("2:5 geiger: there is no op `geiger`; {both}"));
    check("[op.geiger]\nstage = \"build\"", &format!("2:5 geiger: op `geiger` has no `run`; {both}"));
    check("[op.geiger]\nrun = [\"x\"]", &format!("2:5 geiger: op `geiger` has no `stage`; {both}"));
    check(
        "[op.test]\nrun = [\"x\"]",
        "3:1 run: `test` is a built-in op, whose `run` can't be changed; give your op a name of its own",
    );
    let own = "[op.x]\nstage = \"build\"\n";
    check(&format!("{own}run = []"), "4:7 []: `run` names no program; such as `[\"cargo\", \"geiger\"]`");
    check(&format!("{own}run = [\"\"]"), "4:7 [\"\"]: `run` names no program; such as `[\"cargo\", \"geiger\"]`");
    check(&format!("{own}run = [\"a\", \"\\u0000\"]"), "4:13 \"\\u0000\": an argument can't hold a NUL");
    check(&format!("{own}run = \"cargo geiger\""), "4:7 \"cargo geiger\": expected a list of texts, found a text");
    check(
        "[op.\"A b\"]\nstage = \"build\"\nrun = [\"x\"]",
        "2:5 \"A b\": `A b` is not an op name: lowercase ASCII letters, digits, `-` and `_` are allowed, a letter first, 32 at most",
    );
}

#[test]
fn an_op_list_begins_with_prepare_and_repeats_nothing() {
    let every = "every other op works on what `prepare` leaves";
    check(
        "ops = [\"build\", \"test\"]",
        &format!("2:8 \"build\": the first op must be `prepare`, not `build`; {every}"),
    );
    check(
        "ops = [\"build\", \"prepare\"]",
        &format!("2:8 \"build\": the first op must be `prepare`, not `build`; {every}"),
    );
    check("[crate.a]\nops = [\"test\"]", &format!("3:8 \"test\": the first op must be `prepare`, not `test`; {every}"));
    check("ops = [\"prepare\", \"test\", \"test\"]", "2:27 \"test\": `test` is there twice");
    check(
        "skip = [\"prepare\"]",
        "2:9 \"prepare\": `prepare` can't be skipped; every other op needs it; an empty `ops` skips all of them",
    );
    check("ops = [\"perpare\", \"test\"]", "2:8 \"perpare\": unknown op `perpare`; did you mean `prepare`?");
}

#[test]
fn tables_and_texts_say_the_same_of_a_toolchain() {
    let specs = |toolchain: &str| {
        let text = format!("crates = [\"itoa\"]\ntoolchains = [{toolchain}, {toolchain}]");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("maar.toml"), text).unwrap();
        let any = |spec: Option<&ToolchainSpec>, _| {
            let (spec, version) = (spec.unwrap().clone(), Version::new(1, 95, 0));
            Ok(Toolchain::new(spec, version, "rustc".to_owned(), "/x".into()))
        };
        let host = Host { cores: 2, folder: folder.path(), toolchain: &any };
        let loaded = load(Some(Path::new("maar.toml")), &Overrides::default(), &host).unwrap();
        let labels: Vec<String> = loaded.toolchains.iter().map(|toolchain| toolchain.label().to_owned()).collect();
        (loaded.experiment.toolchains[0].to_string(), labels)
    };
    let text = "stable+rustflags=-D warnings+profile=release+env=A=b+env=C=d e+component=clippy+component=rust-src";
    let expected = (text.to_owned(), vec![format!("{text} (1)"), format!("{text} (2)")]);
    assert_eq!(specs(&format!("{text:?}")), expected);
    let tables = "{ toolchain = \"stable\", rustflags = [\"-D\", \"warnings\"], profile = \"release\", \
                  env = { C = \"d e\", A = \"b\" }, component = [\"rust-src\", \"clippy\"] }";
    assert_eq!(specs(tables), expected);
}

#[test]
fn toolchains_are_well_formed_and_installed() {
    check(
        "toolchains = [\"../x\"]",
        "2:15 \"../x\": `../x` is not a toolchain name: only ASCII letters, digits, `.`, `-` and `_` are allowed; \
         a folder is written `path:../x` (column 1 of `../x`)",
    );
    check(
        "toolchains = [\"stable\", \"nightyl\"]",
        "2:25 \"nightyl\": toolchain `nightyl` is not installed (did you mean `nightly`?); \
         `rustup toolchain install nightyl` installs it",
    );
    check(
        "toolchains = [\"stable+rustflag=x\"]",
        "2:15 \"stable+rustflag=x\": unknown key `rustflag`; did you mean `rustflags`? (column 8 of `stable+rustflag=x`)",
    );
    check(
        "toolchains = [{ toolchain = \"stable\", rustflag = \"x\" }]",
        "2:39 rustflag: unknown key `rustflag`; did you mean `rustflags`?",
    );
    check(
        "toolchains = [{ toolchain = \"stable\", env = { PATH = \"/x\" } }]",
        "2:54 \"/x\": `PATH` is set by maar itself; take it out",
    );
}

#[test]
fn units_are_known_and_limits_within_their_ranges() {
    let limit = |text: &str, expected: &str| check(&format!("[limits]\n{text}"), expected);
    limit("timeout = \"15 m1n\"", "3:11 \"15 m1n\": `15 m1n` is not a time; did you mean `min`?");
    limit("timeout = \"15\"", "3:11 \"15\": `15` is not a time; expected a number and its unit, such as `15m`");
    limit("timeout = \"0s\"", "3:11 \"0s\": `0s` is out of range; it must be from 1s to 7days");
    limit("idle-timeout = \"8days\"", "3:16 \"8days\": `8days` is out of range; it must be from 1s to 7days");
    limit("timeout = 15", "3:11 15: expected a time such as \"15m\", found a whole number");
    limit("memory = \"4Gig\"", "3:10 \"4Gig\": `4Gig` is not a size; did you mean `GiB`?");
    limit("memory = \"lots\"", "3:10 \"lots\": `lots` is not a size; expected a number and its unit, such as `4GiB`");
    limit("memory = \"1MiB\"", "3:10 \"1MiB\": `1MiB` is out of range; it must be from 16.0 MiB to 1.0 PiB");
    limit(
        "memory = \"99999999999999999EiB\"",
        "3:10 \"99999999999999999EiB\": `99999999999999999EiB` is out of range; it must be from 16.0 MiB to 1.0 PiB",
    );
    limit("output = \"2GiB\"", "3:10 \"2GiB\": `2GiB` is out of range; it must be from 1.0 KiB to 1.0 GiB");
    limit("cpus = 0", "3:8 0: `0` is out of range; it must be from 0.01 to 4096");
    limit("cpus = nan", "3:8 nan: `nan` is out of range; it must be from 0.01 to 4096");
    limit("cpus = -1.5", "3:8 -1.5: `-1.5` is out of range; it must be from 0.01 to 4096");
    limit("cpus = inf", "3:8 inf: `inf` is out of range; it must be from 0.01 to 4096");
    limit("cpus = \"2\"", "3:8 \"2\": expected a number of CPUs such as 1.5, found a text");
    limit("pids = 15", "3:8 15: `15` is out of range; a whole number from 16 to 4194304");
    limit("pids = -1", "3:8 -1: `-1` is out of range; a whole number from 16 to 4194304");
    limit("pids = 1e9", "3:8 1e9: expected a whole number from 16 to 4194304, found a number");
}

#[test]
fn counts_are_within_their_ranges() {
    check("in-flight = 0", "2:13 0: `0` is out of range; a whole number from 1 to 10000");
    check("overcommit = 0", "2:14 0: `0` is out of range; it must be from 0.1 to 100");
    check("overcommit = \"1\"", "2:14 \"1\": expected a number such as 1.5, found a text");
    check("workers = { test = 0 }", "2:20 0: `0` is out of range; a whole number from 1 to 1024");
    check("workers = 3", "2:11 3: expected a table, found a whole number");
    check(
        "in-flight = 0xffffffffffffffffffff",
        "2:13 0xffffffffffffffffffff: `0xffffffffffffffffffff` is out of range; a whole number from 1 to 10000",
    );
}

#[test]
fn closed_sets_name_their_members() {
    check("lockfile = \"lastest\"", "2:12 \"lastest\": unknown value `lastest`; did you mean `latest`?");
    check("sandbox = \"podman\"", "2:11 \"podman\": unknown value `podman`; known are `native`, `docker`, `none`");
    check("sandbox = false", "2:11 false: expected one of `native`, `docker`, `none`, found a boolean");
    check(
        "allow-hosts = [\"https://a/\"]",
        "2:16 \"https://a/\": `https://a/` is not a host: a name or an address is needed, such as \
         `git.corp.example`, `10.1.2.3:8443` or `[fd00::1]`",
    );
    check(
        "image = \"../maar\"",
        "2:9 \"../maar\": `../maar` is not the name of an image: lowercase letters, digits and `.`, `-`, `_` between \
         them are allowed, with `/` between parts, and a tag after `:` or a digest after `@`",
    );
}

#[test]
fn settings_of_crates_are_checked() {
    check("[crate.\"1a\"]", "2:8 \"1a\": `1a` is not a crate name: it must begin with a letter");
    check("crate = [1]", "2:9 [1]: expected a table, found a list");
    let allowed = "letters, digits, `_`, `-`, `+`, `.` and `/` are allowed, and `*` alone for all features";
    check("[crate.a]\nfeatures = [\"a,b\"]", &format!("3:13 \"a,b\": `a,b` is not a feature name; {allowed}"));
    check("[crate.a]\nfeatures = [\"--all\"]", &format!("3:13 \"--all\": `--all` is not a feature name; {allowed}"));
    check("[crate.a]\nfeatures = \"x\"", "3:12 \"x\": expected a list of names, found a text");
    check("[crate.a]\nenv = { CARGO_HOME = \"/\" }", "3:9 CARGO_HOME: `CARGO_HOME` is set by maar itself; take it out");
    check(
        "[crate.a]\nenv = { \"A=B\" = \"/\" }",
        "3:9 \"A=B\": `A=B` is not the name of a variable; ASCII letters, digits and `_` are allowed, no digit first",
    );
    check("[crate.a]\nenv = { A = 1 }", "3:13 1: expected a text, found a whole number");
    check("[crate.a]\nenv = { A = \"\\u0000\" }", "3:13 \"\\u0000\": a variable can't hold a NUL");
}

#[test]
fn names_of_experiments_stay_within_a_folder() {
    check(
        "name = \"../x\"",
        "2:8 \"../x\": `../x` can't be the name of an experiment; ASCII letters, digits, `-`, `_` and `.` are allowed, \
         a letter or digit first, 64 at most",
    );
}

#[test]
fn something_is_selected() {
    let such = "such as \"itoa\", \"semver@1\", \"top:100\", \"path:DIR\", \"list:FILE\" or \"lock:Cargo.lock\"";
    assert_eq!(problems("crates = []"), [format!("1:10 []: no crate is selected; {such}")]);
    assert_eq!(
        problems("ops = []"),
        ["no crate is selected; name some in `crates` of maar.toml, or with `--crates NAME`"]
    );
    assert_eq!(problems("crates = [1]"), ["1:11 1: expected a text, found a whole number"]);
}

#[test]
fn a_list_that_is_not_there_is_a_problem_of_its_place() {
    let [problem] = &problems("crates = [\"itoa\", \"list:nope.txt\"]")[..] else { panic!("one problem") };
    assert!(problem.starts_with("1:19 \"list:nope.txt\": "), "{problem}");
    assert!(problem.contains("nope.txt"), "{problem}");
}

#[test]
fn what_is_not_toml_is_refused_in_place() {
    let [problem] = &problems("crates = [\"a\"]\nops = [")[..] else { panic!("one problem") };
    assert!(problem.contains("this is not TOML: "), "{problem}");
    let [problem] = &problems("name = \"a\"\nname = \"b\"")[..] else { panic!("one problem") };
    assert_eq!(problem, "2:1 name: this is not TOML: duplicate key");
}

/// The whole message for a file of this name.
fn refused(folder: &Path, file: &str) -> String {
    let host = Host { cores: 2, folder, toolchain: &|spec, _| toolchain(spec) };
    load(Some(Path::new(file)), &Overrides::default(), &host).unwrap_err().to_string()
}

#[test]
fn files_that_can_not_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("long.toml"), " ".repeat(5 << 20)).unwrap();
    std::fs::write(folder.path().join("binary.toml"), b"\xff\xfe").unwrap();
    for (file, expected) in [
        (
            "itoa",
            "error: failed to read itoa: No such file or directory (os error 2)\n |\n = help: FILE is an experiment; `--crates NAME` selects a crate",
        ),
        (".", "error: failed to read .: Is a directory (os error 21)\n |\n = help: the file in it may be ./maar.toml"),
        ("long.toml", "error: failed to read long.toml: it is longer than 4 MiB"),
        ("binary.toml", "error: failed to read binary.toml: stream did not contain valid UTF-8"),
    ] {
        assert_eq!(refused(folder.path(), file), expected);
    }
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let error =
        load_text("crates = [\"a\\u001b[2J\"] # \u{9b}2J\n\"\\u001b[2J\" = 1", &Overrides::default()).unwrap_err();
    assert!(!error.to_string().contains(['\u{1b}', '\u{9b}']), "{:?}", error.to_string());
}
