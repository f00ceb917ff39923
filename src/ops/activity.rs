//! The present activity of an op, for its watchers. Nothing depends on it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

use super::{OpName, Order};
use crate::krate::CrateId;
use crate::toolchain::Toolchain;

/// The present activity of an op. Clones are of the same op.
#[derive(Clone, Default)]
pub struct Activity(Arc<AtomicU8>);

/// A part of an op's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// The op's own command, or getting there.
    Command = 0,
    /// Compiling dependencies that crates share, or waiting for another op that compiles them.
    Dependencies = 1,
}

impl Activity {
    /// Sets the op's activity.
    pub fn set(&self, doing: Doing) {
        self.0.store(doing as u8, Ordering::Relaxed);
    }

    /// The op's activity now.
    pub fn now(&self) -> Doing {
        match self.0.load(Ordering::Relaxed) {
            1 => Doing::Dependencies,
            _ => Doing::Command,
        }
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

/// Equal where they say the same.
impl PartialEq for Activity {
    fn eq(&self, other: &Self) -> bool {
        self.now() == other.now()
    }
}

impl Eq for Activity {}

/// Which op a file of live output is of: its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The crate.
    pub krate: CrateId,
    /// The op.
    pub op: OpName,
    /// The toolchain; none for all.
    pub toolchain: Option<String>,
}

impl Running {
    pub(super) fn to_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Order<'_> {
    pub(super) fn running(&self, toolchains: &[Toolchain]) -> Running {
        let toolchain = self.toolchain.and_then(|place| toolchains.get(place));
        Running {
            krate: self.krate.id.clone(),
            op: self.op.name(),
            toolchain: toolchain.map(|toolchain| toolchain.label().to_owned()),
        }
    }
}
