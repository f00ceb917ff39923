//! Mends a frame that a narrower terminal has broken into more rows.
//!
//! indicatif counts the rows of a frame when it draws the frame, and clears as many before the next one. So a window that
//! became narrower in between would keep the rows in excess. Writes nothing itself.

use console::measure_text_width;

/// The text that clears the last frame, at whose end the cursor stands, and puts the cursor where the end would be on the
/// terminal that the frame was drawn for; empty if no line is broken.
pub(super) fn mended(frame: &[String], columns: usize) -> String {
    let rows: usize = frame.iter().map(|line| rows(line, columns)).sum();
    if rows <= frame.len() {
        return String::new();
    }
    format!("\r\x1b[{}A\x1b[J{}", rows - 1, "\n".repeat(frame.len() - 1))
}

/// The number of rows of a line on a terminal of this width.
fn rows(line: &str, columns: usize) -> usize {
    measure_text_width(line).div_ceil(columns.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrower_terminal_is_cleared_of_the_rows_that_it_broke_lines_into() {
        let wide = format!("\x1b[31m{}\x1b[0m", "x".repeat(80));
        let frame = [wide, String::new(), "y".to_owned()];
        assert_eq!(mended(&frame, 80), "");
        assert_eq!(mended(&frame, 160), "");
        // 80 columns are three rows of 30, and then two rows more.
        assert_eq!(mended(&frame, 30), "\r\x1b[4A\x1b[J\n\n");
        assert_eq!(mended(&frame[..1], 30), "\r\x1b[2A\x1b[J");
        assert_eq!(mended(&[], 30), "");
    }
}
