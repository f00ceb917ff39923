//! What all pages share: the shell with its content security policy, and how verdicts and times look.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::compare::{Report, Standing, Verdict, timestamp};
use crate::printable::one_line;

const STYLE: &str = include_str!("style.css");
const TABLE_SCRIPT: &str = include_str!("table.js");

/// Which script a page may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    /// None at all.
    None,
    /// The one that filters and sorts the table of crates.
    Table,
}

/// A whole page. Only the script that belongs to it, known by its hash, can run; nothing can be loaded.
pub(super) fn shell(title: &str, script: Script, body: &Markup) -> Markup {
    let allowed = match script {
        Script::None => "'none'".to_owned(),
        Script::Table => format!("'sha256-{}'", STANDARD.encode(Sha256::digest(TABLE_SCRIPT))),
    };
    // Styles are inline too: the colours of logs are more than classes could name.
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}; base-uri 'none'; form-action 'none'"
    );
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body)
                @match script {
                    Script::None => {},
                    Script::Table => script { (PreEscaped(TABLE_SCRIPT)) },
                }
            }
        }
    }
}

/// The class that gives a verdict its colour and its sign; the word is always there too.
pub(super) fn verdict_class(verdict: Verdict) -> String {
    format!("v-{verdict}")
}

/// An outcome, coloured.
pub(super) fn outcome(standing: &Standing) -> Markup {
    html! { span class={ "o-" (standing.as_str()) } { (standing.as_str()) } }
}

/// The toolchains with their versions, as entries of a list of facts.
pub(super) fn toolchains(report: &Report) -> Markup {
    html! {
        @for (place, toolchain) in report.toolchains.iter().enumerate() {
            div {
                dt { @if place == 0 && report.toolchains.len() > 1 { "Baseline" } @else { "Toolchain" } }
                dd title=(one_line(&format!("{}: {}", toolchain.spec, toolchain.identity))) {
                    (toolchain.label)
                    @if toolchain.label != toolchain.version.to_string() {
                        " " span.soft { (toolchain.version) }
                    }
                }
            }
        }
    }
}

/// A time in UTC, to the minute.
pub(super) fn time(time: SystemTime) -> Markup {
    let Some(exact) = timestamp(time) else { return html! { "an unknown time" } };
    let minute = exact.get(..16).unwrap_or(&exact).replace('T', " ");
    html! { time datetime=(exact) { (minute) " UTC" } }
}
