//! Holds the direction of the house: a room uses only the rooms that ARCHITECTURE.md lets it know.

#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions, and here is nothing else")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may know, from the ground up.
const ROOMS: [(&str, &[&str]); 24] = [
    ("krate", &[]),
    ("nearest", &[]),
    ("outcome", &[]),
    ("owner", &[]),
    ("printable", &[]),
    ("stop", &[]),
    ("toolchain", &["nearest"]),
    ("sandbox", &["owner", "stop"]),
    ("home", &["sandbox"]),
    ("host", &["sandbox"]),
    ("pipeline", &["stop"]),
    ("trace", &["pipeline"]),
    ("registry", &["krate", "nearest", "outcome", "owner"]),
    ("cache", &["owner", "registry", "sandbox", "toolchain"]),
    ("ops", &["cache", "krate", "outcome", "owner", "printable", "registry", "sandbox", "stop", "toolchain"]),
    ("experiment", &["krate", "nearest", "ops", "registry", "sandbox", "toolchain"]),
    ("plan", &["experiment", "krate", "ops", "outcome", "sandbox", "toolchain"]),
    ("schedule", &["krate", "ops", "plan"]),
    ("compare", &["krate", "ops", "outcome", "plan", "toolchain"]),
    ("simulate", &["compare", "experiment", "ops", "pipeline", "plan", "schedule", "stop"]),
    ("store", &["compare", "krate", "ops", "outcome", "plan", "sandbox", "schedule", "toolchain"]),
    ("report", &["compare", "krate", "ops", "outcome", "plan", "printable", "sandbox", "store", "toolchain"]),
    ("progress", &["compare", "outcome", "pipeline", "printable"]),
    (
        "run",
        &[
            "compare",
            "experiment",
            "home",
            "host",
            "krate",
            "ops",
            "outcome",
            "pipeline",
            "plan",
            "progress",
            "registry",
            "sandbox",
            "schedule",
            "stop",
            "store",
            "trace",
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
