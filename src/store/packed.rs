//! Bytes as the database keeps them: a zlib stream and its unpacked size.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// Compresses. Fast rather than small: logs shrink about tenfold at any level, and the writer must keep up.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("writing to a Vec never fails")
}

/// Restores what [`pack`] was given.
///
/// Errors when the stream is damaged or is not exactly `size` bytes long unpacked, which also bounds the memory.
pub(super) fn unpack(packed: &[u8], size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    ZlibDecoder::new(packed).take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size {
        Ok(bytes)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("not {size} bytes long, as it should be")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_were() {
        for bytes in [&b""[..], b"\0\xff not text", &[7; 100_000]] {
            assert_eq!(unpack(&pack(bytes), bytes.len() as u64).unwrap(), bytes);
        }
    }

    #[test]
    fn a_stream_longer_or_shorter_than_it_says_is_an_error() {
        let bomb = pack(&[0; 1_000_000]);
        assert!(unpack(&bomb, 10).is_err());
        assert!(unpack(&pack(b"short"), 6).is_err());
        assert!(unpack(b"no stream", 3).is_err());
    }
}
