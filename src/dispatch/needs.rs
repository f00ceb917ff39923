//! The demands of an experiment on a host, against the claims of an agent.

use bytesize::ByteSize;

use crate::experiment::Needs;
use crate::wire::Hello;

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

/// The first demand that an agent doesn't meet; `None`: it meets all.
pub fn lacking(needs: &Needs, agent: &Hello) -> Option<Lacking> {
    for (what, needed, found) in [("os", &needs.os, &agent.os), ("arch", &needs.arch, &agent.arch)] {
        if let Some(needed) = needed.as_ref().filter(|needed| *needed != found) {
            return Some(Lacking::Other { what, needed: needed.clone(), found: found.clone() });
        }
    }
    if let Some(sandbox) = needs.sandbox.as_ref().filter(|sandbox| !agent.sandbox.contains(*sandbox)) {
        return Some(Lacking::Sandbox(sandbox.clone()));
    }
    if let Some(label) = needs.labels.iter().find(|label| !agent.labels.contains(*label)) {
        return Some(Lacking::Label(label.clone()));
    }
    // A host that can't tell its memory meets no need for memory.
    let found = agent.memory.unwrap_or_default();
    needs.memory.filter(|needed| found < *needed).map(|needed| Lacking::Memory { needed, found })
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
            let found = lacking(&parsed, &agent()).map(|lacking| lacking.to_string());
            assert_eq!(found.as_deref(), lacks, "{needs}");
        }
    }

    #[test]
    fn an_agent_that_cannot_tell_its_memory_meets_no_need_for_memory() {
        let needs = Needs { memory: Some(ByteSize(1)), ..Needs::default() };
        assert!(lacking(&needs, &Hello { memory: None, ..agent() }).is_some());
    }
}
