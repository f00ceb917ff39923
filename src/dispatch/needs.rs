//! What an experiment needs of a host, against what an agent claims to be.

use std::collections::BTreeSet;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::exact;
use crate::wire::Hello;

/// What the jobs of an experiment need of a host. Empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Needs {
    /// Such as `linux`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    /// Such as `x86_64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Such as `docker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Labels that the agent must have, all of them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// How much memory the host must have at least.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "exact::maybe_size")]
    pub memory: Option<ByteSize>,
}

/// Something that an agent lacks, for the page on agents.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Lacking {
    #[error("needs the {what} `{needed}`, the agent has `{found}`")]
    Other { what: &'static str, needed: String, found: String },
    #[error("needs the sandbox `{0}`, which does not work on the agent's host")]
    Sandbox(String),
    #[error("needs the label `{0}`")]
    Label(String),
    #[error("needs {} of memory, the agent has {}", .needed.display().iec(), .found.display().iec())]
    Memory { needed: ByteSize, found: ByteSize },
}

impl Needs {
    /// Whether an agent has all that is needed; else the first thing that it lacks.
    pub fn check(&self, agent: &Hello) -> Result<(), Lacking> {
        for (what, needed, found) in [("os", &self.os, &agent.os), ("arch", &self.arch, &agent.arch)] {
            if let Some(needed) = needed.as_ref().filter(|needed| *needed != found) {
                return Err(Lacking::Other { what, needed: needed.clone(), found: found.clone() });
            }
        }
        if let Some(sandbox) = self.sandbox.as_ref().filter(|sandbox| !agent.sandbox.contains(*sandbox)) {
            return Err(Lacking::Sandbox(sandbox.clone()));
        }
        if let Some(label) = self.labels.iter().find(|label| !agent.labels.contains(*label)) {
            return Err(Lacking::Label(label.clone()));
        }
        match (self.memory, agent.memory) {
            (Some(needed), found) if found.unwrap_or_default() < needed => {
                Err(Lacking::Memory { needed, found: found.unwrap_or_default() })
            }
            (_, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::Digest;

    fn agent() -> Hello {
        Hello {
            version: "0.1.0".to_owned(),
            wire: 1,
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cores: 8,
            memory: Some(ByteSize::gib(16)),
            disk: None,
            sandbox: ["native".to_owned()].into(),
            environment: Digest::of(b""),
            labels: ["big".to_owned(), "fast".to_owned()].into(),
            cap: 8,
            now_ms: 0,
        }
    }

    #[test]
    fn an_agent_must_have_all_that_is_needed() {
        for (needs, lacks) in [
            (json!({}), None),
            (json!({"os": "linux", "arch": "x86_64", "sandbox": "native", "labels": ["big"], "memory": "16GiB"}), None),
            (json!({"arch": "aarch64"}), Some("needs the arch `aarch64`, the agent has `x86_64`")),
            (json!({"sandbox": "docker"}), Some("needs the sandbox `docker`, which does not work on the agent's host")),
            (json!({"labels": ["big", "gpu"]}), Some("needs the label `gpu`")),
            (json!({"memory": "17GiB"}), Some("needs 17.0 GiB of memory, the agent has 16.0 GiB")),
        ] {
            let parsed: Needs = serde_json::from_value(needs.clone()).unwrap();
            let lacking = parsed.check(&agent()).err().map(|lacking| lacking.to_string());
            assert_eq!(lacking.as_deref(), lacks, "{needs}");
        }
    }

    #[test]
    fn a_need_that_is_misspelt_is_an_error() {
        assert!(serde_json::from_value::<Needs>(json!({"label": ["big"]})).is_err());
    }

    #[test]
    fn an_agent_that_cannot_tell_its_memory_meets_no_need_for_memory() {
        let needs = Needs { memory: Some(ByteSize(1)), ..Needs::default() };
        assert!(needs.check(&Hello { memory: None, ..agent() }).is_err());
    }
}
