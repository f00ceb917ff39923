//! What cargo prints in cells that compile ahead, between whatever else stands there.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;

use super::stand_in::REFUSED;
use crate::cache::{self, Graph};
use crate::ops::cell::{TARGET, VENDOR};

/// Has cargo tell of every unit that it finds or makes, with its files, as JSON in a line.
pub(super) const AS_JSON: &str = "--message-format=json-render-diagnostics";

/// The packages, as `NAME-VERSION`, that were next but refused. Whatever else stands there does no harm.
pub(super) fn refused(text: &str) -> impl Iterator<Item = &str> {
    let folders = text.lines().filter_map(|line| line.trim_end().strip_prefix(REFUSED));
    folders.filter_map(|folder| folder.strip_prefix(VENDOR)?.strip_prefix('/'))
}

/// The packages, as `NAME-VERSION`, that cargo began to compile: `   Compiling itoa v1.0.18`, or `Checking`.
pub(super) fn compiled(text: &str) -> impl Iterator<Item = String> {
    let packages = text.lines().filter_map(|line| {
        let line = line.trim();
        line.strip_prefix("Compiling ").or_else(|| line.strip_prefix("Checking "))
    });
    packages.map(|package| package.replacen(" v", "-", 1))
}

/// The hashes of the units whose files cargo tells of, as in
/// <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>: those of a compiler's, and those that a
/// build script wrote.
pub(super) fn used(text: &str) -> BTreeSet<String> {
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let paths = messages.flat_map(|Message { filenames, out_dir }| filenames.into_iter().chain(out_dir));
    let in_target = |path: PathBuf| cache::unit_hash(path.strip_prefix(TARGET).ok()?).map(str::to_owned);
    paths.filter_map(in_target).collect()
}

/// What is looked at of a message of cargo's.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    filenames: Vec<PathBuf>,
    out_dir: Option<PathBuf>,
}

/// How many packages of the graph cargo found fresh: `       Fresh itoa v1.0.18`.
pub(super) fn fresh(text: &str, graph: &Graph) -> usize {
    let packages = text.lines().filter_map(|line| line.trim().strip_prefix("Fresh "));
    let folders = packages.map(|package| package.replacen(" v", "-", 1));
    folders.filter(|folder| graph.code(folder).is_some()).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_packages_are_found_between_whatever_cargo_prints() {
        let text = "   Compiling libc v0.2.1\r\nmaar-refused: /cargo/vendor/libc-0.2.1\r\nerror: could not compile\r\n\
                    maar-refused: /crate\r\nmaar-refused: /cargo/vendor/a-1.0.0+b\n x maar-refused: /cargo/vendor/c-1.0.0\n";
        assert_eq!(refused(text).collect::<Vec<_>>(), ["libc-0.2.1", "a-1.0.0+b"]);
    }

    #[test]
    fn units_are_found_in_cargos_messages_between_whatever_else_is_printed() {
        let text = r#"       Fresh itoa v1.0.18
{"reason":"compiler-artifact","package_id":"x","filenames":["/crate/target/debug/deps/libitoa-0123456789abcdef.rlib","/crate/target/debug/deps/libitoa-0123456789abcdef.rmeta"],"executable":null,"fresh":true}
{"reason":"compiler-artifact","filenames":["/crate/target/debug/build/libc-1111111111111111/build-script-build"],"fresh":true}
{"reason":"build-script-executed","linked_libs":[],"env":[],"out_dir":"/crate/target/debug/build/libc-2222222222222222/out"}
{"reason":"compiler-artifact","filenames":["/elsewhere/debug/deps/liba-3333333333333333.rlib"]}
{"reason":"build-finished","success":false}
{"filenames":
"#;
        let expected = ["0123456789abcdef", "1111111111111111", "2222222222222222"];
        assert_eq!(used(text), expected.map(str::to_owned).into());
    }
}
