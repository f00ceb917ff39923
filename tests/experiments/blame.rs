//! Archives and manifests that cargo can't build: the crate is broken, the host is not to blame, and the rest runs.

use std::os::unix::fs::symlink;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::cases::two_toolchains;
use crate::layers::{checking, library};
use crate::support::fixture::Fixture;
use crate::world::World;

/// A tarball with these entries, byte by byte: a name that ends in `/` is a folder.
fn tarball(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, contents) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o755);
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        tar.append_data(&mut header, path, contents.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn a_crate_or_dependency_that_nobody_can_build_is_broken_and_says_why() {
    if !two_toolchains() {
        return;
    }
    let manifest = |name: &str| format!("[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    let odd = tarball(&[
        ("odd-seal-1.0.0/Cargo.toml", &manifest("odd-seal")),
        ("odd-seal-1.0.0/src/lib.rs", ""),
        ("odd-seal-1.0.0/.cargo-checksum.json/folder/", ""),
    ]);
    let bare = tarball(&[("bare-1.0.0/src/lib.rs", "")]);
    let folder = tarball(&[("folder-1.0.0/Cargo.toml/", ""), ("folder-1.0.0/src/lib.rs", "")]);
    let using = |name: &str, of: &str| Fixture::new(name, "1.0.0").dep(of, "1");
    let away = |name: &str| {
        let text = manifest(name).replace("edition", "workspace = \"../..\"\nedition");
        Fixture::new(name, "1.0.0").manifest(&text).lib("")
    };
    let inside = manifest("inside").replace("edition", "workspace = \"sub\"\nedition");
    let fixtures = [
        Fixture::new("odd-seal", "1.0.0").tarball(&odd),
        using("uses-odd-seal", "odd-seal"),
        Fixture::new("bare", "1.0.0").tarball(&bare),
        using("uses-bare", "bare"),
        Fixture::new("empty", "1.0.0").tarball(&tarball(&[])),
        using("uses-empty", "empty"),
        Fixture::new("folder", "1.0.0").tarball(&folder),
        away("away"),
        Fixture::new("inside", "1.0.0")
            .manifest(&inside)
            .lib("")
            .file("sub/Cargo.toml", "[workspace]\nmembers = [\"..\"]\n"),
        library(),
        checking("good"),
    ];
    let world = World::new(fixtures);
    let crates =
        ["odd-seal", "uses-odd-seal", "bare", "uses-bare", "empty", "uses-empty", "folder", "away", "inside", "good"];
    world.write("maar.toml", &format!("name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = {crates:?}\n"));
    world.run(&[]);
    let verdicts = world.verdicts("fixtures");
    let expected = [
        "odd-seal@1.0.0 pass",
        "uses-odd-seal@1.0.0 pass",
        "bare@1.0.0 broken: prepare: bad archive: the tarball of bare-1.0.0: has no Cargo.toml",
        "uses-bare@1.0.0 broken: prepare: bad archive: the tarball of bare-1.0.0: has no Cargo.toml",
        "empty@1.0.0 broken: prepare: bad archive: the tarball of empty-1.0.0: has no Cargo.toml",
        "uses-empty@1.0.0 broken: prepare: bad archive: the tarball of empty-1.0.0: has no Cargo.toml",
        "folder@1.0.0 broken: prepare: bad archive: the tarball of folder-1.0.0: has no Cargo.toml",
    ];
    assert_eq!(verdicts[..7], expected);
    for verdict in &verdicts[7..9] {
        assert!(verdict.contains(" broken: prepare: "), "{verdict}");
        assert!(!verdict.contains(world.home().to_str().unwrap()), "{verdict}");
    }
    assert_eq!(verdicts[9], "good@1.0.0 pass");
}

#[test]
fn folders_that_hold_no_usable_package_are_broken_and_the_rest_runs() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([library(), checking("good")]);
    let package = "[package]\nname = \"x\"\nversion = \"1.0.0\"\n";
    world.write("one/Cargo.toml", "[package\nname = 1\n");
    world.write("two/one/Cargo.toml", &package.replace("1.0.0", "new"));
    world.write("outside.toml", package);
    world.write("linked/src/lib.rs", "");
    symlink("../outside.toml", world.path("linked/Cargo.toml")).unwrap();
    let crates = ["path:one", "path:two/one", "path:linked", "good"];
    world.write("maar.toml", &format!("name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = {crates:?}\n"));
    let ran = world.run(&[]);
    let verdicts = world.verdicts("fixtures");
    assert_eq!(verdicts.len(), 4, "{}", ran.stderr);
    assert!(verdicts[0].starts_with("one broken: Cargo.toml: line 1: "), "{verdicts:?}");
    assert!(verdicts[1].starts_with("one-2 broken: Cargo.toml: `new`: "), "{verdicts:?}");
    assert!(verdicts[2].starts_with("linked broken: Cargo.toml: it is a link that leads out of the folder"));
    assert_eq!(verdicts[3], "good@1.0.0 pass");
}

#[test]
fn escape_sequences_of_strangers_reach_no_terminal() {
    let world = World::new([]);
    let escape = "\u{1b}]0;owned\u{7}";
    let folder = format!("bad{escape}");
    world.write(&format!("{folder}/Cargo.toml"), "[package]\nname = \"a\\u001b[2Jb\"\nversion = \"\\u001b[31m\"\n");
    world.write("list.txt", &format!("serde{escape}\n"));
    world.write("keys.toml", "\"cra\\u001b[2Jtes\" = [\"a\"]\n");
    world.write("value.toml", "crates = [\"a\\u001b[2J\"]\ntoolchains = [\"\\u009b2J\"]\n");
    let file = format!("{escape}.toml");
    world.write(&file, "crates = 1\n");
    let folder = format!("path:{folder}");
    for args in [
        &["run", "--progress", "none", "-c", &folder][..],
        &["run", "-c", "list:list.txt"],
        &["run", "keys.toml"],
        &["run", "value.toml"],
        &["run", &file],
        &["run", "-c", "a", "--home", &format!("/proc/{escape}")],
        &["doctor", "--home", &format!("/proc/{escape}")],
    ] {
        // As on a terminal, where colours are maar's own.
        let mut command = world.command(args);
        let output = command.env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1").output().unwrap();
        for bytes in [&output.stdout, &output.stderr] {
            let text = std::str::from_utf8(bytes).unwrap();
            let mut parts = text.split("\u{1b}[");
            let first = parts.next().unwrap_or_default();
            let after = parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
            let after = after.map(|part| part.strip_prefix('m').unwrap_or("\u{1b}"));
            let bad = std::iter::once(first).chain(after).flat_map(str::chars).find(|&c| c.is_control() && c != '\n');
            assert_eq!(bad, None, "{args:?}: {text:?}");
        }
    }
}
