//! One container: started with its steward, given commands, and ended.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use bollard::container::AttachContainerResults;
use bollard::query_parameters::{AttachContainerOptionsBuilder, StartContainerOptions, WaitContainerOptionsBuilder};
use bytesize::ByteSize;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::door::{Door, Folder, Steward};
use super::{DockerError, Shared, request};
use crate::sandbox::cgroup::{Controller, Entrances, Group};
use crate::sandbox::disk::Allowance;
use crate::sandbox::doubt::Signs;
use crate::sandbox::held_replies::RepliesWatch;
use crate::sandbox::helper::protocol::{self, Ended, Input, Isolation, Job, MAX_JOB, Report, Rlimits};
use crate::sandbox::host_memory::HostKills;
use crate::sandbox::launch::{Counts, end_of, not_begun, refuses_memory};
use crate::sandbox::outlet;
use crate::sandbox::pty::Pty;
use crate::sandbox::supervise::{self, CpuMeter, Watched};
use crate::sandbox::unlinked::Processes;
use crate::sandbox::{Command, Console, Cores, Exit, MountKind, Outlet, Owner, SandboxError, Spec, Usage};
use crate::stop::{Stop, StopLevel};

/// How long a container may take from its start to its steward's first sign of life.
const START: Duration = Duration::from_secs(60);

/// How long the steward may take to empty the folders in memory.
const CLEANING: Duration = Duration::from_secs(60);

/// How long a steward that came may need to be seen once its streams are closed.
const LATE: Duration = Duration::from_secs(1);

/// How long the daemon may take to clear away a container that has ended.
const REMOVAL: Duration = Duration::from_secs(30);

/// The part of a container's output before its steward starts that is kept, in bytes.
const SAID: usize = 500;

/// A running container. Dropping it ends it, and the daemon clears it away; [`end`](Self::end) waits for that.
#[derive(Debug)]
pub(super) struct Container {
    id: String,
    steward: Steward,
    group: Group,
    /// Its spec.
    spec: Spec,
    /// The door's folder goes with it.
    _folder: Folder,
}

impl Container {
    /// Starts one that looks like the spec.
    pub(super) async fn start(shared: &Shared, spec: &Spec) -> Result<Self, SandboxError> {
        let door = Door::open(&spec.scratch, shared.common.owner(&spec.user))?;
        let daemon = &shared.daemon;
        let body = request::body(spec, &shared.common, door.folder());
        let created = daemon.client.create_container(None, body).await;
        let id = created.map_err(|error| daemon.complain("create a container", error))?.id;
        match meet(shared, door, shared.common.owner(&spec.user), &id).await {
            Ok((steward, folder)) => {
                let group = Group::of_process(steward.pid);
                Ok(Self { id, steward, group, spec: spec.clone(), _folder: folder })
            }
            Err(error) => {
                // The first error is more useful than one of the removal.
                let _ = daemon.remove(&id).await;
                Err(error)
            }
        }
    }

    /// Whether it is alive and looks like this spec.
    pub(super) fn fits(&self, spec: &Spec) -> bool {
        let (ours, theirs) = (&self.spec.limits, &spec.limits);
        self.spec.mounts == spec.mounts
            && self.spec.network == spec.network
            && self.spec.user.owner() == spec.user.owner()
            && (ours.cpus, ours.memory, ours.pids) == (theirs.cpus, theirs.memory, theirs.pids)
            && ours.cores == theirs.cores
            && self.steward.is_there()
    }

    /// Runs a command. When this returns, no process of it is left.
    pub(super) async fn run(
        &mut self,
        shared: &Shared,
        spec: &Spec,
        command: &Command,
        stop: &Stop,
        console: Option<&mut Console>,
        outlet: Option<Outlet>,
    ) -> Result<Exit, SandboxError> {
        let Spec { label, limits, after, .. } = spec;
        let lease = match limits.cores {
            Cores::Shared => None,
            Cores::Own => tokio::select! {
                lease = shared.cores.lease(limits.cpus) => lease,
                () = stop.reached(StopLevel::Kill) => return Ok(not_begun()),
            },
        };
        let counts_memory = shared.daemon.counts(Controller::Memory);
        let job = Job {
            cgroups: Entrances::default(),
            cores: lease.as_ref().map(|lease| lease.cores().to_vec()).unwrap_or_default(),
            isolation: Isolation::None,
            network: spec.network,
            input: Input::of(console.as_deref()),
            command: command.clone(),
            // Containers of one user share the kernel's count of its processes, so that it can't limit one of them.
            rlimits: Rlimits {
                processes: None,
                data: refuses_memory(counts_memory, *after).then_some(limits.memory.as_u64()),
                sharers: spec.user.sharers(),
            },
        };
        let job = protocol::encode(&job, MAX_JOB).map_err(|error| SandboxError::Job(error.to_string()))?;

        let (pty, slave) =
            Pty::open(Some(shared.common.owner(&spec.user)), console.as_deref()).map_err(SandboxError::Terminal)?;
        let (mut control, theirs) = UnixStream::pair().map_err(SandboxError::Terminal)?;
        let theirs = OwnedFd::from(theirs.into_std().and_then(blocking).map_err(SandboxError::Terminal)?);
        let (outlet, third) = match outlet {
            None => (None, None),
            Some(outlet) => {
                let (source, theirs) = outlet::inside().map_err(SandboxError::Outlet)?;
                (Some((source, outlet)), Some(theirs))
            }
        };
        let ready = tokio::time::timeout(CLEANING, self.steward.ready());
        ready.await.map_err(|_| DockerError::Lost)?.map_err(|_| DockerError::Lost)?;
        let (ooms_before, refused_before) = (self.group.oom_kills(), self.group.refused_processes());
        let host = HostKills::begin(counts_memory);
        let peak_before = if self.group.forget_peak() { None } else { self.group.peak_memory() };
        self.steward.hand([Some(&theirs), Some(&slave), third.as_ref()]).map_err(|_| DockerError::Lost)?;
        drop((theirs, slave, third));
        // A steward that is dying is noticed when its report is missing.
        let _ = control.write_all(&job).await;

        let cpu = CpuMeter::Processes { helper: self.steward.pid };
        let writes_to: Vec<&Path> = spec.written_folders().collect();
        let who = Processes::Below(self.steward.pid);
        let replies = RepliesWatch { who: who.clone(), limit: limits.memory };
        let mut disk = Allowance::new(&writes_to, who, limits.disk);
        // The steward lives in the container's group and kills the command itself; the group only speeds that up.
        let (child, kills) = (None, Some(&self.group));
        let watch = supervise::watch(Watched {
            pty,
            control,
            child,
            cpu,
            kills,
            console,
            live: spec.live.as_ref(),
            disk: &mut disk,
            memory: None,
            replies: Some(replies),
            processes: None,
            limits,
            stop,
            label,
        });
        let watched = outlet::during(outlet, watch).await?;
        self.group.recall();
        let counts = Counts {
            ooms: self.group.oom_kills().saturating_sub(ooms_before),
            // An earlier command of the container may have been the one that did.
            reached: self.group.has_reached_memory(),
            refused: self.group.refused_processes().saturating_sub(refused_before),
            ooms_of_host: host.since(),
        };
        // A peak of an earlier command is not a peak of this one.
        let peak_memory = self.group.peak_memory().filter(|peak| peak_before.is_none_or(|before| *peak > before));

        let (ended, cpu, largest) = match watched.report {
            Some(Report::Ended { ended, cpu, largest }) => (ended, cpu, largest.map(ByteSize)),
            Some(Report::Failed(fault)) => return Err(fault.into()),
            None => (Ended::Killed, Duration::ZERO, None),
        };
        let end = end_of(watched.killed_for, ended, counts, &mut disk).await.map_err(|error| match error {
            SandboxError::HelperLost => DockerError::Lost.into(),
            other => other,
        })?;
        let signs = Signs { end, output: &watched.output, largest, memory_limit: limits.memory };
        let (end, doubt) = signs.weigh(*after, |controller| shared.daemon.counts(controller));
        Ok(Exit { end, usage: Usage { wall: watched.wall, cpu, peak_memory }, output: watched.output, doubt })
    }

    /// Ends it and waits until the daemon has cleared it away.
    pub(super) async fn end(self, shared: &Shared) -> Result<(), SandboxError> {
        let Self { id, steward, spec, .. } = self;
        drop(steward);
        let removed = WaitContainerOptionsBuilder::new().condition("removed").build();
        let mut gone = pin!(shared.daemon.client.wait_container(&id, Some(removed)));
        // Its exit code, the answer that the container doesn't exist, and a broken connection end the wait alike.
        if tokio::time::timeout(REMOVAL, gone.next()).await.is_err() {
            shared.daemon.remove(&id).await?;
        }
        for mount in &spec.mounts {
            let (MountKind::Overlay { work, .. } | MountKind::Copy { work, .. }) = &mount.what else { continue };
            // overlayfs leaves an empty folder of root's that its owner can't even look into, but remove.
            for entry in fs::read_dir(work).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        Ok(())
    }
}

/// Starts the container and waits for its steward.
async fn meet(shared: &Shared, door: Door, owner: Owner, id: &str) -> Result<(Steward, Folder), SandboxError> {
    let daemon = &shared.daemon;
    let options = AttachContainerOptionsBuilder::new().stdout(true).stderr(true).stream(true).build();
    let attached = daemon.client.attach_container(id, Some(options)).await;
    let attached = attached.map_err(|error| daemon.complain("listen to a container", error))?;
    let started = daemon.client.start_container(id, None::<StartContainerOptions>).await;
    started.map_err(|error| daemon.complain("start a container", error))?;

    let folder = door.folder().to_owned();
    let coming = door.steward(owner);
    tokio::pin!(coming);
    let came = tokio::select! {
        came = &mut coming => Ok(came),
        said = listen(attached) => match tokio::time::timeout(LATE, &mut coming).await {
            Ok(came) => Ok(came),
            Err(_) if said.is_empty() => Err("it ended at once".to_owned()),
            Err(_) => Err(said),
        },
        () = tokio::time::sleep(START) => Err(format!("it gave no sign of life within {} s", START.as_secs())),
    };
    match came {
        Ok(came) => came.map_err(|source| SandboxError::Path { doing: "listen in", path: folder, source }),
        Err(said) => Err(DockerError::Start { image: shared.common.image.clone(), said }.into()),
    }
}

/// The output of a container until it closes its streams, in one line.
async fn listen(mut attached: AttachContainerResults) -> String {
    let mut said = Vec::new();
    while let Some(Ok(output)) = attached.output.next().await {
        let bytes = output.into_bytes();
        said.extend_from_slice(&bytes[..bytes.len().min(SAID - said.len())]);
    }
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn blocking(stream: std::os::unix::net::UnixStream) -> std::io::Result<std::os::unix::net::UnixStream> {
    stream.set_nonblocking(false).map(|()| stream)
}
