//! What if: replays a recorded experiment through the real engine, on other workers, cores and memory.
//!
//! Time is virtual, so that a day passes in seconds. The model and its limits:
//!
//! - An op takes its recorded time, and computing ops share the cores evenly (see `cpu`). What the
//!   recorded run itself lost to too few cores is not known, and stays in.
//! - Memory is admitted as in a run: the sum of the recorded peaks stays within the memory.
//! - Disk and network are as fast as they were, however many use them.
//! - More crates than were recorded are made by taking those again.

mod cpu;
mod recording;
mod replay;
mod split;

use std::time::Duration;

use bytesize::ByteSize;

pub use self::recording::Recording;
pub use self::replay::replay;
pub use self::split::best_split;
use crate::experiment::Workers;
use crate::ops::Stage;
use crate::pipeline;

/// The machine that is asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Machine {
    /// The workers of each stage.
    pub workers: Workers,
    /// How many cores it has; at least 1.
    pub cores: usize,
    /// How much memory its ops may use together.
    pub memory: ByteSize,
}

/// How a replay went.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// How long the run took.
    pub wall: Duration,
    /// The counts of each stage, in the order of [`Stage::ALL`].
    pub pools: Vec<pipeline::PoolSummary>,
    /// The part of the cores' time that was used, from 0 to 1.
    pub cores_busy: f64,
    /// How long the longest crate takes if it is alone.
    pub longest: Duration,
}

/// What kept a run from being shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// One crate takes nearly as long as the whole run.
    LongestCrate,
    /// The cores were busy nearly all the time.
    Cores,
    /// Ops waited for memory while their workers were free.
    Memory,
    /// This stage's workers, who had the least time to spare.
    Stage(Stage),
}

/// Why a recording can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Nothing has run.
    #[error("nothing of `{0}` has run yet: `maar run` it first")]
    Empty(String),
    /// The pools can't be set up.
    #[error(transparent)]
    Pipeline(#[from] pipeline::ConfigError),
    /// The virtual clock can't be had.
    #[error("failed to start a simulation: {0}")]
    Runtime(#[from] std::io::Error),
}

impl Replayed {
    /// The part of a stage's workers' time in which they were busy, from 0 to 1.
    pub fn utilisation(&self, stage: Stage, workers: Workers) -> f64 {
        let available = self.wall.as_secs_f64() * workers.of(stage) as f64;
        let busy = self.pool(stage).busy.as_secs_f64();
        if available > 0.0 { busy / available } else { 0.0 }
    }

    /// The counts and times of a stage.
    pub fn pool(&self, stage: Stage) -> pipeline::PoolSummary {
        self.pools.get(stage.place()).copied().unwrap_or_default()
    }

    /// What kept the run from being shorter.
    pub fn bottleneck(&self, workers: Workers) -> Bottleneck {
        let nearly = |part: f64| part >= 0.9;
        let held: Duration = self.pools.iter().map(|pool| pool.held).sum();
        let available: usize = Stage::ALL.iter().map(|stage| workers.of(*stage)).sum();
        if nearly(self.longest.as_secs_f64() / self.wall.as_secs_f64()) {
            Bottleneck::LongestCrate
        } else if nearly(self.cores_busy) {
            Bottleneck::Cores
        } else if held.as_secs_f64() > 0.1 * self.wall.as_secs_f64() * available as f64 {
            Bottleneck::Memory
        } else {
            let busiest = |one: &&Stage, other: &&Stage| {
                self.utilisation(**one, workers).total_cmp(&self.utilisation(**other, workers))
            };
            Bottleneck::Stage(*Stage::ALL.iter().max_by(busiest).expect("there are stages"))
        }
    }
}
