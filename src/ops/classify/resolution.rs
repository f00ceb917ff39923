//! Why cargo could not read, resolve or fetch, from its own messages: no code of the crate has run.

use super::printed::{begins, cargo_error, cause, lines, message, quoted_after, shorten};
use crate::outcome::{Breakage, Cause, Outcome};
use crate::registry::Denial;

/// cargo's words for a manifest that it refuses.
const BAD_MANIFEST: &str = "failed to parse manifest at `";

/// Judges a failed cargo of `prepare`.
pub(super) fn failure(text: &str) -> Outcome {
    /// Cargo's guess, above the cause, for every failure of git over HTTP.
    const HINT_OF_GIT: &str = "network failure seems to have happened";
    /// libgit2's words: a server with this answer was reached.
    const NO_SUCH_REPOSITORY: &str = "unexpected http status code: 404";
    const NETWORK: [&str; 6] = [
        "spurious network error",
        "failed to download ",
        "download of ",
        "[6] Could not resolve host",
        "failed to fetch `",
        HINT_OF_GIT,
    ];
    const HOST: [&str; 5] = [
        "could not execute process `",
        "failed to create directory `",
        "failed to write `",
        "No space left on device",
        "Too many open files",
    ];
    // Only at the beginning of a line: further on, cargo quotes names and paths that the crate chose.
    let said = |phrases: &[&str]| lines(text).rev().find(|line| phrases.iter().any(|phrase| begins(line, phrase)));
    if let Some(line) = said(&NETWORK)
        && said(&[NO_SUCH_REPOSITORY]).is_none()
    {
        let reason = if begins(line, HINT_OF_GIT) { cause(text) } else { None };
        return Outcome::Inconclusive(Cause::Network(reason.unwrap_or_else(|| shorten(message(line)))));
    }
    if let Some(line) = said(&HOST) {
        return Outcome::Inconclusive(Cause::Host(shorten(message(line))));
    }
    let Some(error) = cargo_error(text) else {
        return Outcome::Inconclusive(Cause::Host("cargo failed without an error message".to_owned()));
    };
    if let Some(name) = lines(text).find_map(|line| quoted_after(line, "no matching package named ")) {
        return Outcome::Broken(Breakage::MissingDependency(name));
    }
    let breakage = if text.contains("no targets specified in the manifest") {
        Breakage::NoTargets
    } else if text.contains("failed to parse lock file") {
        Breakage::Lockfile(cause(text).unwrap_or(error))
    } else if error.starts_with(BAD_MANIFEST) {
        Breakage::Manifest(cause(text).unwrap_or(error))
    } else if lines(text).any(|line| line.trim_start().starts_with("--> ") && line.contains("Cargo.toml:")) {
        Breakage::Manifest(error)
    } else if let Some(name) = lines(text).find_map(|line| quoted_after(line, "failed to load source for dependency "))
    {
        Breakage::MissingDependency(name)
    } else if lines(text).any(|line| line.contains(" is yanked")) {
        let first = lines(text).find_map(|line| line.strip_prefix("error: ")).map(shorten).unwrap_or(error);
        Breakage::Unresolvable(format!("{first}: every version that fits is yanked"))
    } else {
        Breakage::Unresolvable(error)
    };
    Outcome::Broken(breakage)
}

/// cargo's cause, if its first error is about a manifest and it has not begun to compile.
pub(super) fn refused_manifest(text: &str) -> Option<String> {
    /// The words by which cargo reports a unit that it compiles, runs or found fresh.
    const BEGUN: [&str; 10] = [
        "Building",
        "Checking",
        "Compiling",
        "Dirty",
        "Doc-tests",
        "Documenting",
        "Executable",
        "Finished",
        "Fresh",
        "Running",
    ];
    let first = lines(text).find_map(|line| line.strip_prefix("error: "))?;
    let manifest = first.strip_prefix(BAD_MANIFEST)?.split('`').next()?;
    let begun = |line: &str| line.split_whitespace().next().is_some_and(|word| BEGUN.contains(&word));
    if lines(text).any(begun) {
        return None;
    }
    let cause = cause(text).unwrap_or_else(|| shorten(first));
    // The crate's own manifest needs no name.
    let dependency = manifest.rsplit_once("/vendor/").and_then(|(_, below)| below.split('/').next());
    Some(dependency.map_or(cause.clone(), |name| format!("of dependency {}: {cause}", shorten(name))))
}

/// The reason for a failed command, if a denied request explains it: denied by the gate, or because nothing in its cell
/// speaks the URL's protocol.
pub(super) fn denied(denials: &[Denial], text: &str) -> Option<Outcome> {
    let refused = denials.iter().find(|denial| matches!(denial, Denial::Refused { .. }));
    let refused = refused.map(Denial::to_string).or_else(|| {
        let url = unspoken_url(text)?;
        Some(format!("maar refuses {}: crates may fetch git repositories over https only", shorten(url)))
    });
    let cause = match (refused, denials.first()) {
        (Some(refused), _) => Cause::Refused(refused),
        (None, Some(unreachable)) => Cause::Network(unreachable.to_string()),
        (None, None) => return None,
    };
    Some(Outcome::Inconclusive(cause))
}

/// The URL that cargo failed to fetch, if it is of a protocol that needs a network.
fn unspoken_url(text: &str) -> Option<&str> {
    const FETCHING: [&str; 2] = ["unable to update ", "failed to fetch submodule "];
    const UNSPOKEN: [&str; 4] = ["ssh://", "git+ssh://", "git://", "http://"];
    lines(text).rev().find_map(|line| {
        let line = message(line);
        let begins = |phrase: &&str| line.get(..phrase.len()).is_some_and(|start| start.eq_ignore_ascii_case(phrase));
        FETCHING.iter().find(|phrase| begins(phrase))?;
        let url = line.split([' ', '`']).rev().find(|word| word.contains("://"))?;
        UNSPOKEN.iter().any(|scheme| url.starts_with(scheme)).then_some(url)
    })
}
