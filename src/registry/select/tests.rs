//! Parsing and printing of selections, and the text of their errors.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> CrateName {
    text.parse().unwrap()
}

fn one(text: &str) -> Selection {
    let [selection] = parse(text, Path::new("/"), Reach::Anywhere).unwrap().try_into().unwrap();
    selection
}

fn error(text: &str, base: &Path) -> String {
    parse(text, base, Reach::Anywhere).unwrap_err().to_string()
}

#[test]
fn a_whole_version_is_exact_and_a_partial_one_is_a_requirement() {
    let matching = |text: &str| Selection::Matching(name("semver"), text.parse().unwrap());
    let exact = |text: &str| Selection::Exact(name("semver"), text.parse().unwrap());
    assert_eq!(one("semver"), Selection::Newest(name("semver")));
    assert_eq!(one(" semver@1.0.2 "), exact("1.0.2"));
    assert_eq!(one("semver@1.0.2-rc.1+b"), exact("1.0.2-rc.1+b"));
    assert_eq!(one("semver@1"), matching("^1"));
    assert_eq!(one("semver@1.2"), matching("^1.2"));
    assert_eq!(one("semver@=1.2.3"), matching("=1.2.3"));
    assert_eq!(one("semver@>=1, <1.5"), matching(">=1, <1.5"));
    assert_eq!(one("semver@*"), Selection::Query(Query::Versions(name("semver"))));
}

#[test]
fn what_selects_nothing_says_why() {
    let cases = [
        ("lists:a", "unknown selection prefix `lists:`; did you mean `list:`? (known: `category`, "),
        ("paht:a", "unknown selection prefix `paht:`; did you mean `path:`?"),
        ("rdep:a", "unknown selection prefix `rdep:`; did you mean `rdeps:`?"),
        ("top:", "`top:` needs a number of crates after it"),
        ("top:0", "`top:0`: expected a number of crates from 1 to"),
        ("used:+7", "`used:+7`: expected a number of crates from 1 to"),
        ("random:9@x", "invalid seed `x`: expected a whole number"),
        ("keyword:a b", "`keyword:a b`: ASCII letters"),
        ("where:(", "`where:(`: regex parse error"),
        ("!top:9", "`!top:…` excludes nothing: `!` takes the name of a crate"),
        ("!", "`` is not a crate name: it is empty"),
        ("rdeps:a@latest", "`latest` is neither a version"),
        ("rdeps:..", "`..` is not a crate name"),
        ("", "`` is not a crate name: it is empty"),
        ("@1", "`` is not a crate name: it is empty"),
        ("a/b", "`a/b` is not a crate name"),
        ("a@latest", "`latest` is neither a version such as `1.2.3` nor a requirement"),
        ("a@", "`` is neither a version such as `1.2.3` nor a requirement"),
        ("path:", "`path:` needs a path after it"),
        ("path:gone", "failed to read /nowhere/gone: No such file or directory"),
        ("list:gone", "failed to read /nowhere/gone: No such file or directory"),
        ("lock:gone", "failed to read /nowhere/gone: No such file or directory"),
    ];
    for (text, expected) in cases {
        let error = error(text, Path::new("/nowhere"));
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn what_is_written_otherwise_elsewhere_is_pointed_at_the_way_it_is_written_here() {
    for (text, meant) in [
        ("./mine", "a folder is selected with `path:./mine`"),
        ("../mine", "a folder is selected with `path:../mine`"),
        ("/home/me/mine", "a folder is selected with `path:/home/me/mine`"),
        ("mine/", "a folder is selected with `path:mine/`"),
        (".", "a folder is selected with `path:.`"),
        ("~/mine", "a folder is selected with `path:~/mine`"),
        ("serde-1.0.200", "did you mean `serde@1.0.200`?"),
        ("x86-64-1.0.0-rc.1", "did you mean `x86-64@1.0.0-rc.1`?"),
        ("serde 1.0.200", "did you mean `serde@1.0.200`?"),
        ("serde v1.0.200", "did you mean `serde@1.0.200`?"),
        ("serde = \"1.0\"", "did you mean `serde@1.0`?"),
        ("serde==1.0.200", "did you mean `serde@1.0.200`?"),
        ("serde:1.0.200", "did you mean `serde@1.0.200`?"),
        ("serde,syn", "several crates are selected by repeating `--crates`"),
    ] {
        let error = error(text, Path::new("/nowhere"));
        assert!(error.starts_with(&format!("`{}` is not a crate name: ", text.escape_debug())), "{error}");
        assert!(error.ends_with(&format!("; {meant}")), "{error}");
    }
}

#[test]
fn a_list_holds_a_selection_a_line_and_comments() {
    let dir = tempfile::tempdir().unwrap();
    let krate = dir.path().canonicalize().unwrap().join("a #1");
    std::fs::create_dir(&krate).unwrap();
    std::fs::write(krate.join("Cargo.toml"), "").unwrap();
    let list = "# top\r\nserde # the one\n\n  semver@1\npath:a #1\n";
    std::fs::write(dir.path().join("top.txt"), list).unwrap();
    std::fs::rename(&krate, krate.with_file_name("a#1")).unwrap();
    let list = list.replace("a #1", "a#1 # a `#` within a word");
    std::fs::write(dir.path().join("top.txt"), list).unwrap();
    assert_eq!(
        parse("list:top.txt", dir.path(), Reach::Anywhere).unwrap(),
        [
            Selection::Newest(name("serde")),
            Selection::Matching(name("semver"), "1".parse().unwrap()),
            Selection::Path { dir: krate.with_file_name("a#1"), top: None },
        ]
    );
}

#[test]
fn a_bad_line_of_a_list_is_named_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("top.txt");
    let refusal = |text: &str| {
        std::fs::write(&path, text).unwrap();
        error("list:top.txt", dir.path()).replace(&*path.to_string_lossy(), "top.txt")
    };
    assert!(refusal("serde\n\n?\n").starts_with("top.txt, line 3: `?` is not a crate name"));
    assert!(refusal("lock:gone").starts_with("top.txt, line 1: failed to read"));
    assert!(refusal("a\nlist:top.txt").starts_with("top.txt, line 2: a list can't hold `list:`"));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(error("list:top.txt", dir.path()).starts_with("failed to read"));
}

#[test]
fn a_list_and_a_lockfile_are_regular_files() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for text in ["list:fifo", "lock:fifo", "list:/dev/zero", "lock:/dev/zero"] {
        let error = error(text, dir.path());
        assert!(error.ends_with(": it is not a regular file; copy its contents to one"), "{error}");
    }
}

#[test]
fn a_version_after_a_colon_is_told_from_a_mistyped_prefix() {
    for (text, expected) in [
        ("rand:0.8", "did you mean `rand@0.8`?"),
        ("syn:2", "did you mean `syn@2`?"),
        ("tpo:100", "did you mean `top:`? (known: "),
    ] {
        let error = error(text, Path::new("/"));
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_folder_without_a_manifest_is_no_crate() {
    let dir = tempfile::tempdir().unwrap();
    assert!(error("path:.", dir.path()).ends_with("holds no Cargo.toml; `path:` needs the folder of a crate"));
}

#[test]
fn a_lockfile_selects_its_registry_packages_at_their_very_versions() {
    let dir = tempfile::tempdir().unwrap();
    let source = crates_index::git::URL;
    let lock = format!(
        "[[package]]\nname = 'me'\nversion = '0.1.0'\n\
         [[package]]\nname = 'a'\nversion = '1.0.0'\nsource = 'registry+{source}'\n\
         [[package]]\nname = 'b'\nversion = '1.0.0'\nsource = 'git+https://example.org/b'\n"
    );
    std::fs::write(dir.path().join("Cargo.lock"), lock).unwrap();
    let selections = parse("lock:Cargo.lock", dir.path(), Reach::Anywhere).unwrap();
    assert_eq!(selections, [Selection::Exact(name("a"), Version::new(1, 0, 0))]);
}

#[test]
fn every_form_of_a_query_is_read() {
    let query = |text: &str| match one(text) {
        Selection::Query(query) => query,
        other => panic!("{text} is {other:?}"),
    };
    let rdeps = |requirement: Option<&str>, chain| Query::ReverseDependencies {
        of: name("serde"),
        requirement: requirement.map(|text| text.parse().unwrap()),
        chain,
    };
    assert_eq!(query("top:100"), Query::Top(100));
    assert_eq!(query("used:7"), Query::Used(7));
    assert_eq!(query("dependents:7"), Query::Dependents(7));
    assert_eq!(query("random:7"), Query::Random { count: 7, seed: None });
    assert_eq!(query("random:7@0"), Query::Random { count: 7, seed: Some(0) });
    assert_eq!(query("rdeps:serde"), rdeps(None, Chain::Direct));
    assert_eq!(query("rdeps:serde@1.2.3"), rdeps(Some("=1.2.3"), Chain::Direct));
    assert_eq!(query("rdeps+:serde@1"), rdeps(Some("^1"), Chain::Transitive));
    assert_eq!(query("category:development-tools::testing"), Query::Category("development-tools::testing".into()));
    assert_eq!(query("keyword:no_std"), Query::Keyword("no_std".into()));
    assert_eq!(query("where: unsafe\\s+impl"), Query::Where("unsafe\\s+impl".into()));
    assert_eq!(query("list:https://a/b"), Query::List("https://a/b".into()));
    assert_eq!(query("retry:demo.2"), Query::Retry("demo.2".into()));
    assert_eq!(query("all"), Query::All);
    assert_eq!(one("all@1"), Selection::Matching(name("all"), "1".parse().unwrap()));
}

#[test]
fn an_exclusion_leaves_out_a_name_however_it_is_spelled_and_only_the_versions_that_it_names() {
    let excludes = |text: &str, name: &str, version: &str| {
        let Selection::Not(exclusion) = one(text) else { panic!("{text}") };
        exclusion.matches(&CrateId { name: name.parse().unwrap(), version: Some(version.parse().unwrap()) })
    };
    assert!(excludes("!openssl-sys", "openssl-sys", "1.0.0") && excludes("! openssl_sys", "OpenSSL-sys", "2.0.0"));
    assert!(excludes("!a@1", "a", "1.9.0") && !excludes("!a@1", "a", "2.0.0") && !excludes("!a", "ab", "1.0.0"));
}

#[test]
fn a_line_of_a_list_may_give_a_lockfile_to_its_crate() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("retry.txt"), "a@1.0.0 lockfile:x/a.lock # why\n").unwrap();
    let expected = Selection::Locked(name("a"), Version::new(1, 0, 0), dir.path().join("x/a.lock"));
    assert_eq!(parse("list:retry.txt", dir.path(), Reach::Anywhere).unwrap(), [expected]);
    assert!(error("a@1 lockfile:x", dir.path()).starts_with("`1` is neither a version"));
}

#[test]
fn a_list_of_another_host_names_nothing_on_this_one() {
    let fetched = |text: &str| parse_fetched(text, "https://a/list");
    assert_eq!(fetched("a # b\n!c\ntop:3").unwrap().len(), 3);
    for line in ["path:/", "lock:/etc/passwd", "a@1.0.0 lockfile:/etc/passwd"] {
        let error = fetched(line).unwrap_err();
        assert!(error.is_outside() && error.to_string().starts_with("https://a/list, line 1: `"), "{error}");
    }
    assert!(parse("list:https://a/b", Path::new("/"), Reach::Below(Path::new("/"))).unwrap_err().is_outside());
}

/// Texts that are selections, but for those that need a file.
fn selections() -> impl Strategy<Value = String> {
    let name = "[a-zA-Z][a-zA-Z0-9_-]{0,20}";
    let version = "[0-9]{1,3}(\\.[0-9]{1,3}(\\.[0-9]{1,3}(-[a-z]{1,9}(\\.[1-9])?)?(\\+[a-z0-9]{1,9})?)?)?";
    let requirement = format!("(\\*|(\\^|~|=|>=|<)?{version}(, ?<{version})?)");
    let texts = |pattern: &str| proptest::string::string_regex(pattern).unwrap();
    prop_oneof![
        texts(&format!("!?{name}(@{requirement})?")),
        texts(&format!("{name}@{version}")),
        texts(&format!("rdeps\\+?:{name}(@{requirement})?")),
        "(top|used|dependents):[1-9][0-9]{0,6}",
        "random:[1-9][0-9]{0,6}(@[0-9]{1,18})?",
        "(category|keyword|retry):[a-z0-9:._+-]{1,40}",
        "where:[a-z(\\[\\])|.* ]{1,20}",
        "list:https?://[a-z.]{1,20}/[a-z0-9?=/]{0,20}",
        Just("all".to_owned()),
    ]
}

proptest! {
    #[test]
    fn a_selection_prints_back_to_what_was_parsed(text in selections()) {
        let Ok(parsed) = parse(&text, Path::new("/"), Reach::Anywhere) else { return Ok(()) };
        for selection in parsed {
            prop_assert_eq!(parse(&selection.to_string(), Path::new("/"), Reach::Anywhere).unwrap(), [selection]);
        }
    }

    #[test]
    fn nonsense_never_panics(text in "\\PC{0,60}", prefix in proptest::sample::select(PREFIXES.to_vec())) {
        let (base, reach) = (Path::new("/nowhere"), Reach::Nowhere);
        for text in [text.clone(), format!("{prefix}:{text}"), format!("!{text}"), format!("a@{text}")] {
            if let Err(error) = parse(&text, base, reach) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
