//! Writes a trace of a run in Chrome's format, for `chrome://tracing` and <https://ui.perfetto.dev>.
//!
//! The format is the JSON array of <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>: a
//! process for every pool, a thread for every worker. The file is whole after every event, even if the process dies:
//! each one is written over the closing bracket, with a new one behind it, in one call.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::pipeline::Pool;

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    file: File,
    path: PathBuf,
    /// Where the next event goes: the place of [`END`].
    end: u64,
    /// What stands between the next event and the one before.
    separator: &'static str,
}

/// Why a trace can't be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the trace to {path}: {source}")]
pub struct TraceError {
    path: PathBuf,
    source: io::Error,
}

/// An op that ended.
#[derive(Debug)]
pub struct Span<'a> {
    /// Its pool's place.
    pub pool: usize,
    /// The worker's number in the pool, from 0.
    pub worker: usize,
    /// When it started, from the beginning of the run.
    pub from: Duration,
    /// How long it took.
    pub wall: Duration,
    /// All else.
    pub args: Args<'a>,
}

/// The fields of an op besides its time.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Args<'a> {
    #[serde(rename = "crate")]
    pub krate: &'a str,
    pub op: &'a str,
    pub toolchain: Option<&'a str>,
    /// `stopped` without one.
    pub outcome: &'a str,
    pub reason: Option<&'a str>,
    pub waited_ms: u64,
    pub cpu_ms: u64,
    pub peak_memory_bytes: Option<u64>,
    pub compiled: usize,
    pub reused: usize,
}

/// The times of the whole run.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Totals<'a> {
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub compiled: usize,
    pub reused: usize,
    pub downloaded_bytes: u64,
    pub pools: Vec<PoolTotals<'a>>,
}

/// The counts and times of a pool. Times are summed over its workers or steps.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PoolTotals<'a> {
    pub name: &'a str,
    pub workers: usize,
    pub ops: u64,
    pub busy_ms: u64,
    pub waited_ms: u64,
    /// How much of that was for memory, while a worker was free.
    pub held_ms: u64,
}

/// How much there was to do for a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Load {
    pub busy: usize,
    pub waiting: usize,
}

const END: &str = "\n]\n";

/// An event as the format has it. Times are microseconds.
#[derive(Serialize)]
struct Event<'a, T> {
    ph: &'static str,
    name: &'a str,
    pid: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<usize>,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    /// How wide an instant is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    args: T,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Ordered {
    sort_index: usize,
}

impl Trace {
    /// Begins a trace, in place of the file's content. The file must be seekable, not a pipe.
    pub fn create(path: &Path) -> Result<Self, TraceError> {
        let failed = |source| TraceError { path: path.to_owned(), source };
        let file = File::create(path).map_err(failed)?;
        file.write_all_at(format!("[{END}").as_bytes(), 0).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), end: 1, separator: "\n" })
    }

    /// Gives the pools and their workers names.
    pub fn name(&mut self, pools: &[Pool]) -> Result<(), TraceError> {
        for (pool, Pool { name, workers }) in pools.iter().enumerate() {
            self.write(&metadata("process_name", pool, None, Named { name }))?;
            self.write(&metadata("process_sort_index", pool, None, Ordered { sort_index: pool }))?;
            for worker in 0..*workers {
                let name = &format!("{name} {worker}");
                self.write(&metadata("thread_name", pool, Some(worker), Named { name }))?;
            }
        }
        Ok(())
    }

    /// Appends an op that ended.
    pub fn span(&mut self, span: &Span<'_>) -> Result<(), TraceError> {
        let Span { pool, worker, from, wall, args } = span;
        let op = args.toolchain.map_or_else(|| args.op.to_owned(), |toolchain| format!("{}@{toolchain}", args.op));
        let name = &format!("{} {op}", args.krate);
        let (tid, ts, dur) = (Some(*worker), micros(*from), Some(micros(*wall)));
        self.write(&Event { ph: "X", name, pid: *pool, tid, ts, dur, s: None, args })
    }

    /// Appends a change of a pool's load.
    pub fn load(&mut self, pool: usize, at: Duration, load: Load) -> Result<(), TraceError> {
        self.write(&Event {
            ph: "C",
            name: "load",
            pid: pool,
            tid: None,
            ts: micros(at),
            dur: None,
            s: None,
            args: load,
        })
    }

    /// Appends the run's times, at its end.
    pub fn end(&mut self, at: Duration, totals: &Totals<'_>) -> Result<(), TraceError> {
        let (tid, ts) = (Some(0), micros(at));
        self.write(&Event { ph: "i", name: "end of the run", pid: 0, tid, ts, dur: None, s: Some("g"), args: totals })
    }

    fn write<T: Serialize>(&mut self, event: &Event<'_, T>) -> Result<(), TraceError> {
        let failed = |source| TraceError { path: self.path.clone(), source };
        let event = serde_json::to_string(event).map_err(|error| failed(error.into()))?;
        let text = format!("{}{event}{END}", self.separator);
        self.file.write_all_at(text.as_bytes(), self.end).map_err(failed)?;
        self.end += (text.len() - END.len()) as u64;
        self.separator = ",\n";
        Ok(())
    }
}

fn metadata<T>(name: &str, pid: usize, tid: Option<usize>, args: T) -> Event<'_, T> {
    Event { ph: "M", name, pid, tid, ts: 0, dur: None, s: None, args }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn span(reason: &str) -> Span<'_> {
        let args = Args {
            krate: "itoa@1.0.18",
            op: "build",
            toolchain: Some("nightly"),
            outcome: "failed",
            reason: Some(reason),
            waited_ms: 12,
            cpu_ms: 1900,
            peak_memory_bytes: Some(1 << 20),
            compiled: 1,
            reused: 20,
        };
        Span { pool: 1, worker: 3, from: Duration::from_millis(1), wall: Duration::from_secs(2), args }
    }

    #[test]
    fn the_file_is_whole_after_every_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        std::fs::write(&path, "what was there before".repeat(100)).unwrap();
        let mut trace = Trace::create(&path).unwrap();
        assert_eq!(read(&path), json!([]));
        trace.name(&[Pool { name: "build".into(), workers: 2 }]).unwrap();
        assert_eq!(read(&path).as_array().unwrap().len(), 4);
        for count in 5..10 {
            trace.span(&span("\"]\n\u{1b}")).unwrap();
            assert_eq!(read(&path).as_array().unwrap().len(), count);
        }
    }

    #[test]
    fn an_op_is_a_complete_event_of_its_worker_a_load_a_counter_and_the_end_an_instant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut trace = Trace::create(&path).unwrap();
        trace.span(&span("E0554")).unwrap();
        trace.load(1, Duration::from_secs(3), Load { busy: 2, waiting: 7 }).unwrap();
        let build = PoolTotals { name: "build", workers: 2, ops: 1, busy_ms: 2000, waited_ms: 12, held_ms: 3 };
        let (compiled, reused) = (1, 20);
        let pools = vec![build];
        let totals = Totals { wall_ms: 4000, cpu_ms: 1900, compiled, reused, downloaded_bytes: 5, pools };
        trace.end(Duration::from_secs(4), &totals).unwrap();
        let expected = json!([
            {
                "ph": "X", "name": "itoa@1.0.18 build@nightly", "pid": 1, "tid": 3, "ts": 1000, "dur": 2_000_000,
                "args": {
                    "crate": "itoa@1.0.18", "op": "build", "toolchain": "nightly", "outcome": "failed",
                    "reason": "E0554", "waited_ms": 12, "cpu_ms": 1900, "peak_memory_bytes": 1_048_576,
                    "compiled": 1, "reused": 20
                }
            },
            { "ph": "C", "name": "load", "pid": 1, "ts": 3_000_000, "args": { "busy": 2, "waiting": 7 } },
            {
                "ph": "i", "name": "end of the run", "pid": 0, "tid": 0, "ts": 4_000_000, "s": "g",
                "args": {
                    "wall_ms": 4000, "cpu_ms": 1900, "compiled": 1, "reused": 20, "downloaded_bytes": 5,
                    "pools": [{
                        "name": "build", "workers": 2, "ops": 1, "busy_ms": 2000, "waited_ms": 12, "held_ms": 3
                    }]
                }
            }
        ]);
        assert_eq!(read(&path), expected);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_that_names_it() {
        let error = Trace::create(Path::new("/nowhere/at/all.json")).unwrap_err();
        assert!(error.to_string().starts_with("failed to write the trace to /nowhere/at/all.json: "), "{error}");
    }
}
