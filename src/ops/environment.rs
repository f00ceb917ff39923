//! The build environment of an op: everything besides sources, command and programs that decides what the op's command
//! makes of a crate.
//!
//! [`Environment::new`] makes one value per (op, toolchain, crate). The cell takes flags and variables from it, the
//! fingerprint takes its ingredients, and the key of the layers its text, so that these can't disagree. Pure.

use std::collections::BTreeMap;

use semver::Version;
use serde::Serialize;

use super::Op;
use crate::toolchain::{Patched, Toolchain};

/// The build environment of one op of one crate with one toolchain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// What `CARGO_PROFILE_DEV_DEBUG` has: how much debug information.
    debug: Option<&'static str>,
    rustflags: Vec<String>,
    rustdocflags: Vec<String>,
    of_toolchain: OfToolchain,
    /// Variables of the crate's own.
    of_crate: BTreeMap<String, String>,
}

/// The part that only a toolchain with settings has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OfToolchain {
    /// Arguments of cargo.
    pub cargoflags: Vec<String>,
    /// The platform to build for.
    pub target: Option<String>,
    /// The profile to build with.
    pub profile: Option<String>,
    /// Variables, over the crate's own.
    pub env: BTreeMap<String, String>,
    /// What stands in for packages: by name, a commit or the digest of a folder.
    pub patches: BTreeMap<String, String>,
}

/// Lints of every op but clippy end as warnings: a new lint of the compiler is not a breakage of the crate.
const CAPPED: &str = "--cap-lints=warn";

/// Between words where blanks may be in them, as in `CARGO_ENCODED_RUSTFLAGS`.
const BETWEEN_WORDS: &str = "\u{1f}";

/// What backtraces need; the rest only debuggers read. An older cargo doesn't know the name of so little:
/// <https://github.com/rust-lang/cargo/pull/11958>.
const LITTLE_DEBUG: (&str, Version) = ("line-tables-only", Version::new(1, 71, 0));

/// The variables by which a crate's `env` can set each kind of flags, the strongest first.
const FLAG_VARIABLES: [(&str, [&str; 3]); 2] = [
    ("RUSTFLAGS", ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"]),
    ("RUSTDOCFLAGS", ["CARGO_ENCODED_RUSTDOCFLAGS", "RUSTDOCFLAGS", "CARGO_BUILD_RUSTDOCFLAGS"]),
];

impl Environment {
    /// The environment of an op with one of the `toolchains` of an experiment, or with all of them as `prepare` has, of
    /// a crate that has these variables of its own.
    pub fn new(
        op: &Op,
        toolchains: &[Toolchain],
        toolchain: Option<usize>,
        of_crate: &BTreeMap<String, String>,
    ) -> Self {
        let toolchain = toolchain.and_then(|place| toolchains.get(place));
        let settings = toolchain.map(Toolchain::settings);
        let capped = match toolchain {
            Some(_) => lint_flags(op, toolchains),
            // It compiles nothing. The flag is in the fingerprints of finished work.
            None => Some(CAPPED),
        };
        let with = |flags: Option<&Vec<String>>| {
            let of_maar = capped.into_iter().map(str::to_owned);
            of_maar.chain(flags.into_iter().flatten().cloned()).collect()
        };
        let (little, since) = LITTLE_DEBUG;
        let knows_little = toolchains.iter().all(|toolchain| *toolchain.cargo_version() >= since);
        Self {
            debug: Some(if knows_little { little } else { "1" }),
            rustflags: with(settings.map(|settings| &settings.rustflags)),
            rustdocflags: with(settings.map(|settings| &settings.rustdocflags)),
            of_toolchain: toolchain.map(OfToolchain::new).unwrap_or_default(),
            of_crate: of_crate.clone(),
        }
    }

    /// An environment that has variables and nothing else.
    pub(super) fn of_variables(of_crate: BTreeMap<String, String>) -> Self {
        Self { of_crate, ..Self::default() }
    }

    /// The variables that maar sets for every crate, in the order of cargo's older ways to set them.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let flags = |name, flags: &[String]| (!flags.is_empty()).then(|| (name, flags.join(BETWEEN_WORDS)));
        let debug = self.debug.map(|debug| ("CARGO_PROFILE_DEV_DEBUG", debug.to_owned()));
        [("CARGO_INCREMENTAL", "0".to_owned())]
            .into_iter()
            .chain(debug)
            .chain(flags("RUSTFLAGS", &self.rustflags))
            .chain(flags("RUSTDOCFLAGS", &self.rustdocflags))
            .collect()
    }

    /// The part that only a toolchain with settings has; `None` where there is nothing in it.
    pub fn of_toolchain(&self) -> Option<&OfToolchain> {
        (self.of_toolchain != OfToolchain::default()).then_some(&self.of_toolchain)
    }

    /// The variables of the crate's own.
    pub fn of_crate(&self) -> &BTreeMap<String, String> {
        &self.of_crate
    }

    /// Names and values for the key of layers: all inputs that change cargo's output for a dependency.
    pub fn key(&self) -> Vec<(String, String)> {
        let own = self.variables().into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.of_toolchain.env.clone()).collect()
    }

    /// Why an op with it can neither use nor make layers. `None`: it can.
    pub fn unshared(&self) -> Option<&'static str> {
        let OfToolchain { cargoflags, target, profile, env: _, patches } = &self.of_toolchain;
        // Layers lie in `target/debug`, and their units are those of a plain command over the registry's packages.
        match (!patches.is_empty(), target, profile, !cargoflags.is_empty()) {
            (true, ..) => Some("the toolchain has a `patch`"),
            (_, Some(_), ..) => Some("the toolchain has a `target`"),
            (_, _, Some(_), _) => Some("the toolchain has a `profile`"),
            (.., true) => Some("the toolchain has `cargoflags`"),
            (false, None, None, false) => None,
        }
    }

    /// Whether it makes the same of a dependency as `other`.
    pub fn compiles_as(&self, other: &Self) -> bool {
        self.key() == other.key() && self.of_toolchain == other.of_toolchain
    }

    /// Arguments of a built-in op's cargo command.
    pub(super) fn arguments(&self) -> Vec<String> {
        let OfToolchain { cargoflags, target, profile, .. } = &self.of_toolchain;
        let flag = |name: &str, value: &Option<String>| {
            value.iter().flat_map(|value| [name.to_owned(), value.clone()]).collect::<Vec<_>>()
        };
        [flag("--target", target), flag("--profile", profile), cargoflags.clone()].concat()
    }

    /// Arguments that set what [`Environment::variables`] would.
    pub(super) fn config(&self) -> Vec<String> {
        let words = |flags: &[String]| toml::Value::from(flags.to_vec());
        let debug = |debug: &str| debug.parse::<i64>().map_or_else(|_| debug.into(), toml::Value::Integer);
        let settings = [
            self.debug.map(|_| ("build.incremental", false.into())),
            self.debug.map(|value| ("profile.dev.debug", debug(value))),
            (!self.rustflags.is_empty()).then(|| ("build.rustflags", words(&self.rustflags))),
            (!self.rustdocflags.is_empty()).then(|| ("build.rustdocflags", words(&self.rustdocflags))),
        ];
        let set = settings.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
        set.flat_map(|setting| ["--config".to_owned(), setting]).collect()
    }

    /// The variables for a command that gets no arguments of maar's.
    pub(super) fn by_variables(&self) -> Vec<(String, String)> {
        let spelt = |(name, value): (&'static str, String)| match value.contains([' ', '\u{1f}']) {
            // Cargo splits the plain ones at blanks.
            true => (format!("CARGO_ENCODED_{name}"), value),
            false => (name.to_owned(), value),
        };
        let target = self.of_toolchain.target.iter().map(|target| ("CARGO_BUILD_TARGET".to_owned(), target.clone()));
        self.variables().into_iter().map(spelt).chain(target).collect()
    }

    /// The crate's own variables under those of the toolchain. Where both have flags, the command gets both.
    pub(super) fn env(&self) -> BTreeMap<String, String> {
        let mut env = self.of_crate.clone();
        for (kind, names) in FLAG_VARIABLES {
            let flags = if kind == "RUSTFLAGS" { &self.rustflags } else { &self.rustdocflags };
            let own_flags = flags.iter().filter(|flag| *flag != CAPPED);
            let Some(strongest) = names.iter().find(|name| env.contains_key(**name)) else { continue };
            if own_flags.clone().next().is_none() {
                continue;
            }
            // A variable outweighs the configuration, so that the toolchain's flags would be lost.
            let of_crate = env.get(*strongest).cloned().unwrap_or_default();
            let split = if *strongest == names[0] { '\u{1f}' } else { ' ' };
            let words = of_crate.split(split).filter(|word| !word.is_empty()).map(str::to_owned);
            let joined = words.chain(own_flags.cloned()).collect::<Vec<_>>().join(BETWEEN_WORDS);
            names.iter().for_each(|name| drop(env.remove(*name)));
            env.insert(names[0].to_owned(), joined);
        }
        env.extend(self.of_toolchain.env.clone());
        env
    }
}

impl OfToolchain {
    fn new(toolchain: &Toolchain) -> Self {
        let settings = toolchain.settings();
        let patch = |patch: &crate::toolchain::Patch| {
            let identity = match &patch.source {
                Patched::Git { url, rev } => format!("{url}#{rev}"),
                Patched::Folder { digest, .. } => digest.clone(),
            };
            (patch.name.clone(), identity)
        };
        Self {
            cargoflags: settings.cargoflags.clone(),
            target: settings.target.clone(),
            profile: settings.profile.clone(),
            env: settings.env.clone(),
            patches: toolchain.patches.iter().map(patch).collect(),
        }
    }
}

/// maar's own flags about lints, for rustc and rustdoc alike. `None`: the crate's own settings of lints apply.
fn lint_flags(op: &Op, toolchains: &[Toolchain]) -> Option<&'static str> {
    // A run about lints is not to find nothing because maar capped them. For all toolchains, so that like is compared
    // with like.
    if toolchains.iter().any(denies_lints) {
        return None;
    }
    match op {
        // Lints are the point of it.
        Op::Clippy => None,
        Op::Prepare | Op::Check | Op::Build | Op::BuildTests | Op::Test | Op::Retest(_) | Op::Doc | Op::Command(_) => {
            Some(CAPPED)
        }
    }
}

/// Whether a toolchain's flags make errors of lints, or cap them in another way.
pub fn denies_lints(toolchain: &Toolchain) -> bool {
    let settings = toolchain.settings();
    let about_lints = ["-D", "-F", "--deny", "--forbid", "--cap-lints"];
    let mut flags = settings.rustflags.iter().chain(&settings.rustdocflags);
    flags.any(|flag| about_lints.iter().any(|about| flag.starts_with(about)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::toolchain_of;

    fn environment(op: &Op, specs: &[&str], place: usize, of_crate: &[(&str, &str)]) -> Environment {
        let toolchains: Vec<Toolchain> = specs.iter().map(|spec| toolchain_of(spec, "1.95.0")).collect();
        let of_crate = of_crate.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Environment::new(op, &toolchains, Some(place), &of_crate)
    }

    #[test]
    fn debug_information_is_the_same_for_all_toolchains_and_has_a_name_that_all_know() {
        for (versions, expected) in [
            (&["1.95.0", "1.97.0-nightly"][..], "line-tables-only"),
            (&["1.71.0"], "line-tables-only"),
            (&["1.70.0", "1.95.0"], "1"),
        ] {
            let toolchains: Vec<Toolchain> = versions.iter().map(|version| toolchain_of("x", version)).collect();
            let env: BTreeMap<_, _> =
                Environment::new(&Op::Test, &toolchains, Some(0), &BTreeMap::new()).variables().into_iter().collect();
            assert_eq!(env["CARGO_PROFILE_DEV_DEBUG"], expected, "{versions:?}");
        }
    }

    #[test]
    fn settings_are_spelt_as_cargos_configuration() {
        let spec = "stable+rustflags=\"-C target-feature=+avx2 '--cfg=a b'\"";
        let config = environment(&Op::Build, &[spec], 0, &[]).config().join(" ");
        assert_eq!(
            config,
            "--config build.incremental=false --config profile.dev.debug=\"line-tables-only\" \
             --config build.rustflags=[\"--cap-lints=warn\", \"-C\", \"target-feature=+avx2\", \"--cfg=a b\"] \
             --config build.rustdocflags=[\"--cap-lints=warn\"]"
        );
        let variables = environment(&Op::Build, &[spec], 0, &[]).by_variables();
        let words = "--cap-lints=warn\u{1f}-C\u{1f}target-feature=+avx2\u{1f}--cfg=a b";
        assert!(variables.contains(&("CARGO_ENCODED_RUSTFLAGS".to_owned(), words.to_owned())), "{variables:?}");
        let old = Environment::new(&Op::Build, &[toolchain_of("x", "1.70.0")], Some(0), &BTreeMap::new());
        assert!(old.config().contains(&"profile.dev.debug=1".to_owned()));
    }

    #[test]
    fn flags_that_deny_lints_lift_the_cap_on_all_toolchains_and_others_do_not() {
        let capped = |specs: &[&str]| {
            let flags = |place| environment(&Op::Build, specs, place, &[]).rustflags.concat();
            (flags(0).contains(CAPPED), flags(1).contains(CAPPED))
        };
        assert_eq!(capped(&["stable", "beta"]), (true, true));
        assert_eq!(capped(&["stable", "stable+rustflags=-Dwarnings"]), (false, false));
        assert_eq!(capped(&["stable", "stable+rustdocflags=--deny warnings"]), (false, false));
        assert_eq!(capped(&["stable", "stable+rustflags=-C opt-level=1 -A dead_code"]), (true, true));
    }

    #[test]
    fn arguments_are_those_of_the_settings() {
        let spec = "stable+target=x86_64-unknown-linux-musl+profile=release+cargoflags=-Zbuild-std -q";
        let arguments = environment(&Op::Build, &[spec], 0, &[]).arguments().join(" ");
        assert_eq!(arguments, "--target x86_64-unknown-linux-musl --profile release -Zbuild-std -q");
    }

    #[test]
    fn a_toolchains_variables_and_flags_are_not_lost_to_a_crates_own() {
        let env = |spec: &str, of_crate: &[(&str, &str)]| environment(&Op::Build, &[spec], 0, of_crate).env();
        assert_eq!(env("stable+env=A=1", &[("A", "2"), ("B", "3")])["A"], "1");
        assert_eq!(env("stable", &[("RUSTFLAGS", "-C x")])["RUSTFLAGS"], "-C x");
        let both = env("stable+rustflags=-C y", &[("RUSTFLAGS", "-C x")]);
        assert_eq!(both["CARGO_ENCODED_RUSTFLAGS"], "-C\u{1f}x\u{1f}-C\u{1f}y");
        assert!(!both.contains_key("RUSTFLAGS"));
    }

    #[test]
    fn only_what_layers_can_carry_is_shared() {
        let unshared = |spec: &str| environment(&Op::Build, &[spec], 0, &[]).unshared().is_some();
        for spec in ["stable", "stable+rustflags=-Copt-level=1", "stable+env=A=1", "stable+component=clippy"] {
            assert!(!unshared(spec), "{spec}");
        }
        for spec in ["stable+target=x", "stable+profile=release", "stable+cargoflags=-q"] {
            assert!(unshared(spec), "{spec}");
        }
        let key = |spec: &str| environment(&Op::Build, &[spec], 0, &[]).key();
        assert_ne!(key("stable"), key("stable+rustflags=-Copt-level=1"));
        assert_ne!(key("stable"), key("stable+env=A=1"));
    }
}
