//! A cell with an outlet: it reaches what maar serves there, and nothing else of the host.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use futures_util::StreamExt;
use maar::sandbox::{End, Network, outlet};
use maar::stop::Stop;
use tokio::io::AsyncWriteExt;

use crate::arena::attacker;
use crate::bench::{block_on, text};
use crate::ground::ground;

#[test]
fn a_cell_with_an_outlet_reaches_nothing_but_the_outlet() {
    let tcp = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let name = format!("maar-outlet-{}", std::process::id());
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut bench = ground();
    bench.spec.network = Network::Outlet;
    let at = "/attack".into();
    bench.spec.mounts.push(maar::sandbox::Mount { at, what: maar::sandbox::MountKind::ReadOnly(attacker().into()) });
    // Twice: the next command of the cell has a new outlet.
    block_on(async {
        for _ in 0..2 {
            let mut cell = bench.open().await;
            let outlet_port = cell.outlet().port();
            let script = format!(
                "bash -c 'cat < /dev/tcp/127.0.0.1/{outlet_port}'
                 for ip in 127.0.0.1 127.0.0.2 0.0.0.0 ::1; do
                   bash -c \": > /dev/tcp/$ip/{port}\" 2>/dev/null && echo reached $ip
                 done
                 bash -c ': > /dev/tcp/1.1.1.1/443' 2>/dev/null && echo routed
                 bash -c ': > /dev/udp/192.0.2.1/53' 2>/dev/null && echo sent
                 tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '
                 /attack abstract {name}"
            );
            let command = bench.shell(&cell, &script);
            let (outlet, mut connections) = outlet();
            let served = async {
                let mut count = 0;
                while let Some(mut connection) = connections.next().await {
                    connection.write_all(b"the gate\n").await.unwrap();
                    count += 1;
                }
                count
            };
            let stop = Stop::never();
            let (exit, count) = tokio::join!(cell.run_with(&command, &stop, outlet), served);
            let exit = exit.unwrap();
            assert_eq!(count, 1);
            let expected = "the gate\nlo\nconnect: Connection refused (os error 111)\n";
            assert_eq!((exit.end, text(&exit).as_str()), (End::Code(0), expected));
            cell.close().await.unwrap();
        }
        bench.sandbox.release(&bench.spec.scratch).await.unwrap();
    });
}
