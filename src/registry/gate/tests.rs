//! The gate as a client sees it, malformed and forbidden requests included.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream as Client};

use futures_util::stream;
use tokio::net::TcpListener;

use super::*;
use crate::registry::{Access, Config, Upstream};

/// The result of one connection.
struct Talk {
    answer: String,
    denials: Vec<String>,
}

/// Sends this to a gate that allows `allowed`, and carries at most a KiB.
async fn talk(request: &str, allowed: &[&str]) -> Talk {
    let dir = tempfile::tempdir().unwrap();
    let upstream = Upstream { index: "sparse+http://127.0.0.1:9/".parse().unwrap(), ca_file: None };
    let registry =
        Registry::open(Config { upstream, cache: dir.path().join("cache"), access: Access::Online }).unwrap();
    let allowed: Vec<AllowedHost> = allowed.iter().map(|host| host.parse().unwrap()).collect();
    let gate = Gate::new(registry, &allowed);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = Client::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let request = request.to_owned();
    let asking = tokio::task::spawn_blocking(move || {
        client.write_all(request.as_bytes()).unwrap();
        if request.is_empty() {
            return String::new();
        }
        let mut answer = answer_of(&mut client);
        let _ = client.shutdown(Shutdown::Write);
        let _ = client.read_to_string(&mut answer);
        drop(over);
        answer
    });
    // The outlet of a command stays open until the command ends.
    let end = Box::pin(stream::once(async {
        let _ = is_over.await;
        None
    }));
    let accepted = stream::iter([Some(server)]).chain(end).take_while(|stream| std::future::ready(stream.is_some()));
    let denials = gate.serve(accepted.filter_map(std::future::ready).boxed(), ByteSize::kib(1)).await;
    let denials = denials.iter().map(Denial::to_string).collect();
    Talk { answer: asking.await.unwrap(), denials }
}

/// Reads one answer up to its declared length, or until the gate hangs up.
fn answer_of(client: &mut Client) -> String {
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with("\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count == 1) {
        answer.push(char::from(byte[0]));
    }
    let length = answer.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let _ = client.take(length.unwrap_or(0)).read_to_string(&mut answer);
    answer
}

/// The status of an answer; empty where the connection was closed without one.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn connect(authority: &str) -> String {
    format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n")
}

#[tokio::test]
async fn hosts_at_addresses_that_are_not_public_are_refused_however_they_are_written() {
    for (authority, why) in [
        ("127.0.0.1:443", "127.0.0.1: it is not a public address (`--allow-host 127.0.0.1` allows it)"),
        ("[::1]:443", "[::1]: it is not a public address (`--allow-host [::1]` allows it)"),
        ("[::ffff:127.0.0.1]:443", "[::ffff:127.0.0.1]: it is not a public address"),
        ("localhost:443", "localhost: its address "),
        ("LOCALHOST:443", "localhost: its address "),
        ("127.1:443", "127.1: its address 127.0.0.1 is not public"),
        ("0x7f000001:443", "0x7f000001: its address 127.0.0.1 is not public"),
        ("2130706433:443", "2130706433: its address 127.0.0.1 is not public"),
        ("0.0.0.0:443", "0.0.0.0: it is not a public address"),
        ("10.0.0.1:443", "10.0.0.1: it is not a public address"),
        ("169.254.169.254:443", "169.254.169.254: it is not a public address"),
        ("1.1.1.1:22", "1.1.1.1:22: its port is not that of https, 443 (`--allow-host 1.1.1.1:22` allows it)"),
    ] {
        let Talk { answer, denials } = talk(&connect(authority), &[]).await;
        assert_eq!(status(&answer), "403", "{authority}: {answer}");
        let [denial] = &denials[..] else { panic!("{authority}: {denials:?}") };
        assert!(denial.starts_with(&format!("maar refuses {why}")), "{denial}");
        assert!(answer.ends_with(&format!("{denial}\n")), "{answer}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_get_no_tunnel() {
    let long = "a".repeat(MAX_HEAD);
    for (request, expected) in [
        (connect("127.0.0.1"), "400"),
        (connect("127.0.0.1:0"), "400"),
        (connect("127.0.0.1:65536"), "400"),
        (connect("127.0.0.1:-1"), "400"),
        (connect("user@127.0.0.1:443"), "400"),
        (connect(":443"), "400"),
        (connect(""), "400"),
        (connect("127.0.0.1:443\0"), "400"),
        (format!("CONNECT 127.0.0.1:443 HTTP/1.1\r\nx: {long}\r\n\r\n"), "431"),
        ("GET /config.json HTTP/1.1\r\nhost: maar.invalid\r\n\r\n".to_owned(), "400"),
        ("POST http://maar.invalid/ HTTP/1.1\r\nhost: maar.invalid\r\n\r\n".to_owned(), "405"),
        ("\u{16}\u{3}\u{1} not even HTTP".to_owned(), "400"),
        (String::new(), ""),
    ] {
        let Talk { answer, denials } = talk(&request, &[]).await;
        let found = status(&answer);
        assert!(found == expected || found.is_empty() && expected == "400", "{request:?}: {answer}");
        assert_eq!(denials, Vec::<String>::new(), "{request:?}");
    }
}

#[tokio::test]
async fn only_the_registry_is_served_without_tls() {
    let get = |url: &str| format!("GET {url} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let registry = talk(&get("http://maar.invalid/config.json"), &[]).await;
    assert!(registry.answer.ends_with("{\"dl\":\"http://maar.invalid/dl\"}"), "{}", registry.answer);
    assert_eq!(registry.denials, Vec::<String>::new());
    for url in ["http://127.0.0.1:9/x.git", "http://me:secret@127.0.0.1:9/", "http://maar.invalid:9/config.json"] {
        // Not even where it is allowed, as the host that answers is unknown.
        let Talk { answer, denials } = talk(&get(url), &["127.0.0.1:9"]).await;
        assert_eq!(status(&answer), "403", "{url}");
        let [denial] = &denials[..] else { panic!("{url}: {denials:?}") };
        assert!(denial.ends_with(":9: crates may fetch over https only"), "{denial}");
        assert!(!denial.contains("secret"), "{denial}");
    }
}

#[tokio::test]
async fn a_tunnel_to_an_allowed_host_carries_no_more_than_it_may() {
    for (bytes, expected) in [(1000, None), (2000, Some("more than 1.0 KiB were fetched already"))] {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = server.local_addr().unwrap().to_string();
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut asked = Vec::new();
            let _ = stream.read_to_end(&mut asked);
            let _ = stream.write_all(&vec![b'x'; bytes]);
            asked
        });
        let Talk { answer, denials } = talk(&(connect(&host) + "hello"), &[&host]).await;
        assert_eq!(echo.join().unwrap(), b"hello");
        assert_eq!(status(&answer), "200");
        match expected {
            None => {
                assert_eq!(answer.matches('x').count(), bytes);
                assert_eq!(denials, Vec::<String>::new());
            }
            Some(why) => {
                assert_eq!(answer.matches('x').count(), 0, "what is too much is not carried");
                assert!(denials[0].contains(why), "{denials:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_is_no_refusal() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = server.local_addr().unwrap().to_string();
    drop(server);
    let Talk { answer, denials } = talk(&connect(&host), &[&host]).await;
    assert_eq!(status(&answer), "502");
    assert_eq!(denials, [format!("can't reach {host}: Connection refused (os error 111)")]);
    let Talk { denials, .. } = talk(&connect("nowhere.invalid:443"), &[]).await;
    assert!(denials[0].starts_with("can't reach nowhere.invalid: "), "{denials:?}");
}
