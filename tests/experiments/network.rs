//! The network of `prepare`: the registry and https hosts at public addresses, and no other address that a crate names.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::git_host::{self, GitHost};
use crate::support::fixture::Fixture;
use crate::world::World;

/// A TCP service on the host that counts its visitors and answers none of them.
struct Service {
    port: u16,
    visitors: Arc<AtomicUsize>,
}

impl Service {
    /// One on loopback, at both of its addresses where the host has both.
    fn start() -> Self {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = TcpListener::bind(("::1", port)).ok();
        let visitors = Arc::<AtomicUsize>::default();
        for listener in [Some(v4), v6].into_iter().flatten() {
            let visitors = Arc::clone(&visitors);
            std::thread::spawn(move || {
                let mut kept = Vec::new();
                for stream in listener.incoming() {
                    visitors.fetch_add(1, Ordering::SeqCst);
                    kept.push(stream);
                }
            });
        }
        Self { port, visitors }
    }

    fn visitors(&self) -> usize {
        self.visitors.load(Ordering::SeqCst)
    }
}

const EXPERIMENT: &str = "name = \"fixtures\"\ntoolchains = [\"stable\"]\nops = [\"prepare\"]\n";

/// A crate with this at the end of its manifest.
fn krate(name: &str, rest: &str) -> Fixture {
    let package = format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    Fixture::new(name, "1.0.0").manifest(&(package + rest)).file("src/lib.rs", "")
}

#[test]
fn no_service_of_the_host_hears_of_a_crate_whatever_it_names() {
    let service = Service::start();
    let port = service.port;
    let https_only = |host: &str| format!("maar refuses http://{host}: crates may fetch over https only");
    let port_of = |host: &str| {
        format!("maar refuses {host}: its port is not that of https, 443 (`--allow-host {host}` allows it)")
    };
    let address =
        |host: &str| format!("maar refuses {host}: it is not a public address (`--allow-host {host}` allows it)");
    let unspoken = |url: &str| format!("maar refuses {url}: crates may fetch git repositories over https only");
    let git = |url: &str| format!("[dependencies]\nx = {{ git = \"{url}\" }}\n");
    let local = format!("127.0.0.1:{port}");
    let urls = [
        (format!("http://{local}/x.git"), https_only(&local)),
        (format!("http://localhost:{port}/x.git"), https_only(&format!("localhost:{port}"))),
        (format!("https://{local}/x.git"), port_of(&local)),
        (format!("https://[::1]:{port}/x.git"), port_of(&format!("[::1]:{port}"))),
        (format!("https://127.1:{port}/x.git"), port_of(&local)),
        (format!("https://0x7f000001:{port}/x.git"), port_of(&local)),
        (format!("https://2130706433:{port}/x.git"), port_of(&local)),
        ("https://127.0.0.1/x.git".to_owned(), address("127.0.0.1")),
        ("https://0.0.0.0/x.git".to_owned(), address("0.0.0.0")),
        ("https://169.254.169.254/x.git".to_owned(), address("169.254.169.254")),
        ("https://[::ffff:127.0.0.1]/x.git".to_owned(), address("[::ffff:7f00:1]")),
        (format!("git://{local}/x.git"), unspoken(&format!("git://{local}/x.git"))),
        (format!("ssh://git@{local}/x.git"), unspoken(&format!("ssh://git@{local}/x.git"))),
        (format!("git+ssh://git@{local}/x.git"), unspoken(&format!("git+ssh://git@{local}/x.git"))),
    ];
    let mut cases: Vec<(Fixture, String)> = Vec::new();
    for (number, (url, expected)) in urls.into_iter().enumerate() {
        cases.push((krate(&format!("git{number}"), &git(&url)), expected));
    }
    let registry = |url: &str| format!("[dependencies]\nx = {{ version = \"1\", registry-index = \"{url}\" }}\n");
    let patch = format!("[patch.crates-io]\nx = {{ git = \"https://{local}/x.git\" }}\n");
    cases.extend([
        (krate("sparse", &registry(&format!("sparse+http://{local}/"))), https_only(&local)),
        (krate("sparse-tls", &registry(&format!("sparse+https://{local}/"))), port_of(&local)),
        (krate("index", &registry(&format!("https://{local}/index"))), port_of(&local)),
        (krate("index-ssh", &registry(&format!("ssh://{local}/index"))), unspoken(&format!("ssh://{local}/index"))),
        (krate("patch", &patch), port_of(&local)),
    ]);
    let config = format!(
        "[source.crates-io]\nreplace-with = 'x'\n[source.x]\nregistry = 'sparse+http://{local}/'\n\
         [http]\nproxy = 'http://{local}'\n[net]\ngit-fetch-with-cli = true\n"
    );
    let configured =
        krate("configured", "[dependencies]\nlocalhost-is-not = \"1\"\n").file(".cargo/config.toml", &config);

    let world = World::new(
        cases.iter().map(|(fixture, _)| fixture.clone()).chain([configured, Fixture::new("localhost-is-not", "1.0.0")]),
    );
    let names = cases.iter().map(|(fixture, _)| fixture.name.as_str()).chain(["configured"]);
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    world.write("maar.toml", &format!("{EXPERIMENT}crates = [{}]\n", names.join(", ")));
    world.run(&[]);

    let expected = cases.iter().map(|(fixture, why)| format!("{}@1.0.0 inconclusive: prepare: {why}", fixture.name));
    let expected: Vec<String> = expected.chain(["configured@1.0.0 pass".to_owned()]).collect();
    assert_eq!(world.verdicts("fixtures"), expected);
    assert_eq!(service.visitors(), 0);
    // The log has it too.
    assert!(world.log(&["git0"]).contains(&https_only(&local)), "{}", world.log(&["git0"]));
    // It would have been heard.
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    while service.visitors() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A world whose crate `uses-git` needs a crate of the git host, and whose cargo trusts that host.
fn with_git_host(modules: Option<&str>) -> Option<(World, GitHost)> {
    let world = World::new([]);
    if !git_host::is_git_here(world.path("")) {
        return None;
    }
    world.write("repository/Cargo.toml", "[package]\nname = \"x\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    world.write("repository/src/lib.rs", "pub const ANSWER: u32 = 42;\n");
    if let Some(url) = modules {
        world.write("repository/.gitmodules", &format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n"));
    }
    git_host::commit(&world.path("repository"), modules.map(|_| "m"));
    let host = GitHost::start(&world.path("repository"), &world.path("host.pem"));
    let config = std::fs::read_to_string(world.path("cargo/config.toml")).unwrap();
    world.write("cargo/config.toml", &format!("{config}[http]\ncainfo = \"host.pem\"\n"));
    let url = format!("https://{}/x.git", host.name());
    let manifest = format!(
        "[package]\nname = \"uses-git\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[dependencies]\nx = {{ git = \"{url}\" }}\n"
    );
    world.write("uses-git/Cargo.toml", &manifest);
    world.write("uses-git/src/lib.rs", "const _: () = assert!(x::ANSWER == 42);\n");
    Some((world, host))
}

const USES_GIT: &str = "name = \"fixtures\"\ntoolchains = [\"stable\"]\ncrates = [\"path:uses-git\"]\n";

#[test]
fn a_git_host_that_the_user_allows_is_fetched_from_by_flag_and_by_file() {
    let Some((world, host)) = with_git_host(None) else { return };
    let name = host.name();
    let allowed = "uses-git@1.0.0 pass".to_owned();
    let refused = format!(
        "uses-git@1.0.0 inconclusive: prepare: \
         maar refuses {name}: its port is not that of https, 443 (`--allow-host {name}` allows it)"
    );
    let build = "ops = [\"prepare\", \"build\"]\n";
    world.write("maar.toml", &(USES_GIT.to_owned() + build));
    world.run(&[]);
    assert_eq!(world.verdicts("fixtures"), [refused]);
    // Nothing was settled, so that the same experiment goes on.
    world.run(&["--allow-host", &name]);
    assert_eq!(world.verdicts("fixtures"), std::slice::from_ref(&allowed), "{}", world.log(&["uses-git"]));

    world.write("maar.toml", &format!("{USES_GIT}{build}allow-hosts = [{name:?}]\n"));
    world.run(&["--fresh", "maar.toml"]);
    assert_eq!(world.verdicts("fixtures"), [allowed]);
    let shell = world.maar(&["shell", "fixtures", "uses-git", "--run", "build"]);
    assert_eq!(shell.code, Some(0), "{}{}", shell.stdout, shell.stderr);
}

#[test]
fn a_submodule_is_fetched_by_the_same_rules() {
    let service = Service::start();
    for scheme in ["https", "git", "ssh", "http"] {
        let url = format!("{scheme}://127.0.0.1:{}/m.git", service.port);
        let Some((world, host)) = with_git_host(Some(&url)) else { return };
        world.write("maar.toml", &format!("{USES_GIT}ops = [\"prepare\"]\n"));
        world.run(&["--allow-host", &host.name()]);
        let verdicts = world.verdicts("fixtures");
        let log = world.log(&["uses-git"]);
        assert!(verdicts[0].starts_with("uses-git@1.0.0 inconclusive: prepare: maar refuses "), "{verdicts:?}\n{log}");
        assert!(verdicts[0].contains(&format!("127.0.0.1:{}", service.port)), "{verdicts:?}");
    }
    assert_eq!(service.visitors(), 0);
}

#[test]
fn a_host_that_never_answers_holds_a_prepare_no_longer_than_its_limits() {
    let service = Service::start();
    let host = format!("127.0.0.1:{}", service.port);
    let dependency = format!("[dependencies]\nx = {{ git = \"https://{host}/x.git\" }}\n");
    for (limits, flag, expected) in [
        ("idle-timeout = \"4s\"", "--idle-timeout=4s", "no output and no CPU use for 4s"),
        ("timeout = \"4s\"", "--timeout=4s", "still running after 4s"),
    ] {
        let world = World::new([krate("waits", &dependency)]);
        world.write("maar.toml", &format!("{EXPERIMENT}crates = [\"waits\"]\n[limits]\n{limits}\n"));
        let begun = Instant::now();
        world.run(&["--allow-host", &host, flag]);
        let taken = begun.elapsed();
        assert_eq!(world.verdicts("fixtures"), [format!("waits@1.0.0 inconclusive: prepare: {expected}")]);
        assert!(taken < Duration::from_secs(20), "{taken:?}");
    }
    assert!(service.visitors() > 0, "the flag allows it");
}
