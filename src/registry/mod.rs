//! The registry: which crates there are, and their sources. Knows nothing of ops or pools.

pub mod select;
