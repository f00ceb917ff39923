//! Tokens and roles: the rights of each, and the answers to a stranger.

use crate::client::Server;
use crate::world::World;

fn token(world: &World, role: &str, name: &str) -> String {
    let ran = world.maar(&["token", "create", "--role", role, "--name", name]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.stdout.trim().to_owned()
}

#[test]
fn each_role_may_do_its_own_and_nothing_else() {
    let world = World::new([]);
    let server = Server::start_with(
        &world,
        "[server]\npublic = false\n[worker]\nenabled = false\n[access.guard.run]\nmax-priority = 2\nopen-experiments = 2\n",
    );
    let [read, run, other, agent] =
        [("read", "r"), ("run", "w"), ("run", "o"), ("agent", "a")].map(|(role, name)| token(&world, role, name));
    let ask = |token: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        server.raw(method, path, &headers, body.as_bytes()).status
    };
    let create = |token: &str, name: &str, more: &str| {
        ask(token, "POST", "/api/v1/experiments", &format!("{{\"name\": \"{name}\", \"crates\": [\"itoa\"]{more}}}"))
    };
    assert_eq!(create(&run, "mine", ""), 201);
    let experiment = "/api/v1/experiments/mine";
    let cases: [(&str, &str, &str, [u16; 5]); 10] = [
        // read, run (its owner), another run, agent, nobody
        ("GET", "/api/v1/experiments", "", [200, 200, 200, 403, 401]),
        ("GET", experiment, "", [200, 200, 200, 403, 401]),
        ("GET", "/", "", [200, 200, 200, 403, 401]),
        ("GET", "/api/v1/tokens", "", [403, 403, 403, 403, 401]),
        ("POST", "/api/v1/tokens", "{\"name\": \"x\", \"role\": \"admin\"}", [403, 403, 403, 403, 401]),
        ("DELETE", "/api/v1/tokens/admin", "", [403, 403, 403, 403, 401]),
        ("PATCH", experiment, "{\"weight\": 2}", [403, 200, 403, 403, 401]),
        ("DELETE", experiment, "", [403, 403, 403, 403, 401]),
        ("POST", "/api/v1/experiments/mine/report", "", [403, 409, 409, 403, 401]),
        ("POST", "/api/v1/experiments/mine/abort", "", [403, 202, 403, 403, 401]),
    ];
    for (method, path, body, expected) in cases {
        // The owner's request comes last, as it changes the answers to the others.
        let asked = [&read, &other, &agent].map(|token| ask(token, method, path, body));
        let nobody = server.raw(method, path, &[("content-type", "application/json")], body.as_bytes()).status;
        let owner = ask(&run, method, path, body);
        let [read, other, agent] = asked;
        assert_eq!([read, owner, other, agent, nobody], expected, "{method} {path}");
    }
    // Guard rails are for the role `run`.
    assert_eq!(create(&run, "p3", ", \"priority\": 3"), 403);
    assert_eq!(create(&server.token, "p3", ", \"priority\": 3"), 201);
    assert_eq!([create(&run, "a", ""), create(&run, "b", ""), create(&run, "c", "")], [201, 201, 403]);
    // A token that is revoked is refused at once.
    assert_eq!(world.maar(&["token", "revoke", "w"]).code, Some(0));
    assert_eq!(ask(&run, "GET", experiment, ""), 401);
    let list = world.maar(&["token", "list"]).stdout;
    assert!(list.contains("admin") && !list.contains("\nw ") && !list.contains(&server.token), "{list}");
    let unknown = world.maar(&["token", "revoke", "admn"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("did you mean `admin`?"), "{unknown:?}");
}

#[test]
fn the_first_token_is_its_users_alone_and_two_servers_do_not_share_a_home() {
    use std::os::unix::fs::MetadataExt;
    let world = World::new([]);
    let _server = Server::start(&world);
    assert_eq!(std::fs::metadata(world.home().join("token")).unwrap().mode() & 0o7777, 0o600);
    let second = world.maar(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(second.code == Some(3) && second.stderr.contains("another `maar serve` uses"), "{second:?}");
    let open = world.maar(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(open.stderr.contains("give `cert` and `key` in [server]"), "{open:?}");
}
