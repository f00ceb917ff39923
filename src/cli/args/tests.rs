use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, String> {
    let words = std::iter::once("maar").chain(line.split_whitespace());
    Cli::of(words).map_err(|error| error.to_string())
}

fn run_options(line: &str) -> RunOptions {
    let cli = parse(line).unwrap();
    match cli.command {
        None => cli.run,
        Some(Command::Run(args)) => args.options,
        Some(other) => panic!("{line} is {other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn run_is_what_happens_without_a_subcommand() {
    let flags = "-t stable -t nightly -c itoa -c semver@1 --ops prepare,build --skip test --name n --fresh \
                 --workers fetch=4,test=1 --in-flight 9 --cpus 1.5 --memory 2GiB --timeout 1m --idle-timeout 10s \
                 --sandbox none --progress json --home /h";
    for line in [flags.to_owned(), format!("run {flags}"), format!("run file.toml {flags}")] {
        let options = run_options(&line);
        assert_eq!(options.progress, progress::Kind::Json, "{line}");
        assert!(options.fresh, "{line}");
        assert_eq!(options.home.folder, Some(PathBuf::from("/h")), "{line}");
        let overrides = options.overrides();
        assert_eq!(overrides.name.as_deref(), Some("n"));
        assert_eq!(overrides.toolchains, ["stable".parse().unwrap(), "nightly".parse().unwrap()]);
        assert_eq!(overrides.crates, ["itoa", "semver@1"]);
        assert_eq!(overrides.ops, Some(vec!["prepare".to_owned(), "build".to_owned()]));
        assert_eq!(overrides.skip, ["test"]);
        assert_eq!(overrides.workers, WorkersPatch { fetch: Some(4), build: None, test: Some(1) });
        assert_eq!(overrides.in_flight, Some(9));
        assert_eq!(overrides.limits.cpus, Some(1.5));
        assert_eq!(overrides.limits.memory, Some(ByteSize::gib(2)));
        assert_eq!(overrides.limits.timeout, Some(Duration::from_secs(60)));
        assert_eq!(overrides.limits.idle_timeout, Some(Duration::from_secs(10)));
        assert_eq!(overrides.sandbox, Some(experiment::SandboxName::None));
    }
}

#[test]
fn nothing_said_overrides_nothing() {
    let overrides = run_options("").overrides();
    assert_eq!(format!("{overrides:?}"), format!("{:?}", Overrides::default()));
}

#[test]
fn a_collection_leaves_what_runs_leave() {
    let Some(Command::Cache(args)) = parse("cache gc").unwrap().command else { panic!("`cache gc` is something else") };
    let Some(CacheCommand::Gc(args)) = args.command else { panic!("`gc` is something else") };
    assert_eq!(args.budget, experiment::DEFAULT_CACHE_BUDGET);
    assert!(parse("cache gc --budget 20Gig").unwrap_err().contains("`20Gig` is not a size; did you mean `GiB`?"));
}

#[test]
fn every_command_of_the_contract_parses() {
    for line in [
        "run x.toml",
        "report demo",
        "report demo --format html -o out",
        "status",
        "status demo --home /h",
        "logs demo itoa",
        "logs demo itoa@1.0.18 -t stable --op build",
        "doctor",
        "clean",
        "ops",
        "ops x.toml",
        "completions bash",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn help_is_a_subcommand_too() {
    for line in ["help", "help run", "help cache gc"] {
        let error = Cli::of(std::iter::once("maar").chain(line.split(' '))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{line}: {error}");
    }
}

#[test]
fn a_home_may_stand_anywhere_and_with_any_command() {
    let home = |line: &str| match parse(line).unwrap_or_else(|error| panic!("{line}: {error}")) {
        Cli { command: None, run } => run.home.folder,
        Cli { command: Some(Command::Status(args)), .. } => args.home.folder,
        Cli { command: Some(Command::Run(args)), .. } => args.options.home.folder,
        Cli { command: Some(_), run } => run.home.folder,
    };
    for line in [
        "--home /h",
        "--home /h status",
        "status --home /h",
        "run --home /h x.toml",
        "--home /h run x.toml",
        "ops --home /h",
        "completions bash --home /h",
        "image build --home /h",
        "--home /h cache gc",
    ] {
        assert_eq!(home(line), Some(PathBuf::from("/h")), "{line}");
    }
}

#[test]
fn flags_of_a_run_before_a_subcommand_are_pointed_behind_it() {
    for (line, expected) in [
        ("-t stable status", "`--toolchain` goes behind the subcommand: `maar status --toolchain …`"),
        ("--fresh run", "`--fresh` goes behind the subcommand: `maar run --fresh …`"),
        ("--progress json run", "`--progress` goes behind the subcommand: `maar run --progress …`"),
    ] {
        check(line, expected);
    }
}

#[test]
fn an_empty_op_list_is_a_list_without_ops() {
    let options = |ops: &str| Cli::of(["maar", "--ops", ops]).unwrap().run.overrides().ops;
    assert_eq!(options(""), Some(Vec::new()));
    assert_eq!(options("prepare,"), Some(vec!["prepare".to_owned(), String::new()]));
}

#[track_caller]
fn check(line: &str, expected: &str) {
    let error = parse(line).expect_err(line);
    assert!(error.starts_with(&format!("error: {expected}\n")), "{line}: {error}");
}

#[test]
fn a_value_that_is_wrong_is_named_with_its_flag() {
    check("--memory 4Gig", "invalid value '4Gig' for '--memory <SIZE>': `4Gig` is not a size; did you mean `GiB`?");
    check(
        "--memory 1MiB",
        "invalid value '1MiB' for '--memory <SIZE>': `1MiB` is out of range; it must be from 16.0 MiB to 1.0 PiB",
    );
    check(
        "--timeout 15m1n",
        "invalid value '15m1n' for '--timeout <TIME>': `15m1n` is not a time; did you mean `min`?",
    );
    check("--cpus NaN", "invalid value 'NaN' for '--cpus <N>': `NaN` is out of range; it must be from 0.01 to 4096");
    check("--cpus many", "invalid value 'many' for '--cpus <N>': `many` is no number");
    check(
        "--in-flight 0",
        "invalid value '0' for '--in-flight <N>': `0` is out of range; it must be a whole number from 1 to 10000",
    );
    check(
        "--workers fetch=1,bild=2",
        "invalid value 'fetch=1,bild=2' for '--workers <WORKERS>': unknown stage `bild`; did you mean `build`?",
    );
    check(
        "--workers 4",
        "invalid value '4' for '--workers <WORKERS>': `4` is not of the form STAGE=NUMBER; such as `fetch=8,build=2,test=2`",
    );
    check("--workers test=1,test=2", "invalid value 'test=1,test=2' for '--workers <WORKERS>': `test` is there twice");
    check(
        "logs demo itoa@x",
        "invalid value 'itoa@x' for '<CRATE[@VERSION]>': `x` is not a version: unexpected character 'x' while parsing major version number",
    );
    check(
        "logs demo serde-1.0.200",
        "invalid value 'serde-1.0.200' for '<CRATE[@VERSION]>': `serde-1.0.200` is not a crate name: only ASCII letters, \
         digits, `-` and `_` are allowed; did you mean `serde@1.0.200`?",
    );
    check("stauts", "unrecognized subcommand 'stauts'");
}

#[test]
fn names_of_closed_sets_are_answered_with_the_nearest() {
    for (line, tip) in [
        ("--progress plan", "a similar value exists: 'plain'"),
        ("--sandbox nativ", "a similar value exists: 'native'"),
        ("report demo --format htlm", "a similar value exists: 'html'"),
        ("--toolchian stable", "a similar argument exists: '--toolchain'"),
        ("stauts", "a similar subcommand exists: 'status'"),
    ] {
        let error = parse(line).expect_err(line);
        assert!(error.contains(tip), "{line}: {error}");
    }
}

/// Every text of the help, of the command and of all its subcommands.
fn help_texts(command: &clap::Command) -> Vec<String> {
    let about = command.get_about().map(ToString::to_string);
    let arguments = command.get_arguments().filter_map(|argument| argument.get_help().map(ToString::to_string));
    about.into_iter().chain(arguments).chain(command.get_subcommands().flat_map(help_texts)).collect()
}

#[test]
fn help_has_no_full_stops() {
    let mut command = Cli::command();
    command.build();
    for text in help_texts(&command) {
        assert!(!text.ends_with('.') && !text.is_empty(), "{text}");
    }
}
