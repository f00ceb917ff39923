//! The things that a command sees, can't see and can't change.

use std::net::TcpListener;

use maar::sandbox::{End, Mount, MountKind, Network};

use crate::bench::{block_on, is_root, native, text};

#[test]
fn codes_and_signals_are_told_as_they_are() {
    let bench = native();
    bench.check("exit 0", End::Code(0), "");
    bench.check("exit 7", End::Code(7), "");
    bench.check("kill -SEGV $$", End::Signal(libc::SIGSEGV), "");
    bench.check("kill -35 $$", End::Signal(35), "");
}

#[test]
fn output_is_a_terminal_of_both_streams_and_input_is_empty() {
    let bench = native();
    bench.check("cat; echo out; echo err >&2; printf 'a\\r\\n'", End::Code(0), "out\nerr\na\r\n");
    bench.check("test -t 1 && test -t 2 && ! test -t 0 && stty size <&1", End::Code(0), "40 120\n");
    bench.check("echo again > /dev/stdout; echo tty > /dev/tty", End::Code(0), "again\ntty\n");
}

#[test]
fn a_command_is_an_ordinary_user_inside_and_out() {
    let bench = native();
    bench.check("id -u; id -g; id -un; pwd", End::Code(0), "1000\n1000\nmaar\n/work\n");
    bench.check("touch made", End::Code(0), "");
    let made = std::fs::metadata(bench.dir.path().join("work/made")).unwrap();
    let uid = std::os::unix::fs::MetadataExt::uid(&made);
    assert_ne!(uid, 0);
    assert_eq!(uid, bench.spec.user.owner().map_or_else(|| nix::unistd::geteuid().as_raw(), |owner| owner.uid));
}

#[test]
fn no_capability_and_no_way_to_one_is_left() {
    let bench = native();
    bench.check(
        "grep -h -e ^Cap -e ^NoNewPrivs /proc/self/status",
        End::Code(0),
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n",
    );
    if is_root() {
        bench.check("grep ^Groups /proc/self/status", End::Code(0), "Groups:\t \n");
    }
    // Set-user-ID programs of the system are nothing special in here.
    bench.check(
        "mount -t tmpfs x /tmp 2>/dev/null || chroot / true 2>/dev/null || echo refused",
        End::Code(0),
        "refused\n",
    );
}

#[test]
fn system_calls_that_no_crate_needs_are_refused() {
    let bench = native();
    // 2 is a filter; init has it too.
    bench.check("grep -h ^Seccomp: /proc/self/status /proc/1/status", End::Code(0), "Seccomp:\t2\nSeccomp:\t2\n");
    bench.check("unshare -U true 2>&1", End::Code(1), "unshare: unshare failed: Operation not permitted\n");
}

#[test]
fn only_the_standard_streams_are_open() {
    // The fourth is the listing's own.
    native().check("ls -1 /proc/self/fd", End::Code(0), "0\n1\n2\n3\n");
}

#[test]
fn core_dumps_are_off_and_signals_are_as_at_birth() {
    let bench = native();
    bench.check("ulimit -c; ulimit -Hc; umask", End::Code(0), "0\n0\n0022\n");
    // One byte: at zero, the kernel would still pipe cores to the host's program.
    bench.check("grep -c '^Max core file size  *1  *1  ' /proc/self/limits", End::Code(0), "1\n");
    bench.check(
        "grep -h -e ^SigBlk -e ^SigIgn /proc/self/status",
        End::Code(0),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n",
    );
}

#[test]
fn nothing_of_the_host_is_seen_that_was_not_shown() {
    let bench = native();
    bench.check(
        "cd /; ls -1A home tmp run/lock var/tmp var/log var/cache var/local opt mnt srv dev/shm etc/shadow root 2>/dev/null; true",
        End::Code(0),
        "dev/shm:\n\nhome:\nmaar\n\nmnt:\n\nopt:\n\nrun/lock:\n\nsrv:\n\ntmp:\n\nvar/cache:\n\nvar/local:\n\nvar/log:\n\nvar/tmp:\n",
    );
    // The visible parts of these folders are named one by one.
    bench.check(
        "cd /; find sys -mindepth 3 -maxdepth 3 | sort; ls -1A sys run var/lib | grep -v -e dpkg -e rpm",
        End::Code(0),
        "sys/devices/system/cpu\nsys/devices/system/node\nsys/kernel/mm/transparent_hugepage\n\
         run:\nlock\n\nsys:\ndevices\nkernel\n\nvar/lib:\n",
    );
    bench.check(
        "ls /etc | grep -e shadow -e ssh -e sudo; ls -A /etc/ssl 2>/dev/null | grep private; true",
        End::Code(0),
        "",
    );
    bench.check(
        "ls -1 /dev",
        End::Code(0),
        "fd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n",
    );
}

#[test]
fn nobody_else_is_there() {
    let bench = native();
    bench.check(
        "echo /proc/[0-9]*; kill -9 -1 2>/dev/null || kill -9 1; echo alive",
        End::Code(0),
        "/proc/1 /proc/2\nalive\n",
    );
    bench.check(
        "readlink /proc/1/exe /proc/1/root; ls /proc/1/fd 2>/dev/null; cat /proc/1/environ 2>/dev/null; true",
        End::Code(0),
        "",
    );
}

#[test]
fn the_environment_is_what_was_given() {
    let mut bench = native();
    bench.env.push(("ANSWER".to_owned(), "4 2\n".to_owned()));
    bench.check("env -u PWD -u OLDPWD -u _ -u SHLVL env", End::Code(0), "PATH=/usr/bin:/bin\nANSWER=4 2\n\n");
}

#[test]
fn system_folders_and_read_only_mounts_can_not_be_changed() {
    let mut bench = native();
    let shown = bench.folder("shown");
    bench.file(&shown.join("file"), "kept");
    bench.spec.mounts.push(Mount { at: "/shown".into(), what: MountKind::ReadOnly(shown.clone()) });
    bench.spec.mounts.push(Mount { at: "/etc/one-file".into(), what: MountKind::ReadOnly(shown.join("file")) });
    bench.check(
        "for f in /shown/file /shown/new /etc/one-file /usr/new /etc/passwd /new /dev/new /sys/new /proc/sys/kernel/core_pattern
         do (echo x > $f) 2>/dev/null && echo $f; done; rm -f /shown/file 2>/dev/null; cat /shown/file /etc/one-file",
        End::Code(0),
        "keptkept",
    );
    assert_eq!(std::fs::read_to_string(shown.join("file")).unwrap(), "kept");
}

#[test]
fn doors_of_proc_are_shut() {
    let script = "for f in kcore keys timer_list sysrq-trigger interrupts; do head -c 1 /proc/$f 2>/dev/null; done
                  echo b 2>/dev/null > /proc/sysrq-trigger; ls -A /proc/acpi /proc/scsi 2>/dev/null | grep -v :; true";
    let printed = text(&block_on(native().run(script)));
    assert_eq!(printed.trim(), "");
}

#[test]
fn an_overlay_takes_changes_and_keeps_them_for_the_next_cell() {
    let mut bench = native();
    let (lower, upper) = bench.overlay();
    bench.file(&lower.join("kept"), "old\n");
    bench.file(&lower.join("gone"), "");
    bench.check(
        "cd /overlay; echo new >> kept; rm gone; mkdir made; chmod 0 made; ls -1",
        End::Code(0),
        "kept\nmade\n",
    );
    bench.check(
        "cat /overlay/kept; ls /overlay/gone 2>/dev/null; ls -d /overlay/made",
        End::Code(0),
        "old\nnew\n/overlay/made\n",
    );
    assert_eq!(std::fs::read_to_string(lower.join("kept")).unwrap(), "old\n");
    assert!(lower.join("gone").exists());
    assert_eq!(std::fs::read_to_string(upper.join("kept")).unwrap(), "old\nnew\n");
    assert_eq!(std::fs::read_dir(bench.dir.path().join("workdir")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_takes_the_place_of_one_below_hides_what_was_in_it() {
    let mut bench = native();
    let (lower, _) = bench.overlay();
    // The folder below must belong to the cell's user, or the cell couldn't replace it.
    bench.check("mkdir -p made/old", End::Code(0), "");
    std::fs::rename(bench.dir.path().join("work/made"), lower.join("made")).unwrap();
    bench.check("cd /overlay; rm -r made && mkdir made && touch made/new", End::Code(0), "");
    bench.check("ls /overlay/made", End::Code(0), "new\n");
}

#[test]
fn private_folders_are_forgotten() {
    let bench = native();
    bench.check(
        "echo x > /tmp/a; echo x > /var/tmp/a; echo x > /dev/shm/a; echo x > /home/maar/a; cat /tmp/a",
        End::Code(0),
        "x\n",
    );
    bench.check("ls -A /tmp /home/maar | grep a$", End::Code(1), "");
}

#[test]
fn mounts_below_the_private_home_belong_to_the_user() {
    let mut bench = native();
    let cache = bench.folder("cache");
    bench.spec.mounts.push(Mount { at: "/home/maar/.cargo/registry".into(), what: MountKind::ReadOnly(cache) });
    bench.check(
        "touch /home/maar/.cargo/config.toml && ls -1A /home/maar/.cargo",
        End::Code(0),
        "config.toml\nregistry\n",
    );
}

#[test]
fn a_planted_link_can_not_move_a_mount() {
    let mut bench = native();
    let what = MountKind::ReadOnly(bench.folder("shown"));
    std::os::unix::fs::symlink("/tmp", bench.dir.path().join("work/link")).unwrap();
    bench.spec.mounts.push(Mount { at: "/work/link".into(), what });
    let error = block_on(async {
        let mut cell = bench.open().await;
        let command = bench.shell(&cell, "true");
        cell.run(&command, &maar::stop::Stop::never()).await.unwrap_err()
    });
    assert_eq!(error.to_string(), "failed to make the mount point /work/link: Not a directory (os error 20)");
}

#[test]
fn the_network_is_a_loopback_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Its own loopback is up: refused, rather than unreachable.
    let connect = format!(
        "bash -c ': 3<>/dev/tcp/127.0.0.1/{port}' 2>&1 | grep -o refused | sort -u; bash -c 'echo > /dev/tcp/127.0.0.1/{port}' 2>/dev/null && echo reached"
    );
    let mut bench = native();
    bench.check(&connect, End::Code(1), "refused\n");
    bench.check("grep -c : /proc/net/dev", End::Code(0), "1\n");
    bench.spec.network = Network::Outlet;
    bench.check(&connect, End::Code(1), "refused\n");
    bench.check("grep -c : /proc/net/dev", End::Code(0), "1\n");
}

#[test]
fn what_can_not_be_run_is_no_exit() {
    let bench = native();
    let fails = |argv: &[&str], cwd: &str| {
        block_on(async {
            let mut cell = bench.open().await;
            let mut command = bench.shell(&cell, "");
            command.argv = argv.iter().map(|&word| word.to_owned()).collect();
            command.cwd = cwd.into();
            cell.run(&command, &maar::stop::Stop::never()).await.unwrap_err().to_string()
        })
    };
    assert_eq!(
        fails(&["no-such-program"], "/"),
        "failed to run no-such-program: No such file or directory (os error 2)"
    );
    assert_eq!(fails(&["/etc/passwd"], "/"), "failed to run /etc/passwd: Permission denied (os error 13)");
    assert_eq!(
        fails(&["true"], "/nowhere"),
        "failed to enter the working directory /nowhere: No such file or directory (os error 2)"
    );
    assert_eq!(fails(&[], "/"), "failed to run: Invalid argument (os error 22)");
}
