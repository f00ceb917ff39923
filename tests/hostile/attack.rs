//! Attacks of a hostile crate that a shell can't do: one program, an attack per argument. Compiled by the suite itself,
//! without any crate. Prints how the attack went; the exit code is 0 unless the attack decides otherwise.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io::{Error, Write};
use std::time::Duration;

unsafe extern "C" {
    fn chdir(path: *const c_char) -> c_int;
    fn fork() -> c_int;
    fn connect(socket: c_int, address: *const c_void, length: u32) -> c_int;
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, file: c_int, event: *const c_void) -> c_int;
    fn eventfd(value: u32, flags: c_int) -> c_int;
    fn fcntl(file: c_int, command: c_int, ...) -> c_int;
    fn getpid() -> c_int;
    fn getrlimit(resource: c_int, limit: *mut [u64; 2]) -> c_int;
    fn inotify_add_watch(inotify: c_int, path: *const c_char, mask: u32) -> c_int;
    fn inotify_init1(flags: c_int) -> c_int;
    fn ioctl(file: c_int, request: u64, ...) -> c_int;
    fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    fn mkdir(path: *const c_char, mode: u32) -> c_int;
    fn pipe(ends: *mut [c_int; 2]) -> c_int;
    fn ptrace(request: c_long, ...) -> c_long;
    fn sendmsg(socket: c_int, message: *const Message, flags: c_int) -> isize;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut c_void) -> c_int;
    fn sigqueue(process: c_int, signal: c_int, value: *const c_void) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn socketpair(family: c_int, kind: c_int, protocol: c_int, ends: *mut [c_int; 2]) -> c_int;
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
        "headless" => headless(&argument),
        "shared" => shared(),
        "tcp" => tcp(),
        "netlink" => netlink(),
        "threads" => threads(),
        "files" => files(),
        "memory" => memory(),
        "reserve" => reserve(),
        "memfd" => memfd(),
        "deep" => deep(argument.parse().expect("a number of levels")),
        "calls" => CALLS.iter().for_each(|(name, number)| tell(name, unsafe { syscall(*number, 0, 0, 0, 0, 0, 0) })),
        "trace" => tell("trace", unsafe { ptrace(16, 1, 0, 0) }),
        "limit" => limit_init(),
        "schedule" => schedule_init(),
        "type" => tell("type", unsafe { ioctl(1, 0x5412, c"x".as_ptr()) }.into()),
        "socket" => {
            let numbers: Vec<c_int> = argument.split(',').map(|number| number.parse().expect("a number")).collect();
            tell("socket", unsafe { socket(numbers[0], numbers[1], numbers[2]) }.into());
        }
        "abstract" => abstract_socket(&argument),
        "hold" => hold(&argument),
        "take" => take(&argument, arguments.next().unwrap_or_default().parse().expect("a number")),
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

/// Holds 200 MiB of deleted files, or 500 MiB of shared memory, in a process whose main thread has ended.
fn headless(what: &str) {
    #[cfg(target_arch = "x86_64")]
    const EXIT: c_long = 60;
    #[cfg(target_arch = "aarch64")]
    const EXIT: c_long = 93;
    let what = what.to_owned();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        if what == "memory" {
            (0..5).for_each(|_| drop(std::thread::spawn(shared)));
            std::thread::sleep(Duration::from_secs(50));
        }
        let chunk = vec![1u8; 40 << 20];
        let files: Vec<_> = (0..5)
            .map(|_| {
                let mut file = std::fs::File::create("file").expect("a file");
                std::fs::remove_file("file").expect("its name");
                file.write_all(&chunk).expect("room");
                file
            })
            .collect();
        std::thread::sleep(Duration::from_secs(50));
        drop(files);
        std::process::exit(0);
    });
    // Ends this thread only, not the process.
    unsafe { syscall(EXIT, 0) };
}

/// Fills the buffers of connections to itself, at most half a gigabyte, and prints the number of megabytes.
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

/// Has the kernel answer into sockets that are never read, until there are no more sockets; then sleeps. Prints the
/// number of megabytes when it may hold no more.
fn netlink() {
    const AF_NETLINK: c_int = 16;
    const SOCK_RAW_NONBLOCK: c_int = 3 | 0o4000;
    // struct nlmsghdr with RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, and struct rtgenmsg, padded.
    let mut request = [0u8; 20];
    request[0] = 20;
    request[4] = 18;
    request[5..8].copy_from_slice(&[0, 1, 3]);
    let mut answers = 0u64;
    loop {
        let socket = unsafe { socket(AF_NETLINK, SOCK_RAW_NONBLOCK, 0) };
        if socket < 0 {
            println!("{answers} answers wait, then: {}", Error::last_os_error());
            std::thread::sleep(Duration::from_secs(1000));
        }
        // A socket that is full drops what doesn't fit in.
        for _ in 0..100 {
            answers += u64::from(unsafe { write(socket, request.as_ptr().cast(), request.len()) } > 0);
        }
    }
}

/// Forks until the limit, and all its children spin and go on trying.
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

/// Lets init run last, or beside other processes only: a cell ends only when init has run.
fn schedule_init() {
    unsafe extern "C" {
        fn sched_setaffinity(process: c_int, length: usize, cores: *const u64) -> c_int;
        fn sched_setscheduler(process: c_int, policy: c_int, parameters: *const c_int) -> c_int;
        fn setpriority(which: c_int, who: u32, priority: c_int) -> c_int;
    }
    /// Of sched.h.
    const SCHED_IDLE: c_int = 5;
    // A process, a group of processes, a user: sys/resource.h.
    for (which, who) in [(0, 1), (1, 1), (2, 0)] {
        tell("priority", c_long::from(unsafe { setpriority(which, who, 19) }));
    }
    tell("policy", c_long::from(unsafe { sched_setscheduler(1, SCHED_IDLE, &0) }));
    tell("cores", c_long::from(unsafe { sched_setaffinity(1, 8, &1) }));
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

/// The kinds of objects that the kernel counts by user, or for the whole host.
enum Kind {
    Instances,
    Watches,
    Epoll,
    Descriptors,
    Pipes,
    Terminals,
    Requests,
    Signals,
    Queues,
}

/// The objects taken so far; kept until the end.
struct Taken {
    kind: Kind,
    count: usize,
    /// Descriptors of the kind's own: the latest is in use.
    open: Vec<c_int>,
}

/// Of how many files an instance of inotify watches each.
const FILES: usize = 1700;
/// As [`FILES`], for epoll: fewer than a program may have open.
const POLLED: usize = 500;

impl Taken {
    fn nothing(kind: &str) -> Self {
        let kind = match kind {
            "instances" => Kind::Instances,
            "watches" => Kind::Watches,
            "epoll" => Kind::Epoll,
            "descriptors" => Kind::Descriptors,
            "pipes" => Kind::Pipes,
            "terminals" => Kind::Terminals,
            "requests" => Kind::Requests,
            "signals" => Kind::Signals,
            "queues" => Kind::Queues,
            unknown => panic!("nothing is called `{unknown}`"),
        };
        Self { kind, count: 0, open: Vec::new() }
    }

    /// Takes one more.
    fn one(&mut self) -> Result<(), Error> {
        match self.kind {
            Kind::Instances => drop(checked(unsafe { inotify_init1(0) })?),
            Kind::Watches => self.watch()?,
            Kind::Epoll => self.poll()?,
            Kind::Descriptors => self.send()?,
            Kind::Pipes => whole_pipe()?,
            Kind::Terminals => std::mem::forget(std::fs::File::open("/dev/ptmx")?),
            Kind::Requests => io_setup(self.count)?,
            Kind::Signals => drop(checked(unsafe { sigqueue(getpid(), SIGNAL, std::ptr::null()) })?),
            Kind::Queues => new_queue(self.count)?,
        }
        self.count += 1;
        Ok(())
    }

    fn watch(&mut self) -> Result<(), Error> {
        let file = format!("/tmp/watched-{}-{}", std::process::id(), self.count % FILES);
        if self.count < FILES {
            std::fs::write(&file, "")?;
        }
        if self.count % FILES == 0 {
            self.open.push(checked(unsafe { inotify_init1(0) })?);
        }
        let path = CString::new(file).expect("no zeros");
        checked(unsafe { inotify_add_watch(self.latest(), path.as_ptr(), 2) }).map(drop)
    }

    /// Watches the first descriptors that are open.
    fn poll(&mut self) -> Result<(), Error> {
        while self.open.len() < POLLED {
            self.open.push(checked(unsafe { eventfd(0, 0) })?);
        }
        if self.count % POLLED == 0 {
            self.open.push(checked(unsafe { epoll_create1(0) })?);
        }
        let event = [0u32; 4];
        checked(unsafe { epoll_ctl(self.latest(), 1, self.open[self.count % POLLED], event.as_ptr().cast()) }).map(drop)
    }

    /// As many descriptors as one message can hold.
    fn send(&mut self) -> Result<(), Error> {
        if self.count % 100 == 0 {
            let mut ends = [0; 2];
            checked(unsafe { socketpair(1, 1, 0, &raw mut ends) })?;
            self.open.push(ends[0]);
        }
        let mut control = Control { length: 16 + 4 * 253, level: 1, kind: 1, files: [0; 253] };
        control.files.fill(self.open[0]);
        let byte = [c"x".as_ptr().cast(), std::ptr::without_provenance::<c_void>(1)];
        let message = Message {
            name: std::ptr::null(),
            name_length: 0,
            parts: &raw const byte,
            part_count: 1,
            control: &raw const control,
            control_length: size_of::<Control>(),
            flags: 0,
        };
        // MSG_DONTWAIT.
        match unsafe { sendmsg(self.latest(), &raw const message, 0x40) } {
            -1 => Err(Error::last_os_error()),
            _ => Ok(()),
        }
    }

    fn latest(&self) -> c_int {
        *self.open.last().expect("one is opened first")
    }
}

/// A `struct msghdr`.
#[repr(C)]
struct Message {
    name: *const c_void,
    name_length: u32,
    parts: *const [*const c_void; 2],
    part_count: usize,
    control: *const Control,
    control_length: usize,
    flags: c_int,
}

/// A `struct cmsghdr` of SCM_RIGHTS with all its descriptors.
#[repr(C)]
struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    files: [c_int; 253],
}

/// A real-time signal: these are queued.
const SIGNAL: c_int = 40;

fn checked(result: c_int) -> Result<c_int, Error> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// A pipe of the size that pipes have.
fn whole_pipe() -> Result<(), Error> {
    let mut ends = [0; 2];
    checked(unsafe { pipe(&raw mut ends) })?;
    // F_GETPIPE_SZ.
    match unsafe { fcntl(ends[0], 1032) } {
        65_536 => Ok(()),
        size => Err(Error::other(format!("the pipe holds {size} bytes"))),
    }
}

fn io_setup(count: usize) -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    const IO_SETUP: c_long = 206;
    #[cfg(target_arch = "aarch64")]
    const IO_SETUP: c_long = 0;
    if count > 10_000 {
        return Err(Error::other("that is enough"));
    }
    let mut context = 0u64;
    match unsafe { syscall(IO_SETUP, 1000, &raw mut context) } {
        -1 => Err(Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A message queue of the usual size.
fn new_queue(count: usize) -> Result<(), Error> {
    #[cfg(target_arch = "x86_64")]
    const MQ_OPEN: c_long = 240;
    #[cfg(target_arch = "x86_64")]
    const MQ_UNLINK: c_long = 241;
    #[cfg(target_arch = "aarch64")]
    const MQ_OPEN: c_long = 180;
    #[cfg(target_arch = "aarch64")]
    const MQ_UNLINK: c_long = 181;
    let name = CString::new(format!("queue-{}-{count}", std::process::id())).expect("no zeros");
    // O_RDWR and O_CREAT.
    match unsafe { syscall(MQ_OPEN, name.as_ptr(), 0o102, 0o600, 0usize) } {
        -1 => Err(Error::last_os_error()),
        // It counts for as long as it is open, and the host is left no name.
        _ => {
            unsafe { syscall(MQ_UNLINK, name.as_ptr()) };
            Ok(())
        }
    }
}

/// Lets this process have as many open files as it may, and keeps signals pending.
fn prepare() {
    const NOFILE: c_int = 7;
    let mut limit = [0; 2];
    unsafe { getrlimit(NOFILE, &raw mut limit) };
    unsafe { setrlimit(NOFILE, &[limit[1]; 2]) };
    let mut set = [0; 16];
    set[0] = 1 << (SIGNAL - 1);
    unsafe { sigprocmask(0, &raw const set, std::ptr::null_mut()) };
}

/// Takes all that it can get, writes how many to the file `held`, and keeps them until there is a file `peace`.
fn hold(kind: &str) {
    prepare();
    let mut taken = Taken::nothing(kind);
    let refused = loop {
        if let Err(error) = taken.one() {
            break error;
        }
    };
    std::fs::write("held-new", format!("{} {refused}", taken.count)).expect("a file can be written");
    std::fs::rename("held-new", "held").expect("a file can be renamed");
    while !std::path::Path::new("peace").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes so many, with no more open files than any program has.
fn take(kind: &str, number: usize) {
    let mut set = [0; 16];
    set[0] = 1 << (SIGNAL - 1);
    unsafe { sigprocmask(0, &raw const set, std::ptr::null_mut()) };
    let mut taken = Taken::nothing(kind);
    while taken.count < number {
        if let Err(error) = taken.one() {
            println!("took {} of {number}: {error}", taken.count);
            std::process::exit(1);
        }
    }
    println!("took {number}");
}
