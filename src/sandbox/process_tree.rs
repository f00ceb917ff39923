//! A command's processes and their CPU time by looking at `/proc`, for hosts without groups or whose groups don't
//! account for it.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// The fields of `/proc/PID/stat` for a process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    /// Its own time and that of the children it waited for, in ticks.
    ticks: u64,
}

/// The CPU time that the descendants of a process have used, as far as they are alive or were waited for.
pub(super) fn cpu_time(ancestor: u32) -> Duration {
    let ticks = ticks_below(ancestor, &all());
    // SAFETY: takes a number and returns one.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_millis(ticks * 1000 / u64::try_from(per_second).unwrap_or(100).max(1))
}

/// All processes in sight.
fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    numbers.filter_map(|entry| parse(&std::fs::read_to_string(entry.path().join("stat")).ok()?)).collect()
}

/// The descendants of a process, in no order. One that is just being forked or orphaned may be missing.
pub(super) fn descendants(ancestor: u32) -> Vec<u32> {
    let (mut found, mut ahead) = (HashSet::new(), vec![ancestor]);
    while let Some(process) = ahead.pop() {
        match children(process) {
            Some(children) => ahead.extend(children.into_iter().filter(|&child| found.insert(child))),
            // A kernel without CONFIG_PROC_CHILDREN has to be asked about everybody.
            None => {
                let processes = all();
                return below(ancestor, &processes).into_iter().map(|process| process.id).collect();
            }
        }
    }
    found.into_iter().collect()
}

/// Whether the descendants of a process have more than so many threads. Asks for no more than it takes to know.
pub(super) fn has_more_threads(ancestor: u32, limit: u64) -> bool {
    let (mut found, mut ahead, mut count) = (HashSet::new(), vec![ancestor], 0u64);
    while let Some(process) = ahead.pop() {
        let Some(children) = children(process) else {
            let processes = all();
            let threads = below(ancestor, &processes).into_iter().map(|process| threads(process.id));
            return threads.fold(0, u64::saturating_add) > limit;
        };
        for child in children.into_iter().filter(|&child| found.insert(child)) {
            count = count.saturating_add(threads(child));
            if count > limit {
                return true;
            }
            ahead.push(child);
        }
    }
    false
}

/// How many threads a process has: the kernel shows each as a folder, and counts these as links.
fn threads(process: u32) -> u64 {
    let folder = std::fs::metadata(format!("/proc/{process}/task"));
    folder.map_or(0, |folder| folder.nlink().saturating_sub(2))
}

/// The children of a process; `None`: the kernel doesn't list them. One that is gone has none.
fn children(process: u32) -> Option<Vec<u32>> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| match std::fs::read_to_string(thread.path().join("children")) {
        Ok(list) => Some(list),
        Err(_) if thread.path().exists() => None,
        Err(_) => Some(String::new()),
    });
    let lists = lists.collect::<Option<Vec<String>>>()?;
    Some(lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|number| number.parse().ok()).collect())
}

/// The folders in /proc of a process's threads, one for each table of descriptors that the threads have.
///
/// `/proc/PID` itself shows the main thread only, and neither descriptors nor memory once the main thread has ended and
/// others go on.
pub(super) fn views(process: u32) -> Vec<PathBuf> {
    let folder = PathBuf::from(format!("/proc/{process}/task"));
    let threads = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<u32> = Vec::new();
    for thread in threads {
        if let Err(place) = found.binary_search_by(|&known| compare_descriptors(known, thread)) {
            found.insert(place, thread);
        }
    }
    found.into_iter().map(|thread| folder.join(thread.to_string())).collect()
}

/// Orders threads by their tables of descriptors. Threads that share a table are equal; those that the kernel can't
/// compare are not.
fn compare_descriptors(one: u32, other: u32) -> Ordering {
    /// Of linux/kcmp.h.
    const KCMP_FILES: libc::c_int = 2;
    // SAFETY: takes numbers.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILES, 0, 0) } {
        0 => Ordering::Equal,
        2 => Ordering::Greater,
        _ => Ordering::Less,
    }
}

fn ticks_below(ancestor: u32, processes: &[Process]) -> u64 {
    below(ancestor, processes).into_iter().map(|process| process.ticks).sum()
}

fn below(ancestor: u32, processes: &[Process]) -> Vec<&Process> {
    let mut children: HashMap<u32, Vec<&Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([ancestor]);
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        for process in children.get(&parent).into_iter().flatten() {
            // Numbers may be reused while the list is made: a circle must not be walked twice.
            if seen.insert(process.id) {
                found.push(*process);
                next.push(process.id);
            }
        }
    }
    found
}

/// Reads a line of the form that proc(5) describes.
fn parse(stat: &str) -> Option<Process> {
    let id = stat.split(' ').next()?.parse().ok()?;
    // The name stands in parentheses and may hold anything, parentheses and spaces too.
    let (_, after_name) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let parent = fields.get(1)?.parse().ok()?;
    // utime, stime, cutime, cstime: fields 14 to 17, of which the first here is the third.
    let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
    Some(Process { id, parent, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_forge_fields() {
        let stat = "7 (a) R 1 (b) S 3 7 7 0 -1 0 0 0 0 0 10 20 30 40 20 0 1";
        assert_eq!(parse(stat), Some(Process { id: 7, parent: 3, ticks: 100 }));
        assert_eq!(parse("7 (a"), None);
        assert_eq!(parse("7 (a) R 1"), None);
    }

    #[test]
    fn children_of_children_are_descendants() {
        let script = "sleep 60 & (sleep 60; :) & wait";
        let mut shell = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        let begun = std::time::Instant::now();
        let found = loop {
            let found = descendants(std::process::id());
            if found.len() >= 4 || begun.elapsed() > Duration::from_secs(20) {
                break found;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(found.contains(&shell.id()) && found.len() >= 4, "{found:?}");
        assert!(has_more_threads(std::process::id(), 2) && !has_more_threads(std::process::id(), 100));
        for process in descendants(shell.id()).into_iter().chain([shell.id()]) {
            let pid = nix::unistd::Pid::from_raw(process.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
    }

    #[test]
    fn a_thread_with_descriptors_of_its_own_is_a_view_and_one_that_shares_them_is_not() {
        let before = views(std::process::id()).len();
        let (said, ready) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            for has_own in [true, false] {
                let said = said.clone();
                scope.spawn(move || {
                    if has_own {
                        // Without a copy of other tests' files: their locks would go on with it.
                        // SAFETY: in a table of this thread's own.
                        let left = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE as _) };
                        assert_eq!(left, 0);
                    }
                    said.send(()).unwrap();
                    std::thread::sleep(Duration::from_millis(500));
                });
                ready.recv().unwrap();
            }
            assert_eq!(views(std::process::id()).len(), before + 1);
        });
    }

    #[test]
    fn only_descendants_count_and_circles_end() {
        let process = |id, parent, ticks| Process { id, parent, ticks };
        let processes =
            [process(2, 1, 1), process(3, 2, 10), process(4, 3, 100), process(9, 8, 1000), process(1, 4, 5)];
        assert_eq!(ticks_below(2, &processes), 115);
        assert_eq!(ticks_below(7, &processes), 0);
    }
}
