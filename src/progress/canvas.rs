//! The terminal text that replaces one frame by the next: what to clear, which lines to leave above, what to show.
//!
//! Counts rows anew for each frame, because a terminal that has become narrower since has broken the last frame's lines
//! into more rows. Writes nothing itself.

use console::{measure_text_width, truncate_str};

/// What is on the terminal below all lines that stay.
#[derive(Debug, Default)]
pub(super) struct Canvas {
    frame: Vec<String>,
    columns: usize,
}

impl Canvas {
    /// The text that clears the last frame, prints `above` for good and shows `frame`; empty if nothing changes. Lines are
    /// cut to the terminal's width.
    pub(super) fn draw(&mut self, above: &[String], frame: &[String], columns: usize) -> String {
        if above.is_empty() && *frame == *self.frame && columns == self.columns {
            return String::new();
        }
        let mut text = self.cleared(columns);
        for line in above {
            text.push_str(&truncate_str(line, columns, "…"));
            text.push('\n');
        }
        // Without a line break at the end: it could scroll the first line off the screen.
        text.push_str(&frame.join("\n"));
        self.frame = frame.to_vec();
        self.columns = columns;
        text
    }

    /// Clears the last frame, at whose end the cursor stands.
    fn cleared(&self, columns: usize) -> String {
        let rows: usize = self.frame.iter().map(|line| rows(line, columns)).sum();
        match rows {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            _ => format!("\r\x1b[{}A\x1b[J", rows - 1),
        }
    }
}

/// How many rows a line takes on a terminal of so many columns.
fn rows(line: &str, columns: usize) -> usize {
    measure_text_width(line).div_ceil(columns.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn a_frame_replaces_the_last_one_and_lines_above_stay() {
        let mut canvas = Canvas::default();
        assert_eq!(canvas.draw(&[], &lines(&["a", "b"]), 80), "a\nb");
        assert_eq!(canvas.draw(&[], &lines(&["a", "b"]), 80), "", "nothing has changed");
        assert_eq!(canvas.draw(&lines(&["news"]), &lines(&["c", "d"]), 80), "\r\x1b[1A\x1b[Jnews\nc\nd");
        assert_eq!(canvas.draw(&[], &lines(&["e"]), 80), "\r\x1b[1A\x1b[Je");
        assert_eq!(canvas.draw(&[], &[], 80), "\r\x1b[J", "at the end nothing is left");
    }

    #[test]
    fn a_narrower_terminal_is_cleared_of_the_rows_that_it_broke_lines_into() {
        let mut canvas = Canvas::default();
        let wide = format!("\x1b[31m{}\x1b[0m", "x".repeat(80));
        canvas.draw(&[], &[wide.clone(), String::new(), "y".to_owned()], 80);
        // 80 columns are three rows of 30, and then two rows more.
        assert!(canvas.draw(&[], &lines(&["z"]), 30).starts_with("\r\x1b[4A\x1b[J"), "{canvas:?}");
        canvas.draw(&[], &[wide], 80);
        assert_eq!(canvas.draw(&[], &lines(&["z"]), 160), "\r\x1b[Jz", "a wider one joins nothing that was no line");
    }

    #[test]
    fn lines_above_fit_the_width() {
        let text = Canvas::default().draw(&lines(&[&"n".repeat(100), "short"]), &[], 20);
        assert_eq!(text, format!("{}…\nshort\n", "n".repeat(19)));
    }
}
