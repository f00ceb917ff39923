//! The tables of the server: tokens, the queue of experiments, and the audit.
//!
//! Keeps records only. Rights and the order of experiments are decided elsewhere.

mod agents;
mod audit;
mod crates;
mod experiments;
mod jobs;
mod tokens;

pub use agents::AgentRecord;
pub use audit::{Change, Via};
pub use experiments::{Edit, Listed, Served, State, Submission, Submitted, Which};
pub use jobs::{Accepted, How, JobCounts, JobFacts, JobKey, NewJob, Running, WaitingJob};
pub use tokens::{BadRole, Role, TokenRecord};
