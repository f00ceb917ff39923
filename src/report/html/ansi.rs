//! A log as HTML: as a terminal shows it, in flat spans whose classes are in style.css.

use std::fmt::Write as _;

use crate::report::terminal::{self, Color, Glyph, Style};

/// The bytes as the content of a `<pre>`; all of their text is escaped.
pub(super) fn to_html(bytes: &[u8]) -> String {
    let mut html = String::with_capacity(bytes.len() + bytes.len() / 4);
    terminal::lines(bytes, &mut |line| {
        for run in line.chunk_by(|a, b| a.style == b.style) {
            push_run(&mut html, run);
        }
        html.push('\n');
    });
    html
}

/// Characters of one style; never empty.
fn push_run(html: &mut String, run: &[Glyph]) {
    let style = run[0].style;
    if style == Style::default() {
        push_text(html, run);
        return;
    }
    let (classes, colors) = look(style);
    html.push_str("<span");
    for (attribute, value) in [("class", classes.trim_end()), ("style", colors.as_str())] {
        if !value.is_empty() {
            let _ = write!(html, " {attribute}=\"{value}\"");
        }
    }
    html.push('>');
    push_text(html, run);
    html.push_str("</span>");
}

fn push_text(html: &mut String, run: &[Glyph]) {
    for glyph in run {
        match glyph.c {
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '&' => html.push_str("&amp;"),
            c => html.push(c),
        }
    }
}

/// Classes, each with a space behind it, and inline properties for the colours that no class has.
fn look(style: Style) -> (String, String) {
    let (foreground, background) =
        if style.reverse { (style.background, style.foreground) } else { (style.foreground, style.background) };
    let (mut classes, mut colors) = (String::new(), String::new());
    for (class, on) in [
        ("b ", style.bold),
        ("d ", style.dim),
        ("i ", style.italic),
        ("u ", style.underline),
        ("s ", style.strike),
        // With colours, swapping them is enough.
        ("r ", style.reverse && (foreground, background) == (Color::Default, Color::Default)),
    ] {
        if on {
            classes.push_str(class);
        }
    }
    for (name, prefix, color) in [("f", "f", foreground), ("g", "g g", background)] {
        match color {
            Color::Default => (),
            Color::Palette(index) => {
                let _ = write!(classes, "{prefix}{index} ");
            }
            Color::Rgb(red, green, blue) => {
                let _ = write!(classes, "{prefix}x ");
                let _ = write!(colors, "--{name}:#{red:02x}{green:02x}{blue:02x};");
            }
        }
    }
    (classes, colors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_classes_and_text_is_escaped() {
        for (log, expected) in [
            ("plain\n", "plain\n"),
            ("<b>&\"'\n", "&lt;b&gt;&amp;\"'\n"),
            ("\x1b[1m\x1b[38;5;9merror\x1b[0m: <T>\n", "<span class=\"b f9\">error</span>: &lt;T&gt;\n"),
            ("\x1b[31;42mx", "<span class=\"f1 g g2\">x</span>\n"),
            ("\x1b[7mx", "<span class=\"r\">x</span>\n"),
            ("\x1b[7;31mx", "<span class=\"g g1\">x</span>\n"),
            ("\x1b[38;2;255;0;9mx", "<span class=\"fx\" style=\"--f:#ff0009;\">x</span>\n"),
            ("\x1b[1m\x1b[3mx\x1b[0m", "<span class=\"b i\">x</span>\n"),
        ] {
            assert_eq!(to_html(log.as_bytes()), expected, "{log:?}");
        }
    }

    #[test]
    fn spans_never_nest_and_never_stay_open() {
        let html = to_html("\x1b[1ma\x1b[31mb\x1b[4mc\nd".repeat(50).as_bytes());
        let mut open = 0;
        for piece in html.split('<').skip(1) {
            open += if piece.starts_with("span") { 1 } else { -1 };
            assert!((0..=1).contains(&open), "{html}");
        }
        assert_eq!(open, 0);
    }

    #[test]
    fn a_log_cannot_leave_its_place() {
        let html = to_html(b"</pre><script>alert(1)</script>\x1b]8;;javascript:alert(1)\x07x\x1b]8;;\x07\"><img>");
        assert_eq!(html, "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;x\"&gt;&lt;img&gt;\n");
    }
}
