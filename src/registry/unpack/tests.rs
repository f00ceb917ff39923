//! Tarballs made by hand, each hostile in one way.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tar::Header;

use super::*;

const ROOT: &str = "a-1.0.0";

/// A tarball under construction: entries byte by byte, since tar's builder refuses the entries under test.
#[derive(Default)]
struct Tarball(Vec<u8>);

impl Tarball {
    fn entry(self, kind: EntryType, name: &str, contents: &[u8]) -> Self {
        self.with(kind, name, contents, |_| {})
    }

    fn file(self, name: &str) -> Self {
        self.entry(EntryType::Regular, name, b"x")
    }

    fn with(mut self, kind: EntryType, name: &str, contents: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Unpacks it, and gives the folder.
    fn unpack(self) -> Result<tempfile::TempDir, String> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&self.0).unwrap();
        gzip.write_all(&[0; 1024]).unwrap();
        unpack_bytes(&gzip.finish().unwrap()).map_err(|error| error.to_string())
    }

    fn refusal(self) -> String {
        self.unpack().expect_err("it was unpacked")
    }
}

fn unpack_bytes(bytes: &[u8]) -> Result<tempfile::TempDir, UnpackError> {
    let dir = tempfile::tempdir().unwrap();
    let tarball = dir.path().join("tarball");
    std::fs::write(&tarball, bytes).unwrap();
    unpack(&tarball, ROOT, &dir.path().join("out"), None)?;
    Ok(dir)
}

fn read(dir: &tempfile::TempDir, path: &str) -> String {
    std::fs::read_to_string(dir.path().join("out").join(path)).unwrap()
}

#[test]
fn files_and_folders_are_placed_without_the_root() {
    let dir = Tarball::default()
        .entry(EntryType::Directory, "a-1.0.0/", b"")
        .file("a-1.0.0/src/lib.rs")
        .entry(EntryType::Directory, "a-1.0.0/src", b"")
        .entry(EntryType::Regular, "a-1.0.0/old/", b"")
        .file("a-1.0.0/old/x")
        .entry(EntryType::XGlobalHeader, "pax_global_header", b"19 comment=0123456\n")
        .entry(EntryType::Regular, "a-1.0.0/./Cargo.toml", &[b'y'; 5000])
        .unpack()
        .unwrap();
    assert_eq!(read(&dir, "src/lib.rs"), "x");
    assert_eq!(read(&dir, "old/x"), "x");
    assert_eq!(read(&dir, "Cargo.toml"), "y".repeat(5000));
}

#[test]
fn only_the_execute_bit_of_a_mode_survives() {
    let dir = Tarball::default()
        .with(EntryType::Regular, "a-1.0.0/tool", b"", |header| header.set_mode(0o7777))
        .with(EntryType::Regular, "a-1.0.0/text", b"", |header| header.set_mode(0o6000))
        .with(EntryType::Directory, "a-1.0.0/dir", b"", |header| header.set_mode(0))
        .unpack()
        .unwrap();
    let mode = |path: &str| dir.path().join("out").join(path).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("tool"), mode("text"), mode("dir"), mode("")), (0o755, 0o644, 0o755, 0o755));
}

#[test]
fn what_is_outside_the_folder_is_refused() {
    for name in ["/etc/passwd", "../x", "./a-1.0.0/x", "b-1.0.0/x", "x", "a-1.0.00/x", "."] {
        assert_eq!(Tarball::default().file(name).refusal(), format!("`{name}` is not in `a-1.0.0/`"));
    }
}

#[test]
fn what_climbs_and_cargos_own_mark_are_passed_over() {
    let tarball = Tarball::default().file("a-1.0.0/../x").file("a-1.0.0/b/../../../x").file("a-1.0.0/b/../y");
    let dir = tarball.file("a-1.0.0/.cargo-ok").file("a-1.0.0/z").unpack().unwrap();
    let names: Vec<_> =
        std::fs::read_dir(dir.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["z"]);
    assert!(!dir.path().join("x").exists());
}

#[test]
fn files_have_the_times_of_the_archive_and_never_of_the_future() {
    let at = |tarball: Tarball, name: &str, time| {
        tarball.with(EntryType::Regular, name, b"x", |header| header.set_mtime(time))
    };
    let tarball =
        at(at(at(Tarball::default(), "a-1.0.0/d/old", 1_000_000_000), "a-1.0.0/zero", 0), "a-1.0.0/new", 1 << 36);
    let dir = at(tarball, "a-1.0.0/newest", u64::MAX >> 8).unpack().unwrap();
    let time = |path: &str| dir.path().join("out").join(path).metadata().unwrap().mtime();
    assert_eq!((time("d/old"), time("zero")), (1_000_000_000, 1));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    assert!(time("new") <= now && time("newest") <= now, "{} {}", time("new"), time("newest"));
}

fn link(kind: EntryType, name: &str, target: &str) -> Tarball {
    Tarball::default().file("a-1.0.0/b/f").with(kind, name, b"", |header| header.set_link_name(target).unwrap())
}

#[test]
fn links_inside_the_package_are_made() {
    for (name, target) in [("a-1.0.0/l", "b/f"), ("a-1.0.0/c/l", "../b/f"), ("a-1.0.0/b/l", "f")] {
        let dir = link(EntryType::Symlink, name, target).unpack().unwrap();
        assert_eq!(read(&dir, &name[ROOT.len() + 1..]), "x", "{target}");
    }
    assert_eq!(read(&link(EntryType::Link, "a-1.0.0/l", "a-1.0.0/b/f").unpack().unwrap(), "l"), "x");
    let long = format!("{}f", "./".repeat(100));
    let records = [
        (EntryType::GNULongLink, format!("{long}\0")),
        (EntryType::XHeader, format!("{} linkpath={long}\n", long.len() + 14)),
    ];
    for (kind, record) in records {
        let tarball = Tarball::default().file("a-1.0.0/f").entry(kind, "record", record.as_bytes());
        let dir = tarball.entry(EntryType::Symlink, "a-1.0.0/l", b"").unpack().unwrap();
        assert_eq!(read(&dir, "l"), "x", "{kind:?}");
    }
}

#[test]
fn links_out_of_the_package_are_refused() {
    let refused = "is a link out of the package, or to a file that isn't there";
    for target in ["/etc/passwd", "../x", "b/../../x", ".."] {
        let refusal = link(EntryType::Symlink, "a-1.0.0/l", target).refusal();
        assert_eq!(refusal, format!("`a-1.0.0/l` {refused}"), "{target}");
    }
    for target in ["/etc/passwd", "b/f", "a-1.0.0/../b", "a-1.0.0/b", "a-1.0.0/gone", "a-1.0.0/l"] {
        assert_eq!(link(EntryType::Link, "a-1.0.0/l", target).refusal(), format!("`a-1.0.0/l` {refused}"), "{target}");
    }
    let through = link(EntryType::Symlink, "a-1.0.0/l", "b").file("a-1.0.0/l/f");
    assert!(through.refusal().contains("is at the path of an earlier entry"));
}

#[test]
fn kinds_that_are_neither_file_nor_folder_are_files_except_sparse_ones() {
    for kind in [EntryType::Fifo, EntryType::Char, EntryType::Block, EntryType::Continuous, EntryType::new(b'V')] {
        let dir = Tarball::default().entry(kind, "a-1.0.0/x", b"x").unpack().unwrap();
        assert!(dir.path().join("out/x").symlink_metadata().unwrap().is_file(), "{kind:?}");
        assert_eq!(read(&dir, "x"), "x", "{kind:?}");
    }
    let sparse = Tarball::default().entry(EntryType::GNUSparse, "a-1.0.0/x", b"").refusal();
    assert_eq!(sparse, "`a-1.0.0/x` is a sparse file");
}

#[test]
fn the_last_of_equal_entries_wins() {
    for again in ["a-1.0.0/x", "a-1.0.0/./x", "a-1.0.0//x"] {
        let dir = Tarball::default().file("a-1.0.0/x").entry(EntryType::Regular, again, b"last").unpack().unwrap();
        assert_eq!(read(&dir, "x"), "last", "{again}");
    }
    let dir = link(EntryType::Symlink, "a-1.0.0/l", "b/f").entry(EntryType::Regular, "a-1.0.0/l", b"last");
    let dir = dir.unpack().unwrap();
    assert_eq!((read(&dir, "l"), read(&dir, "b/f")), ("last".to_owned(), "x".to_owned()));
    let dir = link(EntryType::Link, "a-1.0.0/l", "a-1.0.0/b/f").entry(EntryType::Regular, "a-1.0.0/l", b"last");
    let dir = dir.unpack().unwrap();
    assert_eq!((read(&dir, "l"), read(&dir, "b/f")), ("last".to_owned(), "x".to_owned()));
}

#[test]
fn a_file_at_the_path_of_a_folder_is_refused() {
    let clash = |name: &str| format!("`{name}` is at the path of an earlier entry, and one of them is not a folder");
    let below_a_file = Tarball::default().file("a-1.0.0/x").file("a-1.0.0/x/y");
    assert_eq!(below_a_file.refusal(), clash("a-1.0.0/x/y"));
    let over_a_folder = Tarball::default().file("a-1.0.0/x/y").file("a-1.0.0/x");
    assert_eq!(over_a_folder.refusal(), clash("a-1.0.0/x"));
    let over_a_file = Tarball::default().file("a-1.0.0/x").entry(EntryType::Directory, "a-1.0.0/x", b"");
    assert_eq!(over_a_file.refusal(), clash("a-1.0.0/x"));
    let the_root = Tarball::default().file("a-1.0.0");
    assert_eq!(the_root.refusal(), "`a-1.0.0` is a file where the folder should be");
}

#[test]
fn long_names_are_followed_and_checked_like_short_ones() {
    let long = format!("a-1.0.0/{}/f", "d".repeat(200));
    let gnu = |name: &str| {
        Tarball::default().entry(EntryType::GNULongName, "././@LongLink", format!("{name}\0").as_bytes()).file("short")
    };
    let pax = |record: &str| Tarball::default().entry(EntryType::XHeader, "x", record.as_bytes()).file("short");
    assert_eq!(read(&gnu(&long).unpack().unwrap(), &long[ROOT.len() + 1..]), "x");
    let record = format!("{} path={long}\n", long.len() + 10);
    assert_eq!(read(&pax(&record).unpack().unwrap(), &long[ROOT.len() + 1..]), "x");
    assert_eq!(gnu("../x").refusal(), "`../x` is not in `a-1.0.0/`");
    assert_eq!(pax("13 path=../x\n").refusal(), "`../x` is not in `a-1.0.0/`");
    assert!(pax("9 size=1\n").file("a-1.0.0/f").refusal().contains("`short` is not in"));
    assert_eq!(pax("9 size=9\n").refusal(), "damaged, or no gzipped tarball: two sizes of `short`");
    assert_eq!(pax("9 size=x\n").refusal(), "damaged, or no gzipped tarball: a size that is not a number");
    assert!(pax("99 path=a\n").refusal().contains("malformed pax extension"));
}

#[test]
fn paths_that_are_too_long_or_too_deep_are_refused() {
    let refusal = |name: &str| {
        Tarball::default().entry(EntryType::GNULongName, "././@LongLink", name.as_bytes()).file("short").refusal()
    };
    assert!(refusal(&format!("a-1.0.0/{}", "n".repeat(256))).ends_with("has a name of more than 255 bytes"));
    assert!(refusal(&format!("a-1.0.0/{}", "d/".repeat(1600))).ends_with("is longer than 3072 bytes"));
    assert!(refusal(&format!("a-1.0.0/{}f", "d/".repeat(256))).ends_with("is more than 256 folders deep"));
    assert!(refusal(&"n".repeat(70_000)).ends_with("is longer than 64 KiB"));
    assert_eq!(refusal("a-1.0.0/x\0y"), "`a-1.0.0/x\\0y` has a NUL in it");
}

#[test]
fn bombs_are_refused_before_they_fill_the_disk() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut header = Header::new_gnu();
    header.set_path("a-1.0.0/bomb").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    // Skipped rather than written out: an unread global header costs no disk, but is read all the same.
    header.set_entry_type(EntryType::XGlobalHeader);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..=512 {
        bomb.write_all(&zeros).unwrap();
    }
    assert!(matches!(unpack_bytes(&bomb.finish().unwrap()), Err(UnpackError::TooLarge { .. })));
}

#[test]
fn a_large_tarball_may_unpack_to_twenty_times_its_size_as_cargo_has_it() {
    assert_eq!(max_unpacked(1), 512 << 20);
    assert_eq!(max_unpacked(100 << 20), 2000 << 20);
    assert_eq!(max_unpacked(u64::MAX), u64::MAX);
}

#[test]
fn more_entries_than_anyone_needs_are_refused() {
    let mut tarball = Tarball::default();
    for _ in 0..=MAX_ENTRIES {
        tarball = tarball.entry(EntryType::Directory, "a-1.0.0/d", b"");
    }
    assert_eq!(tarball.refusal(), "has more than 100000 entries");
}

#[test]
fn damaged_tarballs_are_refused() {
    let malformed = |bytes: &[u8]| matches!(unpack_bytes(bytes), Err(UnpackError::Malformed { .. }));
    assert!(malformed(b""));
    assert!(malformed(b"not gzip at all"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let whole = Tarball::default().entry(EntryType::Regular, "a-1.0.0/x", &[7; 4096]).0;
    gzip.write_all(&whole[..2048]).unwrap();
    assert!(malformed(&gzip.finish().unwrap()), "a file that ends early");
    let mut bad_sum = Tarball::default().file("a-1.0.0/x");
    bad_sum.0[0] ^= 1;
    assert_eq!(bad_sum.refusal(), "damaged, or no gzipped tarball: archive header checksum mismatch");
    let no_size = Tarball::default().with(EntryType::Regular, "a-1.0.0/x", b"", |header| {
        header.as_old_mut().size = *b"zzzzzzzzzzzz";
    });
    assert!(no_size.refusal().starts_with("damaged, or no gzipped tarball: "));
}

#[test]
fn a_folder_that_is_there_already_is_the_hosts_trouble() {
    let dir = Tarball::default().file("a-1.0.0/x").unpack().unwrap();
    let result = unpack(&dir.path().join("tarball"), ROOT, &dir.path().join("out"), None);
    assert!(matches!(result, Err(UnpackError::Io { .. })), "{result:?}");
}

#[test]
fn files_belong_to_the_owner_that_was_asked_for() {
    let dir = Tarball::default().file("a-1.0.0/d/x").unpack().unwrap();
    let me = dir.path().metadata().unwrap();
    // Only root can give files away; anyone may give them to themselves.
    let id = if me.uid() == 0 { 4242 } else { me.uid() };
    let (out, owner) = (dir.path().join("owned"), Owner { uid: id, gid: me.gid() });
    unpack(&dir.path().join("tarball"), ROOT, &out, Some(owner)).unwrap();
    for path in ["", "d", "d/x"] {
        assert_eq!(out.join(path).metadata().unwrap().uid(), id, "{path}");
    }
}
