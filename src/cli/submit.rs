//! `maar submit`: sends an experiment to a server, and follows it there as `maar run` follows one here.
//!
//! The file is checked here first. Lists and lockfiles that it names are read here, as the server reads no files for its
//! clients; flags are written into the settings.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use reqwest::{Client, Response, Url, header};
use serde_json::Value;
use toml::{Table, Value as Setting};

use super::args::{RunOptions, SubmitArgs};
use super::exit::{Exit, Misuse};
use crate::experiment::{self, Host, Installing};
use crate::host;
use crate::pipeline::Pool;
use crate::printable;
use crate::progress::{Plan, Progress, Update};
use crate::serve::event::RunEvent;
use crate::toolchain::{Toolchain, ToolchainError, ToolchainSpec};

/// How long the server may take to begin an answer.
const ANSWER: Duration = Duration::from_secs(100);
/// The time between two tries to reach a server that went away.
const AGAIN: Duration = Duration::from_secs(3);
/// How many times a server is looked for before the client gives up following.
const TRIES: u32 = 100;

/// Sends the experiment, and follows it unless `--detach` is given.
pub(super) fn run(args: &SubmitArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let settings = settings(args.file.as_deref(), &args.options)?;
    let token = std::fs::read_to_string(&args.token_file)
        .with_context(|| format!("failed to read {}", args.token_file.display()))?;
    let server = Server::new(&args.server, token.trim())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(async {
        let name = server.send(&settings).await?;
        let page = server.url(&["ex", &name])?;
        if args.detach {
            writeln!(out, "{name}\n{page}")?;
            return Ok(Exit::Fine);
        }
        // A closed stderr has no reader.
        let _ = writeln!(anstream::stderr(), "{page}");
        let state = server.follow(&name, &args.options).await?;
        server.conclude(&name, &state, &args.options, out).await
    })
}

/// The text that is sent: the file's own, if flags and files change nothing about it.
fn settings(file: Option<&Path>, options: &RunOptions) -> anyhow::Result<String> {
    check_flags(options)?;
    let folder = std::env::current_dir().context("failed to find the working directory")?;
    // Toolchains are the server's to find.
    let any = |spec: Option<&ToolchainSpec>, _: Installing| -> Result<Toolchain, ToolchainError> {
        let spec = spec.cloned().map_or_else(|| "stable".parse(), Ok).map_err(|_| ToolchainError::NoRustc)?;
        let version = semver::Version::new(0, 0, 0);
        Ok(Toolchain::new(spec, version, String::new(), "/".into()))
    };
    let host = Host { cores: host::cores(), folder: &folder, toolchain: &any };
    let loaded = experiment::load(file, &options.overrides(), &host)?;
    let path = file.unwrap_or(Path::new("maar.toml"));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // The built-in demo.
        Err(_) if file.is_none() => include_str!("../../maar.toml").to_owned(),
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", path.display())),
    };
    let mut table: Table = text.parse().context("failed to read the settings again")?;
    let crates: Vec<Setting> =
        loaded.experiment.crates.iter().map(|selection| Setting::from(selection.to_string())).collect();
    if let Some(path) = crates.iter().filter_map(Setting::as_str).find(|text| text.starts_with("path:")) {
        bail!(Misuse(format!("`{path}` is a folder of this machine, which a server doesn't see; `maar run` runs it")));
    }
    let before = table.clone();
    table.insert("crates".to_owned(), Setting::Array(crates));
    table.insert("name".to_owned(), Setting::from(loaded.experiment.name));
    write_flags(options, &mut table);
    Ok(if table == before { text } else { table.to_string() })
}

/// Refuses flags that are about this machine.
fn check_flags(options: &RunOptions) -> anyhow::Result<()> {
    for (is_given, flag) in [
        (options.offline, "--offline"),
        (options.update, "--update"),
        (options.fresh, "--fresh"),
        (options.dry_run, "--dry-run"),
        (options.dump.is_some(), "--dump"),
        (options.trace.is_some(), "--trace"),
        (options.require_limits, "--require-limits"),
    ] {
        if is_given {
            bail!(Misuse(format!(
                "`{flag}` is about this machine, and the experiment runs on the server: leave it out"
            )));
        }
    }
    Ok(())
}

/// Writes flags into the settings, where `maar run` would let them override these.
fn write_flags(options: &RunOptions, table: &mut Table) {
    let texts = |list: &[String]| Setting::Array(list.iter().cloned().map(Setting::from).collect());
    if !options.toolchains.is_empty() {
        let specs: Vec<String> = options.toolchains.iter().map(ToString::to_string).collect();
        table.insert("toolchains".to_owned(), texts(&specs));
    }
    if let Some(ops) = &options.ops {
        table.insert("ops".to_owned(), texts(if *ops == [""] { &[] } else { ops }));
        table.remove("skip");
    }
    if !options.skip.is_empty() {
        let mut skip: Vec<Setting> = table.get("skip").and_then(Setting::as_array).cloned().unwrap_or_default();
        skip.extend(options.skip.iter().cloned().map(Setting::from));
        skip.dedup();
        table.insert("skip".to_owned(), Setting::Array(skip));
        take_off_crates(&options.skip, table);
    }
    let overrides = options.overrides();
    if options.no_cache {
        table.insert("cache".to_owned(), Setting::Boolean(false));
    }
    if let Some(as_of) = &options.as_of {
        table.insert("as-of".to_owned(), Setting::from(as_of.to_string()));
    }
    let whole = |number: usize| Setting::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    if let Some(in_flight) = options.in_flight {
        table.insert("in-flight".to_owned(), whole(in_flight));
    }
    if let Some(overcommit) = options.overcommit {
        table.insert("overcommit".to_owned(), Setting::Float(overcommit));
    }
    if let Some(workers) = &options.workers {
        let mut of_stages = table.get("workers").and_then(Setting::as_table).cloned().unwrap_or_default();
        for (stage, count) in [("fetch", workers.fetch), ("build", workers.build), ("test", workers.test)] {
            of_stages.extend(count.map(|count| (stage.to_owned(), whole(count))));
        }
        table.insert("workers".to_owned(), Setting::Table(of_stages));
    }
    if let Some(sandbox) = options.sandbox {
        let name = clap::ValueEnum::to_possible_value(&sandbox);
        table.extend(name.map(|name| ("sandbox".to_owned(), Setting::from(name.get_name()))));
    }
    if let Some(image) = &options.image {
        table.insert("image".to_owned(), Setting::from(image.to_string()));
    }
    if !options.allow_hosts.is_empty() {
        let hosts: Vec<String> = options.allow_hosts.iter().map(ToString::to_string).collect();
        table.insert("allow-hosts".to_owned(), texts(&hosts));
    }
    let limits = overrides.limits;
    let mut of_file = table.get("limits").and_then(Setting::as_table).cloned().unwrap_or_default();
    let size = |size: bytesize::ByteSize| Setting::from(format!("{}B", size.as_u64()));
    let time = |time: Duration| Setting::from(humantime::format_duration(time).to_string());
    of_file.extend(limits.cpus.map(|cpus| ("cpus".to_owned(), Setting::Float(cpus))));
    of_file.extend(limits.memory.map(|memory| ("memory".to_owned(), size(memory))));
    of_file.extend(limits.disk.map(|disk| ("disk".to_owned(), size(disk))));
    of_file.extend(limits.timeout.map(|timeout| ("timeout".to_owned(), time(timeout))));
    of_file.extend(limits.idle_timeout.map(|timeout| ("idle-timeout".to_owned(), time(timeout))));
    of_file.extend(options.cpuset.then_some(("cpuset".to_owned(), Setting::Boolean(true))));
    if !of_file.is_empty() {
        table.insert("limits".to_owned(), Setting::Table(of_file));
    }
}

/// Takes ops off the lists of single crates, as `--skip` does.
fn take_off_crates(skip: &[String], table: &mut Table) {
    let crates = table.get_mut("crate").and_then(Setting::as_table_mut).into_iter().flatten();
    for (_, settings) in crates {
        if let Some(ops) = settings.get_mut("ops").and_then(Setting::as_array_mut) {
            ops.retain(|op| op.as_str().is_none_or(|op| !skip.iter().any(|skipped| skipped == op)));
        }
    }
}

/// A server, and the right to use it.
struct Server {
    base: Url,
    client: Client,
}

impl Server {
    fn new(base: &Url, token: &str) -> anyhow::Result<Self> {
        let host = base.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_loopback =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        match base.scheme() {
            "https" => {}
            "http" if is_loopback => {}
            _ => bail!(Misuse(format!("{base} would get the token unencrypted: give an https:// URL"))),
        }
        let mut headers = header::HeaderMap::new();
        let mut bearer = header::HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Misuse("the file of --token-file holds no token".to_owned()))?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        // An error means that a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder().user_agent(concat!("maar/", env!("CARGO_PKG_VERSION")));
        let builder = if is_loopback { builder.no_proxy() } else { builder };
        let client = builder
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(30))
            .build()
            .context("failed to start a client")?;
        Ok(Self { base: base.clone(), client })
    }

    fn url(&self, path: &[&str]) -> anyhow::Result<Url> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Misuse(format!("{} is not the URL of a server", self.base)))?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// Creates the experiment, and returns its name.
    async fn send(&self, settings: &str) -> anyhow::Result<String> {
        let request = self
            .client
            .post(self.url(&["api", "v1", "experiments"])?)
            .header(header::CONTENT_TYPE, "application/toml")
            .body(settings.to_owned());
        let answer = tokio::time::timeout(ANSWER, request.send()).await.context("the server doesn't answer")??;
        let created = fine(answer).await?;
        let created: Value =
            serde_json::from_slice(&created.bytes().await?).context("the server's answer is not JSON")?;
        let name = created["name"].as_str().context("the server's answer has no name")?;
        Ok(experiment::name(name)?)
    }

    /// Shows the progress until the experiment is over, and returns its last state.
    async fn follow(&self, name: &str, options: &RunOptions) -> anyhow::Result<String> {
        let mut following = Following { progress: None, last: None, state: String::new() };
        let mut failures = 0;
        loop {
            match self.read_events(name, &mut following, options, &mut failures).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if error.is::<Misuse>() || failures >= TRIES => return Err(error),
                Err(error) => {
                    failures += 1;
                    following.note(&format!("{error:#}; trying again"));
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        if let Some(progress) = following.progress {
            progress.finish(None);
        }
        Ok(following.state)
    }

    /// Reads events until the experiment is over, or the stream ends.
    async fn read_events(
        &self,
        name: &str,
        following: &mut Following,
        options: &RunOptions,
        failures: &mut u32,
    ) -> anyhow::Result<bool> {
        let mut request = self.client.get(self.url(&["api", "v1", "experiments", name, "events"])?);
        if let Some(last) = &following.last {
            request = request.header("last-event-id", last);
        }
        let answer = tokio::time::timeout(ANSWER, request.send()).await.context("the server doesn't answer")??;
        let mut body = fine(answer).await?.bytes_stream();
        *failures = 0;
        let mut unread: Vec<u8> = Vec::new();
        while let Some(bytes) = body.next().await {
            unread.extend_from_slice(&bytes?);
            while let Some(end) = unread.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = unread.drain(..end + 2).collect();
                if following.take(&String::from_utf8_lossy(&event), options) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Prints the report, and derives the exit code from it.
    async fn conclude(
        &self,
        name: &str,
        state: &str,
        options: &RunOptions,
        out: &mut dyn Write,
    ) -> anyhow::Result<Exit> {
        if state != "done" {
            let answer = self.client.get(self.url(&["api", "v1", "experiments", name])?).send().await?;
            let shown: Value = serde_json::from_slice(&fine(answer).await?.bytes().await?)?;
            let trouble = shown["trouble"].as_str().unwrap_or_default();
            writeln!(
                out,
                "{name} is {state}{}{}",
                if trouble.is_empty() { "" } else { ": " },
                printable::lines(trouble)
            )?;
            return Ok(match state {
                "invalid" => Exit::Usage,
                "aborted" if trouble.is_empty() => Exit::Stopped,
                _ => Exit::Host,
            });
        }
        let report = |format| async move {
            let mut url = self.url(&["api", "v1", "experiments", name, "report"])?;
            url.query_pairs_mut().append_pair("format", format);
            let answer = self.client.get(url).send().await?;
            anyhow::Ok(fine(answer).await?.text().await?)
        };
        writeln!(out, "{}", printable::lines(&report("text").await?))?;
        writeln!(out, "{:<8}{}", "report", self.url(&["ex", name, "report", "index.html"])?)?;
        let json: Value = serde_json::from_str(&report("json").await?)?;
        Ok(exit(&json, options))
    }
}

/// The exit code of a report, by its summary.
fn exit(report: &Value, options: &RunOptions) -> Exit {
    let counts: BTreeMap<String, u64> = serde_json::from_value(report["summary"].clone()).unwrap_or_default();
    let count = |verdicts: &[&str]| -> u64 { verdicts.iter().filter_map(|verdict| counts.get(*verdict)).sum() };
    let toolchains = report["toolchains"].as_array().map_or(0, Vec::len);
    let chosen: Option<Vec<&str>> =
        options.fail_on.as_ref().map(|verdicts| verdicts.iter().map(|verdict| verdict.as_str()).collect());
    let failures = match (&chosen, toolchains) {
        (Some(verdicts), _) => count(verdicts),
        (None, 0 | 1) => count(&["build-fail", "test-fail"]),
        (None, _) => count(&["regressed"]),
    };
    let untested = count(&["inconclusive", "broken", "pending", "error"]);
    let all: u64 = counts.values().sum();
    if failures > 0 {
        Exit::Regressed
    } else if count(&["error"]) > 0 {
        Exit::Host
    } else if untested > 0 && all == untested + count(&["skipped"]) {
        Exit::NothingTested
    } else if untested > 0 && chosen.is_none() {
        Exit::SomeUntested
    } else {
        Exit::Fine
    }
}

/// The progress of an experiment on a server.
struct Following {
    progress: Option<Progress>,
    last: Option<String>,
    state: String,
}

impl Following {
    /// Takes one event; `true`: the experiment is over.
    fn take(&mut self, event: &str, options: &RunOptions) -> bool {
        let (mut kind, mut data) = ("", String::new());
        for line in event.lines() {
            match line.split_once(": ") {
                Some(("event", value)) => kind = value,
                Some(("id", value)) => self.last = Some(value.to_owned()),
                Some(("data", value)) => data.push_str(value),
                Some(_) | None => {}
            }
        }
        let Ok(data) = serde_json::from_str::<Value>(&data) else { return false };
        match kind {
            "state" => self.turn(&data),
            "plan" => {
                if self.progress.is_none() {
                    self.progress = Some(Progress::new(options.progress, plan(&data)));
                }
                false
            }
            "op" | "verdict" | "log" => {
                let update = serde_json::from_value::<RunEvent>(data).ok().and_then(RunEvent::update);
                if let (Some(progress), Some(update)) = (&mut self.progress, update) {
                    progress.update(update);
                }
                false
            }
            "gone" => {
                "deleted".clone_into(&mut self.state);
                true
            }
            // Such as `count`, and those of a newer server.
            _ => false,
        }
    }

    fn turn(&mut self, data: &Value) -> bool {
        let Some(state) = data["state"].as_str().filter(|state| *state != self.state) else { return false };
        state.clone_into(&mut self.state);
        self.note(&format!("the experiment is {state}"));
        matches!(state, "done" | "aborted" | "invalid" | "report-failed")
    }

    fn note(&mut self, text: &str) {
        match &mut self.progress {
            Some(progress) => progress.update(Update::Note(text.to_owned())),
            None => drop(writeln!(anstream::stderr(), "{}", printable::one_line(text))),
        }
    }
}

fn plan(data: &Value) -> Plan {
    let count = |key: &str| data[key].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let pools = data["pools"].as_array().into_iter().flatten().map(|pool| Pool {
        name: pool[0].as_str().unwrap_or_default().to_owned(),
        workers: pool[1].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0),
    });
    Plan { pools: pools.collect(), crates: count("crates"), already_done: count("already_done") }
}

/// The answer, or the server's problem in words.
async fn fine(answer: Response) -> anyhow::Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.bytes().await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut words = problem["detail"].as_str().map_or_else(|| format!("the server answers {status}"), str::to_owned);
    for fault in problem["errors"].as_array().into_iter().flatten().skip(1) {
        words = format!("{words}\n{}", fault["detail"].as_str().unwrap_or_default());
    }
    match status.is_client_error() && status != reqwest::StatusCode::TOO_MANY_REQUESTS {
        true => Err(Misuse(words).into()),
        false => Err(anyhow::anyhow!(words)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_exit_code_is_that_of_a_run_here() {
        let report =
            |toolchains: usize, summary: Value| json!({ "toolchains": vec![0; toolchains], "summary": summary });
        let none = RunOptions::default();
        for (toolchains, summary, code) in [
            (2, json!({ "pass": 3 }), Exit::Fine),
            (2, json!({ "pass": 3, "regressed": 1, "error": 1 }), Exit::Regressed),
            (1, json!({ "build-fail": 1 }), Exit::Regressed),
            (2, json!({ "build-fail": 1 }), Exit::Fine),
            (2, json!({ "error": 1, "pass": 1 }), Exit::Host),
            (2, json!({ "broken": 1, "pass": 1 }), Exit::SomeUntested),
            (2, json!({ "broken": 1, "skipped": 1 }), Exit::NothingTested),
        ] {
            assert_eq!(exit(&report(toolchains, summary.clone()), &none), code, "{summary}");
        }
        let chosen = RunOptions { fail_on: Some(vec![crate::compare::Verdict::Broken]), ..RunOptions::default() };
        assert_eq!(exit(&report(2, json!({ "broken": 1, "pass": 1 })), &chosen), Exit::Regressed);
    }

    #[test]
    fn flags_become_settings() {
        let mut table: Table =
            "skip = [\"doc\"]\n[limits]\npids = 9\n[crate.a]\nops = [\"prepare\", \"test\"]".parse().unwrap();
        let options = RunOptions {
            skip: vec!["test".to_owned()],
            timeout: Some(Duration::from_secs(90)),
            cpus: Some(2.0),
            no_cache: true,
            ..RunOptions::default()
        };
        write_flags(&options, &mut table);
        let expected: Table = "skip = [\"doc\", \"test\"]\ncache = false\n[limits]\npids = 9\ncpus = 2.0\n\
             timeout = \"1m 30s\"\n[crate.a]\nops = [\"prepare\"]"
            .parse()
            .unwrap();
        assert_eq!(table, expected);
    }
}
