//! Why Docker could not be used: what happened, to what, and what to do.

use std::io;
use std::path::PathBuf;

use super::Image;

/// Why a container could not be had or kept. Never the crate's fault.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The socket doesn't answer.
    #[error(
        "the Docker daemon does not answer at {}: {cause}; start it (`sudo systemctl start docker`), or use \
         --sandbox native, which needs none",
        .socket.display()
    )]
    Unreachable {
        /// Where it should.
        socket: PathBuf,
        /// Why it doesn't.
        cause: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "this user may not use the Docker daemon at {}: join its group (`sudo usermod -aG docker $USER`, then log in \
         again; its members are as good as root), or use --sandbox native, which needs no such right",
        .0.display()
    )]
    Denied(PathBuf),
    /// The daemon is elsewhere.
    #[error(
        "DOCKER_HOST is `{}`, but maar mounts folders of this host, so the daemon must be local: unset it, use \
         unix:///var/run/docker.sock, or use --sandbox native, which needs no daemon",
        .0.escape_debug()
    )]
    Elsewhere(String),
    /// The daemon runs as an ordinary user.
    #[error(
        "rootless Docker maps users in a way that maar can't use; use --sandbox native, which is rootless by itself"
    )]
    Rootless,
    /// The image doesn't exist.
    #[error(
        "there is no local image `{0}`: `maar image build {0}` makes one from this host{hint}",
        hint = pulling(.0)
    )]
    NoImage(Image),
    /// The image has no place for maar's helper.
    #[error(
        "the image `{image}` can't run maar's helper: {said}; `maar image build` makes an image from this host that can"
    )]
    Start {
        /// The image.
        image: Image,
        /// Its last output.
        said: String,
    },
    /// The container died under the command.
    #[error("the container was ended from outside: was the Docker daemon stopped, or is the host out of memory?")]
    Lost,
    /// The daemon refused something.
    #[error("Docker failed to {doing}: {cause}")]
    Request {
        /// The request, as a verb.
        doing: &'static str,
        /// Its answer.
        cause: Box<bollard::errors::Error>,
    },
    /// A file of the host could not be put into the image.
    #[error("failed to read this host's files for the image: {0}")]
    Image(io::Error),
}

/// The command that pulls an image, if its name includes a registry: an unqualified name may belong to a stranger.
fn pulling(image: &Image) -> String {
    let registry = image.as_str().split_once('/').map(|(first, _)| first);
    match registry.filter(|first| first.contains(['.', ':']) || *first == "localhost") {
        Some(_) => format!(", or get it with `docker pull {image}`"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_image_whose_registry_is_named_is_to_be_pulled() {
        let advice = |name: &str| DockerError::NoImage(name.parse().unwrap()).to_string();
        for name in ["maar", "maar:2", "someone/maar"] {
            let expected =
                format!("there is no local image `{name}`: `maar image build {name}` makes one from this host");
            assert_eq!(advice(name), expected);
        }
        for name in ["registry.example/maar", "localhost:5000/maar"] {
            assert!(advice(name).ends_with(&format!(", or get it with `docker pull {name}`")), "{name}");
        }
    }
}
