//! The bundle of a crate: zlib streams one after another, each found by its [`Span`]. One object per crate instead of
//! one per log.
//!
//! A bundle comes from an agent, so a span may lie, and a stream may unpack to more than its span declares.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

/// The longest text that one stream may unpack to: twice the longest log that an experiment may keep by default.
pub const MAX_UNPACKED: u64 = 256 * 1024 * 1024;

/// Where a stream is: its first byte, its length, and its unpacked length. All zero: nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64)", into = "(u64, u64, u64)")]
pub struct Span {
    /// The place of its first byte in the bundle.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// How many bytes it unpacks to.
    pub unpacked: u64,
}

impl From<(u64, u64, u64)> for Span {
    fn from((offset, length, unpacked): (u64, u64, u64)) -> Self {
        Self { offset, length, unpacked }
    }
}

impl From<Span> for (u64, u64, u64) {
    fn from(span: Span) -> Self {
        (span.offset, span.length, span.unpacked)
    }
}

/// Why a stream of a bundle can't be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It is not in the bundle.
    #[error("bytes {} to {} are not in the bundle, which has {bytes}", .span.offset, .span.offset.saturating_add(.span.length))]
    Outside {
        /// Where it should be.
        span: Span,
        /// How long the bundle is.
        bytes: u64,
    },
    /// It is longer than any text may be.
    #[error("{unpacked} bytes are more than the {MAX_UNPACKED} that one text of a bundle may have")]
    TooLong {
        /// How long it should be.
        unpacked: u64,
    },
    /// It is not a zlib stream of that length.
    #[error("the stream at byte {offset} is not a zlib stream of {unpacked} bytes")]
    Damaged {
        /// Where it begins.
        offset: u64,
        /// How long it should be.
        unpacked: u64,
        /// The words of the decoder.
        source: io::Error,
    },
}

/// A bundle that is being made.
#[derive(Debug, Default)]
pub struct Bundle(Vec<u8>);

impl Bundle {
    /// Appends a text. An empty one takes no room.
    pub fn append(&mut self, text: &[u8]) -> Span {
        if text.is_empty() {
            return Span::default();
        }
        let offset = self.0.len() as u64;
        let mut encoder = ZlibEncoder::new(std::mem::take(&mut self.0), Compression::fast());
        self.0 = encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing to a Vec never fails");
        Span { offset, length: self.0.len() as u64 - offset, unpacked: text.len() as u64 }
    }

    /// Cuts it back to an earlier length.
    pub fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// The bytes to upload.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// How many bytes it has so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The text of a stream.
///
/// Errors when the span is not in the bundle, or the stream is not exactly as long unpacked as the span declares. Needs
/// no more memory than that.
pub fn read(bundle: &[u8], span: Span) -> Result<Vec<u8>, BundleError> {
    let Span { offset, length, unpacked } = span;
    if span == Span::default() {
        return Ok(Vec::new());
    }
    if unpacked > MAX_UNPACKED {
        return Err(BundleError::TooLong { unpacked });
    }
    let outside = || BundleError::Outside { span, bytes: bundle.len() as u64 };
    let end = offset.checked_add(length).ok_or_else(outside)?;
    let place = |at: u64| usize::try_from(at).map_err(|_| outside());
    let packed = bundle.get(place(offset)?..place(end)?).ok_or_else(outside)?;
    let damaged = |source| BundleError::Damaged { offset, unpacked, source };
    let mut text = Vec::new();
    ZlibDecoder::new(packed).take(unpacked.saturating_add(1)).read_to_end(&mut text).map_err(damaged)?;
    if text.len() as u64 == unpacked {
        Ok(text)
    } else {
        Err(damaged(io::Error::new(io::ErrorKind::InvalidData, format!("{} bytes or more", text.len()))))
    }
}
