//! Selects and plans all crates of a registry of the default registry's size and more, from a dump in the real format.
//!
//! Fails when that takes more than a minute of CPU time or a GiB of memory: time by the clock depends more on the other
//! programs of a busy host. The dump is made first, and its making doesn't count.
//! `cargo bench --bench selection [-- CRATES]`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and fails by panicking")]

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use maar::experiment::{self, Host, Overrides};
use maar::registry::select::{self, Reach, Selection};
use maar::registry::{Catalogue, read_dump};
use maar::toolchain::{Toolchain, ToolchainSpec};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const CRATES: usize = 700_000;
const LONGEST: Duration = Duration::from_secs(60);
const MOST: u64 = 1 << 30;
/// As in the default registry: a few versions each, and some dependencies of each version.
const VERSIONS: usize = 3;
const DEPENDENCIES: usize = 6;

fn main() {
    let crates = std::env::args().filter_map(|arg| arg.parse().ok()).next().unwrap_or(CRATES);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db-dump.tar.gz");
    let begun = Instant::now();
    write_dump(&path, crates);
    let size = path.metadata().unwrap().len() >> 20;
    println!("made a dump of {crates} crates, {size} MiB, in {:.1?}; {}", begun.elapsed(), peak());
    let (begun, cpu_before) = (Instant::now(), cpu());
    let catalogue = timed("read", || read_dump(&path, None, &|_| true).unwrap());
    for text in ["top:1000", "used:1000", "dependents:1000", "random:1000@7", "rdeps:crate-3", "rdeps+:crate-3"] {
        timed(text, || answer(&catalogue, text).len());
    }
    let all = timed("all", || answer(&catalogue, "all"));
    drop(catalogue);
    assert_eq!(all.len(), crates);
    let experiment = experiment();
    let toolchains = ["1.95.0", "1.96.0"].map(toolchain);
    let plans = timed("plan", || maar::plan::plan(&experiment, &toolchains, all));
    let steps: usize = plans.iter().map(|plan| plan.steps.len()).sum();
    let cpu = cpu() - cpu_before;
    println!(
        "{} crates and {steps} steps planned in {:.1?}, {cpu:.1?} of CPU; {}",
        plans.len(),
        begun.elapsed(),
        peak()
    );
    assert_eq!(steps, crates * 5);
    assert!(cpu < LONGEST, "more than a minute of CPU time");
    assert!(peak_bytes() < MOST, "more than a GiB");
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let value = work();
    println!("{what:<16} {:>8.2?}   {}", begun.elapsed(), peak());
    value
}

fn answer(catalogue: &Catalogue, text: &str) -> Vec<maar::krate::Selected> {
    match &select::parse(text, Path::new("/"), Reach::Anywhere).unwrap()[..] {
        [Selection::Query(query)] => catalogue.answer(query, 0).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn experiment() -> experiment::Experiment {
    let host =
        Host { cores: 8, folder: Path::new("/"), toolchain: &|_: Option<&ToolchainSpec>, _| Ok(toolchain("1.95.0")) };
    let overrides = Overrides { crates: vec!["all".to_owned()], ..Overrides::default() };
    experiment::load(None, &overrides, &host).unwrap().experiment
}

fn toolchain(version: &str) -> Toolchain {
    let (spec, sysroot) = (version.parse().unwrap(), Path::new("/toolchains").join(version));
    Toolchain::new(spec, version.parse().unwrap(), format!("rustc {version}"), sysroot)
}

/// The CPU time of this process so far.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let spent = usage.user_time() + usage.system_time();
    Duration::from_micros(spent.num_microseconds().cast_unsigned())
}

fn peak() -> String {
    format!("peak memory {} MiB", peak_bytes() >> 20)
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Writes the tables one after another, each to a file first: a tar needs its size.
fn write_dump(path: &Path, crates: usize) {
    let mut tar = tar::Builder::new(GzEncoder::new(File::create(path).unwrap(), Compression::fast()));
    let metadata = b"{\"timestamp\": \"2026-06-01T02:00:00Z\"}";
    let mut header = tar::Header::new_ustar();
    header.set_size(metadata.len() as u64);
    tar.append_data(&mut header, "dump/metadata.json", &metadata[..]).unwrap();
    let mut table = |name: &str, header: &str, write: &mut dyn FnMut(&mut dyn Write)| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut out = BufWriter::new(file.reopen().unwrap());
        writeln!(out, "{header}").unwrap();
        write(&mut out);
        out.flush().unwrap();
        tar.append_path_with_name(file.path(), format!("dump/data/{name}")).unwrap();
    };
    let versions = || (0..crates).flat_map(|krate| (0..VERSIONS).map(move |number| (krate, number)));
    table("crates.csv", "created_at,description,id,name", &mut |out| {
        (0..crates).for_each(|id| writeln!(out, "2020-01-01,\"What it is for, in words.\",{id},crate-{id}").unwrap());
    });
    table(
        "dependencies.csv",
        "crate_id,default_features,explicit_name,id,kind,optional,req,target,version_id",
        &mut |out| {
            let mut state = 1_u64;
            for (krate, number) in versions() {
                for _ in 0..DEPENDENCIES {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let random = (state >> 33) as usize;
                    // Half of all are on a thousand crates, as in a real registry.
                    let on = if random.is_multiple_of(2) { random / 2 % 1000 } else { random / 2 % crates };
                    let requirement = ["^1", "^1.1", "^2", "*", "^1.0.3"][random / 7 % 5];
                    let version = krate * VERSIONS + number;
                    writeln!(out, "{on},t,,1,{},f,{requirement},,{version}", random % 3).unwrap();
                }
            }
        },
    );
    table("version_downloads.csv", "date,downloads,version_id", &mut |out| {
        for (krate, number) in versions() {
            let version = krate * VERSIONS + number;
            (1..10).for_each(|day| writeln!(out, "2026-05-2{day},{},{version}", krate * 7919 % 10_007).unwrap());
        }
    });
    table("versions.csv", "checksum,crate_id,created_at,id,num,yanked", &mut |out| {
        for (krate, number) in versions() {
            let (version, num) = (krate * VERSIONS + number, ["1.0.0", "1.1.0", "2.0.0"][number]);
            writeln!(out, "{version:064x},{krate},2020-01-01 00:00:00.5+00,{version},{num},f").unwrap();
        }
    });
    tar.into_inner().unwrap().finish().unwrap();
}
