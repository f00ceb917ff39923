//! Makes hostile text fit for one line of a terminal or a page, and numbers fit for people.

use std::error::Error;
use std::time::Duration;

use bytesize::ByteSize;
use unicode_width::UnicodeWidthChar;

/// Whether a character could move a cursor, reorder text or hide in it.
///
/// Control characters, the bidirectional controls of [UAX #9](https://www.unicode.org/reports/tr9/), zero-width and
/// other invisible formatting, and separators that break lines.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The largest number of characters that are kept of a line: more than any reason of maar has.
const MAX: usize = 4000;

/// `text` as one line: escape sequences are gone, white space is single blanks, other characters without a shape of
/// their own are `�`, and the end is cut off beyond 4000 characters.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut length = 0;
    for c in anstream::adapter::strip_str(text).flat_map(str::chars) {
        let shown = match c {
            c if c.is_whitespace() => ' ',
            c if is_deceptive(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        if shown == ' ' && (line.is_empty() || line.ends_with(' ')) {
            continue;
        }
        if length == MAX {
            line.push('…');
            break;
        }
        line.push(shown);
        length += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

/// A message of several lines without escape sequences; other characters without a shape of their own are `�`.
pub fn lines(text: &str) -> String {
    let shown = |c| if is_deceptive(c) && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    anstream::adapter::strip_str(text).flat_map(str::chars).map(shown).collect()
}

/// An error with its causes, but for causes whose text is there already.
pub fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

/// The innermost cause of an error: the specific one (`Connection refused`), where those above it are general.
pub fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

/// How many columns a terminal needs for the text.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// The text, cut with `…` to at most this many columns.
pub fn truncate(text: &str, columns: usize) -> String {
    if width(text) <= columns && text.chars().count() <= columns.saturating_mul(4) {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut left = columns.saturating_sub(1);
    // Characters without width, such as combining marks, are bounded too.
    for c in text.chars().take(columns.saturating_mul(4)) {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else { break };
        left = rest;
        cut.push(c);
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

/// A duration with two units at most, such as `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 07 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds}.{} s", duration.subsec_millis() / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600.. => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A size in binary units, such as `300.0 MiB`.
pub fn bytes(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// `1 crate`, `2 crates`, `10,000 crates`.
pub fn crates(count: usize) -> String {
    format!("{} crate{}", thousands(count), if count == 1 { "" } else { "s" })
}

/// A number with commas between thousands.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crate_says_is_one_line_without_tricks() {
        for (text, shown) in [
            ("does not compile: E0554", "does not compile: E0554"),
            ("\x1b[31merror\x1b[0m: no", "error: no"),
            ("\x1b]0;title\x07after\x1b[2J", "after"),
            ("two\r\n\t lines\n", "two lines"),
            ("bell\x07 c1\u{9b}31m del\x7f", "bell c1�31m del"),
            ("bidi \u{202e}txt.exe", "bidi �txt.exe"),
            ("größe 文字", "größe 文字"),
            ("", ""),
        ] {
            assert_eq!(one_line(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let shown = one_line(&"ä".repeat(1_000_000));
        assert_eq!(shown, "ä".repeat(MAX) + "…");
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(truncate("abcdef", 6), "abcdef");
        assert_eq!(truncate("abcdef", 5), "abcd…");
        assert_eq!(truncate("漢字漢字", 8), "漢字漢字");
        assert_eq!(truncate("漢字漢字", 6), "漢字…");
        assert_eq!(truncate("abc", 1), "…");
        assert_eq!(truncate("abc", 0), "");
    }

    #[test]
    fn a_pile_of_combining_marks_is_cut() {
        let pile = format!("a{}", "\u{301}".repeat(1000));
        assert_eq!(truncate(&pile, 10).chars().count(), 41);
    }

    #[test]
    fn durations_have_two_units_at_most() {
        for (millis, expected) in [
            (0, "0 ms"),
            (850, "850 ms"),
            (12_340, "12.3 s"),
            (59_999, "59.9 s"),
            (245_000, "4 min 05 s"),
            (7_620_000, "2 h 07 min"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn thousands_are_told_apart() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), expected);
        }
        assert_eq!((crates(1), crates(2)), ("1 crate".to_owned(), "2 crates".to_owned()));
    }
}
