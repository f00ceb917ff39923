//! The group of one command, in every hierarchy that has a say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuset::CpuSetController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use serde::{Deserialize, Serialize};

use super::hierarchy::{self, Version};
use super::{Controller, Place};
use crate::sandbox::{Limits, SandboxError};

/// The period of CPU quotas, in microseconds: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;

/// The smallest quota that the kernel takes, in microseconds.
const LEAST_CPU_QUOTA: i64 = 1000;

/// What limits the buffers of TCP with version 1.
const TCP_MEMORY: &str = "memory.kmem.tcp.limit_in_bytes";

/// How many processes are in a group besides the command: the two that keep it.
pub(crate) const KEEPERS: u64 = 2;

/// How often and how far apart a group is tried to be removed: the kernel lets go of the last processes a little late.
const REMOVALS: usize = 200;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(5);

/// How a process gets into a group.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Entrances {
    /// Files of version 1 to which it writes "0", as long as it has one thread only.
    pub(crate) files: Vec<PathBuf>,
    /// The folder of version 2 into which it is born.
    pub(crate) folder: Option<PathBuf>,
}

/// The group of one command. Removed by [`Group::remove`]; dropping it tries once.
#[derive(Debug)]
pub(crate) struct Group {
    members: Vec<Member>,
    maker: Maker,
    /// The values that the last orders replaced, in a group that goes on.
    replaced: Mutex<Vec<(PathBuf, String)>>,
}

/// Who made a group, and so has to remove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Us,
    Others,
}

#[derive(Debug)]
struct Member {
    version: Version,
    folder: PathBuf,
    controllers: Vec<Controller>,
}

impl Group {
    fn new(members: Vec<Member>, maker: Maker) -> Self {
        Self { members, maker, replaced: Mutex::default() }
    }

    pub(super) fn open(places: &[Place], name: &str, limits: &Limits, cores: &[usize]) -> Result<Self, SandboxError> {
        let mut group = Self::new(Vec::with_capacity(places.len()), Maker::Us);
        // A hierarchy for nothing but cores has nothing to do where any will do.
        let needed = |place: &&Place| !cores.is_empty() || place.controllers != [Controller::CpuSet];
        for place in places.iter().filter(needed) {
            let folder = place.folder.join(name);
            let failed = |source| SandboxError::Path { doing: "make the cgroup", path: folder.clone(), source };
            fs::create_dir(&folder).map_err(failed)?;
            let member =
                Member { version: place.version, folder: folder.clone(), controllers: place.controllers.clone() };
            group.members.push(member);
            if place.version == Version::One && place.controllers.contains(&Controller::CpuSet) {
                inherit_cores(&place.folder, &folder).map_err(failed)?;
            }
        }
        for member in &group.members {
            member.limit(limits, cores).map_err(|error| SandboxError::Path {
                doing: "set the limits of the cgroup",
                path: member.folder.clone(),
                source: io::Error::other(error.to_string()),
            })?;
        }
        Ok(group)
    }

    /// The group that a process is in already, made by others: to be read, not to be removed.
    pub(crate) fn of_process(pid: u32) -> Self {
        let read = |path: String| fs::read_to_string(path).unwrap_or_default();
        let groups = read(format!("/proc/{pid}/cgroup"));
        let hierarchies = hierarchy::parse(&read("/proc/self/mountinfo".to_owned()), &groups);
        let members = hierarchies.into_iter().map(|hierarchy| Member {
            version: hierarchy.version,
            folder: hierarchy.own,
            controllers: hierarchy.controllers,
        });
        Self::new(members.collect(), Maker::Others)
    }

    /// How a process enters.
    pub(crate) fn entrances(&self) -> Entrances {
        let folder = |version| move |member: &&Member| member.version == version;
        let of_version_1 = self.members.iter().filter(folder(Version::One));
        Entrances {
            // The file of threads: for `cgroup.procs` the kernel holds up every fork on the host, and waits for that
            // with the lock of all hierarchies held: 5 ms and more instead of 0.2, unless it has just done so.
            files: of_version_1.map(|member| member.folder.join("tasks")).collect(),
            folder: self.members.iter().find(folder(Version::Two)).map(|member| member.folder.clone()),
        }
    }

    /// Kills all that is in the group at once, where the kernel can. Elsewhere the helper does.
    ///
    /// No process is made any more, and dying is not held up by the quota: a killed process ends when it next gets to
    /// run, and thousands that spin would share a fraction of a core for minutes. In a group of others' making, only
    /// that is seen to, until [`Group::recall`].
    pub(crate) fn kill(&self) {
        for member in &self.members {
            for (controller, file, value) in member.version.last_orders() {
                let file = member.folder.join(file);
                let Some(before) = fs::read_to_string(&file).ok().filter(|_| member.controllers.contains(controller))
                else {
                    continue;
                };
                // A group that is gone needs no orders, and one that is not ours to change dies as fast as it can.
                if fs::write(&file, value).is_ok() && self.maker == Maker::Others {
                    self.replaced.lock().unwrap_or_else(PoisonError::into_inner).push((file, before));
                }
            }
            if member.version == Version::Two && self.maker == Maker::Us {
                super::sweep::kill_all(&member.folder);
            }
        }
    }

    /// Takes back what [`Group::kill`] ordered, for the next command in the group.
    pub(crate) fn recall(&self) {
        for (file, before) in self.replaced.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // A group that is gone has no next command.
            let _ = fs::write(file, before.trim());
        }
    }

    /// The file in which the kernel lists its processes; none without a group.
    pub(crate) fn list(&self) -> Option<PathBuf> {
        self.members.first().map(|member| member.folder.join("cgroup.procs"))
    }

    /// The states of its processes, as the letters of proc(5): `D` is one that waits for a disk.
    pub(crate) fn states(&self) -> Vec<char> {
        let processes = self.list().and_then(|list| fs::read_to_string(list).ok()).unwrap_or_default();
        let state = |process: &str| {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.chars().next()
        };
        processes.lines().filter_map(state).collect()
    }

    /// User and system time so far; `None`: the host doesn't account for it.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.members.iter().find_map(|member| match member.version {
            Version::One => number(&member.folder.join("cpuacct.usage")).map(Duration::from_nanos),
            Version::Two => entry(&member.folder.join("cpu.stat"), "usage_usec").map(Duration::from_micros),
        })
    }

    /// The memory peak in bytes; `None`: the host doesn't account for it.
    pub(crate) fn peak_memory(&self) -> Option<ByteSize> {
        let member = self.with_memory()?;
        let file = match member.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        number(&member.folder.join(file)).map(ByteSize)
    }

    /// Begins a new peak where the kernel lets this user; `false`: the old one goes on.
    pub(crate) fn forget_peak(&self) -> bool {
        // Version 2 forgets for one reader only, and that only since Linux 6.12.
        self.with_memory().is_some_and(|member| {
            member.version == Version::One && fs::write(member.folder.join("memory.max_usage_in_bytes"), "0").is_ok()
        })
    }

    /// How many processes the kernel has killed because the group's memory was used up.
    pub(crate) fn oom_kills(&self) -> u64 {
        let kills = self.with_memory().and_then(|member| match member.version {
            Version::One => entry(&member.folder.join("memory.oom_control"), "oom_kill"),
            Version::Two => entry(&member.folder.join("memory.events"), "oom_kill"),
        });
        kills.unwrap_or(0)
    }

    /// How often the kernel has refused a process or thread because the group had as many as it may.
    pub(crate) fn refused_processes(&self) -> u64 {
        let counts = |member: &&Member| member.controllers.contains(&Controller::Pids);
        let member = self.members.iter().find(counts);
        member.and_then(|member| entry(&member.folder.join("pids.events"), "max")).unwrap_or(0)
    }

    fn with_memory(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.controllers.contains(&Controller::Memory))
    }

    /// Removes the group, whose processes are dead or dying.
    pub(crate) async fn remove(mut self) -> Result<(), SandboxError> {
        for member in std::mem::take(&mut self.members) {
            let mut tries = 0;
            loop {
                match fs::remove_dir(&member.folder) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < REMOVALS => {
                        tries += 1;
                        tokio::time::sleep(BETWEEN_REMOVALS).await;
                    }
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(SandboxError::Path {
                            doing: "remove the cgroup",
                            path: member.folder,
                            source: error,
                        });
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }
}

impl Version {
    /// The files and values that are written before a group is killed.
    fn last_orders(self) -> [(&'static Controller, &'static str, &'static str); 2] {
        match self {
            Self::One => [(&Controller::Pids, "pids.max", "0"), (&Controller::Cpu, "cpu.cfs_quota_us", "-1")],
            Self::Two => [(&Controller::Pids, "pids.max", "0"), (&Controller::Cpu, "cpu.max", "max")],
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let ours = self.members.iter().filter(|_| self.maker == Maker::Us);
        for member in ours {
            // A group that is still busy goes with the folder around it.
            let _ = fs::remove_dir(&member.folder);
        }
    }
}

impl Member {
    fn limit(&self, limits: &Limits, cores: &[usize]) -> cgroups_rs::fs::error::Result<()> {
        let unified = self.version.is_two();
        let folder = || self.folder.clone();
        for controller in &self.controllers {
            match controller {
                Controller::Cpu => {
                    let quota = (limits.cpus * CPU_PERIOD as f64).round() as i64;
                    let set = CpuController::new(folder(), folder(), unified)
                        .set_cfs_quota_and_period(Some(quota.max(LEAST_CPU_QUOTA)), Some(CPU_PERIOD));
                    // Version 1 refuses more than a group above may have, whose limit then holds anyway.
                    if !(self.version == Version::One && is_invalid(&set)) {
                        set?;
                    }
                }
                Controller::Memory => {
                    let memory = MemController::new(folder(), folder(), unified);
                    let limit = i64::try_from(limits.memory.as_u64()).unwrap_or(i64::MAX);
                    memory.set_limit(limit)?;
                    // Version 1 counts the buffers of TCP by themselves. A kernel without that count has no such file.
                    if self.version == Version::One && self.has(TCP_MEMORY) {
                        memory.set_tcp_limit(limit)?;
                    }
                    match self.version {
                        // Memory and swap together: a sum equal to the memory limit leaves no swap.
                        Version::One if self.has("memory.memsw.limit_in_bytes") => memory.set_memswap_limit(limit)?,
                        Version::One => memory.set_swappiness(0)?,
                        Version::Two if self.has("memory.swap.max") => memory.set_memswap_limit(0)?,
                        Version::Two => {}
                    }
                }
                Controller::Pids => {
                    let most = MaxValue::Value(i64::from(limits.pids) + KEEPERS.cast_signed());
                    PidController::new(folder(), folder(), unified).set_pid_max(most)?;
                }
                Controller::CpuSet => {
                    if !cores.is_empty() {
                        let list: Vec<String> = cores.iter().map(usize::to_string).collect();
                        CpuSetController::new(folder(), folder(), unified).set_cpus(&list.join(","))?;
                    }
                }
                Controller::CpuAccounting => {}
            }
        }
        Ok(())
    }

    fn has(&self, file: &str) -> bool {
        self.folder.join(file).exists()
    }
}

/// Gives a group of version 1 all the cores and memory nodes of the one around it.
pub(super) fn inherit_cores(around: &Path, group: &Path) -> io::Result<()> {
    ["cpuset.cpus", "cpuset.mems"].iter().try_for_each(|file| {
        let all = fs::read(around.join(file))?;
        fs::write(group.join(file), all)
    })
}

/// Whether the kernel found a value out of range.
fn is_invalid(set: &cgroups_rs::fs::error::Result<()>) -> bool {
    let cause = set.as_ref().err().and_then(std::error::Error::source);
    let error = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    error.and_then(io::Error::raw_os_error) == Some(libc::EINVAL)
}

/// The number that a file holds.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number behind a key, in a file of lines of keys and numbers.
fn entry(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Cores;

    const LIMITS: Limits = Limits {
        cpus: 1.5,
        memory: ByteSize::mib(64),
        pids: 30,
        timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
        output: ByteSize::kib(1),
        disk: ByteSize::mib(1),
        cores: Cores::Own,
    };

    fn member(version: Version, controllers: &[Controller], files: &[(&str, &str)]) -> (tempfile::TempDir, Member) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let member = Member { version, folder: dir.path().to_owned(), controllers: controllers.to_vec() };
        (dir, member)
    }

    fn read(dir: &tempfile::TempDir, file: &str) -> String {
        fs::read_to_string(dir.path().join(file)).unwrap()
    }

    #[test]
    fn limits_are_written_as_version_1_wants_them() {
        let controllers: Vec<_> = Controller::ALL.into_iter().filter(|which| *which != Controller::CpuSet).collect();
        let (dir, member) = member(Version::One, &controllers, &[("memory.memsw.limit_in_bytes", "")]);
        member.limit(&LIMITS, &[]).unwrap();
        assert_eq!(read(&dir, "cpu.cfs_quota_us"), "150000");
        assert_eq!(read(&dir, "cpu.cfs_period_us"), "100000");
        assert_eq!(read(&dir, "memory.limit_in_bytes"), "67108864");
        assert_eq!(read(&dir, "memory.memsw.limit_in_bytes"), "67108864");
        assert_eq!(read(&dir, "pids.max"), "32");
    }

    #[test]
    fn limits_are_written_as_version_2_wants_them() {
        let files = [("cpu.max", "max 100000\n"), ("memory.swap.max", "max")];
        let (dir, member) = member(Version::Two, &Controller::LIMITING, &files);
        member.limit(&LIMITS, &[1, 3]).unwrap();
        assert_eq!(read(&dir, "cpuset.cpus"), "1,3");
        assert_eq!(read(&dir, "cpu.max"), "150000 100000");
        assert_eq!(read(&dir, "memory.max"), "67108864");
        assert_eq!(read(&dir, "memory.swap.max"), "0");
        assert_eq!(read(&dir, "pids.max"), "32");
    }

    #[test]
    fn usage_is_read_from_either_version() {
        let files = [
            ("cpuacct.usage", "1500000000\n"),
            ("memory.max_usage_in_bytes", "4096\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ];
        let (_dir, one) = member(Version::One, &Controller::ALL, &files);
        let files = [
            ("cpu.stat", "usage_usec 1500000\nuser_usec 1\n"),
            ("memory.peak", "4096\n"),
            ("memory.events", "max 9\noom 3\noom_kill 2\n"),
        ];
        let (_dir2, two) = member(Version::Two, &Controller::LIMITING, &files);
        for member in [one, two] {
            let group = Group::new(vec![member], Maker::Others);
            assert_eq!(group.cpu(), Some(Duration::from_millis(1500)));
            assert_eq!(group.peak_memory(), Some(ByteSize::kib(4)));
            assert_eq!(group.oom_kills(), 2);
        }
    }

    #[test]
    fn refused_processes_are_counted() {
        for version in [Version::One, Version::Two] {
            let (_dir, member) = member(version, &[Controller::Pids], &[("pids.events", "max 3\n")]);
            assert_eq!(Group::new(vec![member], Maker::Others).refused_processes(), 3);
        }
    }

    #[test]
    fn what_is_not_accounted_for_is_unknown() {
        let (_dir, member) = member(Version::Two, &[Controller::Pids], &[]);
        let group = Group::new(vec![member], Maker::Others);
        assert_eq!((group.cpu(), group.peak_memory(), group.oom_kills()), (None, None, 0));
    }
}
