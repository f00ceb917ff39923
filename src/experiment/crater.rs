//! Reads crater's `config.toml`, and writes its settings of crates as lines of a `maar.toml`.
//!
//! The format: <https://github.com/rust-lang/crater/blob/master/config.toml>. What maar has no setting for stays as a
//! comment, so that nothing is lost without a word.

use toml::de::{DeTable, DeValue};

use super::problem::{BadValue, ExperimentError, Place, Problems};
use super::read::{Value, known_keys, place, table, wrong_type};
use crate::krate::CrateName;
use crate::printable::one_line;

/// What crater may say of a crate.
const SETTINGS: [&str; 5] = ["skip", "skip-tests", "quiet", "update-lockfile", "broken"];

/// The settings of crates in a crater configuration, as lines of a `maar.toml`. `file` is its name for messages.
///
/// # Errors
/// All that is wrong with the file.
pub fn from_crater(text: &str, file: &str) -> Result<String, ExperimentError> {
    let mut problems = Problems::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = error.span().map_or(Place::Nowhere, Place::File);
        problems.add(place, BadValue::new(format!("this is not TOML: {}", error.message()), None));
    }
    let mut out = "# From crater's configuration.\n".to_owned();
    if errors.is_empty() {
        for (section, value) in document.get_ref() {
            match &**section.get_ref() {
                "crates" => crates(text, value, &mut out, &mut problems),
                "github-repos" => left_out(value, "github.com/", &mut out),
                "local-crates" => left_out(value, "crater's own ", &mut out),
                // How crater's server and sandbox are set up.
                _ => {}
            }
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(problems.into_error(file, text)) }
}

fn crates(text: &str, value: &Value<'_>, out: &mut String, problems: &mut Problems) {
    let Some(crates) = table(value, problems) else { return };
    for (key, value) in crates {
        let name = key.get_ref();
        let Some(settings) = table(value, problems) else { continue };
        if let Err(error) = name.parse::<CrateName>() {
            problems.add(place(key), BadValue::new(error.to_string(), None));
            continue;
        }
        known_keys(settings, &SETTINGS, problems);
        let is_set = |key: &str, problems: &mut Problems| match settings.get(key).map(|value| (value, value.get_ref()))
        {
            Some((_, DeValue::Boolean(set))) => *set,
            Some((value, _)) => {
                wrong_type(value, "true or false", problems);
                false
            }
            None => false,
        };
        let mut lines = Vec::new();
        if is_set("skip", problems) {
            let reason = comment_after(text, value).unwrap_or_else(|| "crater skips it".to_owned());
            lines.push(format!("skip = {}", toml::Value::String(reason)));
        } else if is_set("skip-tests", problems) {
            lines.push("skip = [\"test\"]".to_owned());
        }
        if is_set("quiet", problems) {
            lines.push("quiet = true".to_owned());
        }
        if is_set("broken", problems) {
            lines.push("broken = true".to_owned());
        }
        if is_set("update-lockfile", problems) {
            lines.push("# update-lockfile: maar does that for every crate (`lockfile = \"latest\"`)".to_owned());
        }
        if !lines.is_empty() {
            out.push_str(&format!("\n[crate.{name}]\n{}\n", lines.join("\n")));
        }
    }
}

/// The comment that ends the line of a value, which is where crater keeps reasons.
fn comment_after(text: &str, value: &Value<'_>) -> Option<String> {
    let rest = text.get(value.span().end..)?.lines().next()?;
    let comment = rest.trim().strip_prefix('#')?.trim();
    (!comment.is_empty()).then(|| one_line(comment))
}

/// Names the repositories that maar has no `[crate]` table for.
fn left_out(value: &Value<'_>, prefix: &str, out: &mut String) {
    let names = value.get_ref().as_table().into_iter().flatten().map(|(key, _)| key.get_ref());
    for name in names {
        out.push_str(&format!("\n# left out, for it is not a crate of the registry: {prefix}{}\n", one_line(name)));
    }
}
