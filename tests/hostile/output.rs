//! Output that no log is made for.

use bytesize::ByteSize;
use maar::sandbox::End;

use crate::arena::attack;

#[test]
fn a_flood_is_ended() {
    // A quarter of a gigabyte through a terminal takes a while where fork bombs run beside it.
    let exit = attack("exec cat /dev/zero").seconds(600).ends(End::Flooded);
    assert_eq!(exit.output.head.len() + exit.output.tail.len(), 1 << 20);
}

#[test]
fn a_limit_above_what_others_may_print_keeps_all_of_it() {
    let printed = 257 << 20;
    let exit =
        attack("head -c 257M /dev/zero").seconds(600).with(|bench| bench.spec.limits.output = ByteSize::mib(512));
    let exit = exit.ends(End::Code(0));
    assert_eq!((exit.output.head.len() + exit.output.tail.len(), exit.output.dropped), (printed, 0));
}

#[test]
fn one_endless_line_is_cut_in_the_middle() {
    let exit = attack("printf begun; head -c 10M /dev/zero | tr '\\0' x; printf ended")
        .with(|bench| bench.spec.limits.output = ByteSize::kib(1))
        .ends(End::Code(0));
    assert!(exit.output.head.starts_with(b"begunxxx") && exit.output.tail.ends_with(b"xxxended"));
    assert_eq!(exit.output.dropped, (10 << 20) + 10 - 1024);
}

#[test]
fn escapes_and_what_is_no_text_come_through_as_they_are() {
    let exit = attack("printf '\\033]0;title\\007\\033[2J\\377\\376\\000\\r\\n'").ends(End::Code(0));
    assert_eq!(exit.output.head, b"\x1b]0;title\x07\x1b[2J\xff\xfe\0\r\n");
}

#[test]
fn closed_streams_are_no_end() {
    attack("exec <&- >&- 2>&-; sleep 0.2; exit 4").ends(End::Code(4));
}

#[test]
fn streams_held_by_others_hold_nothing_up() {
    attack("setsid -f sleep 1000; echo done; exit 5").seconds(20).ends(End::Code(5));
}

#[test]
fn the_terminal_takes_no_input_from_inside() {
    attack("/attack type").prints("type: Operation not permitted (os error 1)\n");
}
