//! The cores, the memory and the memory pressure of this host. Reads `/proc` and the cgroups of this process.

use std::num::NonZero;
use std::{fs, thread};

use bytesize::ByteSize;

use crate::sandbox;

/// The cores that processes here may use; 1 where the kernel doesn't report them.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The memory that processes here may use: the host's, or the limit of a container or a service. None where `/proc`
/// can't tell.
pub fn memory() -> Option<ByteSize> {
    let total = ByteSize(parse_total(&fs::read_to_string("/proc/meminfo").ok()?)?);
    Some(sandbox::memory_limit().map_or(total, |limit| limit.min(total)))
}

/// The part of the last ten seconds, from 0 to 1, in which nothing could run for want of memory: `full avg10` of
/// <https://docs.kernel.org/accounting/psi.html>. None where the kernel doesn't measure it.
pub fn memory_stall() -> Option<f64> {
    parse_stall(&fs::read_to_string("/proc/pressure/memory").ok()?)
}

/// Bytes from a line such as `MemTotal:       24547852 kB`, whose unit is 1024 bytes.
fn parse_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn parse_stall(pressure: &str) -> Option<f64> {
    let full = pressure.lines().find_map(|line| line.strip_prefix("full "))?;
    let percent: f64 = full.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()?;
    Some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_units_of_1024_bytes() {
        assert_eq!(parse_total("MemTotal:       24547852 kB\nMemFree: 1 kB\n"), Some(24_547_852 << 10));
        assert_eq!(parse_total("MemFree: 1 kB\n"), None);
        assert!(memory().is_some_and(|memory| memory > ByteSize::mib(16)));
    }

    #[test]
    fn the_stall_is_that_of_all_processes_in_the_last_ten_seconds() {
        let pressure =
            "some avg10=9.00 avg60=1.53 avg300=0.87 total=40\nfull avg10=2.50 avg60=1.00 avg300=0 total=20\n";
        assert_eq!(parse_stall(pressure), Some(0.025));
        assert_eq!(parse_stall("some avg10=9.00\n"), None);
    }
}
