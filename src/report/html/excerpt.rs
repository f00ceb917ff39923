//! The part of a log that a page shows: all of a small one, the beginning and the end of a large one.

use crate::sandbox::Output;

/// How many bytes of a large log are shown. The end is where errors are.
const HEAD: usize = 64 << 10;
const TAIL: usize = 192 << 10;

/// The parts of a log that a page shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Excerpt<'a> {
    pub(super) head: &'a [u8],
    /// How many bytes between head and tail are not shown.
    pub(super) left_out: u64,
    pub(super) tail: &'a [u8],
}

/// Cuts at the ends of lines where there are any.
pub(super) fn excerpt(log: &Output) -> Excerpt<'_> {
    let kept = log.head.len() + log.tail.len();
    if kept <= HEAD + TAIL {
        return Excerpt { head: &log.head, left_out: log.dropped, tail: &log.tail };
    }
    let head = first(&log.head, HEAD);
    // Without a separate tail, the end of the head is the end of the log.
    let tail = last(if log.tail.is_empty() { &log.head[head.len()..] } else { &log.tail }, TAIL);
    Excerpt { head, left_out: log.dropped + (kept - head.len() - tail.len()) as u64, tail }
}

fn first(bytes: &[u8], most: usize) -> &[u8] {
    let Some(cut) = bytes.get(..most) else { return bytes };
    let end = cut.iter().rposition(|byte| *byte == b'\n').map_or(most, |newline| newline + 1);
    &bytes[..end]
}

fn last(bytes: &[u8], most: usize) -> &[u8] {
    let cut = &bytes[bytes.len().saturating_sub(most)..];
    if cut.len() == bytes.len() {
        return bytes;
    }
    let start = cut.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    &cut[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_log_is_shown_whole() {
        let log = Output { head: b"a\nb".to_vec(), tail: Vec::new(), dropped: 0 };
        assert_eq!(excerpt(&log), Excerpt { head: b"a\nb", left_out: 0, tail: b"" });
    }

    #[test]
    fn a_large_log_shows_whole_lines_of_both_ends_and_counts_the_rest() {
        let line = b"0123456789abcde\n";
        for log in [
            Output { head: line.repeat(100_000), tail: Vec::new(), dropped: 0 },
            Output { head: line.repeat(50_000), tail: line.repeat(50_000), dropped: 1000 },
        ] {
            let Excerpt { head, left_out, tail } = excerpt(&log);
            assert!(head.len() <= HEAD && head.ends_with(line) && head.starts_with(line));
            assert!(tail.len() <= TAIL && tail.ends_with(line) && tail.starts_with(line));
            assert_eq!(left_out, 1_600_000 + log.dropped - (head.len() + tail.len()) as u64);
        }
    }

    #[test]
    fn a_large_log_without_lines_is_cut_anyway() {
        let log = Output { head: vec![b'x'; 1 << 20], tail: Vec::new(), dropped: 0 };
        let Excerpt { head, tail, .. } = excerpt(&log);
        assert_eq!((head.len(), tail.len()), (HEAD, TAIL));
    }
}
