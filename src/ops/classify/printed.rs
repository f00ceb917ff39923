//! Reads the text that commands print: without escape sequences, by lines, in pieces short enough for a reason.

use std::borrow::Cow;

use crate::printable::one_line;
use crate::sandbox::Output;

/// The longest piece of a reason, in characters, against endless names of a crate.
const LONGEST: usize = 300;

/// The output of a command without colours and other escape sequences.
pub(in crate::ops) fn plain_text(output: &Output) -> String {
    let plain = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match text.contains('\x1b') {
            true => Cow::Owned(anstream::adapter::strip_str(&text).to_string()),
            false => Cow::<str>::Owned(text.into_owned()),
        }
    };
    let mut text = plain(&output.head).into_owned();
    if !output.tail.is_empty() {
        text.push('\n');
        text.push_str(&plain(&output.tail));
    }
    text
}

pub(super) fn lines(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\r'))
}

/// One line of at most so many characters.
pub(super) fn shorten(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The message in a line from cargo, without its level and without the indentation of a cause.
pub(super) fn message(line: &str) -> &str {
    let line = line.trim_start();
    line.strip_prefix("warning: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line)
}

pub(super) fn begins(line: &str, phrase: &str) -> bool {
    message(line).starts_with(phrase)
}

/// The text in backquotes that follows `phrase` at the beginning of a line.
pub(super) fn quoted_after(line: &str, phrase: &str) -> Option<String> {
    let (name, _) = message(line).strip_prefix(phrase)?.strip_prefix('`')?.split_once('`')?;
    Some(shorten(name))
}

/// The first error that cargo itself reports, and the line below it that makes the point, where it is another.
pub(super) fn cargo_error(text: &str) -> Option<String> {
    let mut lines = lines(text).skip_while(|line| !line.starts_with("error: "));
    let first = lines.next()?.strip_prefix("error: ")?.trim_end_matches('.');
    let below: Vec<&str> = lines.take_while(|line| !line.starts_with("error")).collect();
    let Some(point) = point(first, &below) else { return Some(shorten(first)) };
    let separator = if first.ends_with(':') { "" } else { ":" };
    Some(format!("{}{separator} {}", shorten(first), shorten(&point)))
}

/// The line below a cargo error that a person needs in order to act.
fn point(first: &str, below: &[&str]) -> Option<String> {
    /// Words of such lines: of clashing `links`, missing features, versions that don't fit, yanked ones.
    const POINTS: [&str; 6] = [
        " links to the native library ",
        " does not have ",
        "all possible versions conflict",
        "versions found which didn't match",
        " is yanked",
        "registry index was not found",
    ];
    // A list: packages that need a newer rustc, or the way around a cycle.
    if first.ends_with(':') {
        let list = below.iter().take_while(|line| !line.trim().is_empty()).map(|line| line.trim());
        return Some(list.collect::<Vec<_>>().join(" ")).filter(|list| !list.is_empty());
    }
    let place = below.iter().position(|line| POINTS.iter().any(|words| line.contains(words)))?;
    let point = below[place].trim();
    let rest = below[place + 1..].iter().map(|line| line.trim()).find(|line| !line.is_empty());
    match rest.filter(|_| point.ends_with(':') || point.ends_with("selected packages.")) {
        Some(rest) => Some(format!("{point} {rest}")),
        None => Some(point.to_owned()),
    }
}

/// The first line of cargo's innermost `Caused by:` paragraph.
pub(super) fn cause(text: &str) -> Option<String> {
    let (_, innermost) = text.rsplit_once("Caused by:")?;
    lines(innermost).map(str::trim).find(|line| !line.is_empty()).map(shorten)
}
