//! A daemon, a tiny image, and the bench on top of them.

use std::os::unix::net::UnixStream;
use std::path::Path;

use bollard::Docker as Client;
use bollard::query_parameters::{CreateImageOptionsBuilder, ListContainersOptionsBuilder};
use bytes::Bytes;
use futures_util::TryStreamExt;
use maar::sandbox::docker::{Config, Docker, Image};
use maar::sandbox::{Mount, MountKind, Sandbox, SandboxError};

use crate::bench::{Bench, bench, helper};

/// An image of links and mount points: programs are the host's, mounted.
pub(crate) const IMAGE: &str = "maar-test";

/// The socket of the host's daemon; `None`, with a printed line, where no usable daemon answers and CI doesn't require
/// one.
pub(crate) fn daemon() -> Option<()> {
    match UnixStream::connect("/var/run/docker.sock") {
        Ok(_) => Some(()),
        Err(error) if std::env::var("CI").as_deref() == Ok("true") => panic!("no Docker daemon: {error}"),
        Err(error) => {
            eprintln!("not tested here: Docker (no daemon answers: {error})");
            None
        }
    }
}

pub(crate) fn client() -> Client {
    Client::connect_with_unix("/var/run/docker.sock", 60, bollard::API_DEFAULT_VERSION).unwrap()
}

/// A Docker sandbox with a writable folder of the host at `/work`.
pub(crate) async fn docker() -> Bench {
    import(&client(), IMAGE).await;
    on(connect(IMAGE).await.unwrap())
}

pub(crate) async fn connect(image: &str) -> Result<Docker, SandboxError> {
    connect_at(None, image).await
}

pub(crate) async fn connect_at(host: Option<String>, image: &str) -> Result<Docker, SandboxError> {
    Docker::connect(Config { host, image: image.parse::<Image>().unwrap(), helper: helper() }).await
}

pub(crate) fn on(docker: Docker) -> Bench {
    let mut bench = bench(Sandbox::Docker(docker));
    for folder in ["/usr", "/lib", "/lib64", "/bin"].map(Path::new) {
        if folder == Path::new("/usr") || !folder.is_symlink() {
            bench.spec.mounts.push(Mount { at: folder.into(), what: MountKind::ReadOnly(folder.into()) });
        }
    }
    bench
}

/// Makes the image where it isn't there yet.
pub(crate) async fn import(client: &Client, name: &str) {
    let client = client.clone().negotiate_version().await.unwrap();
    if client.inspect_image(name).await.is_ok() {
        return;
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o755);
    for folder in ["/bin", "/lib", "/lib64"].map(Path::new) {
        if let Ok(target) = std::fs::read_link(folder) {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, folder.strip_prefix("/").unwrap(), target).unwrap();
        }
    }
    header.set_entry_type(tar::EntryType::Directory);
    for folder in ["usr", "tmp", "etc"] {
        archive.append_data(&mut header, folder, std::io::empty()).unwrap();
    }
    let body = bollard::body_full(Bytes::from(archive.into_inner().unwrap()));
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(name).tag("latest").build();
    let _: Vec<_> = client.create_image(Some(options), Some(body), None).try_collect().await.unwrap();
}

/// The containers of a process, in any state.
pub(crate) async fn containers_of(client: &Client, pid: u32) -> Vec<String> {
    let client = client.clone().negotiate_version().await.unwrap();
    let options = ListContainersOptionsBuilder::new().all(true).build();
    let containers = client.list_containers(Some(options)).await.unwrap();
    let is_of = |label: &String| label.split('/').nth(2) == Some(&pid.to_string());
    let ours = containers
        .into_iter()
        .filter(|one| one.labels.iter().flatten().any(|(key, value)| key == "maar.run" && is_of(value)));
    ours.map(|container| container.id.unwrap()).collect()
}
