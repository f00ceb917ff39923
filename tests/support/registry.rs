//! A sparse registry on loopback that serves fixtures, counts requests and fails on demand.
//!
//! Speaks as much HTTP/1.1 as cargo and maar need, one request a connection, on its own thread.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;
use maar::registry::Checksum;

use super::fixture::Fixture;

/// A running registry; it goes away when dropped.
pub(crate) struct TestRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Bodies by path.
    files: BTreeMap<String, Vec<u8>>,
    /// How often each path was asked for.
    requests: BTreeMap<String, usize>,
    /// How many of them were answered with "not modified".
    unchanged: usize,
    /// How many requests are still to fail.
    failures: usize,
    /// The paths that fail until a test lets them recover.
    failing: BTreeSet<String>,
    /// How many bodies are still to be damaged, by path.
    damage: BTreeMap<String, usize>,
    index_encoding: Encoding,
    tags: Tags,
    closed: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Encoding {
    #[default]
    Identity,
    Gzip,
}

/// Whether answers have an `ETag`.
#[derive(Default, Clone, Copy, PartialEq)]
enum Tags {
    #[default]
    Sent,
    Missing,
}

impl TestRegistry {
    pub(crate) fn start(fixtures: impl IntoIterator<Item = Fixture>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        lock(&state).files.insert("/config.json".into(), format!("{{\"dl\":\"http://{address}/dl\"}}").into());
        let served = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if lock(&served).closed {
                    return;
                }
                let state = Arc::clone(&served);
                // A client that breaks off is of no interest.
                std::thread::spawn(move || stream.and_then(|stream| serve(&stream, &state)));
            }
        });
        let registry = Self { address, state, thread: Some(thread) };
        fixtures.into_iter().for_each(|fixture| registry.publish(&fixture));
        registry
    }

    /// Adds a version; visible to the next request.
    pub(crate) fn publish(&self, fixture: &Fixture) {
        let mut state = lock(&self.state);
        let line = fixture.line() + "\n";
        state.files.entry(index_path(&fixture.name)).or_default().extend_from_slice(line.as_bytes());
        state.files.insert(download_path(&fixture.name, &fixture.version), fixture.packed());
    }

    /// Serves any bytes under any path.
    pub(crate) fn serve(&self, path: &str, body: impl Into<Vec<u8>>) {
        lock(&self.state).files.insert(path.to_owned(), body.into());
    }

    /// The URL for cargo's configuration.
    pub(crate) fn url(&self) -> String {
        format!("sparse+http://{}/", self.address)
    }

    /// The URL of any file that it serves.
    pub(crate) fn file_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Makes `home` a cargo home whose default registry is this one.
    pub(crate) fn write_cargo_home(&self, home: &Path) {
        write_cargo_home(home, &format!("registry = \"{}\"", self.url()));
    }

    /// Answers the next requests with 503.
    pub(crate) fn fail(&self, times: usize) {
        lock(&self.state).failures = times;
    }

    /// Answers requests for a path with 503 from now on.
    pub(crate) fn fail_at(&self, path: &str) {
        lock(&self.state).failing.insert(path.to_owned());
    }

    /// Fails no path any more.
    pub(crate) fn recover(&self) {
        lock(&self.state).failing.clear();
    }

    /// Serves the index gzipped from now on.
    /// Sends no `ETag` from now on, as some mirrors do.
    pub(crate) fn send_no_tags(&self) {
        lock(&self.state).tags = Tags::Missing;
    }

    pub(crate) fn gzip_index(&self) {
        lock(&self.state).index_encoding = Encoding::Gzip;
    }

    /// Damages the next downloads of a version.
    pub(crate) fn damage(&self, name: &str, version: &str, times: usize) {
        lock(&self.state).damage.insert(download_path(name, version), times);
    }

    /// How often the index was asked for a crate.
    pub(crate) fn index_requests(&self, name: &str) -> usize {
        self.requests(&index_path(name))
    }

    /// How often a version was downloaded.
    pub(crate) fn downloads(&self, name: &str, version: &str) -> usize {
        self.requests(&download_path(name, version))
    }

    /// How often a file was asked for.
    pub(crate) fn file_requests(&self, path: &str) -> usize {
        self.requests(path)
    }

    /// How often anything was asked for.
    pub(crate) fn all_requests(&self) -> usize {
        lock(&self.state).requests.values().sum()
    }

    /// How often "not modified" was the answer.
    pub(crate) fn unchanged(&self) -> usize {
        lock(&self.state).unchanged
    }

    fn requests(&self, path: &str) -> usize {
        lock(&self.state).requests.get(path).copied().unwrap_or(0)
    }

    /// Closes the port: later connections are refused.
    pub(crate) fn go_away(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        lock(&self.state).closed = true;
        // Wakes the thread, which then drops its listener.
        drop(TcpStream::connect(self.address));
        thread.join().unwrap();
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// Writes the configuration of a cargo home whose default registry is replaced by `source`, a line of TOML.
pub(crate) fn write_cargo_home(home: &Path, source: &str) {
    std::fs::create_dir_all(home).unwrap();
    let config = format!("[source.crates-io]\nreplace-with = \"test\"\n[source.test]\n{source}\n");
    std::fs::write(home.join("config.toml"), config).unwrap();
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut asked_tag = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("if-none-match") {
            asked_tag = Some(value.to_owned());
        }
    }
    let Answer { status, headers, body } = answer(&path, asked_tag.as_deref(), &mut lock(state));
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all(&[head.as_bytes(), &body].concat())
}

struct Answer {
    status: &'static str,
    /// Each with its line end.
    headers: String,
    body: Vec<u8>,
}

fn answer(path: &str, asked_tag: Option<&str>, state: &mut State) -> Answer {
    let plain = |status, body: &[u8]| Answer { status, headers: String::new(), body: body.to_vec() };
    *state.requests.entry(path.to_owned()).or_default() += 1;
    if state.failures > 0 {
        state.failures -= 1;
        return plain("503 Service Unavailable", b"busy");
    }
    if state.failing.contains(path) {
        return plain("503 Service Unavailable", b"down");
    }
    let Some(body) = state.files.get(path) else { return plain("404 Not Found", b"") };
    let tag = format!("\"{}\"", Checksum::of(body));
    if asked_tag == Some(&tag) {
        state.unchanged += 1;
        return plain("304 Not Modified", b"");
    }
    let headers = if state.tags == Tags::Sent { format!("etag: {tag}\r\n") } else { String::new() };
    let mut answer = Answer { headers, ..plain("200 OK", body) };
    if state.index_encoding == Encoding::Gzip && !path.starts_with("/dl/") {
        answer.headers.push_str("content-encoding: gzip\r\n");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        answer.body = gzip.write_all(&answer.body).and_then(|()| gzip.finish()).unwrap();
    }
    if let Some(times) = state.damage.get_mut(path).filter(|times| **times > 0) {
        *times -= 1;
        answer.body.reverse();
    }
    answer
}

fn index_path(name: &str) -> String {
    let name = name.to_lowercase();
    match name.len() {
        1 => format!("/1/{name}"),
        2 => format!("/2/{name}"),
        3 => format!("/3/{}/{name}", &name[..1]),
        _ => format!("/{}/{}/{name}", &name[..2], &name[2..4]),
    }
}

fn download_path(name: &str, version: &str) -> String {
    format!("/dl/{name}/{version}/download")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}
