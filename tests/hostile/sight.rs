//! Attempts to see or change things of the host, of other crates or of the next op from inside.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use maar::sandbox::{End, Mount, MountKind};

use crate::arena::attack;
use crate::bench::{block_on, text};
use crate::ground::{ground, is_containers};

#[test]
fn accounts_keys_and_homes_are_out_of_sight() {
    for path in
        ["/etc/shadow", "/root", "/root/.ssh", "/home/*/.ssh", "~/.ssh", "~/.cargo/credentials.toml", "/etc/ssh"]
    {
        attack(&format!("ls -d {path} 2>/dev/null || echo nothing")).prints("nothing\n");
    }
}

#[test]
fn other_crates_work_is_out_of_sight() {
    let other = ground();
    let path = other.dir.path().display();
    attack(&format!("ls {path} 2>/dev/null || echo nothing")).prints("nothing\n");
    attack(&format!("ls /proc/1/root{path} /proc/1/cwd{path} 2>/dev/null || echo nothing")).prints("nothing\n");
}

#[test]
fn the_environment_and_files_of_init_are_out_of_sight() {
    attack("cat /proc/1/environ /proc/1/mem /proc/1/maps 2>/dev/null; ls /proc/1/fd 2>/dev/null; echo nothing")
        .prints("nothing\n");
}

#[test]
fn toolchains_caches_and_system_folders_can_not_be_written() {
    let shown = ground();
    let cache = shown.folder("cache");
    shown.file(&cache.join("file"), "kept");
    attack(
        "for f in /cache/file /cache/new /usr/bin/cargo /attack /etc/ld.so.cache /lib/x /new; do
           (echo x > $f) 2>/dev/null && echo wrote $f; done
         rm -rf /cache 2>/dev/null; chmod 777 /cache/file 2>/dev/null; ln /cache/file /cache/hard 2>/dev/null; cat /cache/file",
    )
    .with(|bench| bench.spec.mounts.push(Mount { at: "/cache".into(), what: MountKind::ReadOnly(cache.clone()) }))
    .prints("kept");
    assert_eq!(std::fs::read_to_string(cache.join("file")).unwrap(), "kept");
}

#[test]
fn where_the_host_has_what_is_shown_is_out_of_sight() {
    // Docker mounts folders as they are.
    if is_containers() {
        return;
    }
    let shown = ground();
    let folder = shown.folder("shown");
    shown.file(&folder.join("file"), "seen");
    let path = folder.display();
    attack(&format!("cat /shown/file; grep -c -e '{path}' /proc/self/mountinfo; ls -A /media"))
        .with(|bench| bench.spec.mounts.push(Mount { at: "/shown".into(), what: MountKind::ReadOnly(folder.clone()) }))
        .prints("seen0\n");
}

#[test]
fn the_programs_that_keep_a_cell_can_not_be_written() {
    attack(
        "(echo x > /proc/1/exe) 2>/dev/null || echo refused; (echo x > /proc/$PPID/exe) 2>/dev/null || echo refused",
    )
    .prints("refused\nrefused\n");
}

#[test]
fn files_of_the_system_can_not_be_linked_into_the_work() {
    attack("ln /etc/passwd mine 2>/dev/null || echo refused").prints("refused\n");
}

#[test]
fn planted_links_lead_the_next_op_nowhere() {
    let next = ground();
    let victim = next.dir.path().join("victim");
    next.file(&victim, "kept");
    let plant = format!("ln -s {} plant; ln -s /proc/1/root up", victim.display());
    block_on(async {
        assert_eq!(next.run(&plant).await.end, End::Code(0));
        let followed = next.run("cat plant up/etc/shadow 2>/dev/null; echo x 2>/dev/null > plant; echo").await;
        assert_eq!((followed.end, text(&followed).as_str()), (End::Code(0), "\n"));
        next.sandbox.release(&next.spec.scratch).await.unwrap();
    });
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
    // Nor does removing them.
    maar::sandbox::remove_folder(&next.dir.path().join("work")).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
}

#[test]
fn what_is_planted_in_memory_is_gone_for_the_next_op() {
    let next = ground();
    let plant = "ipcmk -M 1000 -S 2 -Q; touch /tmp/x /var/tmp/x /dev/shm/x /home/maar/x /dev/mqueue/x";
    let look = "tail -qn +2 /proc/sysvipc/*; find /tmp /var/tmp /dev/shm /home/maar /dev/mqueue -name x";
    // Native cells have no folder for the queues of POSIX.
    let planted = if is_containers() { 8 } else { 7 };
    block_on(async {
        let count = format!("({plant}) >/dev/null 2>&1; ({look}) 2>/dev/null | wc -l");
        let count = next.run(&format!("{count}; chmod 0 /tmp /var/tmp /home/maar")).await;
        assert_eq!(text(&count).trim(), planted.to_string());
        let left = next.run(&format!("touch /tmp/y /var/tmp/y /home/maar/y; ({look}) 2>/dev/null")).await;
        assert_eq!(text(&left), "");
        next.sandbox.release(&next.spec.scratch).await.unwrap();
    });
}

#[test]
fn a_set_user_id_file_is_an_ordinary_one() {
    // One of the two is root's, where root tests.
    let same = "[ $(id -u) != 0 ] && for id in mine planted; do [ $(./$id -u)$(./$id -ru) = $(id -u)$(id -u) ] && echo same; done";
    attack(&format!("cp /usr/bin/id mine; chmod 6777 mine; {same}"))
        .with(|bench| {
            let planted = bench.dir.path().join("work/planted");
            std::fs::copy("/usr/bin/id", &planted).unwrap();
            std::fs::set_permissions(&planted, PermissionsExt::from_mode(0o6755)).unwrap();
        })
        .prints("same\nsame\n");
}

#[test]
fn no_socket_has_a_name_in_sight() {
    let other = ground();
    let _listener = UnixListener::bind(other.dir.path().join("socket")).unwrap();
    attack("find / -path /usr -prune -o -path /proc -prune -o -type s -print 2>/dev/null; :").prints("");
}

#[test]
fn abstract_sockets_of_the_host_are_out_of_reach() {
    let name = format!("maar-test-{}", std::process::id());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    attack(&format!("/attack abstract {name}")).prints("connect: Connection refused (os error 111)\n");
    drop(listener);
}

#[test]
fn the_hosts_network_is_out_of_reach() {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    attack(&format!("bash -c ': > /dev/tcp/127.0.0.1/{port}' 2>/dev/null || echo refused")).prints("refused\n");
    attack("bash -c ': > /dev/udp/192.0.2.1/53' 2>/dev/null || echo unreachable").prints("unreachable\n");
}
