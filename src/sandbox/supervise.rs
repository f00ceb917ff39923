//! Watches a running command: takes its output, and has it killed when its time is up.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::{Instant, MissedTickBehavior};

use super::capture::Capture;
use super::cgroup::Group;
use super::console::{Console, Did};
use super::disk::Allowance;
use super::error::Remains;
use super::held_memory::MemoryWatch;
use super::held_processes::ProcessWatch;
use super::held_replies::RepliesWatch;
use super::helper::protocol::{self, MAX_REPORT, Report};
use super::live::{Copying, Live};
use super::process_tree;
use super::pty::{Pty, Read};
use super::{End, Limits, Output, SandboxError};
use crate::stop::{Stop, StopLevel};

/// How long killed processes may take to be gone. Each has to run once more to die, for which thousands take turns with
/// all else on a busy host, and a process that waits for a disk dies when the disk answers.
const GRACE: Duration = Duration::from_secs(120);

/// How often a silent command is looked at within its idle timeout.
const LOOKS: u32 = 4;

/// A command that uses less than one part in so many of the time is idle: 1 %.
const IDLE_PART: u32 = 100;

/// How much output is taken at once.
const CHUNK: usize = 64 << 10;

/// How many bytes of keys are taken at once: as many as a terminal keeps.
const KEYS: usize = 4096;

/// A command that runs.
pub(super) struct Watched<'a> {
    pub(super) pty: Pty,
    /// The socket to the helper: closing it has everything killed.
    pub(super) control: UnixStream,
    /// The helper, where it is maar's child.
    pub(super) child: Option<Child>,
    pub(super) cpu: CpuMeter<'a>,
    /// The group to kill where the command is to die.
    pub(super) kills: Option<&'a Group>,
    /// The user's terminal, if the command has it.
    pub(super) console: Option<&'a mut Console>,
    /// Where its output can be followed.
    pub(super) live: Option<&'a Live>,
    pub(super) disk: &'a mut Allowance,
    /// Its memory allowance, where no controller counts memory.
    pub(super) memory: Option<MemoryWatch>,
    /// Its allowance of messages in netlink sockets, where it has its own network namespace.
    pub(super) replies: Option<RepliesWatch>,
    /// How many processes it may have, where that is measured.
    pub(super) processes: Option<ProcessWatch>,
    pub(super) limits: &'a Limits,
    pub(super) stop: &'a Stop,
    pub(super) label: &'a str,
}

/// How a command's CPU time is known.
pub(super) enum CpuMeter<'a> {
    /// Its group's account.
    Group(&'a Group),
    /// The sum over the helper's descendants.
    Processes {
        /// The helper's number.
        helper: u32,
    },
}

/// A command that has ended.
pub(super) struct Observed {
    /// The helper's report; `None`: it died.
    pub(super) report: Option<Report>,
    /// Why it was killed, if it was.
    pub(super) killed_for: Option<End>,
    pub(super) output: Output,
    pub(super) wall: Duration,
}

/// The next event.
enum Event {
    Printed(Read),
    Used(Did),
    Reported,
    Look,
    TimedOut,
    OverDisk,
    OverMemory,
    OverProcesses,
    Stopped,
}

/// Watches a command until it and all its processes are gone.
pub(super) async fn watch(watched: Watched<'_>) -> Result<Observed, SandboxError> {
    let Watched {
        pty,
        control,
        mut child,
        cpu,
        kills,
        mut console,
        live,
        disk,
        memory,
        replies,
        processes,
        limits,
        stop,
        label,
    } = watched;
    let started = Instant::now();
    let (reports, orders) = control.into_split();
    let mut said = Vec::new();
    let mut reports = reports.take(MAX_REPORT as u64);
    let mut report = std::pin::pin!(reports.read_to_end(&mut said));

    let mut capture = Capture::new(limits.output);
    let mut copying = Copying::begin(live);
    let mut buffer = vec![0; CHUNK];
    let mut keys = [0; KEYS];
    let mut is_open = true;
    let look_every = (limits.idle_timeout / LOOKS).max(Duration::from_millis(1));
    let mut looks = tokio::time::interval_at(started + look_every, look_every);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut activity = Activity::new(started);
    let timeout = tokio::time::sleep(limits.timeout);
    tokio::pin!(timeout);
    let mut disk_exceeded = std::pin::pin!(disk.exceeded());
    let mut memory_exceeded = std::pin::pin!(async {
        match memory {
            Some(memory) => memory.exceeded().await,
            None => std::future::pending().await,
        }
    });
    let mut replies_exceeded = std::pin::pin!(async {
        match replies {
            Some(replies) => replies.exceeded().await,
            None => std::future::pending().await,
        }
    });
    let mut processes_exceeded = std::pin::pin!(async {
        match processes {
            Some(processes) => processes.exceeded().await,
            None => std::future::pending().await,
        }
    });

    let killed_for = loop {
        let event = tokio::select! {
            // After a host that stood still several come at once. Then a command that has ended has ended, and one that
            // has printed wasn't idle.
            biased;
            _ = &mut report => Event::Reported,
            () = stop.reached(StopLevel::Kill) => Event::Stopped,
            () = &mut timeout => Event::TimedOut,
            () = &mut disk_exceeded => Event::OverDisk,
            () = &mut memory_exceeded => Event::OverMemory,
            () = &mut replies_exceeded => Event::OverMemory,
            () = &mut processes_exceeded => Event::OverProcesses,
            did = used(console.as_deref_mut(), &mut keys) => Event::Used(did),
            read = pty.read(&mut buffer), if is_open => Event::Printed(read),
            _ = looks.tick() => Event::Look,
        };
        match event {
            Event::Printed(Read::Bytes(count)) => {
                capture.push(&buffer[..count]);
                copying.push(&buffer[..count]);
                activity.printed = Some(Instant::now());
                if let Some(console) = &mut console {
                    console.show(&buffer[..count]).await;
                }
                if capture.taken() > limits.most_printed().as_u64() {
                    break Some(End::Flooded);
                }
            }
            Event::Printed(Read::Closed | Read::Nothing) => is_open = false,
            Event::Look => {
                let now = Instant::now();
                if activity.is_idle(now, cpu.read(), limits.idle_timeout) {
                    break Some(End::Idle);
                }
                // Sooner than usual where the time would be up in between.
                looks.reset_at((now + look_every).min(activity.last + limits.idle_timeout));
            }
            Event::Used(Did::Typed(count)) => pty.write(&keys[..count]),
            Event::Used(Did::Resized) => {
                if let Some(Ok(size)) = console.as_deref().map(Console::size) {
                    pty.resize(&size);
                }
            }
            Event::Used(Did::Left) => break Some(End::Stopped),
            Event::Reported => break None,
            Event::TimedOut => break Some(End::TimedOut),
            Event::OverDisk => break Some(End::OverDisk),
            Event::OverMemory => break Some(End::OutOfMemory),
            Event::OverProcesses => break Some(End::OutOfProcesses),
            Event::Stopped => break Some(End::Stopped),
        }
    };
    if killed_for.is_some() {
        if let Some(group) = kills {
            group.kill();
        }
        drop(orders);
        if tokio::time::timeout(GRACE, report).await.is_err() {
            if let Some(child) = &mut child {
                let _ = child.start_kill();
            }
            let remains = Remains::of(&kills.map(Group::states).unwrap_or_default());
            return Err(SandboxError::Undead { label: label.to_owned(), seconds: GRACE.as_secs(), remains });
        }
    }
    if let Some(child) = &mut child {
        // The helper has nothing left to do but to exit.
        let _ = child.wait().await;
    }
    let wall = started.elapsed();
    // All writers are dead, so the rest is short and soon read.
    while let Read::Bytes(count) = pty.read_now(&mut buffer) {
        capture.push(&buffer[..count]);
        copying.push(&buffer[..count]);
        if let Some(console) = &mut console {
            console.show(&buffer[..count]).await;
        }
    }
    let report = protocol::decode(&said).ok().flatten();
    Ok(Observed { report, killed_for, output: capture.finish(), wall })
}

/// Waits for the user's next key, without end if no user is there.
async fn used(console: Option<&mut Console>, keys: &mut [u8]) -> Did {
    match console {
        Some(console) => console.next(keys).await,
        None => std::future::pending().await,
    }
}

impl<'a> CpuMeter<'a> {
    /// The group's account where there is one.
    pub(super) fn new(group: &'a Group, helper: Option<u32>) -> Self {
        match (group.cpu(), helper) {
            (None, Some(helper)) => Self::Processes { helper },
            (_, _) => Self::Group(group),
        }
    }

    fn read(&self) -> Duration {
        match self {
            Self::Group(group) => group.cpu().unwrap_or_default(),
            Self::Processes { helper } => process_tree::cpu_time(*helper),
        }
    }
}

/// When a command last did something.
struct Activity {
    /// When it last printed, since the last look.
    printed: Option<Instant>,
    last: Instant,
    looked: Instant,
    cpu: Duration,
}

impl Activity {
    fn new(now: Instant) -> Self {
        Self { printed: None, last: now, looked: now, cpu: Duration::ZERO }
    }

    /// Records the activity since the last look.
    fn is_idle(&mut self, now: Instant, cpu: Duration, timeout: Duration) -> bool {
        // The time of dead processes may be missing from a sample: less than before is not idle.
        let used = cpu.abs_diff(self.cpu);
        if used * IDLE_PART >= now - self.looked && now > self.looked {
            self.last = now;
        } else if let Some(printed) = self.printed {
            self.last = printed;
        }
        (self.printed, self.looked, self.cpu) = (None, now, cpu);
        now - self.last >= timeout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second at output and milliseconds of CPU time; idle after three seconds.
    fn check(looks: &[(bool, u64)], idle_at: Option<usize>) {
        let mut now = Instant::now();
        let mut activity = Activity::new(now);
        let mut cpu = Duration::ZERO;
        let found = looks.iter().position(|&(printed, used)| {
            now += Duration::from_secs(1);
            cpu += Duration::from_millis(used);
            activity.printed = printed.then_some(now);
            activity.is_idle(now, cpu, Duration::from_secs(3))
        });
        assert_eq!(found, idle_at, "{looks:?}");
    }

    #[tokio::test]
    async fn silent_and_still_is_idle() {
        check(&[(false, 0); 3], Some(2));
        check(&[(false, 9); 3], Some(2));
        check(&[(true, 0), (false, 0), (false, 0), (false, 0)], Some(3));
    }

    #[tokio::test]
    async fn printing_or_computing_is_not_idle() {
        check(&[(true, 0); 9], None);
        check(&[(false, 10); 9], None);
        check(&[(false, 0), (false, 0), (true, 0), (false, 0), (false, 0), (false, 10)], None);
    }
}
