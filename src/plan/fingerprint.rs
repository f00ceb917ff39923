//! What identifies a step's result: a digest of all that it depends on.
//!
//! Limits are not in it: a result that a limit cut short is not settled under a greater one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::experiment::{CrateSettings, Experiment, SandboxKind};
use crate::krate::{Origin, Selected};
use crate::ops::environment::OfToolchain;
use crate::ops::{Environment, Features, LockfileMode, Op};
use crate::toolchain::Toolchain;

/// The SHA-256 of all that a step's result depends on: the crate and its checksum or digest, the op, the command that
/// it runs and its environment, the user's own ops before it, the identity of the toolchain, features, lockfile mode
/// and sandbox. Written in lowercase hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// A text that is not a fingerprint.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid fingerprint `{}`: expected 64 hexadecimal digits", .0.escape_debug())]
pub struct BadFingerprint(String);

/// A step, beside its crate and its experiment.
pub(super) struct Particulars<'a> {
    /// The op.
    pub(super) op: &'a Op,
    /// The ops before it.
    pub(super) before: &'a [Op],
    /// All toolchains of the experiment.
    pub(super) toolchains: &'a [Toolchain],
    /// The place of its toolchain.
    pub(super) toolchain: Option<usize>,
}

/// The inputs of a fingerprint, written as JSON; the maps in it are sorted, so that equal inputs give equal texts.
#[derive(Serialize)]
struct Ingredients<'a> {
    name: &'a str,
    version: Option<&'a semver::Version>,
    /// The checksum of the tarball, or the digest of the folder: where the folder is doesn't matter.
    sources: Option<&'a str>,
    /// The command line: results of an older maar that ran a different one are not reused.
    command: Option<Vec<String>>,
    op: &'a Op,
    /// The user's ops before it, which may change its sources.
    after: &'a [&'a Op],
    /// The version of the toolchain that makes the lockfile, which all steps share.
    locked_by: Option<&'a semver::Version>,
    /// The variables that maar sets for all crates.
    build_env: BTreeMap<&'static str, String>,
    /// None for `prepare`: all toolchains share its sources and lockfile, in this run and in later ones with others.
    toolchain: Option<&'a str>,
    features: &'a Features,
    env: &'a BTreeMap<String, String>,
    lockfile: LockfileMode,
    sandbox: &'a SandboxKind,
    /// Left out where it is now, so that results of a maar that knew no other moment stay valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    /// What the toolchain's settings add. Left out, as are the next two, where there is nothing: finished work of
    /// experiments without settings stays valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<&'a OfToolchain>,
    /// How many toolchains before it build alike: the same one twice is run twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    twin: Option<usize>,
    /// The patches that `prepare` makes lockfiles for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    patches: BTreeSet<BTreeMap<String, String>>,
}

impl Fingerprint {
    pub(super) fn new(experiment: &Experiment, krate: &Selected, particulars: Particulars<'_>) -> Self {
        let Particulars { op, before, toolchains, toolchain } = particulars;
        let default = CrateSettings::default();
        let settings = experiment.crate_settings.get(&krate.id.name).unwrap_or(&default);
        let environment = Environment::new(op, toolchains, toolchain, &settings.env);
        let of_place = |place: usize| Environment::new(op, toolchains, Some(place), &settings.env);
        let patches = |place| of_place(place).of_toolchain().map(|of_toolchain| of_toolchain.patches.clone());
        let is_for_all = toolchain.is_none().then_some(0..toolchains.len());
        let ingredients = Ingredients {
            name: krate.id.name.as_str(),
            version: krate.id.version.as_ref(),
            sources: match &krate.origin {
                Origin::Registry { checksum } => Some(checksum),
                Origin::Path { digest, .. } => Some(digest),
                Origin::Missing(_) | Origin::Unusable(_) | Origin::Skipped { .. } | Origin::Unavailable(_) => None,
            },
            command: op.argv(&settings.features),
            op,
            after: &before.iter().filter(|op| matches!(op, Op::Command(_))).collect::<Vec<_>>(),
            // As `prepare` chooses it: newer toolchains read its lockfile.
            locked_by: toolchains.iter().map(|toolchain| &toolchain.version).min(),
            build_env: environment.variables().into_iter().collect(),
            toolchain: toolchain.map(|place| toolchains[place].identity.as_str()),
            features: &settings.features,
            env: environment.of_crate(),
            lockfile: experiment.lockfile,
            sandbox: &experiment.sandbox,
            as_of: experiment.as_of.as_ref().map(ToString::to_string),
            settings: environment.of_toolchain(),
            twin: toolchain.and_then(|place| twins_before(toolchains, place)),
            patches: is_for_all
                .into_iter()
                .flatten()
                .filter_map(patches)
                .filter(|patches| !patches.is_empty())
                .collect(),
        };
        let json =
            serde_json::to_vec(&ingredients).expect("every map in it has keys of text, and writing to memory works");
        Self(Sha256::digest(json).into())
    }

    /// What the lockfile of a toolchain with patches is kept under; `self` is the step that makes it.
    #[must_use]
    pub fn of_patched(&self, toolchain: &Toolchain) -> Self {
        let patches =
            serde_json::to_vec(&toolchain.patches).expect("it is lists and texts, and writing to memory works");
        Self(Sha256::new().chain_update(self.0).chain_update(patches).finalize().into())
    }

    /// One for each text.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

/// How many toolchains before this one build alike; `None`: none.
fn twins_before(toolchains: &[Toolchain], place: usize) -> Option<usize> {
    let (before, this) = (&toolchains[..place], &toolchains[place]);
    Some(before.iter().filter(|toolchain| toolchain.builds_as(this)).count()).filter(|twins| *twins > 0)
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let bad = || BadFingerprint(text.chars().take(80).collect());
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = BadFingerprint;

    fn try_from(text: String) -> Result<Self, BadFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}
