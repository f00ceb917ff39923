//! `maar doctor`: checks whether this host can run experiments, with remedies.

use std::io::Write;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};

use super::args::DoctorArgs;
use super::exit::Exit;
use super::separation;
use crate::home::{Home, HomeError};
use crate::printable;
use crate::registry::{Access, Config, Registry, Upstream};
use crate::sandbox::docker::{self, Docker, Image};
use crate::sandbox::native::{self, Native};
use crate::sandbox::probe::{self, Check, Status};
use crate::sandbox::{Cores, Sandbox};
use crate::toolchain;

/// Checks everything that a run needs; fails if something is missing that a run can't do without.
pub(super) fn run(args: &DoctorArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let users = users();
    let home = match Home::existing(args.home.folder.clone())? {
        Some(home) => home,
        None => Home::open(args.home.folder.clone())?,
    };
    // With a read-only home, the other checks use a temporary folder.
    let (home_check, elsewhere) = match home.check_writable() {
        Ok(()) => (writable(&home), None),
        Err(error) => (read_only(&error), Some(tempfile::tempdir()?)),
    };
    let (trials, cache) = match &elsewhere {
        Some(dir) => (dir.path(), dir.path().join("cache")),
        None => (home.dir(), home.cache()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checks = runtime.block_on(async {
        let mut checks = vec![home_check];
        checks.extend(sandbox(trials, &home).await);
        checks.extend(users);
        checks.push(docker().await);
        checks.push(toolchains());
        checks.push(registry(cache).await);
        checks
    });
    write(&checks, out)?;
    let failed = checks.iter().any(|check| check.status == Status::Fail);
    Ok(if failed { Exit::Host } else { Exit::Fine })
}

async fn sandbox(dir: &Path, home: &Home) -> Vec<Check> {
    let native = Native::new(native::Config { locks: Some(home.users()), ..native::Config::default() });
    probe::probe(&native, dir).await
}

fn writable(home: &Home) -> Check {
    Check { name: "home", status: Status::Ok, detail: format!("{} can be written", home.dir().display()), remedy: None }
}

fn read_only(error: &HomeError) -> Check {
    let remedy = "results in it can be read; to run something, name another home with --home or MAAR_HOME";
    Check { name: "home", status: Status::Fail, detail: error.to_string(), remedy: Some(remedy.to_owned()) }
}

/// Whether an ordinary user has ids for commands; `None` for root, who has all. Where the user has some, this process
/// uses them from here on, as a run does.
fn users() -> Option<Check> {
    let name = "user ids";
    let user = nix::unistd::geteuid();
    if user.is_root() {
        return None;
    }
    let active: Vec<_> = toolchain::active().into_iter().collect();
    Some(match separation::enter(&active) {
        Ok(()) => {
            let detail = format!("cells have subordinate ids of user {user}, and none of that user's own");
            Check { name, status: Status::Ok, detail, remedy: None }
        }
        Err(why) => {
            let detail = format!("cells are user {user} to the host, as all programs of that user: {why}");
            Check { name, status: Status::Warn, detail, remedy: Some(why.remedy()) }
        }
    })
}

/// Docker may be missing: nothing is wrong with a host for that.
async fn docker() -> Check {
    let name = "docker";
    let image = Image::default();
    let unneeded = Some("only --sandbox docker needs it".to_owned());
    match Docker::connect(docker::Config::new(image.clone())).await {
        Ok(docker) => {
            let missing = Sandbox::Docker(docker).unenforced(Cores::Shared);
            if missing.is_empty() {
                let detail = format!("the daemon answers, and has the image `{image}`");
                return Check { name, status: Status::Ok, detail, remedy: None };
            }
            Check { name, status: Status::Warn, detail: missing.join("; "), remedy: unneeded }
        }
        Err(error) => Check { name, status: Status::Warn, detail: error.to_string(), remedy: unneeded },
    }
}

fn toolchains() -> Check {
    let name = "toolchains";
    match (toolchain::active(), toolchain::installed()) {
        (Ok(active), installed) => {
            let names = installed.unwrap_or_default();
            let others = if names.is_empty() { String::new() } else { format!("; installed: {}", names.join(", ")) };
            let detail = format!("active: {} ({}){others}", active.spec, active.version);
            Check { name, status: Status::Ok, detail, remedy: None }
        }
        (Err(error), _) => Check { name, status: Status::Fail, detail: error.to_string(), remedy: None },
    }
}

async fn registry(cache: PathBuf) -> Check {
    let name = "registry";
    let failed = |detail: String, remedy: Option<&str>| Check {
        name,
        status: Status::Fail,
        detail,
        remedy: remedy.map(str::to_owned),
    };
    let upstream = match Upstream::configured() {
        Ok(upstream) => upstream,
        Err(error) => return failed(error.to_string(), None),
    };
    let url = upstream.index.as_str().to_owned();
    let reached = match Registry::open(Config { upstream, cache, access: Access::Online }) {
        Ok(registry) => registry.check().await,
        Err(error) => Err(error),
    };
    match reached {
        Ok(()) => Check { name, status: Status::Ok, detail: format!("{url} answers"), remedy: None },
        Err(error) => failed(
            error.to_string(),
            Some(
                "check the network and its proxy (HTTPS_PROXY); `maar run --offline` runs crates that are in the cache",
            ),
        ),
    }
}

fn write(checks: &[Check], out: &mut dyn Write) -> std::io::Result<()> {
    for Check { name, status, detail, remedy } in checks {
        let (word, colour) = match status {
            Status::Ok => ("ok  ", AnsiColor::Green),
            Status::Warn => ("warn", AnsiColor::Yellow),
            Status::Fail => ("FAIL", AnsiColor::Red),
        };
        let style = Style::new().fg_color(Some(colour.into()));
        writeln!(out, "{style}{word}{style:#}  {name:<12} {}", printable::lines(detail))?;
        if let Some(remedy) = remedy {
            writeln!(out, "      {:12} {remedy}", "")?;
        }
    }
    Ok(())
}
