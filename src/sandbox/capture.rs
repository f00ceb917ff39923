//! Keeps the head and the tail of an output of any length in bounded memory.

use bytesize::ByteSize;

use super::Output;

/// Output as it comes: the first half of the limit, then a ring of the last half.
#[derive(Debug)]
pub(super) struct Capture {
    head: Vec<u8>,
    head_limit: usize,
    ring: Vec<u8>,
    ring_limit: usize,
    /// Where the oldest byte of a full ring is.
    oldest: usize,
    dropped: u64,
}

impl Capture {
    /// An empty capture that will keep at most `limit` bytes. Memory is taken as output comes.
    pub(super) fn new(limit: ByteSize) -> Self {
        let limit = usize::try_from(limit.as_u64()).unwrap_or(usize::MAX);
        let ring_limit = limit / 2;
        Self { head: Vec::new(), head_limit: limit - ring_limit, ring: Vec::new(), ring_limit, oldest: 0, dropped: 0 }
    }

    /// Appends the next output.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let for_head = bytes.len().min(self.head_limit - self.head.len());
        let (head, rest) = bytes.split_at(for_head);
        self.head.extend_from_slice(head);
        // Of a chunk longer than the ring only its end can stay.
        let skipped = rest.len().saturating_sub(self.ring_limit);
        self.dropped += skipped as u64;
        self.push_to_ring(&rest[skipped..]);
    }

    fn push_to_ring(&mut self, bytes: &[u8]) {
        let growth = bytes.len().min(self.ring_limit - self.ring.len());
        let (fresh, overwriting) = bytes.split_at(growth);
        self.ring.extend_from_slice(fresh);
        self.dropped += overwriting.len() as u64;
        let to_the_end = overwriting.len().min(self.ring.len() - self.oldest);
        let (first, wrapped) = overwriting.split_at(to_the_end);
        self.ring[self.oldest..self.oldest + first.len()].copy_from_slice(first);
        self.ring[..wrapped.len()].copy_from_slice(wrapped);
        if !self.ring.is_empty() {
            self.oldest = (self.oldest + overwriting.len()) % self.ring.len();
        }
    }

    /// How many bytes were taken so far, kept or not.
    pub(super) fn taken(&self) -> u64 {
        (self.head.len() + self.ring.len()) as u64 + self.dropped
    }

    /// Everything that was kept.
    pub(super) fn finish(mut self) -> Output {
        self.ring.rotate_left(self.oldest);
        if self.dropped == 0 {
            self.head.append(&mut self.ring);
        }
        Output { head: self.head, tail: self.ring, dropped: self.dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(limit: u64, chunks: &[&str]) -> (String, String, u64) {
        let mut capture = Capture::new(ByteSize(limit));
        for chunk in chunks {
            capture.push(chunk.as_bytes());
        }
        let output = capture.finish();
        (String::from_utf8(output.head).unwrap(), String::from_utf8(output.tail).unwrap(), output.dropped)
    }

    fn check(limit: u64, chunks: &[&str], head: &str, tail: &str, dropped: u64) {
        assert_eq!(capture(limit, chunks), (head.to_owned(), tail.to_owned(), dropped), "{limit} {chunks:?}");
    }

    #[test]
    fn output_within_the_limit_is_kept_whole() {
        check(6, &[], "", "", 0);
        check(6, &["ab", "cdef"], "abcdef", "", 0);
        check(7, &["abcd", "efg"], "abcdefg", "", 0);
    }

    #[test]
    fn head_and_tail_of_longer_output_are_kept() {
        check(6, &["abcdefgh"], "abc", "fgh", 2);
        check(6, &["a", "b", "c", "d", "e", "f", "g", "h"], "abc", "fgh", 2);
        check(6, &["abcde", "fg", "hi"], "abc", "ghi", 3);
        check(7, &["abcdefghij"], "abcd", "hij", 3);
    }

    #[test]
    fn a_limit_of_nothing_counts_only() {
        check(0, &["abc", "d"], "", "", 4);
        check(1, &["abc", "d"], "a", "", 3);
    }

    #[test]
    fn every_way_to_cut_the_same_text_keeps_the_same() {
        let text: String = ('a'..='z').collect();
        for size in 1..=26 {
            let chunks: Vec<&str> = (0..26).step_by(size).map(|at| &text[at..(at + size).min(26)]).collect();
            assert_eq!(capture(10, &chunks), ("abcde".to_owned(), "vwxyz".to_owned(), 16), "chunks of {size}");
        }
    }
}
