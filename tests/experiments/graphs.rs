//! Packages and crates by chance, hostile ones among them: with layers and without, every crate has the same verdict,
//! and nothing of a hostile package or of a crate is found in a layer.
//!
//! The seed is printed. `MAAR_SEED=N` repeats a graph, and `MAAR_GRAPHS=N` tries so many.

use std::collections::BTreeSet;

use crate::cases::two_toolchains;
use crate::layers::layers;
use crate::support::fixture::{Dep, Fixture};
use crate::world::World;

/// A generator of numbers: <https://en.wikipedia.org/wiki/Xorshift>.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % count
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The actions of a package while it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Script,
    Macro,
    /// Its script spoils the libraries of packages that it doesn't need.
    Spoils,
    /// Its script leaves a file in a place of others, which the crates that build it look for.
    Leaves,
    /// It takes in a source of the crate under test.
    Peeks,
}

const KINDS: [Kind; 8] =
    [Kind::Plain, Kind::Plain, Kind::Script, Kind::Script, Kind::Macro, Kind::Spoils, Kind::Leaves, Kind::Peeks];
const PLACES: [&str; 6] =
    ["/home/maar/left", "/tmp/left", "/var/tmp/left", "/dev/shm/left", "/run/lock/left", "/crate/target/.left"];
const TARGETS: [&str; 4] = ["", "", "cfg(windows)", "cfg(target_thread_local)"];

/// A package, with the packages that it needs in a build on this host.
struct Package {
    fixture: Fixture,
    kind: Kind,
    place: String,
    active: BTreeSet<usize>,
}

fn package(number: usize, before: &[Package], chance: &mut Chance) -> Package {
    let kind = chance.pick(&KINDS);
    let (name, place) = (format!("p{number}"), format!("{}{number}", chance.pick(&PLACES)));
    let mut fixture = Fixture::new(&name, "1.0.0");
    let mut active = BTreeSet::new();
    for needed in 0..before.len() {
        if !chance.one_in(3) {
            continue;
        }
        let (target, is_optional) = (chance.pick(&TARGETS), chance.one_in(4));
        if target.is_empty() && !is_optional {
            active.insert(needed);
        }
        let kind = if chance.one_in(4) { "build" } else { "" };
        let (name, requirement) = (format!("p{needed}"), "1".to_owned());
        fixture = fixture.with(Dep { name, requirement, kind, target, is_optional, ..Dep::default() });
    }
    let answer = format!("pub fn answer() -> u32 {{ {number} }}");
    let script = |body: &str| format!("fn main() {{ {body} }}");
    let fixture = match kind {
        Kind::Plain => fixture.lib(&answer),
        Kind::Script => fixture.lib(&answer).file("build.rs", &script("println!(\"cargo:rustc-cfg=probed\");")),
        Kind::Macro => {
            let package = format!("[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2021\"\n");
            let manifest = format!("{package}[lib]\nproc-macro = true\n{}", fixture.tables());
            let source = "use proc_macro::TokenStream;
                          #[proc_macro] pub fn same(input: TokenStream) -> TokenStream { input }";
            fixture.manifest(&manifest).lib(source)
        }
        Kind::Spoils => {
            let needed: Vec<String> = closure(&active, before).iter().map(|need| format!("libp{need}-")).collect();
            let spoil = format!(
                "let needed: &[&str] = &{needed:?};
                 for file in std::fs::read_dir(\"/crate/target/debug/deps\").into_iter().flatten().flatten() {{
                     let name = file.file_name().into_string().unwrap();
                     if name.starts_with(\"libp\") && !needed.iter().any(|need| name.starts_with(need)) {{
                         let _ = std::fs::write(file.path(), concat!(\"SPOI\", \"LED\"));
                     }}
                 }}"
            );
            fixture.lib(&answer).file("build.rs", &script(&spoil))
        }
        Kind::Leaves => {
            fixture.lib(&answer).file("build.rs", &script(&format!("std::fs::write({place:?}, \"left\").unwrap();")))
        }
        Kind::Peeks => fixture.lib(&format!("{answer} pub const SEEN: &str = include_str!(\"/crate/src/lib.rs\");")),
    };
    Package { fixture, kind, place, active }
}

/// All packages that are built with some.
fn closure(from: &BTreeSet<usize>, packages: &[Package]) -> BTreeSet<usize> {
    let mut reached = from.clone();
    for number in (0..packages.len()).rev() {
        if reached.contains(&number) {
            reached.extend(&packages[number].active);
        }
    }
    reached
}

/// A crate whose test looks at each of its packages. Some have a profile of their own.
fn krate(number: usize, packages: &[Package], chance: &mut Chance) -> Fixture {
    let name = format!("crate{number}");
    // Whether a crate that has one itself finds its other libraries spoiled is a race, with layers and without.
    let may_have = |place: &usize| packages[*place].kind != Kind::Spoils || number == 0;
    let chosen: BTreeSet<usize> = (0..packages.len()).filter(may_have).filter(|_| chance.one_in(2)).collect();
    let built = closure(&chosen, packages);
    let is_raced = built.iter().any(|place| packages[*place].kind == Kind::Spoils);
    let mut fixture = Fixture::new(&name, "1.0.0");
    let mut body = format!("let own = \"MARK-{name}\"; let _ = own;");
    for &needed in &chosen {
        fixture = fixture.dep(&format!("p{needed}"), "1");
        match packages[needed].kind {
            Kind::Plain | Kind::Script | Kind::Spoils | Kind::Leaves => {
                body.push_str(&format!("assert_eq!(p{needed}::answer(), {needed});"));
            }
            Kind::Macro => body.push_str(&format!("assert_eq!(p{needed}::same!(7), 7);")),
            Kind::Peeks => body.push_str(&format!("assert!(p{needed}::SEEN.contains(own));")),
        }
    }
    for place in built.iter().map(|place| &packages[*place]).filter(|package| package.kind == Kind::Leaves) {
        body.push_str(&format!("assert!(std::path::Path::new({:?}).exists());", place.place));
    }
    let profiles = ["", "[profile.test]\nopt-level = 1\n", "[profile.dev.package.\"*\"]\nopt-level = 1\n"];
    let package = format!("[package]\nname = {name:?}\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    let manifest = format!("{package}{}{}", fixture.tables(), chance.pick(&profiles));
    let body = if is_raced { String::new() } else { body };
    let fixture = fixture.manifest(&manifest).lib(&format!("#[test] fn all() {{ {body} }}"));
    if is_raced { fixture.file("raced", "") } else { fixture }
}

fn one_graph(seed: u64, chance: &mut Chance) {
    let mut packages: Vec<Package> = Vec::new();
    for number in 0..7 {
        let package = package(number, &packages, chance);
        packages.push(package);
    }
    let crates: Vec<Fixture> = (0..4).map(|number| krate(number, &packages, chance)).collect();
    let names: Vec<String> = crates.iter().map(|krate| krate.name.clone()).collect();
    let is_raced: Vec<bool> =
        crates.iter().map(|krate| krate.contents().iter().any(|(path, _)| path == "raced")).collect();
    let world = World::new(packages.into_iter().map(|package| package.fixture).chain(crates));
    let verdicts = [("shared", &[][..]), ("alone", &["--no-cache"])].map(|(name, flags)| {
        let settings = "toolchains = [\"stable\"]\nops = [\"prepare\", \"test\"]\nin-flight = 2";
        world.write("maar.toml", &format!("name = {name:?}\ncrates = {names:?}\n{settings}\n"));
        world.run(flags);
        let verdicts = world.verdicts(name).into_iter().zip(&is_raced);
        verdicts.filter(|(_, is_raced)| !**is_raced).map(|(verdict, _)| verdict).collect::<Vec<_>>()
    });
    assert_eq!(verdicts[0], verdicts[1], "with layers and without; MAAR_SEED={seed}");
    for (path, (bytes, ..)) in layers(&world) {
        for text in ["SPOILED", "MARK-crate"] {
            let has = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            // A compiled script holds its own words.
            let is_script = path.to_string_lossy().contains("/build/");
            assert!(!has || is_script, "{text} in {}; MAAR_SEED={seed}", path.display());
        }
    }
}

#[test]
fn verdicts_of_graphs_by_chance_are_the_same_with_layers_and_without() {
    if !two_toolchains() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let first = number("MAAR_SEED").unwrap_or(now);
    for seed in first..first + number("MAAR_GRAPHS").unwrap_or(1) {
        eprintln!("MAAR_SEED={seed}");
        one_graph(seed, &mut Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    }
}
