//! The registry: which crates there are, and their sources. Knows nothing of ops or pools.

pub mod lockfile;
mod package;
mod place;
pub mod select;
pub mod tree;
pub mod unpack;

pub use self::package::{BadChecksum, Checksum, Package};
pub use self::place::Owner;
