//! Layers on disk, filled with units that no cargo made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use tempfile::TempDir;

use super::*;
use crate::owner::Owner;
use crate::toolchain::Toolchain;

/// A cache with one key.
struct World {
    dir: TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("layers")
    }

    /// The layers as a process that has just started sees them.
    fn open(&self) -> Layers {
        let (spec, version) = ("x".parse().unwrap(), "1.95.0".parse().unwrap());
        let toolchain = Toolchain::new(spec, version, "rustc x".to_owned(), PathBuf::from("/nowhere"));
        let env = [("RUSTFLAGS".to_owned(), "-x".to_owned())];
        Layers::open(&self.cache(), &Key::new(&toolchain, "index", &env)).unwrap()
    }

    fn base(&self) -> Base {
        let (base, upper) = (self.fresh(), self.fresh());
        Base::new(base, &upper, None).unwrap()
    }

    fn fresh(&self) -> PathBuf {
        tempfile::tempdir_in(self.dir.path()).unwrap().keep()
    }

    /// A target folder in which these units were completed: the unit's name ends in this digit, and its library holds
    /// this text.
    fn upper(&self, units: &[(&str, char, &str)]) -> PathBuf {
        let upper = self.fresh();
        for (package, digit, text) in units {
            let hash: String = std::iter::repeat_n(*digit, 16).collect();
            for (path, text) in [
                (format!("debug/.fingerprint/{package}-{hash}/lib-x"), "x"),
                (format!("debug/.fingerprint/{package}-{hash}/lib-x.json"), "x"),
                (format!("debug/deps/lib{package}-{hash}.rlib"), text),
            ] {
                let path = upper.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
        }
        upper
    }

    fn key_folder(&self) -> PathBuf {
        let mut keys = fs::read_dir(self.cache()).unwrap();
        keys.next().unwrap().unwrap().path()
    }
}

/// The units of a crate, one for each package, with the packages that it depends on. Those in `code` run code.
fn graph(packages: &[(&str, &[&str])], code: &[&str]) -> Vec<Unit> {
    let needs: BTreeMap<&str, &[&str]> = packages.iter().copied().collect();
    fn below(name: &str, needs: &BTreeMap<&str, &[&str]>) -> BTreeSet<String> {
        needs[name].iter().flat_map(|need| below(need, needs)).chain([name.to_owned()]).collect()
    }
    let unit = |name: &str| {
        let code = below(name, &needs).into_iter().filter(|name| code.contains(&name.as_str()));
        Unit {
            key: UnitKey::of(name),
            package: format!("{name}-1.0.0"),
            code: Arc::new(code.map(|name| format!("{name}-1.0.0")).collect()),
            needs: needs[name].iter().map(|need| UnitKey::of(need)).collect(),
        }
    };
    let mut units: Vec<Unit> = packages.iter().map(|(name, _)| unit(name)).collect();
    units.sort_by_key(|unit| below(unit.name(), &needs).len());
    units
}

/// A cell that runs this code, in which these units were completed.
fn cell(
    world: &World,
    layers: &Layers,
    units: &[Unit],
    code: &Code,
    made: &[(&str, char, &str)],
    base: &mut Base,
) -> Taken {
    let upper = world.upper(made);
    take(layers, units, code, &upper, base)
}

/// The same, with a target folder that was filled before.
fn take(layers: &Layers, units: &[Unit], code: &Code, upper: &Path, base: &mut Base) -> Taken {
    let there = harvest::units_in(upper).unwrap();
    let made = units.iter().filter_map(|unit| {
        let name = there.iter().find(|there| there.rsplit_once('-').is_some_and(|(name, _)| name == unit.name()))?;
        Some(Made { unit: unit.clone(), name: name.clone() })
    });
    layers.take(made.collect(), (code, units), (&Lower::default(), upper, &[]), base).unwrap()
}

fn code(packages: &[&str]) -> Code {
    packages.iter().map(|name| format!("{name}-1.0.0")).collect()
}

/// The libraries in a base, with their contents.
fn libraries(base: &Base) -> BTreeSet<String> {
    let deps = base.dir().join("debug/deps");
    let Ok(entries) = fs::read_dir(&deps) else { return BTreeSet::new() };
    let library = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().trim_start_matches("lib").to_owned();
        format!("{}={}", name.split_once('-').unwrap().0, fs::read_to_string(path).unwrap())
    };
    entries.map(|entry| library(entry.unwrap().path())).collect()
}

fn set(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn what_one_crate_compiled_the_next_one_gets_as_far_as_it_needs_it() {
    let world = World::new();
    let both = graph(&[("a", &[]), ("b", &["a"]), ("c", &[])], &[]);
    let mut base = world.base();
    let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B"), ("c", '3', "C"), ("other", '4', "no")]);
    assert_eq!(take(&world.open(), &both, &Code::new(), &upper, &mut base).units.len(), 3);
    assert_eq!(libraries(&base), set(&["a=A", "b=B", "c=C"]));

    let mut base = world.base();
    world.open().lay(&graph(&[("a", &[]), ("b", &["a"])], &[]), &mut base).unwrap();
    assert_eq!(libraries(&base), set(&["a=A", "b=B"]));
    // The layers below it must be there, too.
    let mut base = world.base();
    world.open().lay(&both[1..], &mut base).unwrap();
    assert_eq!(libraries(&base), set(&["c=C"]));
}

#[test]
fn a_crate_gets_nothing_that_code_it_does_not_have_could_have_changed() {
    let world = World::new();
    let layers = world.open();
    let with = graph(&[("evil", &[]), ("a", &["evil"])], &["evil"]);
    let upper = world.upper(&[("a", '1', "A"), ("evil", '2', "E"), ("planted", '3', "P")]);
    assert_eq!(take(&layers, &with, &code(&["evil"]), &upper, &mut world.base()).units.len(), 2);

    let mut base = world.base();
    layers.lay(&graph(&[("a", &[]), ("planted", &[])], &[]), &mut base).unwrap();
    assert_eq!(libraries(&base), set(&[]));
    // One that has all of it below the same package, and more.
    let mut more = with.clone();
    more.iter_mut().for_each(|unit| unit.code = Arc::new(code(&["evil", "more"])));
    layers.lay(&more, &mut base).unwrap();
    assert_eq!(libraries(&base), set(&["a=A", "evil=E"]));
}

#[test]
fn a_unit_with_a_file_of_absurd_size_is_not_shared() {
    let world = World::new();
    let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B")]);
    let mut files = fs::read_dir(upper.join("debug/deps")).unwrap().map(|entry| entry.unwrap().path());
    let library = files.find(|path| fs::read_to_string(path).is_ok_and(|text| text == "A")).unwrap();
    // A hole: it takes no room, and would count against the budget of all layers.
    fs::File::options().write(true).open(library).unwrap().set_len(1 << 40).unwrap();
    let mut base = world.base();
    let both = graph(&[("a", &[]), ("b", &[])], &[]);
    assert_eq!(take(&world.open(), &both, &Code::new(), &upper, &mut base).units.len(), 1);
    assert_eq!(libraries(&base), set(&["b=B"]));
}

#[test]
fn a_cell_only_gives_units_of_packages_whose_code_it_was_made_for() {
    let world = World::new();
    let graph = graph(&[("pure", &[]), ("script", &[]), ("uses", &["script"])], &["script"]);
    let upper = world.upper(&[("pure", '1', "tampered"), ("script", '2', "S")]);
    let mut base = world.base();
    assert_eq!(take(&world.open(), &graph, &code(&["script"]), &upper, &mut base).units.len(), 1);
    assert_eq!(libraries(&base), set(&["script=S"]));
}

#[test]
fn of_two_that_compile_the_same_the_first_one_counts_and_nothing_stands_on_the_second() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &[])], &[]);
    let (mut first, mut second) = (world.base(), world.base());
    let upper = world.upper(&[("a", '1', "first")]);
    assert_eq!(take(&world.open(), &graph, &Code::new(), &upper, &mut first).units.len(), 1);
    let upper = world.upper(&[("a", '1', "second"), ("b", '2', "on second"), ("c", '3', "C")]);
    assert_eq!(take(&world.open(), &graph, &Code::new(), &upper, &mut second).units.len(), 1);
    assert_eq!(libraries(&second), set(&["a=first", "c=C"]));
}

#[test]
fn nothing_that_stands_on_what_cannot_be_shared_is_shared() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &[])], &[]);
    let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B"), ("c", '3', "C")]);
    let out = upper.join("debug/build/a-1111111111111111");
    fs::create_dir_all(&out).unwrap();
    std::os::unix::fs::symlink("elsewhere", out.join("link")).unwrap();
    let mut base = world.base();
    assert_eq!(take(&world.open(), &graph, &Code::new(), &upper, &mut base).units.len(), 1);
    assert_eq!(libraries(&base), set(&["c=C"]));
}

#[test]
fn nothing_is_laid_under_what_a_crate_compiled_itself() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &["a"])], &[]);
    let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B")]);
    take(&world.open(), &graph, &Code::new(), &upper, &mut world.base());
    let own = world.upper(&[("a", '1', "own")]);
    let mut base = Base::new(world.fresh(), &own, None).unwrap();
    world.open().lay(&graph, &mut base).unwrap();
    assert_eq!(libraries(&base), set(&[]));
}

#[test]
fn no_dependency_is_newer_than_its_dependent() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &["a"])], &["b"]);
    let (layers, mut base) = (world.open(), world.base());
    cell(&world, &layers, &graph, &Code::new(), &[("a", '1', "A")], &mut base);
    cell(&world, &layers, &graph, &code(&["b"]), &[("b", '2', "B")], &mut base);
    let time = |name: &str| {
        let path = base.dir().join(format!("debug/deps/lib{name}.rlib"));
        let metadata = fs::metadata(path).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    assert!(time("a-1111111111111111") <= time("b-2222222222222222"));
}

#[test]
fn many_publishers_at_once_agree() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &["a"])], &[]);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let (world, graph) = (&world, &graph);
            scope.spawn(move || {
                let (of_a, of_b) = (format!("A{writer}"), format!("B{writer}"));
                let upper = world.upper(&[("a", '1', &of_a), ("b", '2', &of_b)]);
                take(&world.open(), graph, &Code::new(), &upper, &mut world.base());
            });
        }
    });
    let mut base = world.base();
    world.open().lay(&graph, &mut base).unwrap();
    let found: Vec<String> = libraries(&base).into_iter().collect();
    assert_eq!(found.len(), 2);
    // Both of the same writer.
    assert_eq!(found[0].replace("a=A", ""), found[1].replace("b=B", ""));
    assert_eq!(summarise(&world.cache()).unwrap()[0].layers, 2);
}

#[test]
fn what_a_killed_process_left_half_done_is_never_seen_and_goes_with_the_next() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &[])], &[]);
    cell(&world, &world.open(), &graph, &Code::new(), &[("a", '1', "A")], &mut world.base());
    let half = world.key_folder().join(".new/files/debug/deps");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("libb-2222222222222222.rlib"), "half").unwrap();
    let mut base = world.base();
    world.open().lay(&graph, &mut base).unwrap();
    assert_eq!(libraries(&base), set(&["a=A"]));
    cell(&world, &world.open(), &graph, &Code::new(), &[("b", '2', "B")], &mut base);
    assert_eq!(libraries(&base), set(&["a=A", "b=B"]));
    assert!(!world.key_folder().join(".new").exists());
}

#[test]
fn a_layer_that_a_power_loss_damaged_is_not_used_and_can_be_made_again() {
    for damage in ["record.json", "files/debug/deps/liba-1111111111111111.rlib"] {
        let world = World::new();
        let graph = graph(&[("a", &[]), ("b", &["a"])], &[]);
        let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B")]);
        take(&world.open(), &graph, &Code::new(), &upper, &mut world.base());
        let layers = fs::read_dir(world.key_folder()).unwrap().map(|entry| entry.unwrap().path().join(damage));
        let path = layers.filter(|path| path.exists()).min().unwrap();
        fs::write(path, "").unwrap();

        let (layers, mut base) = (world.open(), world.base());
        layers.lay(&graph, &mut base).unwrap();
        assert_eq!(libraries(&base), set(&[]), "{damage}");
        let upper = world.upper(&[("a", '1', "A2"), ("b", '2', "B2")]);
        assert_eq!(take(&layers, &graph, &Code::new(), &upper, &mut base).units.len(), 2);
        assert_eq!(libraries(&base), set(&["a=A2", "b=B2"]), "{damage}");
    }
}

/// The folder of each layer, by its only package.
fn folders(world: &World) -> BTreeMap<String, PathBuf> {
    let folders = fs::read_dir(world.key_folder()).unwrap().map(|entry| entry.unwrap().path());
    let package = |folder: PathBuf| Some((layer::Layer::read(&folder)?.package, folder));
    folders.filter_map(package).collect()
}

#[test]
fn a_collection_takes_the_least_recently_used_first_and_nothing_that_others_stand_on() {
    // `b` stands on `a`. Which of the three were not used for long, the first one for the longest time; then what is
    // left when one has to go, and when another one has to.
    for (aged, one_less, two_less) in [
        (&["c"][..], ["a", "b"], "a"),
        // A user of `b` used `a`, too.
        (&["a", "c"], ["a", "b"], "a"),
        (&["a", "b"], ["a", "c"], "c"),
        (&["b", "c"], ["a", "c"], "a"),
    ] {
        let world = World::new();
        let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &[])], &[]);
        let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B"), ("c", '3', "C")]);
        let mut used = world.base();
        take(&world.open(), &graph, &Code::new(), &upper, &mut used);
        for (second, package) in (0..).zip(aged) {
            let record = folders(&world)[&format!("{package}-1.0.0")].join("record.json");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            fs::File::open(record).unwrap().set_modified(time).unwrap();
        }
        let size = || summarise(&world.cache()).unwrap()[0].size;
        for expected in [&one_less[..], &[two_less]] {
            let collected = collect(&world.cache(), ByteSize(size().as_u64() - 1)).unwrap();
            assert_eq!((collected.removed, collected.left), (1, size()), "{aged:?}");
            assert_eq!(folders(&world).into_keys().collect::<BTreeSet<_>>(), code(expected), "{aged:?}");
        }
        // A crate that is at work keeps what it was given, and others get what is left.
        assert_eq!(libraries(&used), set(&["a=A", "b=B", "c=C"]));
        let mut base = world.base();
        world.open().lay(&graph, &mut base).unwrap();
        assert_eq!(libraries(&base), set(&[&format!("{two_less}={}", two_less.to_uppercase())]));
    }
}

#[test]
fn what_fits_the_budget_is_left_alone() {
    let world = World::new();
    assert_eq!(keep_within(&world.cache(), ByteSize(0)).unwrap(), Collected::default());
    let graph = graph(&[("a", &[]), ("b", &[])], &[]);
    let upper = world.upper(&[("a", '1', "A"), ("b", '2', "B")]);
    take(&world.open(), &graph, &Code::new(), &upper, &mut world.base());
    let size = summarise(&world.cache()).unwrap()[0].size;
    let kept = Collected { removed: 0, freed: ByteSize(0), left: size };
    assert_eq!(keep_within(&world.cache(), size).unwrap(), kept);
    let collected = keep_within(&world.cache(), ByteSize(size.as_u64() - 1)).unwrap();
    assert_eq!((collected.removed, collected.freed.as_u64() + collected.left.as_u64()), (1, size.as_u64()));
}

#[test]
fn what_was_compiled_against_a_layer_that_is_gone_goes_with_the_next_collection() {
    let world = World::new();
    let graph = graph(&[("a", &[]), ("b", &["a"]), ("c", &[])], &[]);
    let (layers, mut base) = (world.open(), world.base());
    cell(&world, &layers, &graph, &Code::new(), &[("a", '1', "A")], &mut base);
    collect(&world.cache(), ByteSize(0)).unwrap();
    let upper = world.upper(&[("b", '2', "B"), ("c", '3', "C")]);
    assert_eq!(take(&layers, &graph, &Code::new(), &upper, &mut base).units.len(), 2);
    assert_eq!(collect(&world.cache(), ByteSize::gib(1)).unwrap().removed, 1);
    let mut base = world.base();
    world.open().lay(&graph, &mut base).unwrap();
    assert_eq!(libraries(&base), set(&["c=C"]));
}

#[test]
fn a_note_is_kept_while_runs_read_it() {
    let world = World::new();
    let layers = world.open();
    layers.note("read", "1\ntext").unwrap();
    layers.note("unread", "2").unwrap();
    assert_eq!(layers.noted("other"), None);
    let notes = world.key_folder().join("notes");
    for name in ["read", "unread"] {
        fs::File::open(notes.join(name)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    assert_eq!(world.open().noted("read").as_deref(), Some("1\ntext"));
    collect(&world.cache(), ByteSize(0)).unwrap();
    assert_eq!(layers.noted("read").as_deref(), Some("1\ntext"));
    assert_eq!(layers.noted("unread"), None);
    fs::write(notes.join("read"), "damaged").unwrap();
    assert_eq!(layers.noted("read"), None);
}

#[test]
fn tallies_of_all_processes_add_up() {
    let world = World::new();
    world.open().count(Tally { compiled: 2, reused: 1, in_op: 1, again: 0 }).unwrap();
    world.open().count(Tally { compiled: 0, reused: 4, in_op: 2, again: 1 }).unwrap();
    assert_eq!(summarise(&world.cache()).unwrap()[0].tally, Tally { compiled: 2, reused: 5, in_op: 3, again: 1 });
}

#[test]
fn every_jobs_user_may_write_to_files_and_owns_what_scripts_wrote_and_no_other_user_gets_there() {
    let world = World::new();
    let (layers, graph, script) = (world.open(), graph(&[("a", &[])], &["a"]), code(&["a"]));
    let own = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
    let base = || Base::new(world.fresh(), &world.fresh(), Some(own)).unwrap();
    let upper = world.upper(&[("a", '1', "x")]);
    let library = format!("debug/deps/liba-{}.rlib", "1".repeat(16));
    let made = format!("debug/build/a-{}/out/made", "1".repeat(16));
    fs::create_dir_all(upper.join(&made).parent().unwrap()).unwrap();
    fs::write(upper.join(&made), "text").unwrap();
    let [mut one, mut two] = [base(), base()];
    assert_eq!(take(&layers, &graph, &script, &upper, &mut one).units.len(), 1);
    layers.lay(&graph, &mut two).unwrap();

    let found = |base: &Base, path: &str| fs::metadata(base.dir().join(path)).unwrap();
    let [shared, again] = [&one, &two].map(|base| found(base, &library));
    assert_eq!((shared.ino(), shared.mode() & 0o7777), (again.ino(), 0o666));
    let [copy, other] = [&one, &two].map(|base| found(base, &made));
    assert_ne!(copy.ino(), other.ino());
    assert_eq!((copy.uid(), copy.mode() & 0o7777, copy.mtime_nsec()), (own.uid, 0o644, shared.mtime_nsec()));
    assert_eq!(fs::read_to_string(two.dir().join(&made)).unwrap(), "text");
    assert_eq!(fs::metadata(world.key_folder()).unwrap().mode() & 0o7777, 0o700);
}
