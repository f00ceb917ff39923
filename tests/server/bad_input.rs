//! Every route with input that is malformed, huge, there twice, unauthorised or out of date: a clear answer, and nothing
//! has changed.

use serde_json::Value;

use crate::client::{Answer, Server};
use crate::support::fixture::Fixture;
use crate::world::World;

/// A server that runs nothing, and has one experiment.
fn idle() -> (World, Server) {
    let world = World::new([Fixture::new("good", "1.0.0")]);
    let server = Server::start_with(
        &world,
        "[worker]\nenabled = false\n[server.limits]\nbody = \"64KiB\"\nrequests-per-second = 1000\n",
    );
    server.create("name = \"one\"\ncrates = [\"good\"]\n");
    (world, server)
}

/// Everything that requests could change.
fn state(server: &Server) -> String {
    let all = server.get("/api/v1/experiments");
    let tokens = server.get("/api/v1/tokens").json();
    let names: Vec<&Value> = tokens.as_array().unwrap().iter().map(|token| &token["name"]).collect();
    format!("{} {names:?}", all.body)
}

fn check_problem(answer: &Answer, status: u16, words: &str, what: &str) {
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert!(answer.headers.contains("application/problem+json"), "{what}: {answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{what}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{what}: {detail}");
    assert!(!detail.contains("/home/") && !detail.contains("maar.db"), "{what}: {detail}");
}

#[test]
fn bad_requests_are_answered_clearly_and_change_nothing() {
    let (_world, server) = idle();
    let before = state(&server);
    let (json, toml) = ("application/json", "application/toml");
    let huge = "x".repeat(70 << 10);
    let deep = format!("{{\"crates\": {}{}}}", "[".repeat(5000), "]".repeat(5000));
    let ex = "/api/v1/experiments";
    let cases: &[(&str, &str, &str, &str, u16, &str)] = &[
        ("POST", ex, json, "", 400, "not JSON"),
        ("POST", ex, json, "{\"name\": ", 400, "not JSON"),
        ("POST", ex, json, "[]", 422, "expected an object"),
        ("POST", ex, json, "{}", 422, "no crate is selected"),
        ("POST", ex, json, &deep, 400, "recursion"),
        ("POST", ex, json, "{\"crates\": [\"a\"], \"crates\": [\"b\"]}", 422, "`crates` is there twice"),
        ("POST", ex, json, "{\"crates\": null}", 422, "null is not a setting"),
        ("POST", ex, json, "{\"crates\": [\"good\"], \"name\": \"../etc\"}", 422, "can't be the name"),
        ("POST", ex, json, "{\"crates\": [\"good\"], \"name\": \"one\"}", 409, "named `one` already"),
        ("POST", ex, json, "{\"crates\": [\"good\"], \"priorty\": 1}", 422, "did you mean `priority`?"),
        ("POST", ex, json, "{\"crates\": [\"good\"], \"priority\": 1e99}", 422, "whole number"),
        ("POST", ex, toml, "crates = [", 400, "not TOML"),
        ("POST", ex, toml, "crates = [\"good\"]\nsandbox = \"none\"", 422, "weakens the sandbox"),
        ("POST", ex, toml, "crates = [\"path:/etc\"]", 422, "leads to another host"),
        ("POST", ex, toml, "crates = [\"good\"]\ntoolchains = [\"no-such\"]", 422, "not installed"),
        ("POST", ex, toml, &huge, 413, "64.0 KiB"),
        ("POST", ex, "text/plain", "crates = []", 415, "must be application/toml or application/json"),
        ("PUT", ex, json, "{}", 405, "not a method"),
        ("GET", "/api/v1/experiments?state=runing", "", "", 422, "not a state"),
        ("GET", "/api/v1/experiments?stat=done", "", "", 422, "unknown field"),
        ("GET", "/api/v1/experiments?after=x", "", "", 422, "invalid digit"),
        ("GET", "/api/v1/experiments?after=1&after=2", "", "", 422, "duplicate field"),
        ("GET", "/api/v1/experiments/on", "", "", 404, "did you mean `one`?"),
        ("GET", "/api/v1/experiments/%00", "", "", 404, "no experiment is named"),
        ("GET", "/api/v1/experiments/%ff", "", "", 404, "UTF-8"),
        ("PATCH", "/api/v1/experiments/one", json, "{}", 422, "at least one of"),
        ("PATCH", "/api/v1/experiments/one", json, "{\"priority\": 99999999}", 422, "out of range"),
        ("PATCH", "/api/v1/experiments/one", json, "{\"weight\": -1}", 422, "out of range"),
        ("PATCH", "/api/v1/experiments/one", json, "{\"paused\": \"yes\"}", 422, "invalid type"),
        ("PATCH", "/api/v1/experiments/one", json, "{\"state\": \"done\"}", 422, "unknown field"),
        ("PATCH", "/api/v1/experiments/one", json, "{\"priority\": 1, \"priority\": 2}", 422, "duplicate field"),
        ("PATCH", "/api/v1/experiments/two", json, "{\"priority\": 1}", 404, "no experiment"),
        ("POST", "/api/v1/experiments/one/rerun", json, "{\"which\": \"al\"}", 422, "not a group"),
        ("POST", "/api/v1/experiments/one/rerun", json, "{\"which\": []}", 422, "1 to 1000"),
        ("POST", "/api/v1/experiments/one/rerun", json, "{\"which\": \"all\"}", 409, "only experiments that are over"),
        ("POST", "/api/v1/experiments/one/rerun", json, "{\"which\": \"failed\", \"fresh\": true}", 422, "`fresh`"),
        ("POST", "/api/v1/experiments/one/report", "", "", 409, "not enabled"),
        ("POST", "/api/v1/experiments/two/abort", "", "", 404, "no experiment"),
        ("DELETE", "/api/v1/experiments/one", "", "", 409, "only experiments that are over"),
        ("GET", "/api/v1/experiments/one/report?format=pdf", "", "", 422, "not a format"),
        ("GET", "/api/v1/experiments/one/results?verdict=passed", "", "", 422, "not a verdict"),
        ("GET", "/api/v1/experiments/one/list", "", "", 422, "missing field"),
        ("GET", "/api/v1/experiments/one/crates/absent", "", "", 404, "has no crate"),
        ("GET", "/api/v1/experiments/one/crates/good/live", "", "", 404, "no op of this crate"),
        ("GET", "/api/v1/experiments/one/logs/zz/1", "", "", 404, "fingerprint"),
        ("GET", "/api/v1/experiments/one/logs/zz/x", "", "", 404, ""),
        ("POST", "/api/v1/tokens", json, "{\"name\": \"a b\", \"role\": \"run\"}", 422, "can't be the name"),
        ("POST", "/api/v1/tokens", json, "{\"name\": \"x\", \"role\": \"rot\"}", 422, "unknown variant"),
        ("POST", "/api/v1/tokens", json, "{\"name\": \"admin\", \"role\": \"run\"}", 409, "named `admin` already"),
        ("POST", "/api/v1/tokens", json, "{\"name\": \"x\", \"role\": \"run\", \"expires_s\": 0}", 422, "out of range"),
        ("DELETE", "/api/v1/tokens/admin", "", "", 409, "can't revoke itself"),
        ("DELETE", "/api/v1/tokens/admn", "", "", 404, "no token is named"),
        ("GET", "/ex/one/report/..%2f..%2ftoken", "", "", 404, "no such file"),
        ("GET", "/ex/one/report/.maar-report", "", "", 404, "no such file"),
        ("GET", "/ex/two", "", "", 404, "no experiment"),
        ("GET", "/no/such/route", "", "", 404, "openapi.json"),
        ("GET", &format!("/{}", "a".repeat(9000)), "", "", 404, "openapi.json"),
    ];
    for (method, path, kind, body, status, words) in cases {
        let headers: &[(&str, &str)] = if kind.is_empty() { &[] } else { &[("content-type", kind)] };
        let answer = server.ask(method, path, headers, body);
        check_problem(&answer, *status, words, &format!("{method} {path} {}", &body[..body.len().min(80)]));
    }
    assert_eq!(state(&server), before);
}

#[test]
fn headers_that_are_wrong_or_out_of_date_are_named() {
    let (_world, server) = idle();
    let before = state(&server);
    let json = ("content-type", "application/json");
    let one = "/api/v1/experiments/one";
    for (etag, words) in
        [("\"7\"", "has changed"), ("\"x\"", "not an ETag"), ("7", "not an ETag"), ("W/\"1\"", "not an ETag")]
    {
        let answer = server.ask("PATCH", one, &[json, ("if-match", etag)], "{\"priority\": 1}");
        check_problem(&answer, 412, words, etag);
    }
    let create = "/api/v1/experiments";
    let long = "k".repeat(201);
    let answer = server.ask("POST", create, &[json, ("idempotency-key", &long)], "{\"crates\": [\"good\"]}");
    check_problem(&answer, 400, "Idempotency-Key", "a long key");
    check_problem(
        &server.ask("GET", &format!("{one}/events"), &[("last-event-id", "x")], ""),
        400,
        "Last-Event-ID",
        "id",
    );
    for bearer in
        ["Bearer", "Basic YTpi", "Bearer x", &format!("Bearer {}x", server.token), "Bearer maar_admin_0123456789ab_x"]
    {
        let answer = server.raw("GET", create, &[("authorization", bearer)], b"");
        assert_eq!(answer.status, 401, "{bearer}: {answer:?}");
        assert!(answer.headers.contains("www-authenticate: bearer"), "{answer:?}");
    }
    let elsewhere = server.raw("GET", "/", &[("host", "evil.example")], b"");
    check_problem(&elsewhere, 421, "isn't known as `evil.example`", "another host");
    assert_eq!(state(&server), before);
}

#[test]
fn the_same_request_with_a_key_makes_one_experiment() {
    let (_world, server) = idle();
    let headers = [("content-type", "application/json"), ("idempotency-key", "k1")];
    let body = "{\"name\": \"keyed\", \"crates\": [\"good\"]}";
    let create = "/api/v1/experiments";
    assert_eq!(server.ask("POST", create, &headers, body).status, 201);
    let again = server.ask("POST", create, &headers, body);
    assert_eq!((again.status, &again.json()["name"]), (200, &"keyed".into()));
    let other = server.ask("POST", create, &headers, "{\"name\": \"other\", \"crates\": [\"good\"]}");
    check_problem(&other, 409, "came with another body", "another body");
    assert_eq!(server.get(create).json()["experiments"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_http_ends_the_connection_and_not_the_server() {
    let (_world, server) = idle();
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"POST /api/v1/experiments HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let answer = server.bytes(&[bytes, b"\r\n\r\n"].concat());
        assert!(answer.status == 0 || answer.status >= 400 || answer.status == 200, "{answer:?}");
    }
    let many = (0..200).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    server.bytes(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").as_bytes());
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_caller_that_asks_too_much_is_told_when_to_come_back() {
    let world = World::new([]);
    let settings = "[worker]\nenabled = false\n[server.limits]\nrequests-per-second = 2\n";
    let server = Server::start_with(&world, settings);
    let answers: Vec<Answer> = (0..12).map(|_| server.raw("GET", "/api/v1/queue", &[], b"")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("one is refused");
    assert!(refused.headers.contains("retry-after: "), "{refused:?}");
    check_problem(refused, 429, "requests a second", "too many");
    // A token counts for itself, and health checks not at all.
    assert_eq!(server.get("/api/v1/queue").status, 200);
    assert_eq!(server.raw("GET", "/healthz", &[], b"").status, 200);
}

#[test]
fn every_documented_route_is_served_and_described() {
    let (_world, server) = idle();
    let document = server.get("/api/v1/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 18, "{paths:?}");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].is_string() && operation["responses"].is_object(), "{method} {path}");
            let path = path.replace("{name}", "none").replace("{crate}", "none").replace("{fingerprint}", "0");
            let path = path.replace("{attempt}", "1");
            if path.ends_with("/events") && path == "/api/v1/events" {
                continue;
            }
            let answer = server.ask(&method.to_uppercase(), &path, &[], "");
            assert_ne!(answer.status, 405, "{method} {path}");
            assert!(!answer.body.contains("lists the routes"), "{method} {path}: {answer:?}");
        }
    }
}
