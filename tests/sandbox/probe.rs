//! The probe's answers for this host agree with the other cases of this suite.

use maar::sandbox::probe::{Status, probe};
use maar::sandbox::{Cores, Sandbox};

use crate::bench::{CGROUPS, block_on, native};

#[test]
fn a_host_that_runs_this_suite_passes() {
    let bench = native();
    let Sandbox::Native(native) = &bench.sandbox else { panic!("it is native") };
    let checks = block_on(probe(native, bench.dir.path()));
    let names: Vec<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names, ["kernel", "namespaces", "overlay", "cgroups", "disk"]);
    let failed: Vec<_> = checks.iter().filter(|check| check.status == Status::Fail).collect();
    assert!(failed.is_empty(), "{failed:?}");
    if let Ok(version) = std::env::var(CGROUPS) {
        assert_eq!(checks[3].detail, format!("version {version}, limits by cpu, memory, pids, cpuset"));
    }
    if checks[3].status == Status::Ok {
        assert_eq!(bench.sandbox.unenforced(Cores::Own), Vec::<String>::new());
    }
}
