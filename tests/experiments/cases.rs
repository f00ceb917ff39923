//! One crate for every outcome of a crate, each with its verdict on stable and nightly.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use maar::registry::Checksum;

use crate::support::fixture::Fixture;
use crate::world::World;

/// A crate, its settings in the experiment, and its expected outcomes on stable and nightly.
pub(crate) struct Case {
    /// The crate in the registry, if it is there.
    pub(crate) published: Option<Fixture>,
    pub(crate) selection: String,
    /// The lines of its `[crate.NAME]`.
    pub(crate) settings: String,
    /// `NAME@VERSION VERDICT: REASON`.
    pub(crate) verdict: String,
}

/// A crate that is published in version 1.0.0 and selected by name.
fn case(fixture: Fixture) -> Case {
    let selection = fixture.name.clone();
    Case { published: Some(fixture), ..selected(&selection) }
}

/// A selection of the crate.
fn selected(selection: &str) -> Case {
    Case { published: None, selection: selection.to_owned(), settings: String::new(), verdict: String::new() }
}

impl Case {
    fn settings(self, lines: &str) -> Self {
        Self { settings: lines.to_owned(), ..self }
    }

    /// The verdict, with its reason where there is one: `broken: bad manifest`.
    fn gets(self, verdict: &str) -> Self {
        let version = if self.published.is_some() { "@1.0.0" } else { "" };
        Self { verdict: format!("{}{version} {verdict}", self.selection), ..self }
    }

    /// The verdict without its reason.
    pub(crate) fn kind(&self) -> &str {
        self.verdict.split([' ', ':']).nth(1).unwrap()
    }

    /// The expected outcomes on stable and on nightly.
    pub(crate) fn outcomes(&self) -> [&str; 2] {
        match self.kind() {
            "pass" => ["passed"; 2],
            "build-fail" | "test-fail" => ["failed"; 2],
            "regressed" => ["passed", "failed"],
            "fixed" => ["failed", "passed"],
            same => [same; 2],
        }
    }

    pub(crate) fn needs_memory_limit(&self) -> bool {
        self.verdict.contains("needs more memory")
    }

    /// The end of its verdict that an outcome other than a pass must have as reason.
    pub(crate) fn has_reason(&self, reason: &str) -> bool {
        let (_, words) = self.verdict.split_once(": ").unwrap_or_default();
        // The op comes before the toolchain's own words; a crate that is nowhere has no op.
        words == reason || words.split_once(": ").is_some_and(|(_, words)| words == reason)
    }

    /// The same where the id is not the selection with a version.
    fn is(self, verdict: &str) -> Self {
        Self { verdict: verdict.to_owned(), ..self }
    }
}

fn krate(name: &str) -> Fixture {
    Fixture::new(name, "1.0.0")
}

/// Whether there are a stable and a nightly toolchain. Where there must be and are not, the test fails.
pub(crate) fn two_toolchains() -> bool {
    let has = |name| maar::toolchain::find(&str::parse(name).unwrap()).map(drop);
    match has("stable").and_then(|()| has("nightly")) {
        Ok(()) => true,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("not run on two toolchains: {error}");
            false
        }
    }
}

/// Publishes all cases, and writes the `maar.toml` of the experiment `fixtures` that runs them.
pub(crate) fn publish(world: &World) -> Vec<Case> {
    let url = world.registry.url();
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
    let cases: Vec<Case> =
        [sources(), dependencies(), limits(), sandbox(port), settings()].into_iter().flatten().collect();
    let fixtures = cases.iter().filter_map(|case| case.published.as_ref());
    fixtures.for_each(|fixture| world.registry.publish(fixture));
    needed_by_others().iter().for_each(|fixture| world.registry.publish(fixture));
    world.registry.damage("damaged", "1.0.0", 1000);
    let manifest = |name| format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    world.write("mine/Cargo.toml", &manifest("mine"));
    world.write("mine/src/lib.rs", "");
    let dependency = "[dependencies]\nnowhere = { git = \"https://127.0.0.1/x.git\" }";
    world.write("from-git/Cargo.toml", &(manifest("from-git") + dependency));
    world.write("from-git/src/lib.rs", "");

    let selections: Vec<&str> = cases.iter().map(|case| case.selection.as_str()).collect();
    // The last one is there already, by another selection.
    world.write("crates.txt", &format!("# all of them\n{}\npasses@1.0.0 # again", selections.join("\n")));
    let tables = cases.iter().filter(|case| !case.settings.is_empty());
    let tables: String = tables.map(|case| format!("[crate.{}]\n{}\n", case.selection, case.settings)).collect();
    world.write("maar.toml", &format!("{EXPERIMENT}{tables}"));
    cases
}

const EXPERIMENT: &str = r#"
name = "fixtures"
toolchains = ["stable", "nightly"]
crates = ["list:crates.txt"]

[op.hello]
stage = "build"
run = ["cat", "greeting"]

[op.digest]
stage = "build"
run = ["sh", "-c", "find . -type f | sort | xargs sha256sum"]

[op.build-tests]
stage = "build"
run = ["cargo", "test", "--no-run"]

[op.hasty-test]
stage = "test"
run = ["cargo", "test"]

[op.hasty-test.limits]
timeout = "2s"

"#;

/// What only cargo and rustc decide.
fn sources() -> Vec<Case> {
    vec![
        case(krate("passes").lib("/// ```\n/// assert_eq!(passes::two(), 2);\n/// ```\npub fn two() -> u8 { 2 }"))
            .gets("pass"),
        case(krate("does-not-compile").lib("pub fn two() -> u8 { \"2\" }"))
            .gets("build-fail: build@stable: does not compile: E0308: mismatched types"),
        case(krate("fails-its-tests").lib("#[test] fn adds() { assert_eq!(1 + 1, 3); }\n#[test] fn subtracts() {}"))
            .gets("test-fail: test@stable: tests failed: adds"),
        case(krate("aborts").lib("#[test] fn aborts() { std::process::abort(); }"))
            .gets("test-fail: test@stable: tests of the library: killed by SIGABRT"),
        // No compiler will ever stabilise this feature, which is its own.
        case(krate("needs-nightly").lib("#![feature(rustc_attrs)]")).gets(
            "fixed: build@stable: does not compile: E0554: `#![feature]` may not be used on the stable release channel",
        ),
        case(
            krate("breaks-on-nightly")
                .file("build.rs", NIGHTLY_CFG)
                .lib("#[cfg(nightly)] compile_error!(\"a regression\");"),
        )
        .gets("regressed: build@nightly: does not compile: a regression"),
        case(
            krate("fails-on-nightly")
                .file("build.rs", NIGHTLY_CFG)
                .lib("#[test] fn is_stable() { assert!(cfg!(not(nightly))); }"),
        )
        .gets("regressed: test@nightly: tests failed: is_stable"),
        // Layers of other crates can't cause a regression: the repetition shares nothing.
        case(
            krate("fails-on-shared-nightly")
                .dep("versioned", "1")
                .file("build.rs", NIGHTLY_CFG)
                .lib("#[test] fn is_alone() { assert!(!cfg!(all(nightly, shared))); }"),
        )
        .gets("pass: flaky: test@nightly: tests failed: is_alone"),
        // What fails on the one first, and on the other when it is repeated, is neither a regression nor a fix.
        case(
            krate("fails-by-turns")
                .dep("versioned", "1")
                .file("build.rs", NIGHTLY_CFG)
                .lib("#[test] fn takes_turns() { assert_ne!(cfg!(nightly), cfg!(shared)); }"),
        )
        .gets("pass: flaky: test@stable: tests failed: takes_turns"),
        // The repetition gets further, to another difference, which must be repeated in its turn.
        case(krate("fails-behind-a-chance").file("build.rs", NIGHTLY_CFG).lib(
            "#[cfg(all(nightly, shared))] compile_error!(\"by chance\");
             #[test] fn is_stable() { assert!(cfg!(not(nightly))); }",
        ))
        .gets("regressed: test@nightly: tests failed: is_stable"),
        case(krate("denies-warnings").lib("#![deny(warnings)] fn unused() {}")).gets("pass"),
        case(krate("broken-manifest").manifest("[package\nname = \"broken-manifest\""))
            .gets("broken: prepare: bad manifest: unclosed table, expected `]`"),
        case(krate("no-targets").manifest("[package]\nname = \"no-targets\"\nversion = \"1.0.0\"\nedition = \"2021\""))
            .gets("broken: prepare: neither a library nor a binary to build"),
    ]
}

/// Sets `cfg(nightly)` where the compiler is one, and `cfg(shared)` where the target folder lies over layers.
const NIGHTLY_CFG: &str = r#"
fn main() {
    println!("cargo::rustc-check-cfg=cfg(nightly, shared)");
    let rustc = std::process::Command::new(std::env::var("RUSTC").unwrap()).arg("-vV").output().unwrap();
    if String::from_utf8(rustc.stdout).unwrap().contains("-nightly") {
        println!("cargo::rustc-cfg=nightly");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.lines().any(|line| line.contains(" /crate/target ") && line.contains(" - overlay ")) {
        println!("cargo::rustc-cfg=shared");
    }
}
"#;

/// The crate in the registry, and its line in lockfiles.
fn dependencies() -> Vec<Case> {
    let locked = krate("locked").dep("versioned", "1").lib(
        "#[test] fn has_the_expected_dependency() {
            assert_eq!(versioned::VERSION, std::env::var(\"EXPECTED\").unwrap());
        }",
    );
    vec![
        case(krate("needs-nothing-there").dep("does-not-exist", "1"))
            .gets("broken: prepare: dependency `does-not-exist` does not exist"),
        case(krate("needs-withdrawn").dep("withdrawn", "1")).gets(
            "broken: prepare: dependencies can't be resolved: \
             failed to select a version for the requirement `withdrawn = \"^1\"`: every version that fits is yanked",
        ),
        case(krate("needs-the-future").dep("versioned", "99")).gets(
            "broken: prepare: dependencies can't be resolved: \
             failed to select a version for the requirement `versioned = \"^99\"`: \
             candidate versions found which didn't match: 1.1.0, 1.0.0",
        ),
        case(krate("withdrawn").yanked())
            .is("withdrawn broken: every version of `withdrawn` is yanked; `withdrawn@1.0.0` selects one all the same"),
        selected("withdrawn@1.0.0").gets("pass"),
        selected("nobody").gets("broken: no crate named `nobody` in the registry"),
        selected("passes@9.9.9").gets("broken: `passes` has no version 9.9.9; the newest is 1.0.0"),
        case(locked.file("Cargo.lock", &stale_lockfile("locked")))
            .settings("env = { EXPECTED = \"1.1.0\" }")
            .gets("pass"),
        case(krate("garbled-lockfile").file("Cargo.lock", "[[package]\n???")).gets("pass"),
        case(krate("climbs-out").tarball(&hostile_tarball())).gets(
            "broken: prepare: bad archive: the tarball of climbs-out-1.0.0: `../escaped` is not in `climbs-out-1.0.0/`",
        ),
        damaged(),
        selected("path:from-git").is("from-git@1.0.0 inconclusive: prepare: \
             maar refuses 127.0.0.1: it is not a public address (`--allow-host 127.0.0.1` allows it)"),
    ]
}

/// A crate whose tarball arrives reversed, each time: who knows what stands between us and the registry.
fn damaged() -> Case {
    let fixture = krate("damaged");
    let mut arrives = fixture.packed();
    arrives.reverse();
    let (expected, actual) = (fixture.checksum(), Checksum::of(arrives));
    case(fixture).gets(&format!(
        "inconclusive: prepare: network: \
         the tarball of damaged-1.0.0 has the SHA-256 {actual} where {expected} was expected"
    ))
}

/// Versions that others need.
fn needed_by_others() -> Vec<Fixture> {
    let versioned =
        |version: &str| Fixture::new("versioned", version).lib(&format!("pub const VERSION: &str = \"{version}\";"));
    vec![versioned("1.0.0"), versioned("1.1.0")]
}

/// A lockfile of an earlier version of a crate, which needed nothing yet.
fn stale_lockfile(name: &str) -> String {
    format!("version = 3\n\n[[package]]\nname = \"{name}\"\nversion = \"0.9.0\"\n")
}

/// A file outside its own folder, which tar's builder would refuse to write.
fn hostile_tarball() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let name = b"../escaped";
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_cksum();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(header.as_bytes()).unwrap();
    gzip.write_all(&[0; 1024]).unwrap();
    gzip.finish().unwrap()
}

/// What hits a limit.
fn limits() -> Vec<Case> {
    let hungry = "let eaten = vec![1u8; 512 << 20]; assert_ne!(std::hint::black_box(&eaten)[7], 0);";
    vec![
        case(krate("hangs").lib("#[test] fn hangs() { std::thread::sleep(std::time::Duration::from_secs(3600)); }"))
            .settings("limits = { idle-timeout = \"2s\" }")
            .gets("inconclusive: test@stable: no output and no CPU use for 2s"),
        // Building it has enough time: only the op that runs the test is short of it.
        case(krate("spins").lib("#[test] fn spins() { loop { std::hint::spin_loop(); } }"))
            .settings("ops = [\"prepare\", \"build-tests\", \"hasty-test\"]")
            .gets("inconclusive: hasty-test@stable: still running after 2s"),
        case(krate("eats-in-a-test").lib(&format!("#[test] fn eats() {{ {hungry} }}")))
            .settings("limits = { memory = \"320MiB\" }")
            .gets("inconclusive: test@stable: needs more memory than 320.0 MiB"),
        case(krate("eats-in-build-rs").file("build.rs", &format!("fn main() {{ {hungry} }}")))
            .settings("limits = { memory = \"320MiB\" }")
            .gets("inconclusive: build@stable: needs more memory than 320.0 MiB"),
        case(krate("has-100-mb-of-manifest").manifest(&HUGE_MANIFEST.repeat(100 << 20 >> 4)))
            .settings("limits = { memory = \"320MiB\" }")
            .gets("inconclusive: prepare: needs more memory than 320.0 MiB"),
        case(krate("fills-its-disk").file("build.rs", FILL))
            .settings("limits = { disk = \"32MiB\" }")
            .gets("inconclusive: build@stable: needs more disk space than 32.0 MiB"),
        case(krate("floods").lib(FLOOD)).settings("limits = { output = \"64KiB\" }").gets("pass"),
    ]
}

/// Sixteen bytes that turn out not to be a manifest only when all are read.
const HUGE_MANIFEST: &str = "[[b]]\n[[c]]\nd=0\n";

/// Stays, because a command's memory is sampled from time to time.
const FILL: &str = r#"
fn main() {
    std::fs::write(std::env::var("OUT_DIR").unwrap() + "/big", vec![7; 64 << 20]).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3600));
}
"#;

/// Writes past libtest, which keeps what `println!` prints.
const FLOOD: &str = r#"
#[test]
fn floods() {
    use std::io::Write;
    let mut out = std::io::stdout();
    out.write_all(b"the first line\n").unwrap();
    out.write_all("abcdefghijklmno\n".repeat(1 << 18).as_bytes()).unwrap();
    out.write_all(b"the last line\n").unwrap();
}
"#;

/// The things that the sandbox denies crates, and those that it allows.
fn sandbox(port: &str) -> Vec<Case> {
    vec![
        case(krate("needs-network").lib(NETWORK))
            .settings(&format!("env = {{ PORT = \"{port}\", RUST_TEST_THREADS = \"1\" }}"))
            .gets(
                "test-fail: test@stable: tests failed: reaches_others, reaches_the_host (not in the cell: the network)",
            ),
        case(
            krate("writes-beside-its-sources")
                .file("build.rs", WRITES)
                .lib("mod generated;\n#[test] fn was_generated() { assert_eq!(generated::ANSWER, 42); }"),
        )
        // The digests show whether the second toolchain sees files of the first one's build.
        .settings("ops = [\"prepare\", \"digest\", \"build\", \"test\"]")
        .gets("pass"),
        case(
            krate("redirects")
                .file(".cargo/config.toml", "[build]\nrustc-wrapper = \"/bin/false\"\ntarget-dir = \"/elsewhere\"")
                .file("rust-toolchain.toml", "[toolchain]\nchannel = \"1.0.0-none\""),
        )
        .gets("pass"),
    ]
}

const NETWORK: &str = r#"
#[test]
fn reaches_the_host() {
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
}

// Sends nothing: the kernel only looks for a route.
#[test]
fn reaches_others() {
    std::net::UdpSocket::bind("0.0.0.0:0").unwrap().connect("192.0.2.1:53").unwrap();
}

#[test]
fn reaches_itself() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
}
"#;

const WRITES: &str = r#"
fn main() {
    std::fs::write("src/generated.rs", "pub const ANSWER: u8 = 42;").unwrap();
    std::fs::write(std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("Cargo.toml.bak"), "").unwrap();
}
"#;

/// The settings of a crate in the experiment's file.
fn settings() -> Vec<Case> {
    let failing = "#[test] fn fails() { panic!(); }";
    vec![
        case(krate("greets").file("greeting", "hello\n")).settings("ops = [\"prepare\", \"hello\"]").gets("pass"),
        case(krate("mute")).settings("ops = [\"prepare\", \"hello\"]").gets("build-fail: hello@stable: exit code 1"),
        case(krate("untested").lib(failing)).settings("skip = [\"test\"]").gets("pass"),
        case(krate("unwanted").lib(failing)).settings("ops = []").gets("skipped"),
        case(
            krate("has-features")
                .manifest(
                    "[package]\nname = \"has-features\"\nversion = \"1.0.0\"\nedition = \"2021\"\n[features]\nextra = []",
                )
                .lib("#[cfg(not(feature = \"extra\"))] compile_error!(\"the feature is off\");"),
        )
        .settings("features = [\"extra\"]")
        .gets("pass"),
        selected("path:mine").is("mine@1.0.0 pass"),
    ]
}
