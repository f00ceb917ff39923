//! Dependencies that try to change other crates' packages: with compiled dependencies shared, every verdict is the same
//! as without, and nothing of them is found in the layers of crates that don't build them.

use std::time::Duration;

use crate::cases::two_toolchains;
use crate::layers::{checking, layers, library};
use crate::support::fixture::{Dep, Fixture};
use crate::world::World;

/// Waits for the library to be compiled, then spoils every file of it.
const SPOIL: &str = "
    for i in 1 2 3 4 5 6 7 8 9 10; do ls /crate/target/debug/deps/liblibrary-*.rlib >/dev/null 2>&1 && break; sleep 1; done
    for file in /crate/target/debug/deps/*library-* /crate/target/debug/deps/*bridge-*; do echo poison > $file; done 2>/dev/null
";

/// A build script that does the same.
fn spoiling() -> String {
    format!("fn main() {{ std::process::Command::new(\"sh\").args([\"-c\", {SPOIL:?}]).status().unwrap(); }}")
}

/// Runs the crates one after the other, with layers and without; returns the verdicts, which must be the same.
fn verdicts(world: &World, toolchain: &str, crates: &[&str], settings: &str) -> Vec<String> {
    let mut verdicts = Vec::new();
    for (name, flags) in [("shared", &[][..]), ("alone", &["--no-cache"])] {
        let rest = format!("workers = {{ fetch = 1, build = 1, test = 1 }}\nin-flight = 1\n{settings}");
        let text = format!("name = {name:?}\ntoolchains = [{toolchain:?}]\ncrates = {crates:?}\n{rest}");
        world.write("maar.toml", &text);
        world.run(flags);
        verdicts.push(world.verdicts(name));
    }
    assert_eq!(verdicts[0], verdicts[1], "with layers and without");
    verdicts.swap_remove(0)
}

fn all_pass(crates: &[&str]) -> Vec<String> {
    crates.iter().map(|name| format!("{name}@1.0.0 pass")).collect()
}

/// Whether a file of a layer holds these bytes.
fn is_in_layers(world: &World, text: &str) -> bool {
    let has = |bytes: &Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    layers(world).values().any(|(bytes, ..)| has(bytes))
}

#[test]
fn a_package_that_is_linked_runs_code_and_an_attribute_makes_no_library_one() {
    if !two_toolchains() {
        return;
    }
    // The linker runs a program that link arguments name, and a nightly rustc takes these from the source.
    let source = |attribute: &str| {
        format!(
            "{attribute} #![feature(link_arg_attribute)]
             #[link(kind = \"link-arg\", name = \"-wrapper\", modifiers = \"+verbatim\")] unsafe extern \"C\" {{}}
             #[link(kind = \"link-arg\", name = \"sh,/cargo/vendor/linked-1.0.0/run\", modifiers = \"+verbatim\")]
             unsafe extern \"C\" {{}}
             pub fn main() {{}}"
        )
    };
    for (kind, attribute) in [("bin", ""), ("cdylib", ""), ("lib", "#![crate_type = \"bin\"]")] {
        let manifest = "[package]\nname = \"linked\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[lib]\ncrate-type = ";
        let linked = Fixture::new("linked", "1.0.0")
            .manifest(&format!("{manifest}[{kind:?}]\n"))
            .lib(&source(attribute))
            .file("run", &format!("{SPOIL}\nexec \"$@\"\n"));
        let carrier = Fixture::new("carrier", "1.0.0").dep("linked", "1").dep("library", "1");
        let world = World::new([library(), linked, carrier, checking("victim")]);
        let settings = "ops = [\"prepare\", \"test\"]";
        let found = verdicts(&world, "nightly", &["carrier", "victim"], settings);
        assert_eq!(found[1], "victim@1.0.0 pass", "{kind} {attribute}");
        assert!(!is_in_layers(&world, "poison"), "{kind} {attribute}");
        assert!(layers(&world).keys().any(|path| path.to_string_lossy().contains("liblibrary")), "it is shared");
    }
}

#[test]
fn a_dependency_that_this_build_does_not_have_is_not_code_that_it_runs() {
    if !two_toolchains() {
        return;
    }
    // The second one holds only for a rustc that takes itself for a nightly one.
    for target in ["cfg(windows)", "cfg(target_thread_local)"] {
        let inactive = Dep { name: "hostile".to_owned(), requirement: "1".to_owned(), target, ..Dep::default() };
        let optional = Dep { target: "", is_optional: true, ..inactive.clone() };
        for dep in [inactive, optional] {
            let bridge = Fixture::new("bridge", "1.0.0").with(dep).lib("pub fn answer() -> u32 { 42 }");
            let hostile =
                Fixture::new("hostile", "1.0.0").file("build.rs", &spoiling().replace("liblibrary", "libbridge"));
            let carrier = Fixture::new("carrier", "1.0.0").dep("hostile", "1").dep("bridge", "1");
            let victim = Fixture::new("victim", "1.0.0")
                .dep("bridge", "1")
                .lib("#[test] fn answer() { assert_eq!(bridge::answer(), 42); }");
            let world = World::new([bridge, hostile, carrier, victim]);
            let found = verdicts(&world, "stable", &["carrier", "victim"], "ops = [\"prepare\", \"test\"]");
            assert_eq!(found[1], "victim@1.0.0 pass");
            assert!(!is_in_layers(&world, "poison"));
        }
    }
}

#[test]
fn a_dependency_that_leaves_files_anywhere_is_compiled_with_each_crate() {
    if !two_toolchains() {
        return;
    }
    let places = [
        "/home/maar/x",
        "/tmp/x",
        "/var/tmp/x",
        "/dev/shm/x",
        "/run/lock/x",
        "/crate/target/.x",
        "/crate/target/tmp/x",
        "/crate/target/debug/.x",
    ];
    let mut fixtures = vec![library()];
    let mut names = Vec::new();
    for (number, place) in places.iter().enumerate() {
        let script = format!(
            "fn main() {{ std::fs::create_dir_all(std::path::Path::new({place:?}).parent().unwrap()).unwrap(); \
             std::fs::write({place:?}, \"left\").unwrap(); }}"
        );
        fixtures.push(Fixture::new(&format!("leaves{number}"), "1.0.0").file("build.rs", &script));
        for name in [format!("one{number}"), format!("two{number}")] {
            let test = format!("#[test] fn is_there() {{ assert!(std::path::Path::new({place:?}).exists()); }}");
            let using =
                Fixture::new(&name, "1.0.0").dep(&format!("leaves{number}"), "1").dep("library", "1").lib(&test);
            fixtures.push(using);
            names.push(name);
        }
    }
    let world = World::new(fixtures);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(verdicts(&world, "stable", &names, "ops = [\"prepare\", \"test\"]"), all_pass(&names));
    assert!(layers(&world).keys().all(|path| !path.to_string_lossy().contains("leaves")));
}

#[test]
fn a_dependency_that_reads_the_crates_own_files_is_compiled_with_each_crate() {
    if !two_toolchains() {
        return;
    }
    let script = "fn main() { let text = std::fs::read(\"/crate/src/lib.rs\").unwrap(); \
                  std::fs::write(format!(\"{}/x\", std::env::var(\"OUT_DIR\").unwrap()), text).unwrap(); }";
    let nosy = |name: &str| Fixture::new(name, "1.0.0");
    let seen = |what: &str| format!("pub const SEEN: &str = include_str!({what});");
    let dependencies = [
        nosy("nosy1").lib(&seen("\"/crate/src/lib.rs\"")),
        nosy("nosy2").lib(&seen("\"/crate/Cargo.toml\"")),
        nosy("nosy3").lib(&seen("\"../../../../crate/Cargo.toml\"")),
        nosy("nosy4").file("build.rs", script).lib(&seen("concat!(env!(\"OUT_DIR\"), \"/x\")")),
        library(),
    ];
    let crates = ["first", "second"];
    let using = crates.map(|name| {
        let tests = (1..=4).map(|number| format!("assert!(nosy{number}::SEEN.contains(\"MARK-{name}\"));"));
        let body = tests.collect::<String>();
        let manifest = format!(
            "[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = \"MARK-{name}\"\n\
             [dependencies]\nlibrary = \"1\"\nnosy1 = \"1\"\nnosy2 = \"1\"\nnosy4 = \"1\"\nnosy3 = \"1\"\n"
        );
        Fixture::new(name, "1.0.0").manifest(&manifest).lib(&format!("#[test] fn sees() {{ {body} }}"))
    });
    let world = World::new(dependencies.into_iter().chain(using));
    let settings = "ops = [\"prepare\", \"test\"]";
    assert_eq!(verdicts(&world, "stable", &crates, settings), all_pass(&crates));
    assert!(!is_in_layers(&world, "MARK-first"));
    assert!(layers(&world).keys().any(|path| path.to_string_lossy().contains("liblibrary")), "it is shared");
}

#[test]
fn every_dependency_that_an_op_compiles_itself_has_a_reason_and_a_count() {
    if !two_toolchains() {
        return;
    }
    let script = "fn main() { std::fs::write(\"/tmp/x\", \"\").unwrap(); }";
    let leaves = Fixture::new("leaves", "1.0.0").file("build.rs", script);
    let above = Fixture::new("above", "1.0.0").dep("leaves", "1");
    // Tests are compiled in a profile of their own.
    let manifest = "[package]\nname = \"own\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\n\
                    library = \"1\"\nabove = \"1\"\n[profile.test]\nopt-level = 3\n";
    let own = Fixture::new("own", "1.0.0").manifest(manifest).lib("").dep("library", "1").dep("above", "1");
    let world = World::new([library(), leaves, above, own]);
    world.write("maar.toml", "name = \"x\"\ntoolchains = [\"stable\"]\ncrates = [\"own\"]\n");
    let of_ops = |flags: &[&str]| {
        world.run(flags);
        let report = world.report("x");
        let ops = report["crates"][0]["results"][0]["ops"].as_array().unwrap();
        ops.iter().map(|op| op["units"].clone()).collect::<Vec<_>>()
    };
    let units = |compiled: usize, reused: usize, in_op: usize| serde_json::json!({ "compiled": compiled, "reused": reused, "in_op": in_op, "again": 0 });
    // The script, its run, its library and the one above it.
    assert_eq!(of_ops(&[]), [units(0, 0, 0), units(1, 0, 4), units(0, 1, 0)]);
    let why = world.maar(&["cache", "--why", "x", "own"]);
    let reason = "something was left at `/tmp` in the cell that compiled it\n";
    let expected = format!("build@stable: above-1.0.0: {reason}build@stable: leaves-1.0.0: {reason}");
    assert!(why.stdout.starts_with(&expected), "{}{}", why.stdout, why.stderr);
    assert_eq!(of_ops(&["--fresh"]), [units(0, 0, 0), units(0, 1, 4), units(0, 1, 0)]);
}

#[test]
fn a_dependency_that_never_ends_keeps_no_other_crate_waiting() {
    if !two_toolchains() {
        return;
    }
    let endless = Fixture::new("endless", "1.0.0")
        .lib("const fn count() -> u64 { loop {} } #[allow(long_running_const_eval)] pub const N: u64 = count();");
    let stuck = |name: &str| Fixture::new(name, "1.0.0").dep("endless", "1").dep("library", "1");
    let world = World::new([library(), endless, stuck("stuck1"), stuck("stuck2"), checking("victim")]);
    let limit = Duration::from_secs(45);
    world.write(
        "maar.toml",
        &format!(
            "name = \"x\"\ntoolchains = [\"stable\"]\ncrates = [\"stuck1\", \"stuck2\", \"victim\"]\nin-flight = 3\n\
             workers = {{ fetch = 3, build = 3, test = 1 }}\nops = [\"prepare\", \"build\"]\n\
             [limits]\ntimeout = \"{}s\"\n",
            limit.as_secs()
        ),
    );
    world.run(&[]);
    assert_eq!(world.verdicts("x")[2], "victim@1.0.0 pass");
    let report = world.report("x");
    let wall = |krate: usize| {
        let ops = report["crates"][krate]["results"][0]["ops"].as_array().unwrap();
        ops.iter().map(|op| op["wall_ms"].as_f64().unwrap()).sum::<f64>() / 1000.0
    };
    assert!(wall(2) < limit.as_secs_f64(), "the victim took {} s", wall(2));
    // Each is at it once ahead and once in the op.
    for krate in 0..2 {
        assert!(wall(krate) < limit.as_secs_f64() * 2.8, "stuck for {} s", wall(krate));
    }
}
