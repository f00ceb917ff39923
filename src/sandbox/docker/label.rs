//! The owner of each container, so that a sweep finds those of dead maars, and no others.

use std::fs;

use nix::sys::stat::stat;

/// The key of the label.
pub(super) const KEY: &str = "maar.run";

/// Names one process for good: boot, pid namespace, number, and when it started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    boot: String,
    namespace: String,
    pid: String,
    /// In clock ticks since the boot: a number is given to another process in time.
    started: String,
}

impl Label {
    /// That of this process.
    pub(super) fn of_this_process() -> Self {
        let pid = std::process::id().to_string();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = stat("/proc/self/ns/pid").map_or(0, |status| status.st_ino);
        let started = started(&pid).unwrap_or_default();
        Self { boot: boot.trim().to_owned(), namespace: namespace.to_string(), pid, started }
    }

    /// The label as containers have it.
    pub(super) fn pair(&self) -> (String, String) {
        let Self { boot, namespace, pid, started } = self;
        (KEY.to_owned(), format!("{boot}/{namespace}/{pid}/{started}"))
    }

    /// Reads what [`pair`](Self::pair) wrote.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('/').map(str::to_owned);
        let label = Self { boot: parts.next()?, namespace: parts.next()?, pid: parts.next()?, started: parts.next()? };
        parts.next().is_none().then_some(label)
    }

    /// Whether the process is certainly dead, as `self` can tell. One in another pid namespace may live.
    pub(super) fn knows_dead(&self, other: &Self) -> bool {
        if self.boot != other.boot {
            return true;
        }
        let is_number = !other.pid.is_empty() && other.pid.bytes().all(|byte| byte.is_ascii_digit());
        is_number && self.namespace == other.namespace && started(&other.pid).as_ref() != Some(&other.started)
    }
}

/// When a process started: field 22 of proc(5)'s stat. `None`: the process doesn't exist.
fn started(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_of_this_host_are_known_dead() {
        let own = Label::of_this_process();
        assert_eq!(Label::parse(&own.pair().1), Some(own.clone()));
        assert!(!own.knows_dead(&own));
        assert!(own.knows_dead(&Label { started: "1".to_owned(), ..own.clone() }), "another had the number");
        assert!(own.knows_dead(&Label { pid: "999999999".to_owned(), ..own.clone() }));
        assert!(own.knows_dead(&Label { boot: "x".to_owned(), ..own.clone() }));
        assert!(!own.knows_dead(&Label { namespace: "1".to_owned(), started: "1".to_owned(), ..own.clone() }));
        assert!(!own.knows_dead(&Label { pid: "self/../1".to_owned(), started: "1".to_owned(), ..own.clone() }));
        for value in ["", "a/b/c", "a/b/c/d/e"] {
            assert_eq!(Label::parse(value), None, "{value}");
        }
    }
}
