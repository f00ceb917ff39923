//! Sizes as JSON numbers of bytes. `bytesize` writes them as rounded texts, which come back as other sizes: 1500 MiB as
//! "1.5 GiB", which is 1536 MiB. Reading accepts both.

use bytesize::ByteSize;
use serde::{Serialize, Serializer};

/// Writes a size.
pub fn size<S: Serializer>(size: &ByteSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.as_u64())
}

/// Writes a size that may be absent.
pub fn maybe_size<S: Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.as_u64()).serialize(serializer)
}
