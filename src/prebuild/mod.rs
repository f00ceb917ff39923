//! Decides what can be compiled ahead of a crate: from cargo's own list of the units of a command, to the order in which
//! cells compile them.
//!
//! Pure: cargo's answers go in, the next round to compile comes out. Cells are driven by `ops::ahead`.

mod artifacts;
mod dependencies;
mod manifest;
mod rounds;
mod unit_graph;

pub use artifacts::{Artifact, artifacts, identify};
pub use dependencies::{Dependencies, Refusal};
pub use manifest::{compiles_as_usual, target_files};
pub use rounds::{Outcome, Round, Rounds, Step};
pub use unit_graph::{BadUnitGraph, UnitGraph, find};
