//! Holds the direction of the house: a room uses only the rooms that ARCHITECTURE.md lets it know.

#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions, and here is nothing else")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may know, from the ground up.
const ROOMS: [(&str, &[&str]); 33] = [
    ("exact", &[]),
    ("krate", &[]),
    ("libtest", &[]),
    ("nearest", &[]),
    ("outcome", &["exact"]),
    ("owner", &[]),
    ("printable", &[]),
    ("stop", &[]),
    ("toolchain", &["nearest"]),
    ("sandbox", &["exact", "owner", "stop"]),
    ("home", &["sandbox"]),
    ("host", &["sandbox"]),
    ("pipeline", &["stop"]),
    ("trace", &["pipeline"]),
    ("registry", &["krate", "nearest", "outcome", "owner", "printable"]),
    ("cache", &["owner", "sandbox", "toolchain"]),
    ("prebuild", &["cache"]),
    (
        "ops",
        &[
            "cache",
            "krate",
            "libtest",
            "outcome",
            "owner",
            "prebuild",
            "printable",
            "registry",
            "sandbox",
            "stop",
            "toolchain",
        ],
    ),
    ("experiment", &["exact", "krate", "nearest", "ops", "printable", "registry", "sandbox", "toolchain"]),
    ("plan", &["experiment", "krate", "libtest", "ops", "outcome", "sandbox", "toolchain"]),
    ("schedule", &["krate", "ops", "plan"]),
    ("compare", &["krate", "libtest", "ops", "outcome", "plan", "toolchain"]),
    ("event", &["compare", "ops", "outcome"]),
    ("simulate", &["compare", "experiment", "ops", "pipeline", "plan", "schedule", "stop"]),
    (
        "store",
        &["compare", "krate", "libtest", "nearest", "ops", "outcome", "plan", "sandbox", "schedule", "toolchain"],
    ),
    ("report", &["compare", "krate", "ops", "outcome", "plan", "printable", "sandbox", "store", "toolchain"]),
    ("progress", &["compare", "event", "ops", "outcome", "pipeline", "printable"]),
    // Of job numbers only.
    ("lease", &[]),
    ("wire", &["exact", "experiment", "krate", "libtest", "ops", "outcome", "plan", "toolchain"]),
    ("dispatch", &["experiment", "lease", "wire"]),
    (
        "run",
        &[
            "cache",
            "compare",
            "event",
            "experiment",
            "home",
            "host",
            "krate",
            "libtest",
            "nearest",
            "ops",
            "outcome",
            "pipeline",
            "plan",
            "printable",
            "registry",
            "sandbox",
            "schedule",
            "stop",
            "store",
            "toolchain",
            "trace",
        ],
    ),
    (
        "agent",
        &[
            "cache",
            "event",
            "experiment",
            "krate",
            "ops",
            "outcome",
            "pipeline",
            "plan",
            "printable",
            "progress",
            "run",
            "schedule",
            "stop",
            "store",
            "toolchain",
            "wire",
        ],
    ),
    (
        "serve",
        &[
            "compare",
            "dispatch",
            "experiment",
            "home",
            "host",
            "krate",
            "lease",
            "libtest",
            "nearest",
            "ops",
            "outcome",
            "plan",
            "printable",
            "progress",
            "registry",
            "report",
            // `Earlier` and `replay`, which are pure, and the report of stored results.
            "run",
            "sandbox",
            "schedule",
            "stop",
            "store",
            "toolchain",
            "wire",
        ],
    ),
];

#[test]
fn no_arrow_points_up() {
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.into_iter().collect();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for file in rust_files(&src) {
        let room = room_of(&src, &file);
        // The top of the house knows everything.
        if ["lib", "main", "cli"].contains(&room.as_str()) {
            continue;
        }
        let Some(may_know) = allowed.get(room.as_str()) else {
            panic!("room `{room}` is not in the table: add it here and to ARCHITECTURE.md");
        };
        seen.insert(room.clone());
        for used in rooms_used(&fs::read_to_string(&file).unwrap()) {
            if used != room && !may_know.contains(&used.as_str()) {
                wrong.insert(format!("{room} uses {used} ({})", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that point up:\n{wrong:#?}");
    assert_eq!(seen.len(), ROOMS.len(), "rooms in the table that are not in the house");
}

/// Rooms that deal with folders that cells have written to.
const DOORED: [&str; 3] = ["cache", "ops", "sandbox"];

/// Parts of them that meet no such folder: the door itself, the kernel's own files, and what builds a cell before any
/// command runs in it.
const APART: [&str; 3] = ["sandbox/files/", "sandbox/cgroup/", "sandbox/helper/"];

/// The files there that reach the host's file system in another way than through `sandbox::files`, with all the calls
/// by which they do, and why that is safe. A path that a cell could have made a link of has no place here.
const OTHER_DOORS: [(&str, &[&str], &str); 28] = [
    ("cache/collect.rs", &["fs::read_dir", "fs::read_to_string"], "layers, which only maar writes"),
    ("cache/key.rs", &["fs::metadata", "fs::read_to_string"], "the host's toolchains, system folders and ids"),
    (
        "cache/layer.rs",
        &[
            "File::open",
            "File::options",
            "fs::create_dir",
            "fs::create_dir_all",
            "fs::hard_link",
            "fs::metadata",
            "fs::read",
            "fs::remove_file",
            "fs::set_permissions",
            "fs::write",
        ],
        "layers and bases, which are below the overlays of cells",
    ),
    (
        "cache/layers.rs",
        &[
            "File::open",
            "File::options",
            "fs::create_dir_all",
            "fs::read_dir",
            "fs::remove_file",
            "fs::rename",
            "fs::set_permissions",
            "fs::write",
        ],
        "layers, notes and bases, which are below the overlays of cells",
    ),
    ("cache/tally.rs", &["fs::read", "fs::rename", "fs::write"], "layers, which only maar writes"),
    (
        "ops/ahead/outline.rs",
        &["fs::create_dir_all", "fs::set_permissions", "fs::write"],
        "a folder that cells see read-only",
    ),
    (
        "ops/ahead/stand_in.rs",
        &["File::options", "fs::set_permissions", "fs::write"],
        "a folder that cells see read-only",
    ),
    ("ops/prepare.rs", &["fs::read"], "the user's certificates"),
    (
        "ops/provide.rs",
        &["fs::create_dir", "fs::set_permissions", "fs::write"],
        "a folder of the run, made before any command runs, that cells see read-only",
    ),
    (
        "ops/workspace.rs",
        &["fs::chown", "fs::create_dir", "fs::read_dir", "fs::rename"],
        "the job's own folder, which no cell sees",
    ),
    (
        "sandbox/copy.rs",
        &[
            "File::open",
            "fs::copy",
            "fs::create_dir",
            "fs::lchown",
            "fs::read_dir",
            "fs::read_link",
            "fs::set_permissions",
            "fs::symlink",
        ],
        "sources as `prepare` left them, copied where no command has been yet",
    ),
    ("sandbox/console.rs", &["File::options"], "the user's terminal"),
    ("sandbox/docker/container.rs", &["fs::read_dir", "fs::remove_dir"], "the kernel's part of an overlay"),
    (
        "sandbox/docker/door.rs",
        &["DirBuilder::new", "File::open", "fs::remove_dir_all", "fs::remove_file", "fs::write"],
        "a folder that commands see read-only",
    ),
    (
        "sandbox/docker/import.rs",
        &["File::open", "fs::read_dir", "fs::read_link", "fs::symlink_metadata"],
        "the host's system folders",
    ),
    ("sandbox/docker/label.rs", &["fs::read_to_string"], "the kernel's own files"),
    ("sandbox/docker/mod.rs", &["fs::canonicalize"], "maar's own program"),
    (
        "sandbox/held_memory.rs",
        &["fs::metadata", "fs::read_dir", "fs::read_link", "fs::read_to_string"],
        "the kernel's own files, and the state of files that are open",
    ),
    ("sandbox/held_replies.rs", &["fs::metadata", "fs::read_to_string"], "the kernel's own files"),
    ("sandbox/live.rs", &["File::options", "fs::remove_file"], "the job's own folder, which no cell sees"),
    ("sandbox/host_memory.rs", &["fs::read_to_string"], "the kernel's own files"),
    (
        "sandbox/native.rs",
        &["fs::create_dir", "fs::create_dir_all", "fs::read_dir", "fs::remove_dir"],
        "the scratch folder and the kernel's part of an overlay, which no cell sees",
    ),
    ("sandbox/id_map.rs", &["fs::metadata", "fs::read_to_string"], "the kernel's own files"),
    ("sandbox/probe.rs", &["fs::create_dir", "fs::read_to_string"], "a folder of the probe's own"),
    ("sandbox/process_tree.rs", &["fs::metadata", "fs::read_dir", "fs::read_to_string"], "the kernel's own files"),
    (
        "sandbox/subordinate.rs",
        &["File::open", "fs::read_to_string"],
        "the kernel's own files, and the host's accounts",
    ),
    (
        "sandbox/unlinked.rs",
        &["fs::metadata", "fs::read_dir", "fs::read_to_string"],
        "the kernel's own files, and the state of files that are open",
    ),
    ("sandbox/users.rs", &["DirBuilder::new", "File::options"], "locks that are maar's user's alone"),
];

/// Commands run there as maar's own user, on the host's files: it has no wall to hold.
const WITHOUT_WALLS: &str = "sandbox/unconfined.rs";

#[test]
fn what_cells_have_written_is_reached_through_one_door() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    for file in DOORED.iter().flat_map(|room| rust_files(&src.join(room))) {
        let name = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        if APART.iter().any(|apart| name.starts_with(apart)) || name == WITHOUT_WALLS || is_test {
            continue;
        }
        let calls = file_calls(&fs::read_to_string(&file).unwrap());
        if !calls.is_empty() {
            found.insert(name, calls);
        }
    }
    let allowed: BTreeMap<String, BTreeSet<String>> = OTHER_DOORS
        .iter()
        .map(|(file, calls, _)| ((*file).to_owned(), calls.iter().map(|&call| call.to_owned()).collect()))
        .collect();
    assert_eq!(found, allowed, "go through sandbox::files, or say in the table why that is not needed");
}

/// Every call of the standard library's or nix's that takes a path of the file system, before the tests of a file.
fn file_calls(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut calls = BTreeSet::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//") && !line.starts_with("use ")) {
        for prefix in ["fs::", "File::", "DirBuilder::", "OpenOptions::"] {
            for (at, _) in line.match_indices(prefix) {
                let is_whole = !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
                let rest = &line[at + prefix.len()..];
                let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                // Made from open files.
                if is_whole && !name.is_empty() && name != "from" {
                    calls.insert(format!("{prefix}{name}"));
                }
            }
        }
    }
    calls
}

#[test]
fn another_door_would_be_found() {
    let text = "use std::fs;\n// fs::write(x)\nlet a = std::fs::read(&path);\nFile::open(x); File::from(y);\n\
                #[cfg(test)]\nmod tests {\nfs::remove_file(x);";
    let expected = ["File::open", "fs::read"].map(str::to_owned);
    assert_eq!(file_calls(text), expected.into());
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn room_of(src: &Path, file: &Path) -> String {
    let first = file.strip_prefix(src).unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

/// Every `NAME` of a `crate::NAME` that is not in a comment.
fn rooms_used(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.match_indices("crate::").map(|(at, prefix)| {
            let rest = &line[at + prefix.len()..];
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            rest[..end].to_owned()
        })
    })
    .filter(|name| !name.is_empty())
    .collect()
}
