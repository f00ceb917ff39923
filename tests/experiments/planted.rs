//! Links, pipes, holes and folders that a crate plants where maar will look: nothing behind them is read or changed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cases::two_toolchains;
use crate::layers::{checking, library};
use crate::support::fixture::Fixture;
use crate::world::World;

/// A text that no cell, log or report may ever show.
const SECRET: &str = "this-is-the-canary";

/// Replaces every file that it can reach in the target folder, and plants every name that maar or cargo looks for, by
/// turns as a link to `CANARY`, a pipe, a hole and a folder.
const PLANT: &str = r#"
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::process::Command;

    pub fn plant_at(path: &Path, turn: usize) {
        let _ = fs::remove_file(path);
        match turn % 4 {
            0 => drop(symlink("CANARY", path)),
            1 => drop(Command::new("mkfifo").arg(path).status()),
            2 => drop(fs::File::create(path).and_then(|file| file.set_len(1 << 30))),
            _ => drop(fs::create_dir_all(path.join("folder"))),
        }
    }

    pub fn plant(dir: &Path, turn: &mut usize) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                plant(&path, turn);
            } else if name.contains("planter") || name.contains("timestamp") {
                plant_at(&path, *turn);
                *turn += 1;
            }
        }
    }

    pub fn plant_all() {
        let target = Path::new("/crate/target");
        let mut turn = 0;
        plant(target, &mut turn);
        let unit = target.join("debug/.fingerprint/library-0123456789abcdef");
        let _ = fs::create_dir_all(&unit);
        for turn in 0..4 {
            plant_at(&target.join(format!("debug/deps/liblibrary-0123456789abcde{turn}.rlib")), turn);
            plant_at(&target.join(format!("debug/build/library-0123456789abcde{turn}")), turn);
            plant_at(&target.join(format!("debug/.fingerprint/other-0123456789abcde{turn}")), turn);
            plant_at(&unit.join(["lib-library", "lib-library.json", "invoked.timestamp", "dep-lib-library"][turn]), turn);
        }
        plant_at(&target.join(".rustc_info.json"), 0);
        plant_at(&target.join("CACHEDIR.TAG"), 1);
    }
"#;

#[test]
fn nothing_behind_what_a_crate_plants_is_read_or_changed() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([]);
    let canary = world.path("canary");
    let plant = PLANT.replace("CANARY", canary.to_str().unwrap());
    let script = format!("{plant} fn main() {{ plant_all(); }}");
    let test = format!("#[cfg(test)] mod t {{ {plant} #[test] fn run() {{ plant_all(); }} }}");
    let planter = Fixture::new("planter", "1.0.0").file("build.rs", &script);
    let carrier = Fixture::new("carrier", "1.0.0").dep("planter", "1").dep("library", "1");
    let tester = Fixture::new("tester", "1.0.0").dep("library", "1").lib(&test);
    drop(world);

    let world = World::at(canary.parent().unwrap(), [planter, carrier, tester, library(), checking("victim")]);
    fs::write(&canary, SECRET).unwrap();
    fs::set_permissions(&canary, Permissions::from_mode(0o640)).unwrap();
    let state = || {
        let metadata = fs::metadata(&canary).unwrap();
        (fs::read_to_string(&canary).unwrap(), metadata.mode(), metadata.mtime_nsec(), metadata.ctime_nsec())
    };
    let before = state();
    for (name, flags) in [("fixtures", &[][..]), ("again", &["--fresh"]), ("alone", &["--no-cache"])] {
        let crates = "crates = [\"carrier\", \"tester\", \"victim\"]\nin-flight = 1";
        world.write("maar.toml", &format!("name = {name:?}\ntoolchains = [\"stable\"]\n{crates}\n"));
        let ran = world.run(flags);
        assert_eq!(world.verdicts(name)[1..], ["tester@1.0.0 pass", "victim@1.0.0 pass"], "{name}: {}", ran.stdout);
        assert!(!world.report(name).to_string().contains(SECRET), "{name}");
        assert_eq!(state(), before, "{name}");
    }
    for krate in ["carrier", "tester", "victim"] {
        assert!(!world.log(&[krate]).contains(SECRET), "{krate}");
    }
    maar::sandbox::remove_folder(canary.parent().unwrap()).unwrap();
}

#[test]
fn a_folder_that_is_a_link_brings_no_configuration_along() {
    if !two_toolchains() {
        return;
    }
    let world = World::new([library()]);
    // With it, nothing would compile.
    world.write("linked/sub/config.toml", "[build]\nrustc = \"/nowhere/rustc\"\n");
    world.write("linked/Cargo.toml", "[package]\nname = \"linked\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    world.write("linked/src/lib.rs", "");
    symlink("sub", world.path("linked/.cargo")).unwrap();
    world.write("maar.toml", "name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [\"path:linked\"]\n");
    world.run(&[]);
    assert_eq!(world.verdicts("fixtures"), ["linked@1.0.0 pass"]);
    assert!(world.path("linked/sub/config.toml").exists(), "the user's own folder stays as it is");
}

#[test]
fn other_users_can_not_run_what_a_crate_built() {
    if !two_toolchains() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let test = "#[test] fn wait() { use std::os::unix::fs::PermissionsExt; \
                std::fs::copy(\"/usr/bin/id\", \"/crate/target/id\").unwrap(); \
                std::fs::set_permissions(\"/crate/target/id\", PermissionsExt::from_mode(0o6755)).unwrap(); \
                println!(\"ready\"); std::thread::sleep(std::time::Duration::from_secs(600)); }";
    let world = World::new([Fixture::new("set-id", "1.0.0").lib(test)]);
    world.write("maar.toml", "name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [\"set-id\"]\n");
    let mut child = world.command(&["run", "--progress", "none", "--no-cache"]).spawn().unwrap();
    let begun = std::time::Instant::now();
    let program = loop {
        let found = find(&world.home().join("jobs"), "id");
        if let Some(found) = found.filter(|path| path.metadata().is_ok_and(|file| file.mode() & 0o4000 != 0)) {
            break found;
        }
        assert!(child.try_wait().unwrap().is_none() && begun.elapsed().as_secs() < 300, "it was never built");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let run = Command::new(&program).uid(54_321).gid(54_321).output();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    child.wait().unwrap();
    assert_eq!(run.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
}

/// The first file of that name below a folder.
fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => find(&entry.path(), name),
        Ok(kind) if kind.is_file() && entry.file_name() == name => Some(entry.path()),
        Ok(_) | Err(_) => None,
    })
}
