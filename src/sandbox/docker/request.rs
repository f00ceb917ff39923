//! The request that makes a container: a spec in, the body of a request out. Pure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig,
};

use super::{Image, Label};
use crate::sandbox::helper::protocol::Identity;
use crate::sandbox::helper::rootfs::{FROZEN, HIDDEN};
use crate::sandbox::helper::steward::{DOOR, PROGRAM};
use crate::sandbox::users::Users;
use crate::sandbox::{HOSTNAME, MountKind, Owner, PRIVATE, Spec, User};

/// What stays the same for all containers of a sandbox.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) image: Image,
    /// maar's own binary.
    pub(super) helper: PathBuf,
    /// Who commands may be, inside and to the host.
    pub(super) users_of_host: Users,
    /// By which containers are known to be this run's.
    pub(super) label: Label,
    /// How many cores the daemon has: it refuses to give more.
    pub(super) cores: f64,
    /// Whether it maps users, which must be prevented: files of the host would have no known owner.
    pub(super) users: Mapping,
}

impl Common {
    /// Who the commands of a user are.
    pub(super) fn owner(&self, user: &User) -> Owner {
        let (Identity::Unprivileged(owner) | Identity::Rootless(owner)) = self.users_of_host.identity(user);
        owner
    }
}

/// Who a container's users are to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// The same.
    Same,
    /// Others, unless asked for.
    Remapped,
}

/// The fewest cores that Docker can give.
const FEWEST_CORES: f64 = 0.01;

/// The request for a container that looks like the spec. `door` is the folder where maar listens for its steward.
pub(super) fn body(spec: &Spec, common: &Common, door: &Path) -> ContainerCreateBody {
    let Owner { uid, gid } = common.owner(&spec.user);
    ContainerCreateBody {
        hostname: Some(HOSTNAME.to_owned()),
        user: Some(format!("{uid}:{gid}")),
        image: Some(common.image.to_string()),
        entrypoint: Some(vec![PROGRAM.to_owned()]),
        cmd: Some(Vec::new()),
        working_dir: Some("/".to_owned()),
        // A process 1 takes no other.
        stop_signal: Some("SIGKILL".to_owned()),
        // An image's own would run in the midst of a command.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(HashMap::from([common.label.pair()])),
        host_config: Some(host_config(spec, common, door)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &Spec, common: &Common, door: &Path) -> HostConfig {
    let limits = &spec.limits;
    let memory = i64::try_from(limits.memory.as_u64()).unwrap_or(i64::MAX);
    let mut mounts = vec![
        bind(Path::new(PROGRAM), &common.helper, Access::Read),
        bind(Path::new(DOOR), door, Access::Read),
        bind(Path::new("/etc/passwd"), &door.join(PASSWD), Access::Read),
        bind(Path::new("/etc/group"), &door.join(GROUP), Access::Read),
    ];
    mounts.extend(spec.mounts.iter().map(|mount| match &mount.what {
        MountKind::ReadOnly(path) => bind(&mount.at, path, Access::Read),
        MountKind::Writable(path) => bind(&mount.at, path, Access::Write),
        MountKind::Overlay { lower, upper, work } => overlay(&mount.at, [lower, upper, work], "", &common.label),
        MountKind::Copy { lower, upper, work } => {
            overlay(&mount.at, [lower, upper, work], ",redirect_dir=on", &common.label)
        }
    }));
    HostConfig {
        auto_remove: Some(true),
        readonly_rootfs: Some(true),
        // With or without an outlet, which the steward opens.
        network_mode: Some("none".to_owned()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // Native cells show a few folders of it; here all would come along.
        masked_paths: Some(HIDDEN.iter().chain(&["/sys"]).map(|path| (*path).to_owned()).collect()),
        readonly_paths: Some(FROZEN.map(str::to_owned).to_vec()),
        userns_mode: (common.users == Mapping::Remapped).then(|| "host".to_owned()),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        nano_cpus: Some((limits.cpus.clamp(FEWEST_CORES, common.cores) * 1e9).round() as i64),
        memory: Some(memory),
        // Memory and swap together: a sum equal to the memory limit leaves no swap.
        memory_swap: Some(memory),
        // The steward counts too.
        pids_limit: Some(i64::from(limits.pids) + 1),
        shm_size: Some(memory),
        tmpfs: Some(private_folders(spec, common.owner(&spec.user))),
        mounts: Some(mounts),
        // Nothing is printed there: commands have a terminal of their own.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        ..HostConfig::default()
    }
}

fn private_folders(spec: &Spec, Owner { uid, gid }: Owner) -> HashMap<String, String> {
    let size = spec.limits.memory.as_u64();
    // Docker makes /dev/shm itself.
    let folders = PRIVATE.iter().filter(|folder| **folder != "/dev/shm");
    folders
        .map(|folder| ((*folder).to_owned(), format!("rw,exec,nosuid,nodev,size={size},mode=700,uid={uid},gid={gid}")))
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn bind(at: &Path, from: &Path, access: Access) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        target: Some(at.display().to_string()),
        source: Some(from.display().to_string()),
        read_only: Some(access == Access::Read),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            // Mounts below it stay out: daemons before 25 would leave them writable.
            non_recursive: Some(true),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    }
}

/// The daemon mounts the overlay as a volume without a name, which goes with the container.
fn overlay(at: &Path, folders: [&PathBuf; 3], further: &str, label: &Label) -> Mount {
    let [lower, upper, work] = folders.map(|folder| escaped(folder));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}{further}");
    let driver = [("type", "overlay"), ("device", "overlay"), ("o", &options)];
    let driver = driver.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(at.display().to_string()),
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            labels: Some(HashMap::from([label.pair()])),
            driver_config: Some(MountVolumeOptionsDriverConfig {
                name: Some("local".to_owned()),
                options: Some(HashMap::from(driver)),
            }),
            ..MountVolumeOptions::default()
        }),
        ..Mount::default()
    }
}

/// A path as an option of overlayfs, which takes commas and colons for separators.
fn escaped(path: &Path) -> String {
    let mut escaped = String::new();
    for c in path.display().to_string().chars() {
        if matches!(c, ',' | ':' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The files in the door's folder that tell who there is.
pub(super) const PASSWD: &str = "passwd";
/// As [`PASSWD`].
pub(super) const GROUP: &str = "group";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::*;
    use crate::sandbox::{Cores, Limits, Network};

    fn host_config_of(network: Network, users: Mapping) -> HostConfig {
        let limits = Limits {
            cpus: 8.0,
            memory: ByteSize::mib(64),
            pids: 30,
            timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            output: ByteSize::kib(1),
            disk: ByteSize::gib(1),
            cores: Cores::Shared,
        };
        let overlay = MountKind::Overlay { lower: "/a:b".into(), upper: "/c,d".into(), work: "/e\\f".into() };
        let mounts = vec![
            crate::sandbox::Mount { at: "/crate".into(), what: overlay },
            crate::sandbox::Mount { at: "/target".into(), what: MountKind::Writable("/host/target".into()) },
        ];
        let spec = Spec {
            label: "build-a".to_owned(),
            user: User::of_maar(),
            scratch: "/scratch".into(),
            mounts,
            network,
            limits,
            live: None,
        };
        let common = Common {
            image: Image::default(),
            helper: "/host/maar".into(),
            users_of_host: Users::find(None),
            label: Label::of_this_process(),
            cores: 2.0,
            users,
        };
        body(&spec, &common, Path::new("/scratch/door")).host_config.unwrap()
    }

    #[test]
    fn a_container_can_do_no_more_than_its_spec_says() {
        let config = host_config_of(Network::Loopback, Mapping::Same);
        assert_eq!(config.network_mode.as_deref(), Some("none"));
        assert_eq!(config.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(config.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!((config.readonly_rootfs, config.auto_remove), (Some(true), Some(true)));
        assert_eq!((config.memory, config.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((config.nano_cpus, config.pids_limit), (Some(2_000_000_000), Some(31)));
        assert_eq!((config.userns_mode, config.privileged), (None, None));
        assert_eq!(config.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
        let [hidden, frozen] = [config.masked_paths.unwrap(), config.readonly_paths.unwrap()];
        assert!(["/sys", "/proc/kcore"].iter().all(|path| hidden.iter().any(|hidden| hidden == path)), "{hidden:?}");
        assert!(frozen.iter().any(|path| path == "/proc/sys"), "{frozen:?}");
        let writable = config.mounts.unwrap().into_iter().filter(|mount| mount.read_only == Some(false));
        assert_eq!(writable.map(|mount| mount.target.unwrap()).collect::<Vec<_>>(), ["/target"]);
    }

    #[test]
    fn users_stay_who_they_are_and_no_container_has_a_network() {
        let config = host_config_of(Network::Outlet, Mapping::Remapped);
        assert_eq!(config.network_mode.as_deref(), Some("none"));
        assert_eq!(config.userns_mode.as_deref(), Some("host"));
    }

    #[test]
    fn paths_of_an_overlay_are_not_taken_apart() {
        let mounts = host_config_of(Network::Loopback, Mapping::Same).mounts.unwrap();
        let overlay = mounts.into_iter().find(|mount| mount.typ == Some(MountType::VOLUME)).unwrap();
        let options = overlay.volume_options.unwrap().driver_config.unwrap().options.unwrap();
        assert_eq!(options["o"], "lowerdir=/a\\:b,upperdir=/c\\,d,workdir=/e\\\\f");
    }
}
