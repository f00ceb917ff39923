//! `maar run`: from a file and flags to a table, a report and an exit code. [`run::Session`](crate::run::Session) does
//! the work.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::args::RunOptions;
use super::exit::Exit;
use super::install::Installer;
use super::reused::{Reused, reused};
use super::{closing, components, dry_run, separation, signals};
use crate::compare::{self, Conclusion};
use crate::experiment::{self, Host, Installing, Loaded};
use crate::home::Home;
use crate::host;
use crate::printable::one_line;
use crate::progress::{self, Progress, Update};
use crate::registry::{Access, Watch};
use crate::run::{Begun, Bench, Driven, Enforcement, Request, Reuse, SelectedBy, Session};
use crate::stop::{self, Stop, StopLevel, Stopper};
use crate::toolchain::ToolchainSpec;
use crate::trace::Trace;

/// Runs an experiment to its end, or as far as it gets.
pub(super) fn run(file: Option<&Path>, options: &RunOptions, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let folder = std::env::current_dir().context("failed to find the working directory")?;
    let allowed = if options.offline || options.dry_run { Installing::Nothing } else { Installing::WhatIsMissing };
    let installer = Installer(allowed);
    let find = |spec: Option<&ToolchainSpec>, installing| installer.find(spec, installing);
    let host = Host { cores: host::cores(), folder: &folder, toolchain: &find };
    let loaded = experiment::load(file, &options.overrides(), &host)?;
    components::check(&loaded, installer)?;
    separation::seek(&loaded.experiment.sandbox, &loaded.toolchains, &options.home)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(run_loaded(loaded, options, out))
}

async fn run_loaded(loaded: Loaded, options: &RunOptions, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let access = if options.offline { Access::Offline } else { Access::Online };
    let bench = Arc::new(Bench::open(Home::open(options.home.folder.clone())?, access)?);
    let (stopper, stop) = stop::channel();
    signals::listen(stopper.clone()).context("failed to listen for signals")?;
    let trace = options.trace.as_deref().map(Trace::create).transpose()?;
    let watch = watch(options.progress);
    let Some(session) = Session::open(&bench, request(loaded, options), &watch, &stop).await? else {
        return Ok(Exit::Stopped);
    };
    if options.dry_run {
        dry_run::write(&session, out)?;
        return Ok(Exit::Fine);
    }
    let begun = session.begin(Stop::never())?;
    let name = &begun.planned().assignment().experiment.name;
    let reused = reused(begun.planned(), &begun.store().started(name)?);
    let (mut driven, progress) = drive(begun, options, reused, trace, (&stopper, &stop)).await?;
    conclude(&mut driven, &bench, progress, (options, reused, stop.level()), out)
}

/// What the flags ask of a session.
fn request(loaded: Loaded, options: &RunOptions) -> Request {
    Request {
        loaded,
        selected_by: if options.crates.is_empty() { SelectedBy::File } else { SelectedBy::Flags },
        reuse: match (options.fresh, options.update) {
            (true, _) => Reuse::Nothing,
            (false, true) => Reuse::NewestVersions,
            (false, false) => Reuse::Everything,
        },
        limits: if options.require_limits { Enforcement::Required } else { Enforcement::WherePossible },
        dump: options.dump.clone(),
    }
}

/// Shows what takes a while before anything runs.
fn watch(progress: progress::Kind) -> Watch {
    Arc::new(move |text: &str| match progress {
        progress::Kind::None => {}
        progress::Kind::Auto | progress::Kind::Bars | progress::Kind::Plain | progress::Kind::Json => {
            // A closed stderr has no reader.
            let _ = writeln!(anstream::stderr(), "{}", one_line(text));
        }
    })
}

/// Runs the steps that no earlier run has settled, with progress.
async fn drive(
    begun: Begun,
    options: &RunOptions,
    reused: Option<Reused>,
    trace: Option<Trace>,
    stop: (&Stopper, &Stop),
) -> anyhow::Result<(Driven, Progress)> {
    let (crates, left) = (begun.planned().plans().len(), begun.planned().to_run());
    let ahead = progress::Plan { pools: begun.shape().pools(), crates, already_done: crates - left };
    let mut progress = Progress::new(options.progress, ahead);
    for note in begun.notes() {
        progress.update(Update::Note(note.clone()));
    }
    // Other kinds of progress end with the closing table, which has it.
    if let (progress::Kind::Json, Some(reused)) = (options.progress, reused) {
        progress.update(Update::Note(reused.in_words()));
    }
    match begun.drive(&mut |event| progress.update(Update::from(event)), trace, stop).await {
        Ok(driven) => Ok((driven, progress)),
        Err(error) => {
            progress.finish(None);
            Err(error.into())
        }
    }
}

/// Writes the report, and derives the exit code from it.
fn conclude(
    driven: &mut Driven,
    bench: &Bench,
    progress: Progress,
    (options, reused, stopped): (&RunOptions, Option<Reused>, StopLevel),
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let report = driven.report()?;
    progress.finish(report.runs.last());
    let conclusion = compare::conclude(&report, options.fail_on.as_deref());
    let page = closing::write_html(driven.store(), bench.home(), &report);
    if options.progress != progress::Kind::Json {
        // A reader that closes the pipe changes no result.
        let closing = closing::Closing { report: &report, page: page.as_deref().ok(), reused, conclusion, stopped };
        let _ = closing.write(out);
    }
    page?;
    Ok(match (stopped, conclusion) {
        (StopLevel::Drain | StopLevel::Kill, _) => Exit::Stopped,
        (StopLevel::Run, Conclusion::Clean) => Exit::Fine,
        (StopLevel::Run, Conclusion::Failures) => Exit::Regressed,
        (StopLevel::Run, Conclusion::HostFailed) => Exit::Host,
        (StopLevel::Run, Conclusion::SomeUntested(_)) => Exit::SomeUntested,
        (StopLevel::Run, Conclusion::NothingTested(_)) => Exit::NothingTested,
    })
}
