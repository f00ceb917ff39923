//! Dumps that the tests make, in the real format: reading them, and refusing hostile ones.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::registry::query;
use crate::registry::select::{Chain, Query};

/// A version of it: number, when it was published, whether it is yanked, downloads and dependencies.
type KrateVersion = (String, String, bool, u64, Vec<Dep>);
/// Name, requirement and kind.
type Dep = (String, String, u8);

/// A crate of a dump.
#[derive(Clone)]
pub(super) struct Krate {
    name: String,
    versions: Vec<KrateVersion>,
    categories: Vec<String>,
    keywords: Vec<String>,
}

impl Krate {
    pub(super) fn new(name: &str, versions: &[&str]) -> Self {
        let version = |version: &&str| {
            let (number, yanked) = version.strip_suffix('!').map_or((*version, false), |number| (number, true));
            (number.to_owned(), "2020-01-01 00:00:00.123+00".to_owned(), yanked, 0, Vec::new())
        };
        let versions = versions.iter().map(version).collect();
        Self { name: name.to_owned(), versions, categories: Vec::new(), keywords: Vec::new() }
    }

    /// Dependencies of its last version.
    fn dep(mut self, name: &str, requirement: &str, kind: u8) -> Self {
        let last = self.versions.last_mut().unwrap();
        last.4.push((name.to_owned(), requirement.to_owned(), kind));
        self
    }

    fn downloads(mut self, downloads: u64) -> Self {
        self.versions[0].3 = downloads;
        self
    }

    fn tagged(mut self, category: &str, keyword: &str) -> Self {
        self.categories.push(category.to_owned());
        self.keywords.push(keyword.to_owned());
        self
    }
}

/// The tables of a dump.
pub(super) struct Dump(Vec<(String, String)>);

impl Dump {
    pub(super) fn of(crates: impl IntoIterator<Item = Krate>) -> Self {
        let crates: Vec<Krate> = crates.into_iter().collect();
        let id_of = |name: &str| crates.iter().position(|krate| krate.name == name).map_or(999_999, |id| id + 1);
        let mut words: [Vec<String>; 2] = Default::default();
        let mut tables: [String; 8] = [
            "created_at,description,id,name\n",
            "checksum,crate_id,created_at,id,num,yanked\n",
            "crate_id,default_features,explicit_name,id,kind,optional,req,target,version_id\n",
            "date,downloads,version_id\n",
            "crate_id,category_id\n",
            "crate_id,keyword_id\n",
            "id,slug\n",
            "crates_cnt,id,keyword\n",
        ]
        .map(str::to_owned);
        let mut version_id = 0;
        for (place, krate) in crates.iter().enumerate() {
            let id = place + 1;
            writeln!(tables[0], "2020-01-01,\"two\nlines, \"\"quoted\"\"\",{id},{}", krate.name).unwrap();
            for (number, created, yanked, downloads, deps) in &krate.versions {
                version_id += 1;
                let (sum, yanked) = (Checksum::of(format!("{}-{number}", krate.name)), if *yanked { 't' } else { 'f' });
                writeln!(tables[1], "{sum},{id},{created},{version_id},{number},{yanked}").unwrap();
                for (name, requirement, kind) in deps {
                    let on = id_of(name);
                    writeln!(tables[2], "{on},t,,1,{kind},f,\"{requirement}\",,{version_id}").unwrap();
                }
                if *downloads > 0 {
                    let half = downloads / 2;
                    writeln!(tables[3], "2026-05-30,{half},{version_id}\n2026-05-31,{},{version_id}", downloads - half)
                        .unwrap();
                    writeln!(tables[3], "2025-01-01,1000000,{version_id}").unwrap();
                }
            }
            for (list, (words, pairs)) in
                [&krate.categories, &krate.keywords].into_iter().zip(words.iter_mut().zip([4, 5]))
            {
                for word in list {
                    let at = words.iter().position(|known| known == word).unwrap_or_else(|| {
                        words.push(word.clone());
                        words.len() - 1
                    });
                    writeln!(tables[pairs], "{id},{}", at + 1).unwrap();
                }
            }
        }
        for (id, word) in words[0].iter().enumerate() {
            writeln!(tables[6], "{},{word}", id + 1).unwrap();
        }
        for (id, word) in words[1].iter().enumerate() {
            writeln!(tables[7], "1,{},{word}", id + 1).unwrap();
        }
        let [crates, versions, dependencies, downloads, of_categories, of_keywords, categories, keywords] = tables;
        let files = [
            ("categories.csv", categories),
            ("crates.csv", crates),
            ("crates_categories.csv", of_categories),
            ("crates_keywords.csv", of_keywords),
            ("dependencies.csv", dependencies),
            ("keywords.csv", keywords),
            ("version_downloads.csv", downloads),
            ("versions.csv", versions),
        ];
        let mut files: Vec<_> = files.map(|(name, text)| (format!("2026-06-01-020000/data/{name}"), text)).into();
        let metadata = "{\"timestamp\": \"2026-06-01T02:00:00.123456789Z\", \"crates_io_commit\": \"x\"}";
        files.insert(0, ("2026-06-01-020000/metadata.json".to_owned(), metadata.to_owned()));
        Self(files)
    }

    pub(super) fn write(&self, path: &Path) {
        let mut tar = tar::Builder::new(GzEncoder::new(File::create(path).unwrap(), Compression::fast()));
        for (name, text) in &self.0 {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
    }

    fn edit(mut self, file: &str, edit: impl FnOnce(&mut String)) -> Self {
        let (_, text) = self.0.iter_mut().find(|(name, _)| name.ends_with(file)).unwrap();
        edit(text);
        self
    }

    fn without(mut self, file: &str) -> Self {
        self.0.retain(|(name, _)| !name.ends_with(file));
        self
    }

    fn read(&self, as_of: Option<&str>) -> Result<Catalogue, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump.tar.gz");
        self.write(&path);
        let as_of = as_of.map(|as_of| as_of.parse().unwrap());
        read(&path, as_of.as_ref(), &|_| true)
            .map_err(|error| error.to_string().replace(&*path.to_string_lossy(), "dump.tar.gz"))
    }
}

fn answer(catalogue: &Catalogue, text: &str) -> Result<Vec<String>, String> {
    let selected = crate::registry::select::parse(text, Path::new("/"), crate::registry::select::Reach::Anywhere);
    let [crate::registry::select::Selection::Query(query)] = &selected.unwrap()[..] else { panic!("{text}") };
    let places = query::answer(catalogue, query, 7).map_err(|error| error.to_string())?;
    Ok(places.into_iter().map(|place| catalogue.selected(place).id.to_string()).collect())
}

fn sample() -> Catalogue {
    Dump::of([
        Krate::new("serde", &["1.0.0", "2.0.0-rc.1", "1.5.0"]).downloads(100).tagged("encoding", "Serde"),
        Krate::new("rand", &["0.7.3", "0.8.5", "0.9.0!", "0.8.6"]).downloads(90).dep("serde", "^1", 0),
        Krate::new("old", &["1.0.0"]).downloads(5).dep("rand", "^0.7", 0).dep("serde", "*", 2),
        Krate::new("older", &["1.0.0"]).dep("rand", "=0.7.3", 1).dep("rand", ">=0.7", 0),
        Krate::new("oldest", &["1.0.0"]).dep("rand", "^0.7.1", 0).tagged("encoding::text", "other"),
        Krate::new("new", &["3.0.0"]).dep("rand", ">=0.7", 0).dep("gone", "*", 0).dep("nowhere", "1", 0),
        Krate::new("leaf", &["1.0.0"]).dep("old", "^1", 0),
        Krate::new("gone", &["1.0.0!"]).downloads(1000),
        Krate::new("young", &["0.1.0-a.1", "0.1.0-a.2"]).downloads(1),
    ])
    .read(None)
    .unwrap()
}

#[test]
fn queries_are_answered_in_order() {
    let catalogue = sample();
    for (query, expected) in [
        ("top:3", "serde@1.5.0 rand@0.8.6 old@1.0.0"),
        ("all", "serde@1.5.0 rand@0.8.6 old@1.0.0 young@0.1.0-a.2 leaf@1.0.0 new@3.0.0 older@1.0.0 oldest@1.0.0"),
        ("dependents:9", "rand@0.8.6 old@1.0.0 serde@1.5.0"),
        ("used:2", "rand@0.7.3 rand@0.8.6"),
        ("used:9", "rand@0.7.3 rand@0.8.6 old@1.0.0 serde@1.5.0"),
        ("rdeps:rand", "old@1.0.0 new@3.0.0 older@1.0.0 oldest@1.0.0"),
        ("rdeps:rand@0.7", "old@1.0.0 older@1.0.0 oldest@1.0.0"),
        ("rdeps:rand@0.8.6", "new@3.0.0 older@1.0.0"),
        ("rdeps:serde", "rand@0.8.6"),
        // Those on rand 0.7 don't count: its dependencies are not known.
        ("rdeps+:serde", "rand@0.8.6 new@3.0.0 older@1.0.0"),
        ("rdeps+:rand", "old@1.0.0 new@3.0.0 older@1.0.0 oldest@1.0.0 leaf@1.0.0"),
        ("rdeps:leaf", ""),
        ("category:encoding", "serde@1.5.0 oldest@1.0.0"),
        ("category:encoding::text", "oldest@1.0.0"),
        ("keyword:SERDE", "serde@1.5.0"),
    ] {
        assert_eq!(answer(&catalogue, query).unwrap().join(" "), expected, "{query}");
    }
}

#[test]
fn a_query_for_what_is_not_there_names_the_nearest_word() {
    let catalogue = sample();
    for (query, expected) in [
        ("rdeps:serd", "the dump has no crate named `serd`; did you mean `serde`?"),
        ("category:encodng", "no crate has the category `encodng`; did you mean `encoding`?"),
        ("keyword:xyzzy", "no crate has the keyword `xyzzy`"),
    ] {
        assert_eq!(answer(&catalogue, query).unwrap_err(), expected);
    }
}

#[test]
fn a_seed_decides_a_random_choice_and_a_new_crate_moves_no_other() {
    let krates = |count: usize| (0..count).map(|number| Krate::new(&format!("c{number}"), &["1.0.0"]));
    let (before, after) = (Dump::of(krates(50)).read(None).unwrap(), Dump::of(krates(51)).read(None).unwrap());
    let chosen = answer(&before, "random:50@1").unwrap();
    assert_eq!(answer(&before, "random:10@1").unwrap(), chosen[..10]);
    assert_ne!(answer(&before, "random:10@2").unwrap(), chosen[..10]);
    let mut moved = answer(&after, "random:51@1").unwrap();
    moved.retain(|id| id != "c50@1.0.0");
    assert_eq!(moved, chosen);
    assert_eq!(answer(&before, "random:10").unwrap(), answer(&before, "random:10@7").unwrap());
}

#[test]
fn as_of_a_day_later_versions_and_what_they_depend_on_are_not_there() {
    let mut krate = Krate::new("a", &["1.0.0", "2.0.0"]).dep("b", "^2", 0);
    krate.versions[0].4.push(("b".to_owned(), "^1".to_owned(), 0));
    krate.versions[1].1 = "2025-06-01 12:00:00+00".to_owned();
    let dump = Dump::of([krate, Krate::new("b", &["1.0.0", "2.0.0"])]);
    let on = |as_of: &str| answer(&dump.read(Some(as_of)).unwrap(), "rdeps:b@1").unwrap();
    assert_eq!(on("2025-05-31"), ["a@1.0.0"]);
    assert!(on("2025-06-01").is_empty());
    assert!(answer(&dump.read(Some("2019-01-01")).unwrap(), "all").unwrap().is_empty());
}

#[test]
fn a_dump_that_is_none_says_what_is_missing_and_where() {
    let dump = || Dump::of([Krate::new("a", &["1.0.0"]).dep("a", "^1", 0)]);
    let append = |line: &'static str| move |text: &mut String| text.push_str(line);
    for (dump, expected) in [
        (
            dump().without("versions.csv"),
            "the dump dump.tar.gz has no versions.csv: is it the registry's database dump",
        ),
        (dump().without("metadata.json"), "the dump dump.tar.gz has no metadata.json"),
        (dump().edit("metadata.json", |text| text.clear()), "the dump's metadata.json, line 1: no `timestamp` such as"),
        (
            dump().edit("crates.csv", |text| *text = text.replace("name", "nom")),
            "the dump's crates.csv has no column `name`",
        ),
        (dump().edit("versions.csv", append("1,2\n")), "the dump's versions.csv, line 3: 2 fields, not 6"),
        (
            dump().edit("dependencies.csv", append("x,,,,0,,^1,,1\n")),
            "the dump's dependencies.csv, line 3: `x` is not a number",
        ),
        (
            dump().edit("versions.csv", append(",1,2020,9,1.0.0,maybe\n")),
            "the dump's versions.csv, line 3: `maybe` is neither",
        ),
    ] {
        let error = dump.read(None).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    std::fs::write(&path, "no archive").unwrap();
    let error = read(&path, None, &|_| true).unwrap_err().to_string();
    assert!(error.contains("is damaged, or no gzipped tar"), "{error}");
    dump().write(&path);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(read(&path, None, &|_| true).is_err());
    assert!(matches!(read(dir.path(), None, &|_| true), Err(DumpError::Open { .. })));
}

#[test]
fn names_and_versions_that_no_registry_has_are_passed_over() {
    let dump = Dump::of([Krate::new("a", &["1.0.0"]), Krate::new("../b", &["1.0.0"]), Krate::new("c", &["one"])])
        .edit("dependencies.csv", |text| text.push_str("1,t,,1,0,f,not a requirement,,1\n1,t,,1,0,f,\"*\",,77\n"))
        .edit("version_downloads.csv", |text| text.push_str("2026-05-31,7,77\n"))
        .edit("crates_keywords.csv", |text| text.push_str("77,1\n1,77\n"));
    assert_eq!(answer(&dump.read(None).unwrap(), "all").unwrap(), ["a@1.0.0"]);
}

#[test]
fn a_row_without_an_end_is_refused_before_it_fills_the_memory() {
    let dump = Dump::of([Krate::new("a", &["1.0.0"])]).edit("crates.csv", |text| {
        text.push_str("x,\"");
        text.extend(std::iter::repeat_n('a', 20 << 20));
    });
    assert_eq!(dump.read(None).unwrap_err(), "the dump's crates.csv: a row is longer than 16 MiB");
}

/// A registry of 2,000 crates that a fixed rule makes, with old majors, yanked versions and cycles.
fn large() -> Vec<Krate> {
    let mut state = 12345_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let versions = ["0.1.0", "0.2.0", "0.2.1", "1.0.0", "1.2.0", "2.0.0-rc.1", "2.0.0", "2.1.0!"];
    let krate = |number: u64| {
        let count = 1 + random(versions.len() as u64) as usize;
        let mut krate = Krate::new(&format!("crate-{number}"), &versions[..count]).downloads(random(500));
        for _ in 0..random(6) {
            let requirement = ["*", "^0.1", "^0.2", "^1", ">=1, <3", "=0.2.0", "^2.0.0-rc.1"][random(7) as usize];
            // A few crates are what most depend on.
            let on = if random(2) == 0 { random(20) } else { random(2000) };
            krate = krate.dep(&format!("crate-{on}"), requirement, random(3) as u8);
        }
        krate.tagged(&format!("cat-{}", random(12)), &format!("key-{}", random(40)))
    };
    (0..2000).map(krate).collect()
}

/// The same answers, worked out in the plainest way from the crates themselves.
mod plain {
    use std::collections::{BTreeMap, BTreeSet};

    use semver::{Version, VersionReq};

    use super::Krate;

    pub(super) type Id = (String, Version);

    pub(super) fn newest(krate: &Krate, fits: impl Fn(&Version) -> bool) -> Option<(&str, Version)> {
        let versions = krate.versions.iter().filter(|version| !version.2);
        let versions = versions.map(|version| version.0.parse::<Version>().unwrap()).filter(|version| fits(version));
        Some((&krate.name, versions.max_by_key(|version| (version.pre.is_empty(), version.clone()))?))
    }

    /// For each crate, the very versions of others that its newest version leads to.
    pub(super) fn edges(crates: &[Krate]) -> BTreeMap<&str, BTreeSet<Id>> {
        let mut edges: BTreeMap<&str, BTreeSet<Id>> = BTreeMap::new();
        for krate in crates {
            let Some((name, version)) = newest(krate, |_| true) else { continue };
            let own = krate.versions.iter().find(|it| it.0 == version.to_string()).unwrap();
            for (on, requirement, kind) in &own.4 {
                let requirement: VersionReq = requirement.parse().unwrap();
                let target = crates.iter().find(|krate| krate.name == *on).unwrap();
                if let (true, Some((on, version))) =
                    (*kind != 2, newest(target, |version| requirement.matches(version)))
                {
                    let edges = edges.entry(name).or_default();
                    // Of compatible versions of one crate, the newer one counts.
                    let is_of_line = |(name, known): &&Id| name == on && compatible(known, &version);
                    let newer = edges.iter().find(is_of_line).cloned();
                    match newer {
                        Some((_, known)) if (known.pre.is_empty(), &known) > (version.pre.is_empty(), &version) => {}
                        Some(known) => {
                            edges.remove(&known);
                            edges.insert((on.to_owned(), version));
                        }
                        None => drop(edges.insert((on.to_owned(), version))),
                    }
                }
            }
        }
        edges
    }

    pub(super) fn compatible(one: &Version, other: &Version) -> bool {
        let requirement: VersionReq = format!("^{}.{}.{}", one.major, one.minor, one.patch).parse().unwrap();
        let other_req: VersionReq = format!("^{}.{}.{}", other.major, other.minor, other.patch).parse().unwrap();
        let plain = |version: &Version| Version::new(version.major, version.minor, version.patch);
        requirement.matches(&plain(other)) || other_req.matches(&plain(one))
    }
}

#[test]
fn two_thousand_crates_are_answered_as_a_plain_computation_does() {
    let crates = large();
    let catalogue = Dump::of(crates.iter().cloned()).read(None).unwrap();
    let edges = plain::edges(&crates);
    let of = |name: &str| crates.iter().find(|krate| krate.name == name).unwrap();
    let id = |name: &str| plain::newest(of(name), |_| true).map(|(name, version)| format!("{name}@{version}"));
    let ids = |names: Vec<&str>| names.into_iter().filter_map(id).collect::<Vec<_>>();
    let downloads = |name: &str| of(name).versions.iter().map(|version| version.3).sum::<u64>();
    let popular = |mut names: Vec<&'static str>| {
        names.sort_by_key(|name| (Reverse(downloads(name)), *name));
        names
    };
    let names: Vec<&'static str> = crates.iter().map(|krate| &*krate.name.clone().leak()).collect();

    assert_eq!(answer(&catalogue, "all").unwrap(), ids(popular(names.clone())));
    assert_eq!(answer(&catalogue, "top:100").unwrap(), ids(popular(names.clone()))[..100]);

    let mut lines: Vec<((&str, Version), u64)> = Vec::new();
    for (name, version) in edges.values().flatten() {
        let line = plain::newest(of(name), |other| plain::compatible(version, other)).unwrap();
        match lines.iter_mut().find(|(known, _)| *known == line) {
            Some((_, count)) => *count += 1,
            None => lines.push((line, 1)),
        }
    }
    lines.sort_by(|((one, old), few), ((other, new), many)| {
        many.cmp(few).then(one.cmp(other)).then_with(|| (new.pre.is_empty(), new).cmp(&(old.pre.is_empty(), old)))
    });
    let used: Vec<String> = lines.iter().map(|((name, version), _)| format!("{name}@{version}")).collect();
    assert!(used.len() > 500 && used.iter().any(|id| id.contains("@0.1.0")), "{}", used.len());
    assert_eq!(answer(&catalogue, "used:3000").unwrap(), used);
    assert_eq!(answer(&catalogue, "used:50").unwrap(), used[..50]);

    let direct = |on: &str| -> Vec<&'static str> {
        let depends = |name: &&&str| edges.get(**name).is_some_and(|edges| edges.iter().any(|(name, _)| name == on));
        names.iter().filter(depends).copied().collect()
    };
    let mut counted: Vec<(usize, &str)> = names.iter().map(|name| (direct(name).len(), *name)).collect();
    counted.retain(|(count, _)| *count > 0);
    counted.sort_by_key(|(count, name)| (Reverse(*count), *name));
    let dependents: Vec<String> = counted.iter().filter_map(|(_, name)| id(name)).collect();
    assert_eq!(answer(&catalogue, "dependents:3000").unwrap(), dependents);

    for on in ["crate-0", "crate-7", "crate-19", "crate-1234"] {
        assert_eq!(answer(&catalogue, &format!("rdeps:{on}")).unwrap(), ids(popular(direct(on))), "{on}");
        let mut reached: Vec<&str> = Vec::new();
        let mut expected = Vec::new();
        let mut round = direct(on);
        while !round.is_empty() {
            round.retain(|name| !reached.contains(name) && *name != on);
            reached.extend(&round);
            expected.extend(ids(popular(round.clone())));
            let through = |name: &&&str| {
                edges.get(**name).is_some_and(|edges| {
                    edges.iter().any(|(on, version)| {
                        let current = || plain::newest(of(on), |_| true).unwrap().1;
                        round.contains(&on.as_str()) && plain::compatible(version, &current())
                    })
                })
            };
            round = names.iter().filter(through).copied().collect();
        }
        assert!(expected.len() > 10 || on == "crate-1234", "{on}: {}", expected.len());
        assert_eq!(answer(&catalogue, &format!("rdeps+:{on}")).unwrap(), expected, "{on}");
    }

    for number in 0..12 {
        let tag = format!("cat-{number}");
        let own = crates.iter().zip(&names).filter(|(krate, _)| krate.categories.contains(&tag));
        let expected = ids(popular(own.map(|(_, name)| *name).collect()));
        assert_eq!(answer(&catalogue, &format!("category:{tag}")).unwrap(), expected, "{tag}");
    }
    for number in 0..40 {
        let tag = format!("key-{number}");
        let own = crates.iter().zip(&names).filter(|(krate, _)| krate.keywords.contains(&tag));
        let expected = ids(popular(own.map(|(_, name)| *name).collect()));
        assert_eq!(answer(&catalogue, &format!("keyword:{tag}")).unwrap(), expected, "{tag}");
    }
    let query = Query::ReverseDependencies { of: "crate-3".parse().unwrap(), requirement: None, chain: Chain::Direct };
    let checksum = Checksum::of(answer(&catalogue, "rdeps:crate-3").unwrap()[0].replace('@', "-"));
    assert_eq!(catalogue.answer(&query, 0).unwrap()[0].origin, Origin::Registry { checksum: checksum.to_string() });
}
