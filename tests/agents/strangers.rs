//! The rights of an agent's token, and their limits: docs/security.md lists the promises.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Queue};

/// An agent that sends any messages it likes.
struct Rogue<'c> {
    cluster: &'c Cluster,
    token: String,
}

impl<'c> Rogue<'c> {
    fn new(cluster: &'c Cluster, name: &str) -> Self {
        let rogue = Self { cluster, token: cluster.token(name) };
        let (status, answer) = rogue.post("hello", &hello(1));
        assert_eq!(status, 200, "{answer}");
        rogue
    }

    fn send(&self, method: &str, route: &str, body: &[u8]) -> (u16, Value) {
        let address = self.cluster.url().strip_prefix("http://").unwrap().to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let head = format!(
            "{method} {route} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // The server may answer before it has read everything.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    fn post(&self, route: &str, body: &Value) -> (u16, Value) {
        self.send("POST", &format!("/agent/v1/{route}"), body.to_string().as_bytes())
    }

    /// Jobs, each a handout.
    fn pull(&self, want: u32) -> Vec<Value> {
        let (status, answer) = self.post("jobs", &json!({"want": want, "wait_ms": 5000}));
        assert!(status == 200 || status == 204, "{status} {answer}");
        answer["jobs"].as_array().cloned().unwrap_or_default()
    }

    fn drops(&self, lease: &Value) -> Vec<Value> {
        let (status, answer) = self.post("renew", &json!({"leases": [lease]}));
        assert_eq!(status, 200, "{answer}");
        answer["drop"].as_array().cloned().unwrap_or_default()
    }
}

fn hello(wire: u32) -> Value {
    json!({
        "version": "0.1.0", "wire": wire, "os": "linux", "arch": "x86_64", "cores": 2, "memory": 1_u64 << 33, "disk": null,
        "sandbox": ["native"], "environment": "0".repeat(64), "labels": [], "cap": 3, "now_ms": 0,
    })
}

fn report(lease: &Value, identity: &str, steps: Value) -> Value {
    json!({"lease": lease, "agent": "0.1.0", "environment": "0".repeat(64), "toolchains": [identity], "steps": steps,
        "bundle": null})
}

fn step(planned: &Value, outcome: Value) -> Value {
    json!({"fingerprint": planned["fingerprint"], "attempt": 1, "outcome": outcome, "started_ms": 0, "wall_us": 1})
}

#[test]
fn a_stolen_token_of_an_agent_opens_nothing_of_another() {
    let mut cluster = Cluster::new(8, Queue::Memory);
    cluster.start_server();
    let (owner, thief) = (Rogue::new(&cluster, "owner"), Rogue::new(&cluster, "thief"));
    let jobs = owner.pull(1);
    let (lease, first) = (&jobs[0]["lease"], &jobs[0]["steps"][0]);
    let route = format!("/agent/v1/experiments/{}/{}", jobs[0]["experiment"], jobs[0]["generation"]);
    let (_, assigned) = owner.send("GET", &route, b"");
    let identity = assigned["toolchains"][0]["identity"].as_str().unwrap();

    // Everybody may see the agents, and the number of crates that each holds.
    let (_, machines) = owner.send("GET", "/api/v1/agents", b"");
    let held =
        |name: &str| machines.as_array().unwrap().iter().find(|one| one["name"] == name).map(|one| &one["crates"]);
    assert_eq!((held("owner"), held("thief")), (Some(&json!(1)), Some(&json!(0))), "{machines}");

    // Another agent's lease: neither renewed, reported nor given back.
    assert_eq!(thief.drops(lease)[0][0], *lease);
    let broken = json!({"kind": "broken", "reason": {"manifest": "a lie"}});
    let lie = report(lease, identity, json!([step(first, broken)]));
    assert_eq!(thief.post("results", &lie).0, 410);
    assert_eq!(thief.post("give-back", &json!({"leases": [lease], "reason": "busy"})).0, 204);
    assert_eq!(owner.drops(lease), [Value::Null; 0], "the owner still has it");

    // Nothing of the server that a caller without a token can't read.
    assert_eq!(thief.send("GET", "/api/v1/tokens", b"").0, 403);
    let (status, _) = thief.send("POST", "/api/v1/tokens", br#"{"name": "mine", "role": "admin"}"#);
    assert_eq!(status, 403);

    // No more crates than the cap.
    let held = thief.pull(1000).len() + thief.pull(1000).len();
    assert!(held <= 256, "{held}");

    // Nothing too large, and nothing under another name.
    let huge = vec![b' '; 300 * 1024];
    assert_eq!(thief.send("POST", "/agent/v1/results", &huge).0, 413);
    let blob = format!("/agent/v1/blobs/{}", "0".repeat(64));
    assert_eq!(thief.send("PUT", &blob, b"other bytes").0, 422);
    assert_eq!(thief.send("PUT", "/agent/v1/blobs/..%2f..%2fmaar.db", b"x").0, 422);

    // Another version is refused before its message is read.
    assert_eq!(thief.post("hello", &json!({"wire": 2})).0, 426);

    // Without a token, or with a wrong one, nothing.
    let nobody = Rogue { cluster: &cluster, token: "maar_agent_AAAAAAAA_AAAA".to_owned() };
    assert_eq!(nobody.post("jobs", &json!({"want": 1})).0, 401);
}

#[test]
fn a_report_that_does_not_follow_from_the_plan_is_refused_and_pauses_the_agent() {
    let mut cluster = Cluster::new(4, Queue::Memory);
    cluster.start_server();
    let agent = Rogue::new(&cluster, "liar");
    let jobs = agent.pull(1);
    let (lease, steps) = (&jobs[0]["lease"], &jobs[0]["steps"]);
    let route = format!("/agent/v1/experiments/{}/{}", jobs[0]["experiment"], jobs[0]["generation"]);
    let (_, assigned) = agent.send("GET", &route, b"");
    let identity = assigned["toolchains"][0]["identity"].as_str().unwrap();
    let passed = json!({"kind": "passed"});
    // The tests are left out.
    let lie = report(lease, identity, json!([step(&steps[0], passed.clone()), step(&steps[1], passed)]));
    let (status, answer) = agent.post("results", &lie);
    assert_eq!((status, answer["place"]["pointer"].as_str()), (422, Some("/steps")), "{answer}");
    assert_eq!(cluster.ended(), 0, "nothing of it is kept");
    assert_eq!(cluster.count("SELECT count(*) FROM results"), 0);
    let (status, answer) = agent.post("jobs", &json!({"want": 1, "wait_ms": 0}));
    assert_eq!(status, 409, "{answer}");
}

#[test]
fn a_report_counts_once_and_the_second_is_told_so() {
    let mut cluster = Cluster::new(4, Queue::Memory);
    cluster.start_server();
    let agent = Rogue::new(&cluster, "twice");
    let jobs = agent.pull(1);
    let (lease, first) = (&jobs[0]["lease"], &jobs[0]["steps"][0]);
    let route = format!("/agent/v1/experiments/{}/{}", jobs[0]["experiment"], jobs[0]["generation"]);
    let (_, assigned) = agent.send("GET", &route, b"");
    let identity = assigned["toolchains"][0]["identity"].as_str().unwrap();
    let broken = json!({"kind": "broken", "reason": {"manifest": "no package"}});
    let whole = report(lease, identity, json!([step(first, broken)]));
    let (status, answer) = agent.post("results", &whole);
    assert_eq!((status, &answer["accepted"]), (200, &json!(true)), "{answer}");
    let (status, answer) = agent.post("results", &whole);
    assert_eq!((status, &answer["accepted"]), (200, &json!(false)), "{answer}");
    assert_eq!(cluster.ended(), 1);
    assert_eq!(agent.drops(lease).len(), 1, "its lease is over");
}

#[test]
fn a_crate_with_which_four_machines_are_lost_is_given_up_and_names_them() {
    let mut cluster = Cluster::new(1, Queue::Memory);
    cluster.start_server();
    let names: Vec<String> = (1..=4).map(|number| format!("m{number}")).collect();
    for name in &names {
        let machine = Rogue::new(&cluster, name);
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        // Its lease runs out before the next one gets the crate.
        while machine.pull(1).is_empty() {
            assert!(std::time::Instant::now() < deadline, "{}", cluster.log("server"));
        }
    }
    let last = Rogue::new(&cluster, "m5");
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while cluster.ended() == 0 {
        assert_eq!(last.pull(1), [Value::Null; 0]);
        assert!(std::time::Instant::now() < deadline, "{}", cluster.log("server"));
    }
    let words = format!("4 machines were lost while it ran: {}", names.join(", "));
    let reasons = format!("SELECT count(*) FROM results WHERE kind = 'inconclusive' AND reason = 'host: {words}'");
    assert_eq!(cluster.count(&reasons), 1, "{}", cluster.log("server"));
}
