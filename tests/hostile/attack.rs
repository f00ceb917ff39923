//! What a hostile crate might do that a shell can't: one program, an attack per argument. Compiled by the suite itself,
//! without any crate. Prints how the attack went; the exit code is 0 unless the attack decides otherwise.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io::{Error, Write};
use std::time::Duration;

unsafe extern "C" {
    fn chdir(path: *const c_char) -> c_int;
    fn fork() -> c_int;
    fn connect(socket: c_int, address: *const c_void, length: u32) -> c_int;
    fn ioctl(file: c_int, request: u64, ...) -> c_int;
    fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    fn mkdir(path: *const c_char, mode: u32) -> c_int;
    fn ptrace(request: c_long, ...) -> c_long;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn write(file: c_int, bytes: *const c_void, length: usize) -> isize;
}

#[cfg(target_arch = "x86_64")]
const CALLS: [(&str, c_long); 12] = [
    ("bpf", 321),
    ("fsopen", 430),
    ("init_module", 175),
    ("io_uring_setup", 425),
    ("keyctl", 250),
    ("kexec_load", 246),
    ("open_by_handle_at", 304),
    ("perf_event_open", 298),
    ("process_vm_readv", 310),
    ("reboot", 169),
    ("setns", 308),
    ("userfaultfd", 323),
];
#[cfg(target_arch = "aarch64")]
const CALLS: [(&str, c_long); 12] = [
    ("bpf", 280),
    ("fsopen", 430),
    ("init_module", 105),
    ("io_uring_setup", 425),
    ("keyctl", 219),
    ("kexec_load", 104),
    ("open_by_handle_at", 265),
    ("perf_event_open", 241),
    ("process_vm_readv", 270),
    ("reboot", 142),
    ("setns", 268),
    ("userfaultfd", 282),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let attack = arguments.next().unwrap_or_default();
    let argument = arguments.next().unwrap_or_default();
    match attack.as_str() {
        "bomb" => bomb(),
        "shared" => shared(),
        "tcp" => tcp(),
        "terminals" => terminals(),
        "watchers" => watchers(),
        "threads" => threads(),
        "files" => files(),
        "memory" => memory(),
        "reserve" => reserve(),
        "memfd" => memfd(),
        "deep" => deep(argument.parse().expect("a number of levels")),
        "calls" => CALLS.iter().for_each(|(name, number)| tell(name, unsafe { syscall(*number, 0, 0, 0, 0, 0, 0) })),
        "trace" => tell("trace", unsafe { ptrace(16, 1, 0, 0) }),
        "limit" => limit_init(),
        "type" => tell("type", unsafe { ioctl(1, 0x5412, c"x".as_ptr()) }.into()),
        "socket" => {
            let numbers: Vec<c_int> = argument.split(',').map(|number| number.parse().expect("a number")).collect();
            tell("socket", unsafe { socket(numbers[0], numbers[1], numbers[2]) }.into());
        }
        "abstract" => abstract_socket(&argument),
        #[cfg(target_arch = "x86_64")]
        "int80" => int80(),
        unknown => panic!("no attack is called `{unknown}`"),
    }
}

fn tell(what: &str, result: c_long) {
    match result {
        -1 => println!("{what}: {}", Error::last_os_error()),
        result => println!("{what}: {result}"),
    }
}

/// Maps 100 MiB that children would share, writes to all of it and keeps it.
fn shared() {
    unsafe extern "C" {
        fn mmap(at: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: i64) -> *mut c_void;
    }
    const LENGTH: usize = 100 << 20;
    // PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS.
    let memory = unsafe { mmap(std::ptr::null_mut(), LENGTH, 3, 0x21, -1, 0) };
    assert_ne!(memory as isize, -1);
    for page in (0..LENGTH).step_by(4096) {
        unsafe { *memory.cast::<u8>().add(page) = 1 };
    }
    std::thread::sleep(Duration::from_secs(50));
}

/// Fills the buffers of connections to itself, at most half a gigabyte, and says how many megabytes that were.
fn tcp() {
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (mut held, mut filled) = (Vec::new(), 0usize);
    let chunk = vec![1u8; 64 << 10];
    for _ in 0..400 {
        let mut one = TcpStream::connect(address).expect("a connection");
        let (other, _) = listener.accept().expect("the other end");
        one.set_nonblocking(true).expect("a setting");
        let mut waits = 0;
        while waits < 3 && filled < 512 << 20 {
            match one.write(&chunk) {
                Ok(written) => filled += written,
                Err(_) => {
                    waits += 1;
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        held.push((one, other));
    }
    println!("filled {}", filled >> 20);
}

/// Opens pseudo-terminals until it may no more.
fn terminals() {
    let mut open = Vec::new();
    while let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx") {
        open.push(file);
        assert!(open.len() < 60_000, "there is no limit");
    }
    println!("refused at {}", open.len());
}

/// Makes watchers of files until it may no more.
fn watchers() {
    unsafe extern "C" {
        fn inotify_init1(flags: c_int) -> c_int;
    }
    let mut made = 0;
    while unsafe { inotify_init1(0) } >= 0 {
        made += 1;
        assert!(made < 60_000, "there is no limit");
    }
    println!("refused at {made}");
}

/// Forks until it may no more, and all that come of it spin and go on trying.
fn bomb() {
    loop {
        unsafe { fork() };
    }
}

/// Starts threads until it may no more.
fn threads() {
    for _ in 0..10_000 {
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        if let Err(error) = thread.spawn(|| std::thread::sleep(Duration::from_secs(1000))) {
            println!("refused: {error}");
            std::process::exit(3);
        }
    }
    panic!("there is no limit");
}

/// Opens files until it may no more.
fn files() {
    let mut open = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        open.push(file);
        assert!(open.len() < 1_000_000, "there is no limit");
    }
    drop(open);
    println!("refused");
}

/// Asks for a gigabyte and uses none of it.
fn reserve() {
    let reserved: Vec<u8> = Vec::with_capacity(1 << 30);
    println!("reserved {}", std::hint::black_box(&reserved).capacity() >> 20);
}

fn memory() {
    let mut held = Vec::new();
    loop {
        held.push(vec![1u8; 1 << 20]);
    }
}

fn memfd() {
    let file = unsafe { memfd_create(c"x".as_ptr(), 0) };
    let chunk = vec![1u8; 1 << 20];
    loop {
        if unsafe { write(file, chunk.as_ptr().cast(), chunk.len()) } < 0 {
            std::process::exit(9);
        }
    }
}

/// A folder in a folder in a folder…
fn deep(levels: usize) {
    let name = CString::new("d").expect("no zeros");
    for _ in 0..levels {
        unsafe { mkdir(name.as_ptr(), 0o777) };
        assert_eq!(unsafe { chdir(name.as_ptr()) }, 0);
    }
    println!("made");
}

/// Lets init use no CPU time: the kernel would kill it.
fn limit_init() {
    #[cfg(target_arch = "x86_64")]
    const PRLIMIT: c_long = 302;
    #[cfg(target_arch = "aarch64")]
    const PRLIMIT: c_long = 261;
    let nothing = [0u64; 2];
    tell("limit", unsafe { syscall(PRLIMIT, 1, 0, nothing.as_ptr(), 0, 0, 0) });
}

fn abstract_socket(name: &str) {
    let socket = unsafe { socket(1, 1, 0) };
    let mut address = vec![1, 0, 0];
    address.extend_from_slice(name.as_bytes());
    tell("connect", unsafe { connect(socket, address.as_ptr().cast(), address.len() as u32) }.into());
}

/// Asks for process 1 by the numbers of another architecture.
#[cfg(target_arch = "x86_64")]
fn int80() {
    let _ = std::io::stdout().flush();
    let result: i64;
    unsafe { std::arch::asm!("int 0x80", inlateout("rax") 20i64 => result) };
    println!("answered {result}");
}
