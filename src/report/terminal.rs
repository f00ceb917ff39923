//! A log as a terminal shows it: lines of styled characters.
//!
//! Understands colours and styles, and enough of a cursor for the lines that progress bars overwrite. Everything else
//! that a terminal understands, such as titles, links and moves to other lines, is dropped.

use std::io;

use anstyle::{Ansi256Color, Effects, RgbColor};
use vte::{Params, Parser, Perform};

use crate::printable::is_deceptive;

/// The longest line, in characters; longer ones are broken, which bounds the memory.
const MAX_LINE: usize = 4096;

/// A character and how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Glyph {
    pub(super) c: char,
    pub(super) style: Style,
}

/// How a character looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) foreground: Color,
    pub(super) background: Color,
    pub(super) bold: bool,
    pub(super) dim: bool,
    pub(super) italic: bool,
    pub(super) underline: bool,
    pub(super) strike: bool,
    pub(super) reverse: bool,
}

/// A colour of a terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Color {
    /// The terminal's own.
    #[default]
    Default,
    /// One of the 16 that the reader's theme defines.
    Palette(u8),
    /// Red, green and blue.
    Rgb(u8, u8, u8),
}

/// Hands every line of the bytes to `emit`.
pub(super) fn lines(bytes: &[u8], emit: &mut dyn FnMut(&[Glyph])) {
    let mut screen = Screen { line: Vec::new(), column: 0, style: Style::default(), emit };
    Parser::new().advance(&mut screen, bytes);
    if !screen.line.is_empty() {
        screen.end_line();
    }
}

/// Writes the bytes as the lines that a terminal would show, with their colours and no other control sequences that a
/// crate may have printed: no titles, no moves of the cursor, nothing for the clipboard.
///
/// # Errors
/// When they can't be written.
pub fn write(bytes: &[u8], out: &mut dyn io::Write) -> io::Result<()> {
    let mut result = Ok(());
    lines(bytes, &mut |glyphs| {
        if result.is_ok() {
            result = write_line(glyphs, out);
        }
    });
    result
}

fn write_line(glyphs: &[Glyph], out: &mut dyn io::Write) -> io::Result<()> {
    for run in glyphs.chunk_by(|a, b| a.style == b.style) {
        let style = run[0].style.ansi();
        let text: String = run.iter().map(|glyph| glyph.c).collect();
        write!(out, "{style}{text}{style:#}")?;
    }
    writeln!(out)
}

impl Style {
    fn ansi(self) -> anstyle::Style {
        let effects = [
            (self.bold, Effects::BOLD),
            (self.dim, Effects::DIMMED),
            (self.italic, Effects::ITALIC),
            (self.underline, Effects::UNDERLINE),
            (self.strike, Effects::STRIKETHROUGH),
            (self.reverse, Effects::INVERT),
        ];
        let effects = effects.into_iter().filter(|(on, _)| *on).fold(Effects::new(), |all, (_, effect)| all | effect);
        anstyle::Style::new().effects(effects).fg_color(self.foreground.ansi()).bg_color(self.background.ansi())
    }
}

impl Color {
    fn ansi(self) -> Option<anstyle::Color> {
        match self {
            Self::Default => None,
            Self::Palette(index) => Some(Ansi256Color(index).into()),
            Self::Rgb(red, green, blue) => Some(RgbColor(red, green, blue).into()),
        }
    }
}

struct Screen<'a> {
    line: Vec<Glyph>,
    /// Where the next character goes: it may overwrite one.
    column: usize,
    style: Style,
    emit: &'a mut dyn FnMut(&[Glyph]),
}

impl Screen<'_> {
    fn put(&mut self, c: char) {
        if self.column >= MAX_LINE {
            self.end_line();
        }
        let glyph = Glyph { c, style: self.style };
        if self.column >= self.line.len() {
            // Erasing may have left the cursor behind the end.
            self.line.resize(self.column, Glyph { c: ' ', style: Style::default() });
            self.line.push(glyph);
        } else {
            self.line[self.column] = glyph;
        }
        self.column += 1;
    }

    fn end_line(&mut self) {
        (self.emit)(&self.line);
        self.line.clear();
        self.column = 0;
    }

    /// Erase in line, the `K` of
    /// [ECMA-48](https://ecma-international.org/publications-and-standards/standards/ecma-48/).
    fn erase(&mut self, part: u16) {
        match part {
            0 => self.line.truncate(self.column),
            1 => {
                let end = self.line.len().min(self.column + 1);
                self.line[..end].fill(Glyph { c: ' ', style: Style::default() });
            }
            2 => self.line.clear(),
            _ => (),
        }
    }
}

impl Perform for Screen<'_> {
    fn print(&mut self, c: char) {
        self.put(if is_deceptive(c) { char::REPLACEMENT_CHARACTER } else { c });
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' => self.end_line(),
            b'\r' => self.column = 0,
            b'\t' => self.put('\t'),
            0x08 => self.column = self.column.saturating_sub(1),
            _ => (),
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        match action {
            // With an intermediate, such as `CSI > m`, it means something else.
            _ if ignore || !intermediates.is_empty() => (),
            'm' => self.style.select(params),
            'K' => self.erase(params.iter().next().and_then(|param| param.first().copied()).unwrap_or(0)),
            _ => (),
        }
    }
}

impl Style {
    /// Select graphic rendition, with the colours of ISO 8613-6 in both spellings, `38;5;1` and `38:5:1`.
    fn select(&mut self, params: &Params) {
        let mut params = params.iter();
        while let Some(param) = params.next() {
            let Some((&code, sub)) = param.split_first() else { continue };
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = sub.first() != Some(&0),
                7 => self.reverse = true,
                9 => self.strike = true,
                21 => self.underline = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.reverse = false,
                29 => self.strike = false,
                30..=37 => self.foreground = Color::Palette((code - 30) as u8),
                40..=47 => self.background = Color::Palette((code - 40) as u8),
                90..=97 => self.foreground = Color::Palette((code - 90) as u8 + 8),
                100..=107 => self.background = Color::Palette((code - 100) as u8 + 8),
                39 => self.foreground = Color::Default,
                49 => self.background = Color::Default,
                38 | 48 => {
                    let color = if sub.is_empty() {
                        Color::from_codes(&mut params.by_ref().filter_map(|param| param.first().copied()))
                    } else {
                        Color::from_subparameters(sub)
                    };
                    match (color, code) {
                        (Some(color), 38) => self.foreground = color,
                        (Some(color), _) => self.background = color,
                        (None, _) => (),
                    }
                }
                // Blinking and hidden text are left out on purpose: a log should be read.
                _ => (),
            }
        }
    }
}

impl Color {
    /// `5;N` or `2;R;G;B`.
    fn from_codes(codes: &mut dyn Iterator<Item = u16>) -> Option<Self> {
        match codes.next()? {
            5 => u8::try_from(codes.next()?).ok().map(Self::of_256),
            2 => Self::rgb(codes.next()?, codes.next()?, codes.next()?),
            _ => None,
        }
    }

    /// `5:N`, `2:R:G:B` or, with a colour space, `2:S:R:G:B`.
    fn from_subparameters(sub: &[u16]) -> Option<Self> {
        match *sub {
            [5, index, ..] => u8::try_from(index).ok().map(Self::of_256),
            [2, red, green, blue] | [2, _, red, green, blue, ..] => Self::rgb(red, green, blue),
            _ => None,
        }
    }

    fn rgb(red: u16, green: u16, blue: u16) -> Option<Self> {
        Some(Self::Rgb(red.try_into().ok()?, green.try_into().ok()?, blue.try_into().ok()?))
    }

    /// The 256 colours of xterm: the palette, a cube of 6×6×6, 24 greys.
    fn of_256(index: u8) -> Self {
        let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
        match index {
            0..16 => Self::Palette(index),
            16..232 => {
                let cube = index - 16;
                Self::Rgb(level(cube / 36), level(cube / 6 % 6), level(cube % 6))
            }
            232.. => {
                let grey = 8 + 10 * (index - 232);
                Self::Rgb(grey, grey, grey)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        lines(bytes, &mut |line| all.push(line.iter().map(|glyph| glyph.c).collect()));
        all
    }

    fn style_after(codes: &str) -> Style {
        let mut style = None;
        lines(format!("\x1b[{codes}mx").as_bytes(), &mut |line| style = Some(line[0].style));
        style.unwrap()
    }

    #[test]
    fn lines_that_are_overwritten_show_what_stayed() {
        assert_eq!(shown(b"one\r\ntwo\n\nend"), ["one", "two", "", "end"]);
        assert_eq!(shown(b"10%\r20%\r100%\ndone"), ["100%", "done"]);
        assert_eq!(shown(b"Building 1/2\r\x1b[KFinished\n"), ["Finished"]);
        assert_eq!(shown(b"abc\x1b[2Kd\x08\x08\x08\x08\x08\x08e\n"), ["e  d"]);
    }

    #[test]
    fn what_else_a_terminal_can_be_told_is_dropped() {
        let links = b"\x1b]8;;file:///etc/passwd\x1b\\link\x1b]8;;\x07 \x1b]0;title\x07end";
        assert_eq!(shown(links), ["link end"]);
        assert_eq!(shown(b"\x1b[2J\x1b[1;1H\x1b[999Ax\x1bP1$qm\x1b\\\x07\0"), ["x"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(shown(b"a\xff\xfeb \xe2\x80\xaec \xf0\x9f"), ["a\u{fffd}\u{fffd}b \u{fffd}c "]);
    }

    #[test]
    fn a_line_without_end_is_broken() {
        let lengths: Vec<usize> = shown(&[b'x'; MAX_LINE * 2 + 1]).iter().map(String::len).collect();
        assert_eq!(lengths, [MAX_LINE, MAX_LINE, 1]);
    }

    #[test]
    fn colours_are_understood_in_every_spelling() {
        for (codes, expected) in [
            ("31", Color::Palette(1)),
            ("92", Color::Palette(10)),
            ("38;5;9", Color::Palette(9)),
            ("38:5:208", Color::Rgb(255, 135, 0)),
            ("38;5;244", Color::Rgb(128, 128, 128)),
            ("38;2;1;2;3", Color::Rgb(1, 2, 3)),
            ("38:2:1:2:3", Color::Rgb(1, 2, 3)),
            ("38:2::1:2:3", Color::Rgb(1, 2, 3)),
            ("31;39", Color::Default),
            ("38;5", Color::Default),
            ("38;5;999", Color::Default),
        ] {
            assert_eq!(style_after(codes).foreground, expected, "{codes}");
        }
        assert_eq!(style_after("48;5;1;1").background, Color::Palette(1));
    }

    #[test]
    fn styles_end_where_they_are_told_to() {
        let all = Style { bold: true, dim: true, italic: true, underline: true, strike: true, ..Style::default() };
        assert_eq!(style_after("1;2;3;4;9"), all);
        assert_eq!(style_after("1;2;3;4;9;22;23;24;29"), Style::default());
        assert_eq!(style_after("1;31;0"), Style::default());
        assert_eq!(style_after("7;4:3;4:0"), Style { reverse: true, ..Style::default() });
    }
}
