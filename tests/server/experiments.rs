//! Experiments of a server from end to end, and the same ones of `maar run`.

use serde_json::Value;

use crate::client::Server;
use crate::support::fixture::Fixture;
use crate::world::World;

fn crates() -> Vec<Fixture> {
    vec![
        Fixture::new("good", "1.0.0").lib("#[test] fn a() {}"),
        Fixture::new("bad", "1.0.0").lib("compile_error!(\"no\");"),
        Fixture::new("flops", "0.2.0").lib("#[test] fn fails() { panic!() }"),
    ]
}

const SETTINGS: &str = "name = \"fixtures\"\ncrates = [\"good\", \"bad\", \"flops\"]\ncache = false\n";
const SLOW: &str = "name = \"slow\"\ncrates = [\"slow\"]\ncache = false\nops = [\"prepare\", \"test\"]\n";

fn slow() -> Fixture {
    Fixture::new("slow", "1.0.0").lib("#[test] fn t() { std::thread::sleep(std::time::Duration::from_secs(600)); }")
}

/// A report without times, costs and machines.
fn settled(mut report: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.ends_with("_ms") && !name.ends_with("_bytes"));
                for name in ["started", "finished", "runs", "units"] {
                    fields.remove(name);
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    strip(&mut report);
    report
}

#[test]
fn a_server_finds_what_a_run_finds_and_shows_it_everywhere() {
    let here = World::new(crates());
    here.write("maar.toml", SETTINGS);
    here.run(&[]);
    let world = World::new(crates());
    let server = Server::start(&world);
    let name = server.create(SETTINGS);
    let shown = server.wait_for(&name, &["done", "invalid", "aborted", "report-failed"]);
    assert_eq!(shown["state"], "done", "{shown}");
    assert_eq!(shown["verdicts"], serde_json::json!({ "pass": 1, "build-fail": 1, "test-fail": 1 }));

    let report = server.get("/api/v1/experiments/fixtures/report").json();
    assert_eq!(settled(report), settled(here.report("fixtures")));

    let results = server.get("/api/v1/experiments/fixtures/results?verdict=build-fail");
    let lines: Vec<Value> = results.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["crate"].as_str().unwrap()).collect::<Vec<_>>(), ["bad"]);
    assert_eq!(server.get("/api/v1/experiments/fixtures/list?which=test-fail").body, "flops@0.2.0\n");

    let krate = server.get("/api/v1/experiments/fixtures/crates/bad@1.0.0").json();
    let log = krate["logs"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    let whole = server.get(&log);
    assert!(whole.body.contains("compile_error") && whole.headers.contains("nosniff"), "{whole:?}");
    let part = server.ask("GET", &log, &[("range", "bytes=0-3")], "");
    assert_eq!((part.status, part.body.len()), (206, 4), "{part:?}");
    assert_eq!(server.ask("GET", &log, &[("range", "bytes=9999999-")], "").status, 416);

    for (path, words) in [
        ("/", "/ex/fixtures"),
        ("/ex/fixtures", "does not compile"),
        ("/ex/fixtures?verdict=pass", "good@1.0.0"),
        ("/ex/fixtures/crates/bad@1.0.0", "compile_error"),
        ("/ex/fixtures/report/index.html", "flops"),
        ("/metrics", "maar_experiments{state=\"done\"} 1"),
        ("/api/v1/experiments/fixtures/report?format=markdown", "flops"),
    ] {
        let answer = server.get(path);
        assert!(answer.status == 200 && answer.body.contains(words), "{path}: {answer:?}");
    }

    // Only the crates of the group run again.
    let again = server.post("/api/v1/experiments/fixtures/rerun", "{\"which\": \"failed\"}");
    assert_eq!(again.status, 202, "{again:?}");
    let shown = server.wait_for(&name, &["done"]);
    assert_eq!((&shown["generation"], &shown["done"]), (&2.into(), &3.into()));

    let deleted = server.ask("DELETE", "/api/v1/experiments/fixtures", &[], "");
    assert_eq!(deleted.status, 202, "{deleted:?}");
    assert_eq!(server.get("/api/v1/experiments/fixtures").status, 404);
    assert_eq!(server.get("/ex/fixtures/report/index.html").status, 404);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn submit_follows_to_the_end_and_exits_as_a_run() {
    let world = World::new(crates());
    world.write("maar.toml", SETTINGS);
    let server = Server::start(&world);
    let url = server.url();
    let token = world.home().join("token");
    let line = ["submit", "--server", &url, "--token-file", token.to_str().unwrap(), "--progress", "plain"];
    let ran = world.maar(&[&line[..], &["--name", "sent", "-c", "good", "--skip", "test"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("good") && ran.stderr.contains("pass"), "{ran:?}");
    let ops = &server.get("/api/v1/experiments/sent/report").json()["crates"][0]["results"][0]["ops"];
    assert_eq!(ops.as_array().unwrap().len(), 2, "{ops}");
    let failed = world.maar(&line);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let detached = world.maar(&[&line[..], &["--name", "later", "--detach"]].concat());
    assert_eq!((detached.code, detached.stdout), (Some(0), format!("later\n{url}/ex/later\n")));
    let taken = world.maar(&line);
    assert!(taken.code == Some(2) && taken.stderr.contains("named `fixtures` already"), "{taken:?}");
    let local = world.maar(&[&line[..], &["--fresh"]].concat());
    assert!(local.code == Some(2) && local.stderr.contains("about this machine"), "{local:?}");
}

#[test]
fn an_abort_ends_running_ops_and_a_restart_goes_on() {
    let world = World::new([slow(), Fixture::new("good", "1.0.0")]);
    let server = Server::start(&world);
    server.create(SLOW);
    server.create("name = \"next\"\ncrates = [\"good\"]\npriority = -1\ncache = false\n");
    let running = |server: &Server| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let live = server.get("/api/v1/experiments/slow/crates/slow/live");
            if live.body.contains("running 1 test") {
                return live.body;
            }
            assert!(std::time::Instant::now() < deadline, "{live:?}");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    };
    assert!(running(&server).starts_with("== test"));
    assert_eq!(server.get("/api/v1/experiments/next").json()["position"], 1);
    server.kill();
    let server = Server::start(&world);
    running(&server);
    // One of a greater priority takes its place, and it goes on later.
    let raised = server.ask(
        "PATCH",
        "/api/v1/experiments/next",
        &[("content-type", "application/json"), ("if-match", "\"1\"")],
        "{\"priority\": 3}",
    );
    assert_eq!((raised.status, &raised.json()["etag"]), (200, &2.into()));
    let began = std::time::Instant::now();
    assert_eq!(server.post("/api/v1/experiments/slow/abort", "").status, 202);
    server.wait_for("slow", &["aborted"]);
    assert!(began.elapsed() < std::time::Duration::from_secs(30));
    assert_eq!(server.wait_for("next", &["done"])["verdicts"]["pass"], 1);
    // Its results are kept, and it may run again.
    assert_eq!(server.post("/api/v1/experiments/slow/rerun", "{\"which\": \"missing\"}").status, 202);
    running(&server);
}

#[test]
fn a_stream_of_events_goes_on_where_it_broke() {
    let world = World::new(crates());
    let server = Server::start(&world);
    server.create(SETTINGS);
    server.wait_for("fixtures", &["done"]);
    // The stream doesn't end, so a client that stops reading is enough.
    let events = |headers: &str, until: &str| -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        let request =
            format!("GET /api/v1/experiments/fixtures/events HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", server.address);
        stream.write_all(request.as_bytes()).unwrap();
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        while !text.contains(until) {
            let read = stream.read(&mut buffer).unwrap();
            assert_ne!(read, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        text
    };
    let now = events("", "event: count");
    assert!(now.contains("event: state") && now.contains("\"state\":\"done\""), "{now}");
    let id: u64 = now.split("id: ").nth(1).unwrap().lines().next().unwrap().trim().parse().unwrap();
    let missed = events(&format!("last-event-id: {}\r\n", id - 2), "\"state\":\"done\"");
    assert!(!missed.contains("event: reset"), "{missed}");
    assert!(events("last-event-id: 3\r\n", "event: count").contains("event: reset"));
}
