//! The memory of messages that wait in a cell's netlink sockets, sampled: no controller counts it.
//!
//! The kernel answers a request such as RTM_GETLINK with a dump of up to the socket's receive buffer, and charges it to
//! no cgroup. One socket holds up to twice `net.core.rmem_max`; thousands of sockets hold a host's memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use bytesize::ByteSize;

use super::unlinked::Processes;

/// How often the sockets are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A command's allowance of memory in netlink sockets.
#[derive(Debug, Clone)]
pub(super) struct RepliesWatch {
    /// The processes of the command.
    pub(super) who: Processes,
    pub(super) limit: ByteSize,
}

impl RepliesWatch {
    /// Returns when the messages take more than the limit, and never if they don't.
    pub(super) async fn exceeded(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let who = self.who.clone();
            // Sockets that can't be looked at count as empty.
            let held = tokio::task::spawn_blocking(move || held(&who)).await.unwrap_or(0);
            if held > self.limit.as_u64() {
                return;
            }
        }
    }
}

/// The bytes that wait in the netlink sockets of the network namespace that the processes have for themselves.
fn held(who: &Processes) -> u64 {
    let namespace = |process: &str| fs::metadata(format!("/proc/{process}/ns/net")).ok().map(|file| file.ino());
    let host = namespace("self");
    // A cell has one network namespace. The helper, which is still in the host's, may be listed too.
    let inside = who.numbers().into_iter().map(|number| number.to_string()).find(|process| {
        let own = namespace(process);
        own.is_some() && own != host
    });
    let table = inside.and_then(|process| fs::read_to_string(format!("/proc/{process}/net/netlink")).ok());
    table.map_or(0, |table| waiting(&table))
}

/// The sum of the columns `Rmem` and `Wmem`; the format is that of `netlink_native_seq_show` in the kernel's
/// net/netlink/af_netlink.c.
fn waiting(table: &str) -> u64 {
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let columns: Vec<usize> =
        ["Rmem", "Wmem"].iter().filter_map(|name| header.iter().position(|column| column == name)).collect();
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let bytes = columns.iter().filter_map(|column| fields.get(*column)?.parse::<u64>().ok());
        bytes.fold(0, u64::saturating_add)
    };
    lines.map(of_line).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_found_by_their_names() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                     0000000000000000 0   1234       00000000 212480   0        0     2        0        31\n\
                     0000000000000000 0   -4125      00000000 4096     16       0     2        0        32\n";
        assert_eq!(waiting(table), 212_480 + 4096 + 16);
        assert_eq!(waiting(""), 0);
        assert_eq!(waiting("Rmem\nnonsense\n7 8\n"), 7);
    }

    #[test]
    fn sockets_of_the_hosts_own_namespace_are_not_a_cells() {
        assert_eq!(held(&Processes::Below(std::process::id())), 0);
        assert_eq!(held(&Processes::Listed("/proc/no-such-file".into())), 0);
    }
}
