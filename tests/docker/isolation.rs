//! The things that a command in a container sees and can change.

use std::fs;
use std::net::TcpListener;

use maar::sandbox::{End, MountKind, Network};

use crate::bench::{Bench, block_on, text};
use crate::setup::{daemon, docker};

/// Runs scripts in one container and asserts the output of each; all succeed.
async fn prints(bench: &Bench, cases: &[(&str, &str)]) {
    for (script, printed) in cases {
        let exit = bench.run(script).await;
        assert_eq!((exit.end, text(&exit).as_str()), (End::Code(0), *printed), "{script}");
    }
}

#[test]
fn a_command_is_nobody_and_can_become_nobody_else() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let bench = docker().await;
        let owner = bench.spec.user.owner();
        prints(
            &bench,
            &[
                ("id -un; echo $HOME; cat /proc/1/environ 2>/dev/null; touch /work/file", "maar\n\n"),
                ("grep -E '^(CapEff|CapBnd|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t '",
                 "CapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n"),
                ("env | sort", "PATH=/usr/bin:/bin\nPWD=/work\n"),
                ("touch /a /usr/a /etc/a /maar/a /maar/door/a /var/a 2>/dev/null || echo no", "no\n"),
                ("ls /home; ls /root /run/docker.sock /var/run/docker.sock 2>/dev/null || echo no", "maar\nno\n"),
                ("ulimit -c; ls -l /proc/self/fd | grep -c pts", "0\n1\n"),
                ("mount -t tmpfs x /tmp 2>/dev/null || unshare -U true 2>/dev/null || echo no", "no\n"),
                ("kill -KILL 1; kill -STOP 1; kill -TERM 1; cat /proc/1/maps 2>/dev/null || echo no", "no\n"),
            ],
        )
        .await;
        if let Some(owner) = owner {
            let metadata = fs::metadata(bench.dir.path().join("work/file")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::uid(&metadata), owner.uid);
            assert_ne!(owner.uid, 0);
        }
    });
}

#[test]
fn changes_go_to_the_upper_folder_and_the_next_cell_sees_them() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        let (lower, upper) = bench.overlay();
        bench.file(&lower.join("a"), "pristine");
        prints(
            &bench,
            &[
                ("echo changed > /overlay/a; echo new > /overlay/b", ""),
                ("cat /overlay/a /overlay/b", "changed\nnew\n"),
            ],
        )
        .await;
        bench.sandbox.release(&bench.spec.scratch).await.unwrap();
        assert_eq!(fs::read_to_string(lower.join("a")).unwrap(), "pristine");
        assert_eq!(fs::read_to_string(upper.join("a")).unwrap(), "changed\n");
        prints(&bench, &[("cat /overlay/a /overlay/b", "changed\nnew\n")]).await;
        bench.sandbox.release(&bench.spec.scratch).await.unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("odd"), "{mounts}");
        bench.dir.close().unwrap();
    });
}

#[test]
fn what_is_mounted_read_only_is_never_written() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        let shared = bench.folder("shared, with: odd");
        fs::write(shared.join("a"), "1").unwrap();
        bench.spec.mounts.push(maar::sandbox::Mount { at: "/shared".into(), what: MountKind::ReadOnly(shared) });
        prints(
            &bench,
            &[("cat /shared/a; { echo 2 > /shared/a || touch /shared/b; } 2>/dev/null || echo no", "1no\n")],
        )
        .await;
    });
}

#[test]
fn the_hosts_network_is_for_nobody() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let mut bench = docker().await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!("bash -c '(: < /dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo reached || echo alone'");
        prints(&bench, &[(&script, "alone\n"), ("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", "lo\n")]).await;
        bench.spec.network = Network::Outlet;
        prints(&bench, &[(&script, "alone\n")]).await;
    });
}

#[test]
fn nothing_but_mounted_folders_lives_on_between_commands() {
    if daemon().is_none() {
        return;
    }
    block_on(async {
        let bench = docker().await;
        let plant = "for d in /tmp /var/tmp /dev/shm /home/maar; do mkdir -p $d/a/b; echo > $d/a/b/c; ln -s /work $d/l; \
                     chmod 0 $d/a; done; touch /work/kept; stat -c %Z /proc/1 > /work/first; \
                     chmod 0 /tmp /home/maar";
        let look = "ls -A /tmp /var/tmp /dev/shm /home/maar | grep -v : | grep .; echo $(ls /work); \
                    [ $(stat -c %Z /proc/1) = $(cat /work/first) ] && echo same container";
        prints(&bench, &[(plant, ""), (look, "first kept\nsame container\n")]).await;
    });
}
