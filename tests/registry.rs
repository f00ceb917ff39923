//! The registry's client, against a registry of our own on loopback, and against cargo itself.

#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions, and here is nothing else")]

mod support;

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use maar::krate::{Origin, Selected};
use maar::outcome::{Breakage, Cause, Outcome};
use maar::registry::lockfile::Lockfile;
use maar::registry::select::Reach;
use maar::registry::{Access, Config, Gate, Package, Registry, RegistryError, Upstream, select, tree};
use support::fixture::Fixture;
use support::registry::{TestRegistry, write_cargo_home};

/// A client of `upstream` with a cache in `dir`. Each counts as one run.
fn open(upstream: &TestRegistry, dir: &Path) -> Registry {
    open_with(upstream, dir, Access::Online)
}

fn open_with(upstream: &TestRegistry, dir: &Path, access: Access) -> Registry {
    let upstream = Upstream { index: upstream.url().parse().unwrap(), ca_file: None };
    Registry::open(Config { upstream, cache: dir.join("cache"), access }).unwrap()
}

async fn select(registry: &Registry, text: &str) -> Selected {
    let [selection] = select::parse(text, Path::new("/"), Reach::Anywhere).unwrap().try_into().unwrap();
    registry.select(&selection).await.unwrap()
}

/// The resolved crate of a selection, as `NAME@VERSION` or as the error.
async fn selected(registry: &Registry, text: &str) -> String {
    let selected = select(registry, text).await;
    match selected.origin {
        Origin::Missing(reason) | Origin::Unusable(reason) | Origin::Unavailable(reason) => reason,
        Origin::Registry { .. } | Origin::Path { .. } | Origin::Skipped { .. } => selected.id.to_string(),
    }
}

fn package(fixture: &Fixture) -> Package {
    let (name, version) = (fixture.name.parse().unwrap(), fixture.version.parse().unwrap());
    Package { name, version, checksum: fixture.checksum() }
}

fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn offline_the_index_of_a_mirror_that_sends_no_tags_is_found() {
    let fixture = Fixture::new("foo", "1.0.0");
    let upstream = TestRegistry::start([fixture.clone()]);
    upstream.send_no_tags();
    let dir = tempdir();
    let online = open(&upstream, dir.path());
    assert_eq!(selected(&online, "foo").await, "foo@1.0.0");
    online.tarball(&package(&fixture)).await.unwrap();
    let asked = upstream.all_requests();
    assert_eq!(selected(&open_with(&upstream, dir.path(), Access::Offline), "foo").await, "foo@1.0.0");
    assert_eq!(upstream.all_requests(), asked);
}

#[tokio::test]
async fn selections_choose_the_version_that_they_say() {
    let upstream = TestRegistry::start([
        Fixture::new("foo", "1.2.0"),
        Fixture::new("foo", "1.10.0"),
        Fixture::new("foo", "1.9.0"),
        Fixture::new("foo", "2.0.0").yanked(),
        Fixture::new("foo", "3.0.0-rc.1"),
        Fixture::new("Pre_only", "0.1.0-a.1"),
        Fixture::new("Pre_only", "0.1.0-a.2"),
        Fixture::new("gone", "1.0.0").yanked(),
        Fixture::new("sys", "0.4.5+0.22.5"),
    ]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    for (text, expected) in [
        ("foo", "foo@1.10.0"),
        ("foo@1", "foo@1.10.0"),
        ("foo@1.2", "foo@1.10.0"),
        ("foo@~1.2", "foo@1.2.0"),
        ("foo@<1.10", "foo@1.9.0"),
        ("foo@2.0.0", "foo@2.0.0"),
        ("foo@>=3.0.0-rc.0", "foo@3.0.0-rc.1"),
        ("sys@0.4.5", "sys@0.4.5+0.22.5"),
        ("pre_only", "Pre_only@0.1.0-a.2"),
        (
            "foo@2",
            "every version of `foo` that fits `^2` is yanked; the newest is 1.10.0; `foo@2.0.0` selects one all the same",
        ),
        ("foo@4", "`foo` has no version that fits `^4`; the newest is 1.10.0"),
        ("foo@9.9.9", "`foo` has no version 9.9.9; the newest is 1.10.0"),
        ("gone", "every version of `gone` is yanked; `gone@1.0.0` selects one all the same"),
        ("gone@9.9.9", "`gone` has no version 9.9.9; every version is yanked"),
        ("nothing", "no crate named `nothing` in the registry"),
        ("pre-only", "no crate named `pre-only` in the registry; did you mean `Pre_only`?"),
    ] {
        assert_eq!(selected(&registry, text).await, expected, "{text}");
    }
    let missing = select(&registry, "foo@9.9.9").await;
    assert_eq!(missing.id.to_string(), "foo@9.9.9");
    let Origin::Registry { checksum } = select(&registry, "foo@1.2.0").await.origin else { panic!("not found") };
    assert_eq!(checksum, Fixture::new("foo", "1.2.0").checksum().to_string());
}

#[tokio::test]
async fn a_folder_is_selected_by_its_manifest_and_known_by_its_digest() {
    let upstream = TestRegistry::start([]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let krate = dir.path().canonicalize().unwrap().join("krate");
    std::fs::create_dir(&krate).unwrap();
    let text = format!("path:{}", krate.display());
    for (manifest, expected) in [
        ("[package]\nname = 'a'\nversion = '1.2.3'", "a@1.2.3"),
        ("[package]\nname = 'a'", "a@0.0.0"),
        ("[package]\nname = 'a'\nversion.workspace = true", "a@0.0.0"),
        ("[package]\nname = 'a'\nversion.workspace = true\n[workspace.package]\nversion = '2.0.0'", "a@2.0.0"),
    ] {
        std::fs::write(krate.join("Cargo.toml"), manifest).unwrap();
        let selected = select(&registry, &text).await;
        assert_eq!(selected.id.to_string(), expected);
        let digest = tree::digest(&krate).unwrap().to_string();
        assert_eq!(selected.origin, Origin::Path { dir: krate.clone(), digest, member: "".into() });
    }
    std::fs::write(krate.join("Cargo.toml"), "[dependencies]").unwrap();
    let selected = select(&registry, &text).await;
    assert_eq!(selected.id.to_string(), "krate");
    let Origin::Unusable(reason) = selected.origin else { panic!("{:?}", selected.origin) };
    assert_eq!(reason, "Cargo.toml: it has neither a `[package]` nor a `[workspace]`");
    assert_eq!(upstream.all_requests(), 0);
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_make_one_request() {
    let fixture = Fixture::new("foo", "1.0.0");
    let upstream = TestRegistry::start([fixture.clone()]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (registry, package) = (registry.clone(), package(&fixture));
        askers.spawn(async move {
            select(&registry, "foo").await;
            registry.tarball(&package).await.unwrap()
        });
    }
    let paths = askers.join_all().await;
    assert_eq!(std::fs::read(&paths[0]).unwrap(), fixture.packed());
    assert_eq!((upstream.index_requests("foo"), upstream.downloads("foo", "1.0.0")), (1, 1));
    assert!(registry.downloaded_bytes() > fixture.packed().len() as u64);
}

#[tokio::test]
async fn one_run_sees_one_state_of_the_index_and_the_next_asks_whether_it_changed() {
    let upstream = TestRegistry::start([Fixture::new("foo", "1.0.0")]);
    let dir = tempdir();
    let first = open(&upstream, dir.path());
    assert_eq!(selected(&first, "foo").await, "foo@1.0.0");
    assert_eq!(selected(&open(&upstream, dir.path()), "foo").await, "foo@1.0.0");
    assert_eq!(upstream.unchanged(), 1);
    upstream.publish(&Fixture::new("foo", "1.1.0"));
    assert_eq!(selected(&first, "foo").await, "foo@1.0.0");
    assert_eq!(selected(&open(&upstream, dir.path()), "foo").await, "foo@1.1.0");
    assert_eq!(upstream.unchanged(), 1);
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_until_it_has_been_asked_often_enough() {
    let upstream = TestRegistry::start([Fixture::new("foo", "1.0.0")]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    upstream.fail(1);
    assert_eq!(selected(&registry, "foo").await, "foo@1.0.0");
    assert_eq!(upstream.index_requests("foo"), 2);
    upstream.fail(usize::MAX);
    let error = registry.check().await.unwrap_err();
    assert!(error.to_string().ends_with("the server answered 503 Service Unavailable"), "{error}");
    assert_eq!(upstream.all_requests(), 2 + 4);
}

#[tokio::test]
async fn a_registry_that_goes_away_is_the_networks_trouble_and_what_was_seen_stays_known() {
    let mut upstream = TestRegistry::start([Fixture::new("foo", "1.0.0")]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    assert_eq!(selected(&registry, "foo").await, "foo@1.0.0");
    upstream.go_away();
    let error = registry.check().await.unwrap_err();
    assert!(matches!(error.outcome(), Outcome::Inconclusive(Cause::Network(_))), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
    assert_eq!(selected(&registry, "foo").await, "foo@1.0.0");
}

#[tokio::test]
async fn a_damaged_download_is_tried_once_more() {
    let fixture = Fixture::new("foo", "1.0.0");
    let upstream = TestRegistry::start([fixture.clone()]);
    let dir = tempdir();
    upstream.damage("foo", "1.0.0", 1);
    let path = open(&upstream, dir.path()).tarball(&package(&fixture)).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), fixture.packed());
    assert_eq!(upstream.downloads("foo", "1.0.0"), 2);
    // A power loss may cut a file short; the next run sees it.
    std::fs::write(&path, &fixture.packed()[1..]).unwrap();
    upstream.damage("foo", "1.0.0", 2);
    let error = open(&upstream, dir.path()).tarball(&package(&fixture)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Mismatch { .. }), "{error}");
    assert!(matches!(error.outcome(), Outcome::Inconclusive(Cause::Network(_))), "{error}");
    assert_eq!(upstream.downloads("foo", "1.0.0"), 4);
    open(&upstream, dir.path()).tarball(&package(&fixture)).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), fixture.packed());
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing half done is left: {left:?}");
}

#[tokio::test]
async fn an_index_may_be_served_gzipped() {
    let upstream = TestRegistry::start([Fixture::new("foo", "1.0.0")]);
    upstream.gzip_index();
    let dir = tempdir();
    assert_eq!(selected(&open(&upstream, dir.path()), "foo").await, "foo@1.0.0");
    let again = open(&upstream, dir.path());
    assert_eq!(selected(&again, "foo").await, "foo@1.0.0");
    assert_eq!((upstream.unchanged(), again.downloaded_bytes()), (1, 0));
}

#[tokio::test]
async fn a_hostile_tarball_is_unpacked_nowhere_and_an_honest_one_where_it_was_asked_for() {
    let honest = Fixture::new("honest", "1.0.0").lib("// source");
    let hostile = Fixture::new("hostile", "1.0.0").tarball(&honest.packed());
    let upstream = TestRegistry::start([honest.clone(), hostile.clone()]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let into = dir.path().join("krate");
    registry.unpack(&package(&honest), &into, None).await.unwrap();
    assert_eq!(std::fs::read_to_string(into.join("src/lib.rs")).unwrap(), "// source");
    let error = registry.unpack(&package(&hostile), &dir.path().join("other"), None).await.unwrap_err();
    assert_eq!(error.to_string(), "the tarball of hostile-1.0.0: `honest-1.0.0/Cargo.toml` is not in `hostile-1.0.0/`");
    assert_eq!(std::fs::read_dir(dir.path().join("other")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_malformed_index_is_the_registrys_fault_and_says_where() {
    let upstream = TestRegistry::start([]);
    upstream.serve("/3/f/foo", "no json\n");
    upstream.serve("/config.json", "{}");
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let error = registry.package(&"foo".parse().unwrap(), &"1.0.0".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("/3/f/foo is malformed: line 1: expected ident"), "{error}");
    let error = registry.check().await.unwrap_err();
    assert!(error.to_string().contains("/config.json is malformed: missing field `dl`"), "{error}");
}

#[tokio::test]
async fn a_configured_cargo_home_leads_to_the_registry() {
    let upstream = TestRegistry::start([Fixture::new("foo", "1.0.0")]);
    let dir = tempdir();
    upstream.write_cargo_home(dir.path());
    let configured = Upstream::in_cargo_home(dir.path()).unwrap();
    let registry =
        Registry::open(Config { upstream: configured, cache: dir.path().join("cache"), access: Access::Online })
            .unwrap();
    registry.check().await.unwrap();
}

#[test]
fn a_certificate_file_without_certificates_is_refused_at_once() {
    let dir = tempdir();
    let file = dir.path().join("ca.pem");
    let open = || {
        let upstream = Upstream { index: "sparse+http://127.0.0.1:1/".parse().unwrap(), ca_file: Some(file.clone()) };
        Registry::open(Config { upstream, cache: dir.path().join("cache"), access: Access::Online })
            .unwrap_err()
            .to_string()
    };
    assert!(open().starts_with(&format!("failed to read {}: No such file", file.display())), "{}", open());
    std::fs::write(&file, "no certificate").unwrap();
    assert!(open().contains("ca.pem: there is no certificate in it"), "{}", open());
}

/// A package in `dir` with one dependency.
fn project(dir: &Path, dependency: &str) -> PathBuf {
    let project = dir.join("project");
    for (path, contents) in Fixture::new("project", "0.1.0").dep(dependency, "*").contents() {
        let path = project.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    project
}

/// Runs cargo with this home only, and returns its output.
async fn cargo(project: &Path, home: &Path, proxy: Option<&Proxy>, args: &[&str]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(env!("CARGO"));
    command.args(args).current_dir(project).env("CARGO_HOME", home).env_remove("CARGO_TARGET_DIR");
    if let Some(proxy) = proxy {
        command.env("CARGO_HTTP_PROXY", &proxy.url);
    }
    let output = command.env("CARGO_NET_RETRY", "0").output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

/// A gate on a port of this host, as a cell has it on its own.
struct Proxy {
    url: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(registry: &Registry) -> Proxy {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = futures_util::stream::unfold(listener, async |listener| {
        let (stream, _) = listener.accept().await.unwrap();
        Some((stream, listener))
    });
    let gate = Gate::new(registry.clone(), &[]);
    let task = tokio::spawn(async move {
        gate.serve(std::pin::pin!(accepted), ByteSize::mib(1)).await;
    });
    Proxy { url, task }
}

#[tokio::test]
async fn cargo_resolves_and_fetches_through_the_gate_and_builds_offline_from_the_vendored_sources() {
    let upstream = TestRegistry::start([
        Fixture::new("outer", "1.0.0").dep("Inner_one", "^1").lib("pub fn two() -> u8 { Inner_one::one() + 1 }"),
        Fixture::new("Inner_one", "1.0.0+build.7").lib("pub fn one() -> u8 { 1 }"),
        Fixture::new("Inner_one", "1.1.0").lib("compile_error!(\"yanked\");").yanked(),
    ]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let project = project(dir.path(), "outer");
    std::fs::write(project.join("src/lib.rs"), "const _: u8 = 2; pub fn f() -> u8 { outer::two() }").unwrap();

    let proxy = serve(&registry).await;
    let online = dir.path().join("online");
    write_cargo_home(&online, &format!("registry = \"{}\"", Gate::registry_url()));
    cargo(&project, &online, Some(&proxy), &["generate-lockfile"]).await.unwrap();
    cargo(&project, &online, Some(&proxy), &["fetch", "--locked"]).await.unwrap();
    assert_eq!((upstream.index_requests("outer"), upstream.downloads("outer", "1.0.0")), (1, 1));

    let lock = Lockfile::read(&project.join("Cargo.lock")).unwrap();
    let vendor = dir.path().join("vendor");
    registry.vendor(&lock, &vendor).await.unwrap();
    assert_eq!(upstream.downloads("outer", "1.0.0"), 1);
    std::os::unix::fs::symlink(registry.sources_dir(), dir.path().join("sources")).unwrap();
    let target = std::fs::read_link(vendor.join("Inner_one-1.0.0+build.7")).unwrap();
    let short =
        &Fixture::new("Inner_one", "1.0.0+build.7").lib("pub fn one() -> u8 { 1 }").checksum().to_string()[..16];
    assert_eq!(target, Path::new("../sources").join(format!("Inner_one-1.0.0+build.7-{short}")));

    let offline = dir.path().join("offline");
    write_cargo_home(&offline, &format!("directory = \"{}\"", vendor.display()));
    cargo(&project, &offline, None, &["build", "--offline", "--locked"]).await.unwrap();
}

#[tokio::test]
async fn cargo_hears_from_the_gate_what_is_missing_and_what_is_unreachable() {
    let mut upstream = TestRegistry::start([Fixture::new("outer", "1.0.0").dep("nowhere", "^1")]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let project = project(dir.path(), "outer");
    let proxy = serve(&registry).await;
    let home = dir.path().join("home");
    write_cargo_home(&home, &format!("registry = \"{}\"", Gate::registry_url()));
    let error = cargo(&project, &home, Some(&proxy), &["generate-lockfile"]).await.unwrap_err();
    assert!(error.contains("no matching package named `nowhere` found"), "{error}");
    upstream.go_away();
    let registry = open(&upstream, &dir.path().join("fresh"));
    let proxy = serve(&registry).await;
    write_cargo_home(&home, &format!("registry = \"{}\"", Gate::registry_url()));
    let error = cargo(&project, &home, Some(&proxy), &["generate-lockfile"]).await.unwrap_err();
    assert!(error.contains("got 502") && error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn the_gate_answers_only_what_a_sparse_registry_is_asked() {
    let fixture = Fixture::new("Foo", "1.0.0");
    let upstream = TestRegistry::start([fixture.clone()]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let proxy = serve(&registry).await;
    let root = Gate::registry_url().trim_start_matches("sparse+").to_owned();
    let client = reqwest::Client::builder().proxy(reqwest::Proxy::http(&proxy.url).unwrap()).build().unwrap();
    for (path, status) in [
        ("3/f/foo", 200),
        ("dl/Foo/1.0.0/download", 200),
        ("dl/Foo/1.0.1/download", 404),
        ("dl/Bar/1.0.0/download", 404),
        ("3/b/bar", 404),
        ("3/F/Foo", 400),
        ("3/x/foo", 400),
        ("foo", 400),
        ("dl/Foo/1/download", 400),
        ("dl/..%2f/1.0.0/download", 400),
        ("%2e%2e/%2e%2e/etc/passwd", 400),
        ("", 400),
    ] {
        let response = client.get(format!("{root}{path}")).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
    }
    let post = client.post(&root).body("x").send().await.unwrap();
    assert_eq!(post.status(), 405);
    let line = client.get(format!("{root}3/f/foo")).send().await.unwrap().text().await.unwrap();
    assert_eq!(line, fixture.line() + "\n");
    let tarball = client.get(format!("{root}dl/Foo/1.0.0/download")).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(tarball, fixture.packed());
    drop(proxy);
    let refused = async {
        while client.get(&root).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), refused).await.expect("connections outlive the gate");
}

fn lock_of(fixtures: &[Fixture]) -> Lockfile {
    let source = crates_index::git::URL;
    let package = |fixture: &Fixture| {
        let Fixture { name, version, .. } = fixture;
        let sum = fixture.checksum();
        format!(
            "[[package]]\nname = '{name}'\nversion = '{version}'\nsource = 'registry+{source}'\nchecksum = '{sum}'\n"
        )
    };
    let text: String = fixtures.iter().map(package).collect();
    Lockfile::parse(&text, Path::new("Cargo.lock")).unwrap()
}

#[tokio::test]
async fn packages_are_unpacked_once_for_all_and_again_if_a_power_loss_cut_them_short() {
    let fixtures: Vec<_> = (0..40).map(|n| Fixture::new(&format!("dep{n}"), "1.0.0").lib("// source")).collect();
    let upstream = TestRegistry::start(fixtures.clone());
    let dir = tempdir();
    let lock = lock_of(&fixtures);
    let first = open(&upstream, dir.path());
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (left, right) = tokio::join!(first.vendor(&lock, &a), first.vendor(&lock, &b));
    left.and(right).unwrap();
    assert_eq!(std::fs::read_dir(first.sources_dir()).unwrap().count(), 40);
    assert_eq!(upstream.downloads("dep7", "1.0.0"), 1);
    let source =
        dir.path().join("cache").join(std::fs::read_link(a.join("dep7-1.0.0")).unwrap().strip_prefix("..").unwrap());
    std::fs::write(source.join("src/lib.rs"), "").unwrap();
    open(&upstream, dir.path()).vendor(&lock, &dir.path().join("c")).await.unwrap();
    assert_eq!(std::fs::read_to_string(source.join("src/lib.rs")).unwrap(), "// source");
    assert_eq!(std::fs::read_dir(first.sources_dir()).unwrap().count(), 40);
    assert_eq!(upstream.downloads("dep7", "1.0.0"), 1);
}

#[tokio::test]
async fn a_lockfile_that_can_not_be_vendored_says_which_package_is_to_blame() {
    let hostile = Fixture::new("hostile", "1.0.0").tarball(b"not a tarball");
    let upstream = TestRegistry::start([hostile.clone()]);
    let dir = tempdir();
    let registry = open(&upstream, dir.path());
    let mut attempts = 0;
    let mut vendor = |text: String| {
        attempts += 1;
        let (registry, into) = (registry.clone(), dir.path().join(attempts.to_string()));
        async move {
            let lock = Lockfile::parse(&text, Path::new("Cargo.lock")).unwrap();
            registry.vendor(&lock, &into).await
        }
    };
    let of_registry = format!("source = 'registry+{}'", crates_index::git::URL);
    let vendored = vendor(format!("[[package]]\nname = 'hostile'\nversion = '1.0.0'\n{of_registry}")).await.unwrap();
    let Some(Outcome::Broken(Breakage::Archive(reason))) = vendored.unusable.get("hostile-1.0.0") else {
        panic!("{vendored:?}");
    };
    assert!(reason.starts_with("the tarball of hostile-1.0.0: damaged, or no gzipped tarball"), "{reason}");
    let error = vendor(format!("[[package]]\nname = 'absent'\nversion = '1.0.0'\n{of_registry}")).await.unwrap_err();
    assert_eq!(error.to_string(), "the lockfile needs absent-1.0.0, which the registry doesn't have");
    // What isn't the registry's is left to cargo itself.
    let foreign = "[[package]]\nname = 'a'\nversion = '1.0.0'\nsource = 'git+https://example.org/a#1'";
    let foreign = Lockfile::parse(foreign, Path::new("Cargo.lock")).unwrap();
    let into = dir.path().join("foreign");
    registry.vendor(&foreign, &into).await.unwrap();
    assert!(foreign.has_foreign_sources());
    assert_eq!(std::fs::read_dir(&into).unwrap().count(), 0);
    let left: Vec<_> = std::fs::read_dir(registry.sources_dir()).unwrap().collect();
    assert_eq!(left.len(), 0, "nothing half done is left: {left:?}");
}
