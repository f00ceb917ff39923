//! Chooses the next job for an agent. Pure: the known state goes in, and decisions come out.
//!
//! Knows neither the engine's queues nor the database: `serve` asks, and carries the decisions out.

mod desk;
mod needs;
mod order;
mod shares;

pub use desk::{Desk, Facts, Held, MOST_LOSSES, Renewal, SUSPECT_DELAY, Verdict, decide};
pub use needs::{Lacking, lacking};
pub use order::{Candidate, allot};
pub use shares::Shares;
