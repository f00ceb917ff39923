//! Layers of compiled dependencies, which the cells of many crates share without being able to change them.
//!
//! A *layer* holds the files of one unit, as cargo completed it in one cell: read-only files, with a record of the layers
//! that it was compiled against and of the packages whose code could run in that cell. Before an op, the layers of its
//! crate's units are linked into a *base*, over which the crate's own target folder lies as an overlay. Cargo decides
//! which of them are fresh.
//!
//! What is promised:
//!
//! - Nothing of a crate under test gets into a layer: layers come from cells in which its code never ran.
//! - A crate gets a layer only if its own build compiles the same unit, and runs, for the package of that unit, the code
//!   of every package that could run in the cell that made the layer. So the author of such code could have tampered
//!   with a build of that crate that shares nothing, too.
//! - A layer is given only together with the very layers that it was compiled against.
//!
//! Doesn't run anything: the ops decide which cells compile which units.

mod claims;
mod collect;
mod error;
mod harvest;
mod key;
mod layer;
mod layers;
mod tally;
#[cfg(test)]
mod tests;
mod unit;

pub use claims::{Claim, Claims, Pace};
pub use collect::{Collected, Summary, collect, keep_within, summarise};
pub use error::CacheError;
pub use harvest::{Fingerprint, completed_units, unit_hash};
pub use key::{Key, environment};
pub use layers::{Base, Layers, Lower, Made, Taken};
pub use tally::Tally;
pub use unit::{Code, Unit, UnitKey};
