//! The `crate` tables: patterns, skips and expectations, and those that crater's configuration comes to.

use super::refused::problems;
use super::*;
use crate::experiment::{Expected, from_crater};
use crate::ops::Features;

fn experiment(text: &str) -> Experiment {
    load_text(&format!("crates = [\"a\"]\n{text}"), &Overrides::default()).unwrap()
}

fn settings(text: &str, name: &str) -> CrateSettings {
    let name = name.parse().unwrap();
    let mut experiment = experiment(text);
    experiment.apply_patterns([&name]);
    experiment.crate_settings.remove(&name).unwrap_or_default()
}

#[test]
fn patterns_apply_from_the_least_precise_to_the_crates_own_table() {
    let text = r#"
        [crate."*"]
        env = { A = "all", B = "all" }
        limits = { memory = "1GiB", disk = "1GiB" }
        [crate."aws-sdk-*"]
        env = { B = "sdk" }
        features = ["f"]
        skip = ["test"]
        [crate."aws-*"]
        env = { B = "aws", C = "aws" }
        limits = { memory = "2GiB" }
        [crate.aws-sdk-s3]
        limits = { memory = "3GiB" }
    "#;
    let s3 = settings(text, "aws-sdk-s3");
    let env: Vec<_> = s3.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["A=all", "B=sdk", "C=aws"]);
    assert_eq!((s3.limits.memory, s3.limits.disk), (Some(ByteSize::gib(3)), Some(ByteSize::gib(1))));
    assert_eq!(s3.features, Features::With(vec!["f".to_owned()]));
    assert_eq!(s3.ops, Some(vec![Op::Prepare, Op::Build]));
    assert_eq!(settings(text, "other").env.len(), 2);
    assert_eq!(settings("[crate.\"aws-*\"]\nquiet = true", "other"), CrateSettings::default());
}

#[test]
fn a_crate_is_skipped_for_a_reason_until_a_day() {
    let skip = |value: &str| settings(&format!("[crate.a]\nskip = {value}"), "a").skip;
    assert_eq!(skip("\"needs a GPU\"").as_deref(), Some("needs a GPU"));
    let dated = "{ reason = \"broken mirror\", until = \"9999-12-31\" }";
    assert_eq!(skip(dated).as_deref(), Some("broken mirror (until 9999-12-31)"));
    assert_eq!(skip("{ reason = \"x\", until = 9999-12-31 }").as_deref(), Some("x (until 9999-12-31)"));
    assert_eq!(skip("[\"test\"]"), None);
    let over = "crates = [\"a\"]\n[crate.a]\nskip = { reason = \"x\", until = 2001-01-01 }";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("maar.toml"), over).unwrap();
    let host = Host { cores: 2, folder: folder.path(), toolchain: &|spec, _| toolchain(spec) };
    let loaded = load(None, &Overrides::default(), &host).unwrap();
    assert_eq!(loaded.notes, ["the skip of `a` ended on 2001-01-01: x"]);
    assert_eq!(loaded.experiment.crate_settings.values().next().unwrap().skip, None);
}

#[test]
fn a_skip_that_says_nothing_is_a_problem_with_its_place() {
    for (value, expected) in [
        ("\" \"", "2:8 \" \": a crate is skipped for a reason; such as \"needs a GPU\""),
        ("true", "2:8 true: expected the reason for which the crate is skipped, or a list of ops, found a boolean"),
        (
            "{ until = \"2026-13-01\", reason = \"x\" }",
            "2:18 \"2026-13-01\": `2026-13-01` is not a day; such as \"2026-12-31\"",
        ),
        (
            "{ until = 2026-12-31 }",
            "2:10 until: `skip` has no `reason`; such as `skip = { reason = \"needs a GPU\", until = \"2026-12-31\" }`",
        ),
        ("{ reson = \"x\" }", "2:10 reson: unknown key `reson`; did you mean `reason`?"),
    ] {
        assert_eq!(problems(&format!("[crate.a]\nskip = {value}"))[0], expected);
    }
    assert_eq!(
        problems("[crate.\"a/*\"]\nbroken = 1")[0],
        "1:8 \"a/*\": `a/*` is not a pattern of crate names; ASCII letters, digits, `-`, `_` and `*` are allowed, 64 at most"
    );
}

#[test]
fn a_quiet_crate_may_do_nothing_for_as_long_as_its_time_limit_and_a_broken_one_may_fail() {
    let name = "a".parse().unwrap();
    let quiet = experiment("[crate.a]\nquiet = true\nbroken = true");
    let limits = quiet.limits_of(&name, &Op::Test.name());
    assert!(limits.idle_timeout > limits.timeout);
    assert_eq!(quiet.crate_settings[&name].expected, Expected::Broken);
    let own = experiment("[crate.a]\nquiet = true\nlimits = { idle-timeout = \"9m\" }");
    assert_eq!(own.limits_of(&name, &Op::Test.name()).idle_timeout, Duration::from_secs(540));
}

#[test]
fn craters_configuration_becomes_crate_tables_that_maar_reads() {
    let crater = r#"
        [server]
        bot-acl = { rust-teams = true }
        [crates]
        lolbench = { skip = true } # installs "many" toolchains
        noisy = { quiet = true, skip-tests = true }
        bad = { skip = true, broken = true, update-lockfile = true }
        fine = { skip = false }
        [github-repos]
        "a/b" = { skip = true }
        [local-crates]
        build-fail = { broken = true }
    "#;
    let lines = from_crater(crater, "config.toml").unwrap();
    let expected = r#"# From crater's configuration.

[crate.bad]
skip = "crater skips it"
broken = true
# update-lockfile: maar does that for every crate (`lockfile = "latest"`)

[crate.lolbench]
skip = 'installs "many" toolchains'

[crate.noisy]
skip = ["test"]
quiet = true

# left out, for it is not a crate of the registry: github.com/a/b

# left out, for it is not a crate of the registry: crater's own build-fail
"#;
    assert_eq!(lines, expected);
    assert_eq!(settings(&lines, "lolbench").skip.as_deref(), Some("installs \"many\" toolchains"));
    assert_eq!(settings(&lines, "bad").expected, Expected::Broken);
    let error = from_crater("[crates]\na = { skp = true }\n\"../b\" = {}", "config.toml").unwrap_err().to_string();
    assert!(error.contains("unknown key `skp`") && error.contains("did you mean `skip`?"), "{error}");
    assert!(error.contains("`../b` is not a crate name"), "{error}");
}
