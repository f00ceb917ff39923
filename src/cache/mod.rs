//! Layers of compiled dependencies, which the cells of many crates share without being able to change them.
//!
//! A *layer* is what cargo made of one package in one cell: read-only files, with a record of what they were compiled
//! against and of whose code ran in that cell. Before an op, the layers that are for its crate are linked into a
//! *base*, over which the crate's own target folder lies as an overlay. Cargo decides what of it is fresh.
//!
//! What is promised:
//!
//! - Nothing of a crate under test gets into a layer: layers come from cells in which its code never ran.
//! - A crate gets a layer only if its own lockfile has, below the package that it is of, every package whose code ran
//!   in the cell that made it. So whoever could have tampered with what a crate is given could as well have done so
//!   in a build of that crate that shares nothing.
//! - A layer is given only together with the very layers that it was compiled against.
//! - At last a crate is left with the units that its own command uses, and no others.
//!
//! Doesn't run anything: which cells compile what is a matter of the ops.

mod claims;
mod collect;
mod error;
mod graph;
mod harvest;
mod key;
mod layer;
mod layers;
mod tally;
#[cfg(test)]
mod tests;

pub use claims::{Claim, Claims};
pub use collect::{Collected, Summary, collect, keep_within, summarise};
pub use error::CacheError;
pub use graph::{Code, Graph, compiles_as_usual};
pub use harvest::unit_hash;
pub use key::Key;
pub use layers::{Base, Layers};
pub use tally::Tally;
