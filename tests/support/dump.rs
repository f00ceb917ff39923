//! The database dump of a registry of fixtures, in the real format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::fixture::Fixture;

/// A dump of these versions, each with its crate's downloads.
pub(crate) fn dump(fixtures: &[(Fixture, u64)]) -> Vec<u8> {
    let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
    for (fixture, _) in fixtures {
        let next = ids.len() + 1;
        ids.entry(&fixture.name).or_insert(next);
    }
    let mut crates = "created_at,description,id,name\n".to_owned();
    for (name, id) in &ids {
        writeln!(crates, "2020-01-01 00:00:00+00,\"a, b\",{id},{name}").unwrap();
    }
    let mut versions = "checksum,crate_id,created_at,id,num,yanked\n".to_owned();
    let mut dependencies = "crate_id,id,kind,optional,req,version_id\n".to_owned();
    let mut downloads = "date,downloads,version_id\n".to_owned();
    for (number, (fixture, count)) in fixtures.iter().enumerate() {
        let (id, sum, version) = (number + 1, fixture.checksum(), &fixture.version);
        let krate = ids[fixture.name.as_str()];
        writeln!(versions, "{sum},{krate},2020-01-01 00:00:00+00,{id},{version},f").unwrap();
        writeln!(downloads, "2026-05-31,{count},{id}").unwrap();
        for dep in &fixture.deps {
            writeln!(dependencies, "{},1,0,f,\"{}\",{id}", ids[dep.name.as_str()], dep.requirement).unwrap();
        }
    }
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, text) in [
        ("metadata.json", "{\"timestamp\": \"2026-06-01T02:00:00.1Z\"}"),
        ("data/crates.csv", &crates),
        ("data/dependencies.csv", &dependencies),
        ("data/version_downloads.csv", &downloads),
        ("data/versions.csv", &versions),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("2026-06-01-020000/{name}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}
