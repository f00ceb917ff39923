//! A sandbox for tests: a script decides how each command ends, and the requests are recorded.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Command, End, Exit, Output, Owner, Spec, Usage};

type Script = dyn Fn(&Spec, &Command) -> Exit + Send + Sync;

/// Opens cells that only pretend.
#[derive(Clone)]
pub struct Fake {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<(Spec, Command)>>>,
    /// The owner of what [`super::Sandbox::user`] returns.
    pub owner: Option<Owner>,
}

/// A cell that only pretends.
#[derive(Debug)]
pub struct FakeCell {
    sandbox: Fake,
    spec: Spec,
}

impl Fake {
    /// A sandbox where `script` plays every command; it may change the mounts of the spec as the command would.
    pub fn new(script: impl Fn(&Spec, &Command) -> Exit + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default(), owner: None }
    }

    /// The commands so far, in order, with the spec of their cells.
    pub fn seen(&self) -> Vec<(Spec, Command)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn open(&self, spec: Spec) -> FakeCell {
        FakeCell { sandbox: self.clone(), spec }
    }
}

impl FakeCell {
    pub(super) fn run(&self, command: &Command) -> Exit {
        let mut seen = self.sandbox.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push((self.spec.clone(), command.clone()));
        drop(seen);
        (self.sandbox.script)(&self.spec, command)
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// An exit with this end and this output, after a second.
pub fn exit(end: End, printed: &str) -> Exit {
    Exit {
        end,
        usage: Usage { wall: Duration::from_secs(1), ..Usage::default() },
        output: Output { head: printed.as_bytes().to_vec(), ..Output::default() },
        doubt: None,
    }
}
