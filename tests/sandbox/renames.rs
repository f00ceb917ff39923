//! A folder that commands may change in every way.

use maar::sandbox::{End, MountKind};

use crate::bench::native;

#[test]
fn folders_of_a_copy_can_be_renamed_and_the_next_cell_sees_it() {
    let mut bench = native();
    let (lower, upper) = bench.overlay();
    std::fs::create_dir_all(lower.join("src/deep")).unwrap();
    bench.file(&lower.join("src/deep/file"), "old\n");
    let rename = "cd /overlay; mv -T src moved 2>/dev/null && cat moved/deep/file; ls";
    // `mv` itself copies where the kernel refuses; this does not.
    let refused = "cd /overlay; perl -e 'rename(\"src\", \"moved\") or print $!'; ls";
    bench.check(refused, End::Code(0), "Invalid cross-device linksrc\n");

    let Some(mount) = bench.spec.mounts.iter_mut().find(|mount| mount.at.ends_with("overlay")) else { unreachable!() };
    let MountKind::Overlay { lower: below, upper: above, work } = mount.what.clone() else { unreachable!() };
    mount.what = MountKind::Copy { lower: below, upper: above, work };
    bench.check("cd /overlay; perl -e 'rename(\"src\", \"moved\") or print $!'; ls", End::Code(0), "moved\n");
    bench.check("cat /overlay/moved/deep/file; echo new > /overlay/moved/deep/file", End::Code(0), "old\n");
    bench.check(
        "cd /overlay; perl -e 'rename(\"moved\", \"src\") or print $!'; cat src/deep/file",
        End::Code(0),
        "new\n",
    );
    bench.check(rename, End::Code(0), "new\nmoved\n");
    assert_eq!(std::fs::read_to_string(lower.join("src/deep/file")).unwrap(), "old\n");
    assert!(upper.join("moved").is_dir());
    assert_eq!(std::fs::read_dir(&bench.spec.scratch).unwrap().count(), 0);
}
