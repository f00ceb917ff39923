use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<ToolchainSpec, String> {
    text.parse().map_err(|error: BadToolchainSpec| error.to_string())
}

#[track_caller]
fn check_words(text: &str, expected: &[&str]) {
    assert_eq!(parse(text).unwrap().settings().rustflags, expected, "{text}");
}

#[test]
fn words_are_split_as_in_rustflags_and_quotes_carry_what_would_end_them() {
    for text in ["stable+rustflags=-D warnings", "stable+rustflags=\"-D warnings\"", "stable+rustflags='-D  warnings'"]
    {
        check_words(text, &["-D", "warnings"]);
        assert_eq!(parse(text).unwrap().as_str(), "stable+rustflags=-D warnings");
    }
    check_words("stable+rustflags=\"-C target-feature=+avx2\"", &["-C", "target-feature=+avx2"]);
    check_words("stable+rustflags=--cfg feature=\"x\"", &["--cfg", "feature=\"x\""]);
    check_words("stable+rustflags=\"--cfg 'feature=\\\"a b\\\"'\"", &["--cfg", "feature=\"a b\""]);
    check_words("stable+rustflags=-A+rustflags=b", &["-A", "b"]);
    check_words("path:\"/a+b\"+rustflags=x", &["x"]);
}

#[test]
fn every_key_is_read() {
    let text = "nightly-2026-05-01+rustflags=-Zthreads=8+rustdocflags=--cfg docsrs+cargoflags=-Zbuild-std --keep-going\
                +target=x86_64-unknown-linux-musl+profile=release+env=A=+env=B=x=y z+patch=itoa=../itoa\
                +patch=ryu=https://host.example/ryu.git#0123abc+component=clippy+component=rust-src\
                +cargo=beta+rustdoc=path:/x/stage2";
    let spec = parse(text).unwrap();
    let Settings { rustflags, rustdocflags, cargoflags, target, profile, env, patches, components, cargo, rustdoc } =
        spec.settings();
    assert_eq!(*spec.base(), Base::Named("nightly-2026-05-01".to_owned()));
    assert_eq!((rustflags.len(), rustdocflags.len(), cargoflags.len()), (1, 2, 2));
    assert_eq!(target.as_deref(), Some("x86_64-unknown-linux-musl"));
    assert_eq!(profile.as_deref(), Some("release"));
    assert_eq!((env["A"].as_str(), env["B"].as_str()), ("", "x=y z"));
    assert_eq!(patches["itoa"], PatchSource::Folder("../itoa".into()));
    let git = PatchSource::Git { url: "https://host.example/ryu.git".to_owned(), rev: "0123abc".to_owned() };
    assert_eq!(patches["ryu"], git);
    assert_eq!(components.len(), 2);
    assert_eq!(*cargo, Some(Base::Named("beta".to_owned())));
    assert_eq!(*rustdoc, Some(Base::Path("/x/stage2".into())));
    assert_eq!(spec.as_str(), text.replace("env=A=", "env=A=\"\""));
    assert_eq!(parse("stable+env=\"A=x+y\"").unwrap(), parse("stable+env=A=\"x+y\"").unwrap());
}

#[track_caller]
fn check_bad(text: &str, column: usize, part: &str) {
    let error = text.parse::<ToolchainSpec>().unwrap_err();
    assert_eq!(error.column, column, "{error}");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn errors_name_the_column_and_the_nearest_valid_word() {
    check_bad("../x", 1, "a folder is written `path:../x`");
    check_bad("", 1, "is not a toolchain name");
    check_bad("paht:/x", 1, "did you mean `path:`?");
    check_bad("path:", 1, "`path:` names no folder");
    check_bad("stable+rustflag=x", 8, "unknown key `rustflag`; did you mean `rustflags`?");
    check_bad("stable+weather=x", 8, "known are `rustflags`, `rustdocflags`, `cargoflags`, `target`");
    check_bad("stable+rustflags", 17, "`rustflags` has no value");
    check_bad("stable+rustflags=", 18, "`rustflags` has no words");
    check_bad("stable+rustflags=-C target-feature=+avx2", 37, "must be quoted: `+rustflags=\"…\"`");
    check_bad("stable+rustflags=\"-D", 18, "the quote `\"` is not closed");
    check_bad("stable+rustflags=\"-D\" x", 22, "quote all of the value");
    check_bad("é+target=x", 1, "is not a toolchain name");
    check_bad("stable+env=A", 12, "has no `=`; such as `+env=NAME=VALUE`");
    check_bad("stable+env=A=1+env=A=2", 20, "`env=A` is there twice");
    check_bad("stable+env=PATH=/x", 12, "`PATH` is set by maar itself");
    check_bad("stable+env=RUSTFLAGS=-D x", 12, "use `+rustflags=…`");
    check_bad("stable+target=a+target=b", 24, "`target` is there twice");
    check_bad("stable+target=a b", 15, "is not a platform");
    check_bad("stable+cargoflags=-q --release", 19, "use `+profile=release`");
    check_bad("stable+cargoflags=--target=x", 19, "use `+target=NAME`");
    check_bad("stable+cargoflags=-j4", 19, "maar gives `--jobs` itself");
    check_bad("stable+patch=a=https://host.example/a#main", 14, "branches move");
    check_bad("stable+patch=a=https://host.example/a", 14, "names no commit");
    check_bad("stable+patch=a=ssh://host.example/a#0123456", 14, "is not an https URL");
    check_bad("stable+patch=a=", 14, "is not a folder or a URL");
    check_bad("stable+cargo=../x", 14, "a folder is written `path:../x`");
    check_bad("stable\u{7}", 7, "a control character");
    check_bad(&format!("stable+rustflags={}", "x".repeat(5000)), 4098, "4096 bytes");
}

#[test]
fn relative_paths_begin_where_they_were_written_and_labels_are_short() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(base.join("build/stage1")).unwrap();
    let spec = parse("path:build/../build/stage1+patch=a=x/a+cargo=path:build").unwrap().rooted(&base);
    let at = base.display();
    assert_eq!(spec.as_str(), format!("path:{at}/build/stage1+patch=a={at}/x/a+cargo=path:{at}/build"));
    assert_eq!(spec.label(), "path:stage1+patch=a=a+cargo=path:build");
    let git = parse("stable+patch=a=https://host.example/b/a.git#0123456789").unwrap();
    assert_eq!(git.label(), "stable+patch=a=a.git#0123456");
    assert_eq!(parse("stable").unwrap().rooted(&base).as_str(), "stable");
}

#[test]
fn what_steers_code_is_told_from_what_does_not() {
    for (text, expected) in [
        ("stable", None),
        ("stable+target=x86_64-unknown-linux-musl+profile=release+component=clippy+cargo=beta", None),
        ("path:/x", Some("path:")),
        ("stable+cargo=path:/x", Some("path:")),
        ("stable+rustdoc=path:/x", Some("path:")),
        ("stable+rustflags=-Clinker=x", Some("rustflags")),
        ("stable+rustdocflags=x", Some("rustdocflags")),
        ("stable+cargoflags=--config=x", Some("cargoflags")),
        ("stable+env=RUSTC_WRAPPER=x", Some("env")),
        ("stable+patch=a=/etc", Some("patch")),
    ] {
        assert_eq!(parse(text).unwrap().steering(), expected, "{text}");
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let text = || "[-a-zA-Z0-9+=\"'\\\\ #:/é]{1,12}";
    let words = || prop::collection::vec("[-a-zA-Z+=\"'\\\\ é]{0,8}", 0..4);
    let name = || "[a-z][a-z0-9_-]{0,8}";
    let base = || {
        let named = "[a-z0-9][a-z0-9.-]{0,8}".prop_map(Base::Named);
        prop_oneof![named, text().prop_map(|folder| Base::Path(folder.into()))]
    };
    let env = prop::collection::btree_map("X[A-Z]{1,4}", "[-a-z+=\"'\\\\ ]{0,8}", 0..3);
    let folder =
        text().prop_filter_map("a URL", |folder| (!folder.contains("://")).then(|| PatchSource::Folder(folder.into())));
    let git = "[0-9a-f]{7,40}".prop_map(|rev| PatchSource::Git { url: "https://h.example/a+b".to_owned(), rev });
    let patches = prop::collection::btree_map(name(), prop_oneof![folder, git], 0..3);
    let components = prop::collection::btree_set(name(), 0..3);
    let lists = (words(), words(), prop::option::of(name()), prop::option::of(name()));
    let programs = (prop::option::of(base()), prop::option::of(base()));
    (lists, env, patches, components, programs).prop_map(|(lists, env, patches, components, (cargo, rustdoc))| {
        let (rustflags, rustdocflags, target, profile) = lists;
        let cargoflags = Vec::new();
        Settings { rustflags, rustdocflags, cargoflags, target, profile, env, patches, components, cargo, rustdoc }
    })
}

proptest! {
    #[test]
    fn specs_print_back_to_what_was_parsed(settings in settings(), name in "[a-z0-9][a-z0-9.-]{0,8}") {
        let spec = ToolchainSpec::new(Base::Named(name), settings);
        prop_assert_eq!(spec.as_str().parse::<ToolchainSpec>(), Ok(spec));
    }

    #[test]
    fn what_parses_prints_to_what_parses_alike(text in "(stable|path:x|1\\.95)(\\+(rustflags|env|patch|target|cargo|x)?=?[-a-zA-Z0-9+=\"'\\\\ #/]{0,12}){0,4}") {
        if let Ok(spec) = text.parse::<ToolchainSpec>() {
            prop_assert_eq!(spec.as_str().parse::<ToolchainSpec>(), Ok(spec));
        }
    }

    #[test]
    fn nonsense_never_panics_and_its_error_names_a_column(text in "\\PC{0,60}") {
        if let Err(error) = text.parse::<ToolchainSpec>() {
            prop_assert!(error.column >= 1 && error.column <= text.chars().count() + 1, "{}", error);
        }
    }
}
