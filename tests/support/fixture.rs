//! Crates of our own making, as a registry would publish them.

use flate2::Compression;
use flate2::write::GzEncoder;
use maar::registry::Checksum;

/// One version of a crate. Without files it is an empty library.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) deps: Vec<Dep>,
    features: Vec<(String, Vec<String>)>,
    files: Vec<(String, String)>,
    manifest: Option<String>,
    tarball: Option<Vec<u8>>,
    yanked: bool,
    published: Option<String>,
}

/// A dependency, in the manifest and in the index.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dep {
    pub(crate) name: String,
    pub(crate) requirement: String,
    /// `normal` if empty, `build` or `dev`.
    pub(crate) kind: &'static str,
    /// Such as `cfg(windows)`; any if empty.
    pub(crate) target: &'static str,
    pub(crate) is_optional: bool,
    pub(crate) features: Vec<String>,
}

impl Fixture {
    pub(crate) fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            deps: Vec::new(),
            features: Vec::new(),
            files: Vec::new(),
            manifest: None,
            tarball: None,
            yanked: false,
            published: None,
        }
    }

    /// The contents of `src/lib.rs`.
    pub(crate) fn lib(self, source: &str) -> Self {
        self.file("src/lib.rs", source)
    }

    /// A dependency, in the manifest and in the index.
    pub(crate) fn dep(mut self, name: &str, requirement: &str) -> Self {
        let (name, requirement) = (name.to_owned(), requirement.to_owned());
        self.deps.push(Dep { name, requirement, ..Dep::default() });
        self
    }

    /// A dependency of any kind.
    pub(crate) fn with(mut self, dep: Dep) -> Self {
        self.deps.push(dep);
        self
    }

    /// A feature that turns others on.
    pub(crate) fn feature(mut self, name: &str, others: &[&str]) -> Self {
        self.features.push((name.to_owned(), others.iter().map(|&other| other.to_owned()).collect()));
        self
    }

    /// Any other file, by its path below the crate.
    pub(crate) fn file(mut self, path: &str, contents: &str) -> Self {
        self.files.push((path.to_owned(), contents.to_owned()));
        self
    }

    /// A manifest in place of the generated one.
    pub(crate) fn manifest(mut self, text: &str) -> Self {
        self.manifest = Some(text.to_owned());
        self
    }

    /// The bytes of the tarball, in place of all other fields.
    pub(crate) fn tarball(mut self, bytes: &[u8]) -> Self {
        self.tarball = Some(bytes.to_owned());
        self
    }

    /// When it was published, for the index.
    pub(crate) fn published(mut self, time: &str) -> Self {
        self.published = Some(time.to_owned());
        self
    }

    pub(crate) fn yanked(mut self) -> Self {
        self.yanked = true;
        self
    }

    /// Its files, manifest included, by path.
    pub(crate) fn contents(&self) -> Vec<(String, String)> {
        let mut files = vec![("Cargo.toml".to_owned(), self.manifest.clone().unwrap_or_else(|| self.generated()))];
        files.extend(self.files.iter().cloned());
        let has_target = files.iter().any(|(path, _)| path == "src/lib.rs" || path == "src/main.rs");
        if !has_target && self.manifest.is_none() {
            files.push(("src/lib.rs".to_owned(), String::new()));
        }
        files
    }

    fn generated(&self) -> String {
        let Self { name, version, .. } = self;
        let mut text = format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n");
        text.push_str(&self.tables());
        text
    }

    /// The tables of its dependencies and features, as a manifest has them.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::from("[features]\n");
        for (name, others) in &self.features {
            text.push_str(&format!("{name} = {others:?}\n"));
        }
        for Dep { name, requirement, kind, target, is_optional, features } in &self.deps {
            let target = if target.is_empty() { String::new() } else { format!("target.'{target}'.") };
            let kind = if kind.is_empty() { String::new() } else { format!("{kind}-") };
            text.push_str(&format!("[{target}{kind}dependencies.{name}]\nversion = \"{requirement}\"\n"));
            if *is_optional {
                text.push_str("optional = true\n");
            }
            text.push_str(&format!("features = {features:?}\n"));
        }
        text
    }

    /// The tarball that is published.
    pub(crate) fn packed(&self) -> Vec<u8> {
        if let Some(bytes) = &self.tarball {
            return bytes.clone();
        }
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, contents) in self.contents() {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            let path = format!("{}-{}/{path}", self.name, self.version);
            tar.append_data(&mut header, path, contents.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    pub(crate) fn checksum(&self) -> Checksum {
        Checksum::of(self.packed())
    }

    /// Its line in the index, without the newline.
    pub(crate) fn line(&self) -> String {
        let or = |text: &str, other: serde_json::Value| if text.is_empty() { other } else { text.into() };
        let dep = |Dep { name, requirement, kind, target, is_optional, features }: &Dep| {
            serde_json::json!({
                "name": name, "req": requirement, "features": features, "optional": is_optional,
                "default_features": true, "target": or(target, serde_json::Value::Null),
                "kind": or(kind, "normal".into()), "registry": null, "package": null,
            })
        };
        let features: std::collections::BTreeMap<_, _> = self.features.iter().cloned().collect();
        let deps: Vec<_> = self.deps.iter().map(dep).collect();
        let mut line = serde_json::json!({
            "name": self.name, "vers": self.version, "deps": deps, "cksum": self.checksum().to_string(),
            "features": features, "yanked": self.yanked,
        });
        if let Some(published) = &self.published {
            line["pubtime"] = published.as_str().into();
        }
        line.to_string()
    }
}
