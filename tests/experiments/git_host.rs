//! A git host on loopback: https with its own certificate, one repository, served by the host's git.
//!
//! Speaks as much of git's smart protocol as a fetch needs, one request a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A running host. Its thread ends with the process.
pub(crate) struct GitHost {
    address: SocketAddr,
}

impl GitHost {
    /// Serves the repository in `folder` to those who trust the certificate, which is written to `certificate`.
    pub(crate) fn start(folder: &Path, certificate: &Path) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(certificate, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = folder.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, folder) = (Arc::clone(&config), folder.clone());
                // A client that breaks off is of no interest.
                std::thread::spawn(move || serve(stream, config, &folder));
            }
        });
        Self { address }
    }

    /// Its address and port.
    pub(crate) fn name(&self) -> String {
        self.address.to_string()
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, folder: &Path) -> std::io::Result<()> {
    let tls = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, stream));
    let mut request = String::new();
    stream.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
    }
    let mut asked = vec![0; length];
    stream.read_exact(&mut asked)?;
    let (status, kind, body) = match request.split(' ').nth(1).unwrap_or_default() {
        path if path.ends_with("/info/refs?service=git-upload-pack") => {
            let refs = upload_pack(folder, &["--http-backend-info-refs"], &[]);
            ("200 OK", "advertisement", [b"001e# service=git-upload-pack\n0000", &refs[..]].concat())
        }
        path if path.ends_with("/git-upload-pack") => ("200 OK", "result", upload_pack(folder, &[], &asked)),
        _ => ("404 Not Found", "result", Vec::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/x-git-upload-pack-{kind}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let tls = stream.get_mut();
    tls.write_all(&[head.as_bytes(), &body].concat())?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn upload_pack(folder: &Path, flags: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = git(folder);
    command.args(["upload-pack", "--stateless-rpc"]).args(flags).arg(".");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// Makes a repository from a folder.
///
/// Where `module` names one, it has a submodule there, at a commit that doesn't exist.
pub(crate) fn commit(folder: &Path, module: Option<&str>) {
    let module = module.map(|path| format!("160000,{},{path}", "1".repeat(40)));
    let link = module.as_deref().map(|module| ["update-index", "--add", "--cacheinfo", module]);
    let add = [&["init", "--quiet"][..], &["add", "."]];
    let commit = ["commit", "--quiet", "--message", "all"];
    for args in add.into_iter().chain(link.as_ref().map(|args| &args[..])).chain([&commit[..]]) {
        assert!(git(folder).args(args).status().unwrap().success(), "git {args:?}");
    }
}

/// git, without the user's configuration.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "-c", "user.name=maar", "-c", "user.email=maar@example.org"]);
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

/// Whether this host has git; prints a line if not.
pub(crate) fn is_git_here(world: PathBuf) -> bool {
    let found = git(&world).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "git is needed");
        eprintln!("not tested here: git dependencies (there is no git)");
    }
    found
}
