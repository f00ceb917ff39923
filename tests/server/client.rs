//! A server of one test, and a client that can send anything.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::world::World;

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    /// Kept, so that the server can go on writing.
    _stdout: BufReader<ChildStdout>,
    pub(crate) address: String,
    pub(crate) token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Server {
    /// Starts a server over the world's home, on a free port.
    pub(crate) fn start(world: &World) -> Self {
        Self::start_with(world, "")
    }

    /// The same with these settings.
    pub(crate) fn start_with(world: &World, settings: &str) -> Self {
        world.write("maar-server.toml", settings);
        let mut command = world.command(&["serve", "maar-server.toml", "--listen", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        // The line with the token, after which the server answers.
        stdout.read_line(&mut String::new()).unwrap();
        let address =
            first.trim().rsplit_once("//").expect("the server prints its URL").1.trim_end_matches('/').to_owned();
        let path = world.home().join("token");
        let token = std::fs::read_to_string(path).unwrap().trim().to_owned();
        Self { child, _stdout: stdout, address, token }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the server as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the server with SIGTERM, and waits for its end.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Sends a request with the administrator's token.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        self.raw(method, path, &headers, body.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body)
    }

    /// Sends a request with these headers only, and the few that HTTP demands.
    pub(crate) fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            text.push_str(&format!("host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        self.bytes(&[text.as_bytes(), b"\r\n", body].concat())
    }

    /// Sends bytes, and reads the answer to its end.
    pub(crate) fn bytes(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may refuse a large body before its end.
        let _ = stream.write_all(request);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let headers = head.to_ascii_lowercase();
        let body = if headers.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
        Answer { status, headers, body }
    }

    /// Creates an experiment from TOML, and expects that to work.
    pub(crate) fn create(&self, toml: &str) -> String {
        let answer = self.ask("POST", "/api/v1/experiments", &[("content-type", "application/toml")], toml);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["name"].as_str().unwrap().to_owned()
    }

    /// Waits until an experiment is in one of these states, and returns it.
    pub(crate) fn wait_for(&self, name: &str, states: &[&str]) -> Value {
        let deadline = Instant::now() + Duration::from_secs(240);
        loop {
            let shown = self.get(&format!("/api/v1/experiments/{name}")).json();
            if states.contains(&shown["state"].as_str().unwrap_or_default()) {
                return shown;
            }
            assert!(Instant::now() < deadline, "{shown}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The contents of a chunked body.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size || !rest.is_char_boundary(size) {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
