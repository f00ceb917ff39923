//! One replay: the crates of a sample as work of the engine, on tokio's paused clock.

use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::cpu::Cpu;
use super::recording::{RecordedOp, Recording};
use super::{Machine, Replayed, SimulateError};
use crate::ops::Stage;
use crate::pipeline::{self, Config, Pool, PoolId, Stepped, Summary, Work};
use crate::schedule;
use crate::stop::Stop;

/// Runs `crates` crates like the recorded ones, and returns their times.
///
/// # Errors
/// When the machine's pools can't be set up.
pub fn replay(recording: &Arc<Recording>, crates: usize, machine: &Machine) -> Result<Replayed, SimulateError> {
    let sample = recording.sample(crates, machine.workers.build + machine.workers.test);
    let used = || sample.iter().map(|place| &recording.crates[*place as usize]);
    let cpu: f64 = used().flat_map(|krate| &krate.ops).map(RecordedOp::cpu).sum();
    let longest = used().map(|krate| krate.wall()).max().unwrap_or_default();
    let config = config(machine);
    let summary = Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(async {
        let shared = Arc::new(Shared { recording: Arc::clone(recording), cpu: Cpu::new(machine.cores) });
        let jobs = sample.iter().map(|place| Job { shared: Arc::clone(&shared), krate: *place, op: 0 });
        let jobs = pipeline::each(jobs);
        // The events have no reader: the summary holds all results.
        let (events, _) = mpsc::channel(1);
        tokio::select! {
            summary = pipeline::run(&config, &jobs, Stop::never(), events) => summary,
            () = shared.cpu.serve() => unreachable!("it serves for ever"),
        }
    })?;
    let Summary { wall, pools, .. } = summary;
    let cores_busy = cpu / (wall.as_secs_f64() * machine.cores as f64).max(f64::MIN_POSITIVE);
    Ok(Replayed { wall, pools, cores_busy: cores_busy.min(1.0), longest })
}

fn config(machine: &Machine) -> Config {
    let pool = |stage: Stage| Pool { name: stage.to_string(), workers: machine.workers.of(stage) };
    let in_flight = machine.workers.in_flight();
    Config { budget: machine.memory.as_u64(), ..Config::new(Stage::ALL.map(pool).into(), in_flight) }
}

struct Shared {
    recording: Arc<Recording>,
    cpu: Cpu,
}

/// A crate on its way: made when it is admitted, and only a few words long.
struct Job {
    shared: Arc<Shared>,
    krate: u32,
    op: u32,
}

impl Job {
    fn ops(&self) -> &[RecordedOp] {
        &self.shared.recording.crates[self.krate as usize].ops
    }

    fn next_op(&self) -> RecordedOp {
        self.ops()[self.op as usize]
    }
}

impl Work for Job {
    type Report = ();
    type Tag = ();

    fn pool(&self) -> PoolId {
        PoolId(self.next_op().stage.place())
    }

    fn tag(&self) {}

    fn priority(&self) -> u64 {
        schedule::priority(self.op, self.next_op().wall())
    }

    fn weight(&self) -> u64 {
        self.next_op().peak
    }

    async fn step(self, _: Stop) -> Stepped<Self> {
        let op = self.next_op();
        tokio::time::sleep(op.wait).await;
        self.shared.cpu.compute(op.compute, op.cores).await;
        let next = Self { op: self.op + 1, ..self };
        Stepped { report: (), next: ((next.op as usize) < next.ops().len()).then_some(next) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::*;
    use crate::compare::sample;
    use crate::experiment::Workers;
    use crate::simulate::Bottleneck;

    /// Crates that wait 10 s to be fetched and compute 10 s each to be built and tested, with 300 MiB.
    fn recording() -> Arc<Recording> {
        let mut krate = sample::crate_of('p', &["pp"]);
        for (place, (_, result)) in krate.steps.iter_mut().enumerate() {
            let result = result.as_mut().unwrap();
            result.wall = Duration::from_secs(10);
            result.cpu = if place == 0 { Duration::ZERO } else { result.wall };
        }
        Arc::new(Recording::of(&sample::results(1, vec![krate])).unwrap())
    }

    fn machine(workers: [usize; 3], cores: usize, memory: ByteSize) -> Machine {
        let [fetch, build, test] = workers;
        Machine { workers: Workers { fetch, build, test }, cores, memory }
    }

    fn of(crates: usize, machine: Machine) -> (f64, Bottleneck) {
        let replayed = replay(&recording(), crates, &machine).unwrap();
        (replayed.wall.as_secs_f64().round(), replayed.bottleneck(machine.workers))
    }

    #[test]
    fn a_run_is_as_long_as_its_slowest_part() {
        let plenty = ByteSize::tib(1);
        assert_eq!(of(1, machine([1, 1, 1], 4, plenty)), (30.0, Bottleneck::LongestCrate));
        assert_eq!(of(100, machine([1, 8, 8], 16, plenty)), (1020.0, Bottleneck::Stage(Stage::Fetch)));
        assert_eq!(of(100, machine([8, 8, 2], 16, plenty)).1, Bottleneck::Stage(Stage::Test));
        let (wall, bottleneck) = of(100, machine([32, 32, 32], 4, plenty));
        assert!((500.0..540.0).contains(&wall), "2000 core seconds on 4 cores took {wall}");
        assert_eq!(bottleneck, Bottleneck::Cores);
        // Two ops at a time.
        let (wall, bottleneck) = of(100, machine([8, 8, 8], 16, ByteSize::mib(700)));
        assert_eq!((wall, bottleneck), (1500.0, Bottleneck::Memory));
    }

    #[test]
    fn the_same_question_has_the_same_answer() {
        let machine = machine([3, 5, 2], 4, ByteSize::gib(2));
        assert_eq!(of(321, machine), of(321, machine));
    }
}
