//! Compiled dependencies that crates share: nothing is compiled twice, nothing that a stranger wrote is believed, and
//! verdicts are the same without.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cases::two_toolchains;
use crate::support::fixture::Fixture;
use crate::world::{Ran, World, text};

/// A library whose answer tests can check.
pub(crate) fn library() -> Fixture {
    Fixture::new("library", "1.0.0").lib("pub fn answer() -> u32 { 42 }")
}

/// A crate that passes only if the library is what its author wrote.
pub(crate) fn checking(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0").dep("library", "1").lib("#[test] fn answer() { assert_eq!(library::answer(), 42); }")
}

/// Changes every file of the library that it can reach, each in every way, and adds a new one.
const POISON: &str = r#"
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    pub fn poison(dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                poison(&path);
            } else if path.to_string_lossy().contains("library") {
                let _ = fs::write(&path, "poison");
                let _ = fs::File::open(&path).and_then(|file| file.set_modified(std::time::SystemTime::now()));
                let _ = fs::hard_link(&path, path.with_extension("linked"));
                let _ = fs::remove_file(&path);
                let _ = symlink("/etc/passwd", &path);
            }
        }
        let planted = dir.join(".fingerprint/library-0123456789abcdef");
        if dir.join(".fingerprint").exists() && fs::create_dir_all(&planted).is_ok() {
            let _ = fs::write(planted.join("lib-library"), "0123456789abcdef");
            let _ = fs::write(planted.join("lib-library.json"), "{}");
            let _ = fs::write(dir.join("deps/liblibrary-0123456789abcdef.rlib"), "poison");
        }
    }
"#;

fn poisoning(name: &str) -> Fixture {
    let main = format!("{POISON} fn main() {{ poison(Path::new(\"/crate/target\")); }}");
    Fixture::new(name, "1.0.0").file("build.rs", &main)
}

/// `script` and `tests`, which poison as a build script that had its dependency compiled before, and as a test.
pub(crate) fn poisoners() -> [Fixture; 2] {
    let test = format!("{POISON} #[test] fn run() {{ poison(Path::new(\"/crate/target\")); }}");
    let test = test.replace("pub fn", "#[cfg(test)] fn").replace("    use", "    #[cfg(test)] use");
    [poisoning("script").dep("library", "1"), Fixture::new("tests", "1.0.0").dep("library", "1").lib(&test)]
}

/// One crate after the other, in this order.
pub(crate) fn experiment(world: &World, name: &str, crates: &[&str]) {
    // The script spoils its own target folder too, as far as it is filled by then, which cargo doesn't promise.
    let workers = "workers = { fetch = 1, build = 1, test = 1 }\nin-flight = 1\n[crate.script]\nskip = [\"test\"]";
    world.write("maar.toml", &format!("name = {name:?}\ntoolchains = [\"stable\"]\ncrates = {crates:?}\n{workers}"));
}

/// Runs it with layers and without; gives the verdicts, which must be the same.
pub(crate) fn verdicts(world: &World, crates: &[&str]) -> Vec<String> {
    experiment(world, "shared", crates);
    world.run(&[]);
    let shared = world.verdicts("shared");
    experiment(world, "alone", crates);
    world.run(&["--no-cache"]);
    assert_eq!(world.verdicts("alone"), shared);
    shared
}

/// Every file of every layer: its contents and its times.
pub(crate) fn layers(world: &World) -> BTreeMap<PathBuf, (Vec<u8>, i64, u64)> {
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, (Vec<u8>, i64, u64)>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                walk(&path, found);
            } else if path.components().any(|part| part.as_os_str() == "files") {
                found.insert(path.clone(), (fs::read(&path).unwrap(), metadata.mtime(), metadata.size()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&world.home().join("cache/layers"), &mut found);
    found
}

/// Layers, compiled and reused, as `maar cache` prints them.
pub(crate) fn tally(world: &World) -> [usize; 3] {
    let ran = world.maar(&["cache"]);
    let line = ran.stdout.lines().nth(1).unwrap_or_default();
    let columns: Vec<&str> = line.split("  ").filter(|column| !column.is_empty()).map(str::trim).collect();
    [columns[0], columns[3], columns[4]].map(|column| column.parse().unwrap())
}

/// The units of a report, none of which was compiled in an op.
fn units(compiled: usize, reused: usize) -> Value {
    json!({ "compiled": compiled, "reused": reused, "in_op": 0, "again": 0 })
}

#[test]
fn a_dependency_is_compiled_once_for_all_crates_and_ops() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([library(), checking("one"), checking("two")]);
    experiment(&world, "fixtures", &["one", "two"]);
    let ran = world.run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tally(&world), [1, 1, 3], "compiled for the first of four ops");
    let report = world.report("fixtures");
    assert_eq!(report["runs"][0]["units"], units(1, 3));
    let of_ops =
        |krate: usize| report["crates"][krate]["results"][0]["ops"].as_array().unwrap().iter().map(|op| &op["units"]);
    let none = units(0, 0);
    let reused = units(0, 1);
    assert_eq!(of_ops(0).collect::<Vec<_>>(), [&none, &units(1, 0), &reused]);
    assert_eq!(of_ops(1).collect::<Vec<_>>(), [&none, &reused, &reused]);
    for krate in ["one", "two"] {
        let log = world.log(&[krate, "--op", "build"]);
        assert!(log.contains(&format!("Compiling {krate} v1.0.0")), "{log}");
        assert!(!log.contains("Compiling library"), "{log}");
    }
    let ran = world.maar(&["run", "--progress", "none", "--fresh"]);
    assert!(ran.stdout.contains("\nunits   0 compiled, 4 reused\n"), "{}", ran.stdout);
    let ran = world.maar(&["run", "--progress", "none", "--fresh", "--no-cache"]);
    assert!(ran.stdout.contains("\nunits   none shared\n"), "{}", ran.stdout);
    let log = world.log(&["two", "--op", "build"]);
    assert!(log.contains("Compiling library v1.0.0"), "{log}");
    assert_eq!(tally(&world), [1, 1, 7]);
}

#[test]
fn layers_outlive_the_experiment_until_they_are_collected() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([library(), checking("one"), checking("two")]);
    assert!(world.maar(&["cache"]).stdout.starts_with("no compiled dependencies yet"));
    experiment(&world, "first", &["one"]);
    world.run(&[]);
    let before = layers(&world);
    experiment(&world, "fixtures", &["two"]);
    assert_eq!(world.run(&[]).code, Some(0));
    assert_eq!(layers(&world), before);
    assert!(!world.log(&["two", "--op", "build"]).contains("Compiling library"));

    assert!(world.maar(&["cache", "gc", "--budget", "1GiB"]).stdout.starts_with("removed 0 layers"));
    let ran = world.maar(&["cache", "gc", "--budget", "0B"]);
    assert!(ran.stdout.starts_with("removed 1 layer, ") && ran.stdout.ends_with("; 0 B left\n"), "{}", ran.stdout);
    assert_eq!(layers(&world), BTreeMap::new());
    assert_eq!(world.run(&["--fresh"]).code, Some(0));
    assert_eq!(tally(&world)[0], 1);
}

#[test]
fn a_run_keeps_the_layers_within_the_budget_of_its_experiment() {
    if !two_toolchains() {
        return;
    }
    let other = Fixture::new("other", "1.0.0").lib("pub fn other() {}");
    let using = Fixture::new("using", "1.0.0").dep("other", "1");
    let world = World::new([library(), checking("one"), other, using]);
    let file = |name: &str, krate: &str, budget: u64| {
        let settings = "toolchains = [\"stable\"]\nops = [\"prepare\", \"build\"]";
        world.write(
            "maar.toml",
            &format!("name = {name:?}\ncrates = [{krate:?}]\n{settings}\ncache-budget = \"{budget}B\""),
        );
    };
    // In whole blocks, and one more for each file.
    let size =
        |world: &World| layers(world).values().map(|(_, _, size)| size.next_multiple_of(4096) + 4096).sum::<u64>();
    let notes = |ran: &Ran| {
        let notes = ran.events().into_iter().filter(|event| event["event"] == "note");
        notes.map(|note| text(&note["text"]).to_owned()).filter(|note| note.starts_with("cache: ")).collect::<Vec<_>>()
    };

    file("first", "one", 1 << 30);
    assert_eq!(notes(&world.run(&[])), [""; 0]);
    let of_library = size(&world);
    assert_eq!(tally(&world)[0], 1);
    age_layers(&world);
    // Both together are a byte too much; the library was not used for longer.
    file("second", "using", 1 << 30);
    world.run(&[]);
    let of_other = size(&world) - of_library;
    file("second", "using", of_library + of_other - 1);
    let ran = world.run(&["--fresh"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let [note] = &notes(&ran)[..] else { panic!("{}", ran.stdout) };
    assert!(note.starts_with("cache: removed 1 layer, "), "{note}");
    assert_eq!(size(&world), of_other);
    assert!(layers(&world).keys().all(|path| !path.to_string_lossy().contains("library")));

    file("first", "one", 0);
    let ran = world.run(&["--fresh", "--no-cache"]);
    assert_eq!((notes(&ran), size(&world)), (Vec::new(), of_other), "what a run doesn't share is none of its business");
    let ran = world.run(&["--fresh"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(notes(&ran)[0].ends_with("; 0 B left; cache-budget is 0 B"), "{}", ran.stdout);
    assert_eq!(layers(&world), BTreeMap::new());
}

/// As if no layer had been used for half a century.
fn age_layers(world: &World) {
    let keys = fs::read_dir(world.home().join("cache/layers")).unwrap();
    let folders = keys.flat_map(|key| fs::read_dir(key.unwrap().path()).unwrap());
    let records = folders.map(|folder| folder.unwrap().path().join("record.json")).filter(|record| record.exists());
    records.for_each(|record| fs::File::open(record).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap());
}

#[test]
fn collections_beside_a_run_take_nothing_from_under_it() {
    if !two_toolchains() {
        return;
    }
    let names = ["one", "two", "three", "four"];
    let world = World::new(names.map(checking).into_iter().chain([library()]));
    world.write("maar.toml", &format!("name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = {names:?}\n"));
    let mut run = world.command(&["run", "--progress", "none"]);
    let run = std::thread::spawn(move || Ran::from(run.output().unwrap()));
    while !run.is_finished() {
        let ran = world.maar(&["cache", "gc", "--budget", "0B"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
    let ran = run.join().unwrap();
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(world.verdicts("fixtures"), names.map(|name| format!("{name}@1.0.0 pass")));
    for name in names {
        let log = world.log(&[name]);
        assert!(!log.contains("no compiled dependencies are shared"), "{log}");
    }
}

#[test]
fn a_crate_cannot_get_anything_into_a_layer() {
    if !two_toolchains() {
        return;
    }
    let world = World::new(poisoners().into_iter().chain([library(), checking("victim")]));
    experiment(&world, "before", &["script"]);
    world.run(&[]);
    let before = layers(&world);
    assert!(!before.is_empty());
    let verdicts = verdicts(&world, &["tests", "script", "victim"]);
    assert_eq!(verdicts, ["tests@1.0.0 pass", "script@1.0.0 pass", "victim@1.0.0 pass"]);
    assert_eq!(layers(&world), before);
}

#[test]
fn a_dependency_cannot_change_the_layers_of_crates_that_do_not_have_it() {
    if !two_toolchains() {
        return;
    }
    let carrier = Fixture::new("carrier", "1.0.0").dep("hostile", "1").dep("library", "1");
    let world = World::new([library(), poisoning("hostile"), carrier, checking("victim")]);
    let verdicts = verdicts(&world, &["carrier", "victim"]);
    assert_eq!(verdicts, ["carrier@1.0.0 pass", "victim@1.0.0 pass"]);
    // Its own units are shared, also with crates that depend on it; those of the library are as rustc wrote them.
    let of_library: Vec<_> =
        layers(&world).into_iter().filter(|(path, _)| path.to_string_lossy().contains("library")).collect();
    assert!(of_library.iter().all(|(_, (bytes, ..))| bytes != b"poison"), "{of_library:?}");
    assert!(of_library.iter().all(|(path, _)| !path.to_string_lossy().contains("0123456789abcdef")));
    assert_eq!(tally(&world)[0], 4, "one of the library, and a script, its run and a library of the other one");
}

#[test]
fn a_build_script_that_runs_in_every_build_changes_nothing_that_is_compiled_beside_it() {
    if !two_toolchains() {
        return;
    }
    // Cargo runs it again wherever it finds it compiled.
    let script = "println!(\"cargo:rerun-if-changed=/nowhere\"); poison(Path::new(\"/crate/target\"));";
    let hostile = Fixture::new("hostile", "1.0.0").file("build.rs", &format!("{POISON} fn main() {{ {script} }}"));
    let first = Fixture::new("first", "1.0.0").dep("hostile", "1");
    let later = Fixture::new("later", "1.0.0").dep("hostile", "1").dep("library", "1");
    let world = World::new([library(), hostile, first, later, checking("victim")]);
    experiment(&world, "shared", &["first", "later", "victim"]);
    world.run(&[]);
    assert_eq!(world.verdicts("shared")[2], "victim@1.0.0 pass");
    let forged = |path: &&PathBuf| path.to_string_lossy().contains("library-0123456789abcdef");
    let layers = layers(&world);
    assert_eq!(layers.keys().find(forged), None);
    assert!(layers.keys().any(|path| path.to_string_lossy().contains("liblibrary")), "it is shared");
}

#[test]
fn what_a_dependency_sets_up_for_others_works_as_without_layers() {
    if !two_toolchains() {
        return;
    }
    let generated = Fixture::new("generated", "1.0.0")
        .file(
            "build.rs",
            "fn main() { let out = std::env::var(\"OUT_DIR\").unwrap(); \
             std::fs::write(format!(\"{out}/n.rs\"), \"42\").unwrap(); println!(\"cargo:rustc-cfg=probed\"); }",
        )
        .lib("#[cfg(probed)] pub const N: u32 = include!(concat!(env!(\"OUT_DIR\"), \"/n.rs\"));");
    let broken = Fixture::new("broken-dep", "1.0.0").lib("compile_error!(\"no\");");
    let using = |name: &str| {
        Fixture::new(name, "1.0.0").dep("generated", "1").lib("#[test] fn n() { assert_eq!(generated::N, 42); }")
    };
    let unlucky = Fixture::new("unlucky", "1.0.0").dep("broken-dep", "1").dep("generated", "1");
    let world = World::new([generated, broken, using("one"), using("two"), unlucky]);
    let verdicts = verdicts(&world, &["one", "two", "unlucky"]);
    let reason = "dependency broken-dep v1.0.0 does not compile: no";
    let unlucky = format!("unlucky@1.0.0 build-fail: build@stable: {reason}");
    let expected = ["one@1.0.0 pass", "two@1.0.0 pass", unlucky.as_str()];
    assert_eq!(verdicts, expected);
    let report = world.report("shared");
    assert_eq!(text(&report["crates"][2]["results"][0]["outcome"]), "failed");
}

#[test]
fn crates_that_begin_together_compile_what_they_share_once() {
    if !two_toolchains() {
        return;
    }
    // Takes its compiler long enough for all of them to want it.
    let slow = Fixture::new("slow", "1.0.0").lib(
        "const fn count(n: u64) -> u64 { let mut i = 0; while i < n { i += 1; } i }
              #[allow(long_running_const_eval)] pub const N: u64 = count(3_000_000);",
    );
    let using = |name: &str| Fixture::new(name, "1.0.0").dep("slow", "1").lib("pub const N: u64 = slow::N;");
    let world = World::new([slow, using("one"), using("two"), using("three"), using("four")]);
    let workers = "workers = { fetch = 4, build = 4, test = 1 }\nin-flight = 4\nops = [\"prepare\", \"build\"]";
    let crates = "crates = [\"one\", \"two\", \"three\", \"four\"]";
    world.write("maar.toml", &format!("name = \"together\"\ntoolchains = [\"stable\"]\n{crates}\n{workers}"));
    let ran = world.run(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(tally(&world), [1, 1, 3]);
}

#[test]
fn a_crate_finds_no_second_copy_of_a_dependency_that_others_wanted_otherwise() {
    if !two_toolchains() {
        return;
    }
    // As tests do that call rustc with `-L /crate/target/debug/deps`, which fails if there are two of a name.
    let using = |name: &str, profile: &str| {
        let package = format!("[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2021\"\n");
        Fixture::new(name, "1.0.0")
            .manifest(&format!("{package}[dependencies]\nlibrary = \"1\"\n{profile}"))
            .lib(
                "#[test] fn is_alone() {
                     let names = std::fs::read_dir(\"/crate/target/debug/deps\").unwrap().map(|entry| entry.unwrap().file_name());
                     let is_copy = |name: &str| name.starts_with(\"liblibrary-\") && name.ends_with(\".rlib\");
                     assert_eq!(names.filter(|name| is_copy(name.to_str().unwrap())).count(), 1);
                 }",
            )
    };
    let optimized = "[profile.dev.package.library]\nopt-level = 1\n";
    let world = World::new([library(), using("one", ""), using("two", optimized), using("three", "")]);
    assert_eq!(verdicts(&world, &["one", "two", "three"]), ["one@1.0.0 pass", "two@1.0.0 pass", "three@1.0.0 pass"]);
    assert_eq!(tally(&world), [2, 2, 4]);
}

#[test]
fn what_a_build_script_leaves_outside_its_folder_is_there_for_every_crate() {
    if !two_toolchains() {
        return;
    }
    let native = Fixture::new("native", "1.0.0").file(
        "build.rs",
        "fn main() { let out = std::env::var(\"OUT_DIR\").unwrap(); \
         std::fs::write(format!(\"{out}/../../../deps/libnative.so\"), \"native\").unwrap(); }",
    );
    let using = |name: &str| {
        Fixture::new(name, "1.0.0").dep("native", "1").dep("library", "1").lib(
            "#[test] fn is_there() { assert!(std::path::Path::new(\"/crate/target/debug/deps/libnative.so\").exists()); }",
        )
    };
    let world = World::new([library(), native, using("one"), using("two")]);
    assert_eq!(verdicts(&world, &["one", "two"]), ["one@1.0.0 pass", "two@1.0.0 pass"]);
    assert_eq!(tally(&world)[0], 1, "the library can be shared");
}

#[test]
fn a_crate_whose_manifest_has_a_say_in_how_all_is_compiled_shares_nothing() {
    if !two_toolchains() {
        return;
    }
    let manifest = "cargo-features = [\"profile-rustflags\"]\n[package]\nname = \"flags\"\nversion = \"1.0.0\"\n\
                    edition = \"2021\"\n[dependencies]\nlibrary = \"1\"\n[profile.dev]\nrustflags = [\"--cfg=changed\"]\n";
    let flags = Fixture::new("flags", "1.0.0")
        .manifest(manifest)
        .lib("#[test] fn answer() { assert_eq!(library::answer(), 43); }");
    let library = Fixture::new("library", "1.0.0")
        .lib("#![allow(unexpected_cfgs)] pub fn answer() -> u32 { if cfg!(changed) { 43 } else { 42 } }");
    let world = World::new([library, flags, checking("plain")]);
    world
        .write("maar.toml", "name = \"x\"\ntoolchains = [\"nightly\"]\ncrates = [\"flags\", \"plain\"]\nin-flight = 1");
    world.run(&[]);
    assert_eq!(world.verdicts("x"), ["flags@1.0.0 pass", "plain@1.0.0 pass"]);
    assert_eq!(tally(&world), [1, 1, 1], "for the plain one alone");
}

#[test]
fn an_op_of_the_users_own_is_in_nobodys_way_later() {
    if !two_toolchains() {
        return;
    }
    // It compiles the library in the crate's own folder, under which no layer can be laid any more.
    let own = "ops = [\"prepare\", \"own\", \"test\"]\n[op.own]\nstage = \"build\"\nrun = [\"cargo\", \"test\", \"--no-run\"]";
    let world = World::new([library(), checking("one")]);
    for (name, ops, units) in [("first", own, [0, 0, 1]), ("second", "", [1, 1, 0]), ("third", own, [0, 2, 0])] {
        world.write("maar.toml", &format!("name = {name:?}\ntoolchains = [\"stable\"]\ncrates = [\"one\"]\n{ops}"));
        let ran = world.run(&[]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let [compiled, reused, in_op] = units;
        let expected = json!({ "compiled": compiled, "reused": reused, "in_op": in_op, "again": 0 });
        assert_eq!(world.report(name)["runs"][0]["units"], expected, "{name}");
    }
}
