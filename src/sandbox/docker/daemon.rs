//! The Docker daemon of this host: its socket, its abilities, and clear errors about it.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bollard::errors::Error;
use bollard::models::SystemInfo;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker as Client};

use super::label::KEY;
use super::request::Mapping;
use super::{DockerError, Image, Label};
use crate::sandbox::cgroup::Controller;

/// The daemon's socket unless `DOCKER_HOST` names another.
const SOCKET: &str = "/var/run/docker.sock";

/// How long the daemon may take to answer, in seconds. A busy disk makes it slow to create containers.
const PATIENCE: u64 = 120;

/// A daemon that answers.
#[derive(Debug)]
pub(super) struct Daemon {
    socket: PathBuf,
    pub(super) client: Client,
    pub(super) cores: f64,
    pub(super) users: Mapping,
    /// The limits that it can't set, by controller, with the effect.
    pub(super) missing: Vec<(&'static str, &'static str)>,
}

impl Daemon {
    /// Finds the daemon of this host, at `DOCKER_HOST` or at its usual socket.
    pub(super) async fn find(host: Option<String>) -> Result<Self, DockerError> {
        let socket = socket(host)?;
        reach(&socket)?;
        let asked = async {
            let client = Client::connect_with_unix(&socket.to_string_lossy(), PATIENCE, API_DEFAULT_VERSION)?;
            let client = client.negotiate_version().await?;
            let info = client.info().await?;
            Ok((client, info))
        };
        let (client, info) = asked.await.map_err(|error| complaint(&socket, "say what it can do", error))?;
        Ok(Self {
            socket,
            client,
            cores: info.ncpu.unwrap_or(1).max(1) as f64,
            users: users(&info)?,
            missing: missing(&info),
        })
    }

    /// Whether it has the kernel account, for a container as a whole, for the resource of this controller.
    pub(super) fn counts(&self, which: Controller) -> bool {
        !self.missing.iter().any(|(name, _)| *name == which.name())
    }

    /// The id of an image; `None` without such a local image.
    pub(super) async fn image_id(&self, image: &Image) -> Result<Option<String>, DockerError> {
        match self.client.inspect_image(image.as_str()).await {
            Ok(found) => Ok(found.id),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(self.complain("find the image", error)),
        }
    }

    /// Removes an image that a newer one took the name from, unless it has another name or a container uses it.
    pub(super) async fn remove_image(&self, id: &str) {
        let options = RemoveImageOptionsBuilder::new().build();
        // One that stays does no harm.
        let _ = self.client.remove_image(id, Some(options), None).await;
    }

    /// Removes the containers, with their volumes, of runs that are dead.
    pub(super) async fn sweep(&self, own: &Label) -> Result<(), DockerError> {
        let filters = HashMap::from([("label", vec![KEY])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.client.list_containers(Some(options)).await;
        for container in found.map_err(|error| self.complain("list containers", error))? {
            let label = container.labels.as_ref().and_then(|labels| Label::parse(labels.get(KEY)?));
            if let (Some(id), Some(label)) = (&container.id, label)
                && own.knows_dead(&label)
            {
                self.remove(id).await?;
            }
        }
        Ok(())
    }

    /// Removes a container with its volumes, even a running one. One that isn't there is removed already.
    pub(super) async fn remove(&self, id: &str) -> Result<(), DockerError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client.remove_container(id, Some(options)).await {
            // 409: the daemon is at it.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(self.complain("remove a container", error)),
        }
    }

    /// Describes an error, and whether the daemon is there at all.
    pub(super) fn complain(&self, doing: &'static str, error: Error) -> DockerError {
        complaint(&self.socket, doing, error)
    }
}

fn complaint(socket: &Path, doing: &'static str, error: Error) -> DockerError {
    match reach(socket) {
        Err(unreachable) => unreachable,
        Ok(()) => DockerError::Request { doing, cause: Box::new(error) },
    }
}

fn reach(socket: &Path) -> Result<(), DockerError> {
    match UnixStream::connect(socket) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(DockerError::Denied(socket.to_owned())),
        Err(cause) => Err(DockerError::Unreachable { socket: socket.to_owned(), cause }),
    }
}

/// Where the daemon listens. Mounts are of this host, so that one of another host is of no use.
fn socket(host: Option<String>) -> Result<PathBuf, DockerError> {
    match host.filter(|host| !host.is_empty()) {
        None => Ok(PathBuf::from(SOCKET)),
        Some(host) => match host.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
            Some(_) | None => Err(DockerError::Elsewhere(host)),
        },
    }
}

fn users(info: &SystemInfo) -> Result<Mapping, DockerError> {
    let has = |name: &str| {
        let options = info.security_options.iter().flatten();
        options.flat_map(|option| option.split(',')).any(|option| option == format!("name={name}"))
    };
    match (has("rootless"), has("userns")) {
        (true, _) => Err(DockerError::Rootless),
        (false, true) => Ok(Mapping::Remapped),
        (false, false) => Ok(Mapping::Same),
    }
}

fn missing(info: &SystemInfo) -> Vec<(&'static str, &'static str)> {
    let limits = [
        (info.cpu_cfs_quota, "cpu", "a command may use more CPU than its limit"),
        (info.memory_limit, "memory", "the memory limit holds for each process alone, not for a command as a whole"),
        (info.swap_limit, "swap", "a command may use swap besides its memory"),
        (info.pids_limit, "pids", "a command may start more processes than its limit"),
    ];
    limits.into_iter().filter(|(can, ..)| *can == Some(false)).map(|(_, name, loss)| (name, loss)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_of_this_host_will_do() {
        let at = |host: &str| socket(Some(host.to_owned()));
        assert_eq!(socket(None).unwrap(), Path::new(SOCKET));
        assert_eq!(at("").unwrap(), Path::new(SOCKET));
        assert_eq!(at("unix:///run/user/1000/docker.sock").unwrap(), Path::new("/run/user/1000/docker.sock"));
        for host in ["tcp://10.0.0.1:2375", "ssh://me@there", "unix://relative"] {
            assert!(matches!(at(host), Err(DockerError::Elsewhere(_))), "{host}");
        }
    }

    #[test]
    fn a_daemon_elsewhere_is_told_with_what_to_do() {
        assert_eq!(
            socket(Some("tcp://10.0.0.1:2375".to_owned())).unwrap_err().to_string(),
            "DOCKER_HOST is `tcp://10.0.0.1:2375`, but maar mounts folders of this host, so the daemon must be local: \
             unset it, use unix:///var/run/docker.sock, or use --sandbox native, which needs no daemon"
        );
    }

    #[test]
    fn a_missing_daemon_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        assert_eq!(
            reach(&socket).unwrap_err().to_string(),
            format!(
                "the Docker daemon does not answer at {}: No such file or directory (os error 2); start it \
                 (`sudo systemctl start docker`), or use --sandbox native, which needs none",
                socket.display()
            )
        );
    }

    #[test]
    fn what_the_daemon_can_not_do_is_known() {
        let mut info = SystemInfo { memory_limit: Some(true), pids_limit: Some(false), ..SystemInfo::default() };
        assert_eq!(missing(&info), [("pids", "a command may start more processes than its limit")]);
        assert_eq!(users(&info).unwrap(), Mapping::Same);
        info.security_options = Some(vec!["name=seccomp,profile=default".to_owned(), "name=userns".to_owned()]);
        assert_eq!(users(&info).unwrap(), Mapping::Remapped);
        info.security_options = Some(vec!["name=rootless".to_owned()]);
        assert!(matches!(users(&info), Err(DockerError::Rootless)));
    }
}
