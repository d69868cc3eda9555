//! What files a model has at a commit: as the hub tells it, and as it is kept beside the snapshot, so that planning asks
//! nobody.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::reference::is_commit_name;

/// The most files of a repository.
const FILES_LIMIT: usize = 100_000;
/// The longest path of a file.
const PATH_LIMIT: usize = 1_000;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path inside the repository; it leads nowhere else.
    pub name: String,
    /// Its size in bytes, when it is known.
    pub size: Option<u64>,
    /// What its content is called in the cache: the SHA-256 of large files, else a name of the hub's.
    pub etag: Option<String>,
}

/// The files of a repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The commit.
    pub commit: String,
    /// The files, sorted by name.
    pub files: Vec<Entry>,
    /// Whether these are all files. What lies in a snapshot may be a part.
    pub complete: bool,
}

impl Listing {
    /// Reads what the hub says of a revision. Files whose names lead outside are left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(told: &Value) -> Result<Self, String> {
        let commit = told.get("sha").and_then(Value::as_str).ok_or("it names no commit")?;
        if !is_commit_name(commit) {
            return Err("its commit is none".to_owned());
        }
        let siblings = told
            .get("siblings")
            .and_then(Value::as_array)
            .ok_or("it lists no files")?;
        if siblings.len() > FILES_LIMIT {
            return Err(format!("it lists {} files", siblings.len()));
        }
        let mut files: Vec<Entry> = siblings.iter().filter_map(entry).collect();
        files.sort_by(|one, other| one.name.cmp(&other.name));
        files.dedup_by(|one, other| one.name == other.name);
        Ok(Self {
            commit: commit.to_owned(),
            files,
            complete: true,
        })
    }

    /// The file of that name.
    pub fn file(&self, name: &str) -> Option<&Entry> {
        let at = self
            .files
            .binary_search_by(|entry| entry.name.as_str().cmp(name))
            .ok()?;
        self.files.get(at)
    }

    /// Whether there is a file of that name.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).is_some()
    }

    /// Replaces what is known of a file.
    pub fn learn(&mut self, entry: Entry) {
        if let Some(known) = self.files.iter_mut().find(|known| known.name == entry.name) {
            *known = entry;
        }
    }

    /// The names with that ending, at the root and in `onnx/`.
    pub fn ending(&self, ending: &str) -> Vec<&str> {
        let names = self.files.iter().map(|entry| entry.name.as_str());
        names
            .filter(|name| name.ends_with(ending) && !name.strip_prefix("onnx/").unwrap_or(name).contains('/'))
            .collect()
    }
}

fn entry(sibling: &Value) -> Option<Entry> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = text(sibling, "rfilename").filter(|name| stays_inside(name))?;
    let large = sibling.get("lfs").filter(|lfs| lfs.is_object());
    let size = large.unwrap_or(sibling).get("size").and_then(Value::as_u64);
    let etag = match large {
        Some(lfs) => text(lfs, "sha256"),
        None => text(sibling, "blobId"),
    };
    Some(Entry {
        name,
        size,
        etag: etag.filter(|etag| is_blob_name(etag)),
    })
}

/// Whether a name from the hub is a path that stays inside its folder.
pub(crate) fn stays_inside(name: &str) -> bool {
    let plain = !name.is_empty()
        && name.len() <= PATH_LIMIT
        && !name.contains(['\\', ':'])
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "."));
    plain
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

/// Whether what the hub calls a content may be the name of a file in the cache.
pub(crate) fn is_blob_name(etag: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=128).contains(&etag.len()) && etag.bytes().all(plain)
}

/// The SHA-256 that a content's name is, for large files.
pub(crate) fn sha256_of(etag: &str) -> Option<&str> {
    (etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(etag)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_listing_is_read() {
        let sha = "f9343d7d7ec5c3d8bcced056c438fc9f1d3819e9ca3d42418a40857050e10e20";
        let listing = Listing::parse(&json!({
            "sha": "8b3861f6931c4026b0cd22b38dbc09e7668983ac", "gated": false,
            "siblings": [
                { "rfilename": "model.safetensors", "size": 22, "blobId": "cd1c", "lfs": { "sha256": sha, "size": 22, "pointerSize": 127 } },
                { "rfilename": "config.json", "size": 304, "blobId": "be98037f7c542112c15a1d2fc7e2a2427e42cb50" },
                { "rfilename": "onnx/model.onnx" },
            ],
        }))
        .unwrap();
        assert_eq!(listing.file("model.safetensors").unwrap().etag.as_deref(), Some(sha));
        assert_eq!(listing.file("config.json").unwrap().size, Some(304));
        assert_eq!(listing.file("onnx/model.onnx").unwrap().size, None);
        assert_eq!(listing.ending(".onnx"), ["onnx/model.onnx"]);
        assert!(!listing.has("model.onnx"));
    }

    #[test]
    fn names_that_lead_outside_are_no_files() {
        let evil = [
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a//b",
            "a\\..\\b",
            "C:x",
            "",
            ".",
            "a/./b",
            "a\nb",
            "a/",
            "..",
        ];
        let siblings: Vec<Value> = evil.iter().map(|name| json!({ "rfilename": name })).collect();
        let listing =
            Listing::parse(&json!({ "sha": "8b3861f6931c4026b0cd22b38dbc09e7668983ac", "siblings": siblings }));
        assert_eq!(listing.unwrap().files, []);
        assert!(stays_inside("onnx/model.onnx") && stays_inside("1_Pooling/config.json") && stays_inside("..a"));
        for etag in ["../x", "a/b", ".", "..", "", "W/\"x\""] {
            assert!(!is_blob_name(etag), "{etag}");
        }
    }

    #[test]
    fn a_commit_that_is_none_is_refused() {
        for sha in ["../../x", "", "a b", "short"] {
            assert!(Listing::parse(&json!({ "sha": sha, "siblings": [] })).is_err(), "{sha}");
        }
        assert!(Listing::parse(&json!({ "siblings": [] })).is_err());
        assert!(Listing::parse(&json!([])).is_err());
    }
}
