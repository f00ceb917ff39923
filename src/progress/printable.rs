//! Makes text from outside fit to show: one line, nothing that moves the cursor or hides what it says.

/// The most characters that are shown; a reason has a page of its own in the report.
const MAX: usize = 400;

/// One line of what `text` says: escape sequences are gone, white space is single blanks, other characters without a
/// shape of their own are `�`, and the end is cut off beyond 400 characters.
pub(super) fn printable(text: &str) -> String {
    let mut line = String::new();
    let mut length = 0;
    for c in anstream::adapter::strip_str(text).flat_map(str::chars) {
        let shown = match c {
            c if c.is_whitespace() => ' ',
            c if is_unseen(c) => char::REPLACEMENT_CHARACTER,
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

/// Whether a character acts on the terminal or on its neighbours instead of being seen: control characters, and those
/// that join, separate or reorder, after [Unicode's annex 9](https://www.unicode.org/reports/tr9/) and the general
/// category Cf.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
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
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let shown = printable(&"ä".repeat(1_000_000));
        assert_eq!(shown, "ä".repeat(MAX) + "…");
    }
}
