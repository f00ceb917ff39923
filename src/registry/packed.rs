//! Index files, gzipped: in memory for a whole run, and on disk between runs.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use hyper::body::Bytes;

/// The largest index file accepted, unpacked. The largest in the default registry has a few MiB.
pub(super) const MAX_UNPACKED: u64 = 32 << 20;

/// A gzipped file that is known to unpack to at most [`MAX_UNPACKED`] bytes.
///
/// Gzipped since an index file is mostly repetition: a run keeps every one that it asked for, a tenth of the size.
#[derive(Debug, Clone)]
pub(super) struct Packed(Bytes);

impl Packed {
    /// Packs `raw`.
    pub(super) fn pack(raw: &[u8]) -> io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(raw)?;
        Ok(Self(encoder.finish()?.into()))
    }

    /// Checks gzipped bytes from elsewhere: damage and bombs are errors.
    pub(super) fn from_gzip(bytes: impl Into<Bytes>) -> io::Result<Self> {
        let packed = Self(bytes.into());
        packed.unpack()?;
        Ok(packed)
    }

    /// The file as it was.
    pub(super) fn unpack(&self) -> io::Result<Vec<u8>> {
        let mut raw = Vec::new();
        let mut decoder = GzDecoder::new(&*self.0).take(MAX_UNPACKED + 1);
        decoder.read_to_end(&mut raw)?;
        if raw.len() as u64 > MAX_UNPACKED {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("unpacks to more than {MAX_UNPACKED} bytes"),
            ));
        }
        Ok(raw)
    }

    /// The gzipped bytes.
    pub(super) fn as_gzip(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_gives_back_the_bytes() {
        let packed = Packed::pack(b"{}\n{}\n").unwrap();
        assert_eq!(Packed::from_gzip(packed.as_gzip().to_vec()).unwrap().unpack().unwrap(), b"{}\n{}\n");
    }

    #[test]
    fn truncated_bytes_and_bombs_are_refused() {
        let whole = Packed::pack(&[7; 1000]).unwrap();
        let truncated = whole.as_gzip()[..whole.as_gzip().len() - 4].to_vec();
        assert_eq!(Packed::from_gzip(truncated).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let bomb = Packed::pack(&vec![0; MAX_UNPACKED as usize + 1]).unwrap();
        assert_eq!(Packed::from_gzip(bomb.0).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
