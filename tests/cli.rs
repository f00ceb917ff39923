//! The binary from outside: exit codes, and what goes to which stream.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn maar(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().expect("the binary is built")
}

fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maar"));
    command.args(args).current_dir(folder).env_remove("MAAR_HOME");
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("maar prints UTF-8")
}

#[test]
fn help_is_data_and_a_mistake_is_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["--help"][..], &["run", "--help"], &["--version"], &["completions", "zsh"]] {
        let output = maar(folder.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    for args in [&["stauts"][..], &["--memory", "4Gig"], &["run", "--nope"], &["completions", "tcl"]] {
        let output = maar(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_home_in_the_environment_is_no_argument_before_a_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), &["ops"]).env("MAAR_HOME", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn ops_lists_the_built_in_ones_and_the_users_own() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[op.own]\nstage = \"test\"\nrun = [\"a\", \"b c\", \"\\u001b\", \"\"]";
    std::fs::write(folder.path().join("maar.toml"), file).unwrap();
    let expected = r#"OP       STAGE  RUNS
prepare  fetch  download, unpack, lock, fetch dependencies: once for all toolchains
check    build  cargo check
build    build  cargo build; where test follows, cargo test --no-run
test     test   cargo test
clippy   build  cargo clippy
doc      build  cargo doc
own      test   a "b c" "\u{1b}" ""
"#;
    let output = maar(folder.path(), &["ops"]);
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_file_that_is_wrong_is_said_in_place_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), "[op.own]\nstage = \"bild\"\nrun = [\"a\"]").unwrap();
    let output = maar(folder.path(), &["ops", "mine.toml"]);
    let expected = "\
error: unknown stage `bild`
 --> mine.toml:2:9
  |
2 | stage = \"bild\"
  |         ^^^^^^ did you mean `build`?
";
    assert_eq!(text(&output.stderr), expected);
    assert!(output.stdout.is_empty());
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    for args in [&["ops"][..], &["completions", "bash"], &["--help"]] {
        let mut child = command(folder.path(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn help_and_home_are_found_where_users_look_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let home = home.to_str().unwrap();
    for args in [&["help"][..], &["help", "run"], &["--home", home, "ops"], &["ops", "--home", home]] {
        let output = maar(folder.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
    let output = maar(folder.path(), &["--home", home, "status"]);
    assert!(text(&output.stderr).contains("no experiment has been run in this home"), "{}", text(&output.stderr));
}

#[test]
fn a_folder_or_version_written_as_elsewhere_is_pointed_at_its_prefix() {
    let folder = tempfile::tempdir().unwrap();
    for (selection, hint) in [
        ("./mine", "a folder is selected with `path:./mine`"),
        ("serde-1.0.200", "did you mean `serde@1.0.200`?"),
        ("serde 1.0.200", "did you mean `serde@1.0.200`?"),
    ] {
        let output = maar(folder.path(), &["-c", selection]);
        assert_eq!(output.status.code(), Some(2), "{selection}");
        assert!(text(&output.stderr).contains(hint), "{}", text(&output.stderr));
    }
}
