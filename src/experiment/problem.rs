//! The problems of an experiment file, shown like rustc's: with the line and the position in it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::printable;

/// All that is wrong with an experiment.
#[derive(Debug)]
pub struct ExperimentError {
    /// The file's name, as shown to the user.
    file: String,
    /// The file's text.
    text: String,
    /// The problems, in the order of the file; those of flags last.
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What.
    pub what: BadValue,
    /// Where.
    pub place: Place,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the experiment file, at these bytes.
    File(Range<usize>),
    /// On the command line, as the value of this flag.
    Flag(&'static str),
    /// Nowhere: it is missing, or it is the file as a whole.
    Nowhere,
}

/// Why a value can't be used, and what could be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .help.as_ref().map(|help| format!("; {help}")).unwrap_or_default())]
pub struct BadValue {
    /// The fault.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl BadValue {
    /// A value that is wrong, and a remedy.
    pub(super) fn new(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// The problems so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub(super) fn add(&mut self, place: Place, what: BadValue) {
        self.0.push(Problem { what, place });
    }

    /// The value, or a problem.
    pub(super) fn check<T>(&mut self, place: &Place, result: Result<T, BadValue>) -> Option<T> {
        result.map_err(|what| self.add(place.clone(), what)).ok()
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which a reader meets them.
    pub(super) fn into_error(mut self, file: &str, text: &str) -> ExperimentError {
        self.0.sort_by_key(|problem| match &problem.place {
            Place::File(span) => (0, span.start),
            Place::Flag(_) => (1, 0),
            Place::Nowhere => (2, 0),
        });
        // What remains of control characters in TOML: some terminals obey these. As long as what takes their place.
        let text = text.replace(|c: char| c.is_control() && !c.is_ascii(), "·");
        ExperimentError { file: file.to_owned(), text, problems: self.0 }
    }
}

impl std::error::Error for ExperimentError {}

/// Without colours; [`ExperimentError::styled`] has them.
impl fmt::Display for ExperimentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(&Renderer::plain()))
    }
}

impl ExperimentError {
    /// The largest number of problems that are shown; a file with more is not an experiment.
    const MAX_SHOWN: usize = 20;

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// As shown in a terminal, with ANSI colours.
    pub fn styled(&self) -> String {
        self.render(&Renderer::styled())
    }

    fn render(&self, renderer: &Renderer) -> String {
        let shown = self.problems.iter().take(Self::MAX_SHOWN).map(|problem| self.render_one(problem, renderer));
        let mut rendered = shown.collect::<Vec<_>>().join("\n\n");
        if let Some(more @ 1..) = self.problems.len().checked_sub(Self::MAX_SHOWN) {
            rendered.push_str(&format!("\n\n… and {more} more"));
        }
        rendered
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        // Values, file names and what toolchains print are quoted in them.
        let message = printable::lines(&problem.what.message);
        let help = problem.what.help.as_deref().map(printable::lines);
        let file = printable::lines(&self.file);
        let in_flag;
        let (title, snippet) = match &problem.place {
            Place::File(span) => {
                let mark = AnnotationKind::Primary.span(span.clone()).label(help.as_deref());
                (&message, Some(Snippet::source(&self.text).path(&file).annotation(mark)))
            }
            Place::Flag(flag) => {
                in_flag = format!("`{flag}`: {message}");
                (&in_flag, None)
            }
            Place::Nowhere => (&message, None),
        };
        let title = Level::ERROR.primary_title(title.as_str());
        let group = match (snippet, &help) {
            (Some(snippet), _) => title.element(snippet),
            (None, Some(help)) => Group::with_title(title).element(Level::HELP.message(help.as_str())),
            (None, None) => Group::with_title(title),
        };
        renderer.render(&[group])
    }
}
