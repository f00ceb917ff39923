//! Settings that are refused in a `maar.toml` of the current folder that was not named.

use std::os::unix::fs::symlink;

use super::*;

/// The problems of a `maar.toml` that was found, given these flags: `LINE: MESSAGE; HELP` each.
fn wrong(folder: &Path, text: &str, overrides: &Overrides) -> Vec<String> {
    let file = format!("crates = [\"a\"]\n{text}");
    std::fs::write(folder.join("maar.toml"), &file).unwrap();
    let Err(error) = load_in(folder, overrides) else { return Vec::new() };
    let line = |place: &Place| match place {
        Place::File(span) => file[..span.start].lines().count(),
        Place::Flag(_) | Place::Nowhere => 0,
    };
    error.problems().iter().map(|problem| format!("{}: {}", line(&problem.place), problem.what)).collect()
}

#[test]
fn a_file_that_was_found_does_not_weaken_the_walls() {
    let folder = tempfile::tempdir().unwrap();
    for (text, setting, line, flag) in [
        ("sandbox = \"none\"", "sandbox = \"none\"", 2, Some("--sandbox")),
        ("sandbox = \"docker\"", "sandbox = \"docker\"", 2, Some("--sandbox")),
        ("image = \"theirs\"", "image = \"theirs\"", 2, Some("--image")),
        ("overcommit = 50", "overcommit = 50", 2, Some("--overcommit")),
        ("allow-hosts = [\"10.0.0.1\"]", "allow-hosts = …", 2, None),
        ("limits = { memory = \"1PiB\" }", "memory = \"1PiB\"", 2, Some("--memory")),
        ("limits.disk = \"21GiB\"", "disk = \"21GiB\"", 2, Some("--disk")),
        ("limits.output = \"1GiB\"", "output = \"1GiB\"", 2, None),
        ("limits.pids = 4_097", "pids = 4097", 2, None),
        ("[op.test.limits]\nmemory = \"5GiB\"", "memory = \"5GiB\"", 3, None),
        ("[crate.a]\nlimits.pids = 0x2000", "pids = 0x2000", 3, None),
    ] {
        let flag = flag.map(|flag| format!(", or `{flag}` says so itself")).unwrap_or_default();
        let expected = format!(
            "{line}: `{setting}` weakens the sandbox, and maar.toml was not named on the command line; \
             if you trust the file, name it: `maar run maar.toml`{flag}"
        );
        assert_eq!(wrong(folder.path(), text, &Overrides::default()), [expected], "{text}");
        assert!(load_text(&format!("crates = [\"a\"]\n{text}"), &Overrides::default()).is_ok(), "{text}");
    }
}

#[test]
fn what_does_not_weaken_them_counts_without_a_name() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "sandbox = \"native\"",
        "overcommit = 0.5",
        "limits = { memory = \"4GiB\", pids = 64, disk = \"1GiB\", output = \"1MiB\", timeout = \"2h\", cpus = 8 }",
        "[op.own]\nstage = \"build\"\nrun = [\"cargo\", \"doc\"]\nlimits = { timeout = \"1h\" }",
        "[crate.a]\nenv = { A = \"b\" }",
    ] {
        assert_eq!(wrong(folder.path(), text, &Overrides::default()), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_flag_says_for_itself_what_such_a_file_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let flags = Overrides {
        sandbox: Some(SandboxName::Docker),
        image: Some("mine".parse().unwrap()),
        overcommit: Some(2.0),
        limits: LimitsPatch { memory: Some(ByteSize::gib(8)), disk: Some(ByteSize::gib(1)), ..LimitsPatch::default() },
        ..Overrides::default()
    };
    let text =
        "sandbox = \"none\"\nimage = \"theirs\"\novercommit = 3\nlimits = { memory = \"9GiB\", disk = \"9TiB\" }";
    assert_eq!(wrong(folder.path(), text, &flags), Vec::<String>::new());
    let experiment = load_in(folder.path(), &flags).unwrap();
    assert_eq!(experiment.sandbox, SandboxKind::Docker("mine".parse().unwrap()));
    assert_eq!((experiment.limits.memory, experiment.limits.disk), (ByteSize::gib(8), ByteSize::gib(1)));
    // A flag over the limits of all ops leaves those of one op alone.
    assert_eq!(wrong(folder.path(), "[op.test.limits]\nmemory = \"9GiB\"", &flags).len(), 1);
}

#[test]
fn a_file_that_was_found_selects_nothing_outside_its_folder() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("inner");
    std::fs::create_dir_all(folder.join("mine")).unwrap();
    std::fs::create_dir(outer.path().join("other")).unwrap();
    for path in ["inner/mine/Cargo.toml", "other/Cargo.toml"] {
        std::fs::write(outer.path().join(path), "").unwrap();
    }
    std::fs::write(outer.path().join("secret"), "root:x:0\n").unwrap();
    std::fs::write(folder.join("list.txt"), "path:../other\n").unwrap();
    std::fs::write(folder.join("locks.txt"), "lock:../secret\n").unwrap();
    symlink("../secret", folder.join("link.txt")).unwrap();
    for selection in
        ["path:../other", "list:../secret", "lock:../secret", "list:list.txt", "list:locks.txt", "list:link.txt"]
    {
        let text = format!("crates = [{selection:?}]");
        std::fs::write(folder.join("maar.toml"), &text).unwrap();
        let error = load_in(&folder, &Overrides::default()).unwrap_err();
        let [Problem { what, .. }] = error.problems() else { panic!("{error}") };
        assert!(what.message.contains(" is not in ") && !what.message.contains("root:"), "{what}");
        assert_eq!(what.help.as_deref().map(|help| help.contains("`maar run FILE`")), Some(true), "{what}");
    }
    std::fs::write(folder.join("maar.toml"), "crates = [\"path:mine\"]").unwrap();
    assert!(load_in(&folder, &Overrides::default()).is_ok());
    std::fs::write(folder.join("maar.toml"), "crates = [\"path:../other\"]").unwrap();
    let host = Host { cores: 2, folder: &folder, toolchain: &|spec, _| toolchain(spec) };
    assert!(load(Some(Path::new("maar.toml")), &Overrides::default(), &host).is_ok());
}

#[test]
fn toolchains_that_steer_code_count_only_in_a_file_that_was_named() {
    let folder = tempfile::tempdir().unwrap();
    for (toolchain, steering) in [
        ("\"path:/x\"", "`path:`"),
        ("\"stable+cargo=path:/x\"", "`path:`"),
        ("\"stable+rustflags=-Clinker=x\"", "`rustflags`"),
        ("{ toolchain = \"stable\", env = { RUSTC_WRAPPER = \"x\" } }", "`env`"),
        ("{ toolchain = \"stable\", patch = { a = \"/etc\" } }", "`patch`"),
    ] {
        let text = format!("crates = [\"itoa\"]\ntoolchains = [{toolchain}]");
        std::fs::write(folder.path().join("maar.toml"), &text).unwrap();
        // Its programs are not even asked for their version.
        let host = Host { cores: 2, folder: folder.path(), toolchain: &|_, _| panic!("{toolchain} was looked up") };
        let error = load(None, &Overrides::default(), &host).unwrap_err();
        let [Problem { what, .. }] = error.problems() else { panic!("{error}") };
        assert!(what.message.starts_with(&format!("{steering} of a toolchain can choose which code runs")), "{what}");
        assert!(what.to_string().contains("or `--toolchain` says so itself"), "{what}");
        let flags = Overrides { toolchains: vec!["stable".parse().unwrap()], ..Overrides::default() };
        assert!(load_in(folder.path(), &flags).is_ok(), "{toolchain}");
    }
    let asked = std::cell::Cell::new(None);
    let note = |spec: Option<&ToolchainSpec>, installing| {
        asked.set(Some(installing));
        toolchain(spec.map(|_| "stable".parse().unwrap()).as_ref())
    };
    let plain = "crates = [\"itoa\"]\ntoolchains = [\"stable+target=x+profile=release+component=clippy\"]";
    std::fs::write(folder.path().join("maar.toml"), plain).unwrap();
    let host = Host { cores: 2, folder: folder.path(), toolchain: &note };
    assert_eq!(load(None, &Overrides::default(), &host).unwrap().installing, Installing::Nothing);
    assert_eq!(asked.get(), Some(Installing::Nothing), "a file that was found installs nothing");
    assert_eq!(
        load(Some(Path::new("maar.toml")), &Overrides::default(), &host).unwrap().installing,
        Installing::WhatIsMissing
    );
}

#[test]
fn a_link_or_a_pipe_that_was_found_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "root:x:0\n").unwrap();
    let path = folder.path().join("maar.toml");
    symlink("secret", &path).unwrap();
    let refused = || load_in(folder.path(), &Overrides::default()).unwrap_err().to_string();
    let link = refused();
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for error in [link, refused()] {
        assert!(error.contains("failed to read maar.toml: it is not a plain file"), "{error}");
        assert!(!error.contains("root:"), "{error}");
    }
}
