//! What a server says of itself: the model that answered, and the state of the system behind it. It is in no key. It is
//! told in records, and a change since the last one is told to the user: rows of then and now may come from two models.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fracture_cache::Digest;
use fracture_cache::digest::{Bytes, Framed};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::Answer;
use crate::failure::shortened;

/// Who answered, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// What the server calls the model that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the server calls its own state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// When it answered, milliseconds since 1970.
    pub at: u64,
}

impl Identity {
    /// Who gave an answer. A name is kept as it can be shown: one line, without control characters, not too long.
    pub fn of(answer: &Answer, at: u64) -> Self {
        Self {
            model: answer.model.as_deref().map(shortened),
            fingerprint: answer.fingerprint.as_deref().map(shortened),
            at,
        }
    }

    fn named(&self) -> (Option<&str>, Option<&str>) {
        (self.model.as_deref(), self.fingerprint.as_deref())
    }

    fn shown(&self) -> String {
        let parts = [self.model.as_deref(), self.fingerprint.as_deref()];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        if parts.is_empty() {
            "nothing".to_owned()
        } else {
            // Rows that are stored already may hold anything.
            shortened(&parts.join(" "))
        }
    }
}

/// What records keep: each name that rows were given under, with the number of those rows, the latest last.
pub fn provenance(rows: &[Identity]) -> Vec<(String, String)> {
    // The last answer under each name, and how many there are.
    let mut names: BTreeMap<_, (&Identity, u64)> = BTreeMap::new();
    for row in rows {
        let (last, count) = names.entry(row.named()).or_insert((row, 0));
        *count += 1;
        if row.at > last.at {
            *last = row;
        }
    }
    if names.is_empty() {
        return Vec::new();
    }
    let mut names: Vec<(&Identity, u64)> = names.into_values().collect();
    names.sort_by_key(|(last, _)| last.at);
    let said: Vec<String> = match names.as_slice() {
        [(only, _)] => vec![only.shown()],
        several => several
            .iter()
            .map(|(who, count)| format!("{} ({count} rows)", who.shown()))
            .collect(),
    };
    let first = rows.iter().map(|row| row.at).min().unwrap_or(0);
    let last = rows.iter().map(|row| row.at).max().unwrap_or(0);
    let mut facts = vec![("server says".to_owned(), said.join(", "))];
    facts.push((
        "asked, seconds since 1970".to_owned(),
        format!("{} to {}", first / 1000, last / 1000),
    ));
    facts
}

/// Compares the rows of a table among themselves and with what the server said when it was last recorded in the
/// store, and remembers the newest. `memory` is the store's folder for such things, `who` the model by name and
/// settings.
pub fn watch(memory: Option<&Path>, shown: &str, who: &Value, rows: &[Identity]) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(newest) = rows.iter().max_by_key(|row| row.at) else {
        return notes;
    };
    let mut names: Vec<&Identity> = rows.iter().collect();
    names.sort_by_key(|row| row.at);
    names.dedup_by_key(|row| row.named());
    if names.iter().any(|one| one.named() != newest.named()) {
        let all: Vec<String> = names.iter().map(|one| one.shown()).collect();
        notes.push(format!(
            "the server of the model `{shown}` named itself differently while these rows were asked: {}; they may \
             come from different models",
            all.join(", then ")
        ));
    }
    let Some(path) = memory.map(|memory| place(memory, who)) else {
        return notes;
    };
    let before: Option<Identity> = fs::read(&path)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match before {
        // Rows that were remembered since are no news.
        Some(before) if before.at >= newest.at => return notes,
        Some(before) if before.named() != newest.named() => notes.push(format!(
            "the server of the model `{shown}` says that it is {}; when it was last recorded it was {}. Rows of then \
             and now may come from different models: `run --refresh` draws all anew, `revision` keeps them apart",
            newest.shown(),
            before.shown()
        )),
        _ => {}
    }
    // What can not be remembered is not compared the next time; that is no reason to stop.
    let _ = remember(&path, newest);
    notes
}

fn place(memory: &Path, who: &Value) -> PathBuf {
    let name: Digest<Bytes> = Framed::new("served model").text(&who.to_string()).finish();
    memory.join("served").join(name.hex())
}

fn remember(path: &Path, identity: &Identity) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension(std::process::id().to_string());
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(identity).unwrap_or_default())?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn by(model: &str, fingerprint: Option<&str>, at: u64) -> Identity {
        Identity {
            model: Some(model.to_owned()),
            fingerprint: fingerprint.map(str::to_owned),
            at,
        }
    }

    #[test]
    fn a_change_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let (memory, who) = (Some(folder.path()), json!({ "model": "m" }));
        let told = |rows: &[Identity]| watch(memory, "m", &who, rows);
        assert!(told(&[]).is_empty());
        assert!(told(&[by("m-1", Some("a"), 10), by("m-1", Some("a"), 12)]).is_empty());
        assert!(told(&[by("m-1", Some("a"), 20)]).is_empty());
        let changed = told(&[by("m-1", Some("b"), 30)]);
        assert!(
            changed.len() == 1 && changed[0].contains("m-1 b") && changed[0].contains("m-1 a"),
            "{changed:?}"
        );
        assert!(told(&[by("m-1", Some("b"), 40)]).is_empty());
        // Rows from the memo are older than what was recorded last.
        assert!(told(&[by("m-1", Some("a"), 20)]).is_empty());
        assert!(told(&[by("m-1", Some("b"), 50)]).is_empty());
        assert!(watch(memory, "m", &json!({ "model": "other" }), &[by("m-2", None, 60)]).is_empty());
    }

    #[test]
    fn a_name_writes_nothing_but_itself_to_a_terminal() {
        let said = json!({ "model": "m\u{1b}[31m\nerror: no", "system_fingerprint": "f".repeat(9000),
            "choices": [{ "text": "" }] });
        let who = Identity::of(&Answer::parse(said).unwrap(), 1);
        assert_eq!(who.model.as_deref(), Some("m[31m error: no"));
        assert!(who.fingerprint.unwrap().len() < 400);
        let stored = [by("a\nb\u{7}", None, 1), by("c", None, 2)];
        assert!(watch(None, "m", &json!({}), &stored)[0].contains("a b, then c"));
        assert_eq!(provenance(&stored)[0].1, "a b (1 rows), c (1 rows)");
    }

    #[test]
    fn rows_of_two_models_are_told_apart() {
        let rows = [by("m-2", None, 20), by("m-1", None, 10), by("m-2", None, 21)];
        assert!(watch(None, "m", &json!({}), &rows)[0].contains("m-1, then m-2"));
        let facts = provenance(&rows);
        assert_eq!(facts[0].1, "m-1 (1 rows), m-2 (2 rows)");
        assert_eq!(facts[1].1, "0 to 0");
        assert!(provenance(&[]).is_empty());
        assert_eq!(provenance(&rows[..1])[0].1, "m-2");
    }
}
