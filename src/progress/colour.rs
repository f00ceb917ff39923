//! Whether text is coloured, and colouring it. Meaning never rests on it.

use anstream::{AutoStream, ColorChoice};
use anstyle::Style;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    On,
    Off,
}

impl Colour {
    /// What stderr and the environment ask for: `NO_COLOR`, `CLICOLOR` and the like.
    pub(super) fn of_stderr() -> Self {
        match AutoStream::choice(&std::io::stderr()) {
            ColorChoice::Never => Self::Off,
            ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Self::On,
        }
    }

    /// The text in a style, if there is colour.
    pub(super) fn paint(self, text: &str, style: Style) -> String {
        match self {
            Self::On => format!("{style}{text}{style:#}"),
            Self::Off => text.to_owned(),
        }
    }
}
