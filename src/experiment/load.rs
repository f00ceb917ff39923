//! Experiment file + command line + defaults → checked [`Experiment`]. Fetches nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::name;
use super::problem::{BadValue, ExperimentError, Place, Problems};
use super::raw::{self, RawExperiment};
use super::read::{Located, unique};
use super::service::Service;
use super::settings::CrateTables;
use super::trust::{self, Trust};
use super::workers::{DEFAULT_OVERCOMMIT, WorkersPatch};
use super::{Caching, DEFAULT_CACHE_BUDGET, DEFAULT_LIMITS, Experiment, LimitsPatch, SandboxName, Workers};
use crate::ops::{CommandOp, Op};
use crate::registry::select::{Reach, Selection};
use crate::registry::{AllowedHost, AsOf};
use crate::sandbox::docker::Image;
use crate::toolchain::{self, Toolchain, ToolchainError, ToolchainSpec};

/// The experiment of a user who has none: it is also the commented default in the repository.
const DEMO: &str = include_str!("../../maar.toml");

/// The file that is used when none is named.
const DEFAULT_FILE: &str = "maar.toml";

/// The longest experiment file, in bytes: thousands of crates fit.
const LONGEST: u64 = 4 << 20;

/// The command line's settings, which override the file's.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--name`.
    pub name: Option<String>,
    /// `--toolchain`; empty: the file's.
    pub toolchains: Vec<ToolchainSpec>,
    /// `--crates`; empty: the file's. Paths begin at the working directory.
    pub crates: Vec<String>,
    /// `--ops`, which also stands for the file's `skip`.
    pub ops: Option<Vec<String>>,
    /// `--skip`, which is taken off every op list.
    pub skip: Vec<String>,
    /// `--workers`.
    pub workers: WorkersPatch,
    /// `--in-flight`.
    pub in_flight: Option<usize>,
    /// `--overcommit`.
    pub overcommit: Option<f64>,
    /// `--cpus` and its like, over the file's `[limits]`, not over its limits of one op or crate.
    pub limits: LimitsPatch,
    /// `--sandbox`.
    pub sandbox: Option<SandboxName>,
    /// `--image`.
    pub image: Option<Image>,
    /// `--allow-host`, besides the file's.
    pub allow_hosts: Vec<AllowedHost>,
    /// `--no-cache`.
    pub cache: Option<Caching>,
    /// `--as-of`.
    pub as_of: Option<AsOf>,
}

/// The inputs of defaults and checks besides the user's settings.
#[derive(Clone, Copy)]
pub struct Host<'h> {
    /// How many cores it has.
    pub cores: usize,
    /// The working directory, absolute.
    pub folder: &'h Path,
    /// Finds a toolchain; the active one, when none is named.
    pub toolchain: &'h Find<'h>,
}

/// Finds the toolchain of a spec, or the active one, and may install it.
pub type Find<'h> = dyn Fn(Option<&ToolchainSpec>, Installing) -> Result<Toolchain, ToolchainError> + 'h;

/// Whether a toolchain may be installed that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installing {
    /// The user named it, or the file that names it.
    WhatIsMissing,
    /// Nobody did.
    Nothing,
}

/// A checked experiment and its toolchains.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The experiment.
    pub experiment: Experiment,
    /// Its toolchains, the baseline first; never empty.
    pub toolchains: Vec<Toolchain>,
    /// Notes on the file for the user.
    pub notes: Vec<String>,
    /// Whether what its toolchains lack may be installed.
    pub installing: Installing,
}

/// Reads and checks an experiment: the file, else the `maar.toml` of the working directory, else the built-in demo.
///
/// # Errors
/// All problems of the file and of the command line together.
pub fn load(file: Option<&Path>, overrides: &Overrides, host: &Host<'_>) -> Result<Loaded, ExperimentError> {
    load_source(&Source::open(file, host.folder)?, overrides, host).map(|(loaded, _)| loaded)
}

/// Reads and checks the text of an experiment that a client sent, which may not weaken the sandbox nor name files of
/// this host.
///
/// # Errors
/// All problems of the text.
pub(super) fn load_text(text: &str, host: &Host<'_>) -> Result<(Loaded, Service), ExperimentError> {
    let source = Source {
        file: None,
        shown: "the experiment".to_owned(),
        text: text.to_owned(),
        base: PathBuf::from("/"),
        trust: Trust::Sent,
    };
    load_source(&source, &Overrides::default(), host)
}

fn load_source(source: &Source, overrides: &Overrides, host: &Host<'_>) -> Result<(Loaded, Service), ExperimentError> {
    let mut problems = Problems::default();
    let Some(mut raw) = raw::read(&source.text, &source.base, source.trust, &mut problems) else {
        return Err(problems.into_error(&source.shown, &source.text));
    };
    let weakenings = std::mem::take(&mut raw.weakenings);
    match source.trust {
        Trust::Named | Trust::Found => trust::check(weakenings, overrides, &source.shown, &mut problems),
        Trust::Sent => trust::refuse(weakenings, &mut problems),
    }
    let overridden = apply(overrides, raw, host.folder, &mut problems);
    let installing = match source.trust {
        Trust::Found if overrides.toolchains.is_empty() => Installing::Nothing,
        // A client must not make the server install anything.
        Trust::Sent => Installing::Nothing,
        Trust::Found | Trust::Named => Installing::WhatIsMissing,
    };
    let mut toolchains = look_up(&overridden.raw.toolchains, host, installing, &mut problems);
    toolchain::label(&mut toolchains);
    if overridden.raw.crates.is_empty() && problems.is_empty() {
        let help = format!("name some in `crates` of {}, or with `--crates NAME`", source.shown);
        problems.add(Place::Nowhere, BadValue::new("no crate is selected", help));
    }
    if !problems.is_empty() {
        return Err(problems.into_error(&source.shown, &source.text));
    }
    let name = match (&overrides.name, &source.file, &overridden.raw.name) {
        (None, None, Some(name)) if source.trust == Trust::Sent => name.clone(),
        (None, None, None) if source.trust == Trust::Sent => {
            let crates: Vec<String> = overridden.raw.crates.iter().map(ToString::to_string).collect();
            name::of_selections(&crates, host.folder)
        }
        (Some(name), _, _) => name.clone(),
        // Crates of the user's own are no demo.
        (None, None, _) if !overrides.crates.iter().all(|text| text.trim_start().starts_with('!')) => {
            name::of_selections(&overrides.crates, host.folder)
        }
        (None, _, Some(name)) => name.clone(),
        (None, Some(file), None) => name::of_file(file),
        (None, None, None) => name::DEFAULT.to_owned(),
    };
    let notes = overridden.raw.crate_settings.expired.clone();
    let service = overridden.raw.service.clone();
    Ok((Loaded { experiment: overridden.complete(name, host.cores), toolchains, notes, installing }, service))
}

/// The ops of the user's own that a file defines: the file, else the `maar.toml` of the working directory.
///
/// # Errors
/// All problems of the file.
pub fn own_ops(file: Option<&Path>, folder: &Path) -> Result<Vec<CommandOp>, ExperimentError> {
    let mut problems = Problems::default();
    let source = Source::open(file, folder)?;
    // Nothing is run, so that what would weaken the walls does no harm.
    match raw::read(&source.text, &source.base, source.trust, &mut problems) {
        Some(raw) if problems.is_empty() => Ok(raw.vocabulary.into_own().collect()),
        Some(_) | None => Err(problems.into_error(&source.shown, &source.text)),
    }
}

/// Where an experiment is read from.
struct Source {
    /// Absolute; none for the built-in demo.
    file: Option<PathBuf>,
    /// Its name for messages.
    shown: String,
    text: String,
    /// Where the paths in it begin, absolute.
    base: PathBuf,
    trust: Trust,
}

impl Source {
    fn open(file: Option<&Path>, folder: &Path) -> Result<Self, ExperimentError> {
        let named = file.unwrap_or(Path::new(DEFAULT_FILE));
        let path = folder.join(named);
        let shown = named.display().to_string();
        let trust = if file.is_some() { Trust::Named } else { Trust::Found };
        match read(&path, trust) {
            Ok(text) => {
                let base = path.parent().unwrap_or(folder).to_owned();
                Ok(Self { file: Some(path), shown, text, base, trust })
            }
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self {
                file: None,
                shown: "the built-in demo".to_owned(),
                text: DEMO.to_owned(),
                base: folder.to_owned(),
                trust: Trust::Named,
            }),
            Err(error) => {
                let help = match error.kind() {
                    io::ErrorKind::NotFound => {
                        Some("FILE is an experiment; `--crates NAME` selects a crate".to_owned())
                    }
                    io::ErrorKind::InvalidInput => {
                        Some("only a plain file is read without being named; `maar run FILE` reads any".to_owned())
                    }
                    io::ErrorKind::IsADirectory => Some(format!("the file in it may be {shown}/{DEFAULT_FILE}")),
                    _ => None,
                };
                let what = BadValue::new(format!("failed to read {shown}: {error}"), help);
                let mut problems = Problems::default();
                problems.add(Place::Nowhere, what);
                Err(problems.into_error(&shown, ""))
            }
        }
    }
}

/// Reads a file. One that was found may be a link to a file whose lines an error would print, or a pipe without an end.
fn read(path: &Path, trust: Trust) -> io::Result<String> {
    let mut text = String::new();
    let file = match trust {
        Trust::Named => File::open(path)?,
        Trust::Found | Trust::Sent => {
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let unusual = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file");
            // A folder is said to be one when it is read.
            match File::options().read(true).custom_flags(flags).open(path) {
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(unusual()),
                Err(error) => return Err(error),
                Ok(file) if file.metadata()?.is_file() || file.metadata()?.is_dir() => file,
                Ok(_) => return Err(unusual()),
            }
        }
    };
    let length = file.take(LONGEST + 1).read_to_string(&mut text)?;
    if length as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {} MiB", LONGEST >> 20)));
    }
    Ok(text)
}

/// What file and command line say together.
struct Overridden {
    raw: RawExperiment,
    /// The ops that the command line takes off every list.
    skipped: Vec<Op>,
}

fn apply(overrides: &Overrides, mut raw: RawExperiment, folder: &Path, problems: &mut Problems) -> Overridden {
    if !overrides.toolchains.is_empty() {
        raw.toolchains.clear();
        for spec in &overrides.toolchains {
            raw.toolchains.push(Located { place: Place::Flag("--toolchain"), value: spec.clone().rooted(folder) });
        }
    }
    if !overrides.crates.is_empty() {
        let place = Place::Flag("--crates");
        let selected = overrides
            .crates
            .iter()
            .filter_map(|text| problems.check(&place, raw::select(text, folder, Reach::Anywhere)));
        let selected: Vec<Selection> = selected.flatten().collect();
        // Exclusions alone are taken off the file's crates.
        if !selected.iter().all(|selection| matches!(selection, Selection::Not(_))) {
            raw.crates.clear();
        }
        raw.crates.extend(selected);
    }
    if let Some(ops) = &overrides.ops {
        raw.ops = Some(raw.vocabulary.list(&in_flag("--ops", ops, problems), problems));
        raw.skip.clear();
    }
    let skipped = raw.vocabulary.skip(&in_flag("--skip", &overrides.skip, problems), problems);
    raw.workers = overrides.workers.or(raw.workers);
    raw.in_flight = overrides.in_flight.or(raw.in_flight);
    raw.overcommit = overrides.overcommit.or(raw.overcommit);
    raw.limits = overrides.limits.or(raw.limits);
    raw.sandbox = overrides.sandbox.unwrap_or(raw.sandbox);
    raw.image = overrides.image.clone().or(raw.image);
    raw.allow_hosts.extend(overrides.allow_hosts.iter().cloned());
    raw.cache = overrides.cache.unwrap_or(raw.cache);
    raw.as_of = overrides.as_of.clone().or(raw.as_of.take());
    Overridden { raw, skipped }
}

fn in_flag<'v>(flag: &'static str, values: &'v [String], problems: &mut Problems) -> Vec<Located<&'v str>> {
    let mut names = values.iter().map(|value| Located { place: Place::Flag(flag), value: value.as_str() }).collect();
    unique(&mut names, problems);
    names
}

fn look_up(
    specs: &[Located<ToolchainSpec>],
    host: &Host<'_>,
    installing: Installing,
    problems: &mut Problems,
) -> Vec<Toolchain> {
    let named = specs.iter().map(|spec| (&spec.place, Some(&spec.value)));
    let active = specs.is_empty().then_some((&Place::Nowhere, None));
    // A file that was found chooses no program that maar runs.
    let may_run = |spec: &Option<&ToolchainSpec>| {
        installing == Installing::WhatIsMissing || spec.is_none_or(|spec| spec.steering().is_none())
    };
    let found = named.chain(active).filter(|(_, spec)| may_run(spec)).filter_map(|(place, spec)| {
        let toolchain = (host.toolchain)(spec, installing).map_err(|error| BadValue::new(error.to_string(), None));
        problems.check(place, toolchain)
    });
    found.collect()
}

impl Overridden {
    /// Fills in the defaults.
    fn complete(self, name: String, cores: usize) -> Experiment {
        let Self { raw, skipped } = self;
        let mut ops = raw.ops.unwrap_or_else(|| vec![Op::Prepare, Op::Build, Op::Test]);
        ops.retain(|op| !raw.skip.contains(op) && !skipped.contains(op));
        let limits = raw.limits.over(DEFAULT_LIMITS);
        let workers = raw.workers.over(Workers::for_host(cores, limits.cpus));
        let CrateTables { named, patterns, expired: _ } = raw.crate_settings;
        let settings = named.into_iter().map(|(name, settings)| (name, settings.over(&ops, &skipped)));
        let patterns = patterns.into_iter().map(|(pattern, settings)| (pattern, settings.over(&ops, &skipped)));
        Experiment {
            name,
            toolchains: raw.toolchains.into_iter().map(|spec| spec.value).collect(),
            crates: raw.crates,
            crate_settings: settings.collect(),
            crate_patterns: patterns.collect(),
            ops,
            workers,
            in_flight: raw.in_flight.unwrap_or_else(|| workers.in_flight()),
            overcommit: raw.overcommit.unwrap_or(DEFAULT_OVERCOMMIT),
            limits,
            op_limits: raw.op_limits,
            lockfile: raw.lockfile,
            sandbox: raw.sandbox.with(raw.image.unwrap_or_default()),
            allow_hosts: raw.allow_hosts,
            cache: raw.cache,
            as_of: raw.as_of,
            cache_budget: raw.cache_budget.unwrap_or(DEFAULT_CACHE_BUDGET),
        }
    }
}
