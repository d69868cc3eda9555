//! Canaries: texts that are scored before and after a judge whenever it runs, and compared with what they scored when this
//! judge first ran on this store. A judge that moved (another runtime, processor or provider, a damaged file) is stopped.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fracture_cache::digest::{Bytes, Framed};
use fracture_cache::{Digest, FileDigests};
use fracture_stage::{Error, ErrorKind, FileUse, Files};
use serde::{Deserialize, Serialize};

/// A canary may move by this much.
pub const TOLERANCE: f64 = 1e-3;
/// A file of canaries may be this long, bytes.
const SIZE_LIMIT: usize = 1 << 20;
const SHIPPED: &str = include_str!("../canaries.json");

/// The readings of one text: probabilities, as many as its judge has labels (and windows).
pub type Readings = Result<Vec<f64>, String>;

/// What was found when a judge ran first.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    judge: String,
    provenance: Vec<(String, String)>,
    /// Each text and its readings; `None` for one that the judge could not score.
    canaries: Vec<(String, Option<Vec<f64>>)>,
}

/// The canaries of a judge.
#[derive(Debug)]
pub struct Canaries {
    texts: Vec<String>,
    judge: String,
    record: Option<PathBuf>,
    before: Option<Vec<Readings>>,
}

impl Canaries {
    /// The shipped texts.
    pub fn shipped() -> Vec<String> {
        // A test holds the file to being a list of texts.
        serde_json::from_str(SHIPPED).unwrap_or_default()
    }

    /// The texts of a file: JSONL with a field `text`, a JSON list of texts, or else one a line.
    ///
    /// # Errors
    /// When it can not be read or holds no text.
    pub fn read(path: &str, files: &dyn Files) -> Result<Vec<String>, Error> {
        let bytes = files.head(&files.locate(path), SIZE_LIMIT + 1)?;
        let failed = |cause: String| {
            Error::input(format!("the canaries `{path}` can not be used"))
                .cause(cause)
                .hint("give JSONL with a field `text`, a JSON list of texts, or one text a line")
        };
        if bytes.len() > SIZE_LIMIT {
            return Err(failed(format!("more than {} MB", SIZE_LIMIT >> 20)));
        }
        let text = String::from_utf8(bytes).map_err(|error| failed(error.to_string()))?;
        let lines = || text.lines().filter(|line| !line.trim().is_empty());
        let texts: Vec<String> = match Path::new(path).extension().and_then(|ending| ending.to_str()) {
            Some("json") => serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?,
            Some("jsonl") => lines()
                .map(|line| {
                    let value: serde_json::Value = serde_json::from_str(line).map_err(|e| failed(e.to_string()))?;
                    let text = value.get("text").and_then(serde_json::Value::as_str);
                    text.map(str::to_owned)
                        .ok_or_else(|| failed("a line has no field `text`".to_owned()))
                })
                .collect::<Result<_, _>>()?,
            _ => lines().map(str::to_owned).collect(),
        };
        match texts.is_empty() {
            true => Err(failed("it holds no text".to_owned())),
            false => Ok(texts),
        }
    }

    /// The canaries of a judge that depends on `uses` and on `settings`. What they score is remembered under the digest of
    /// all that, in the memory that `files` gives; without a memory only before and after are compared.
    ///
    /// # Errors
    /// When a file of the judge can not be read.
    pub fn new(
        texts: Vec<String>,
        judge: &str,
        uses: &[FileUse],
        settings: &str,
        files: &dyn Files,
    ) -> Result<Self, Error> {
        let record = files
            .memory()
            .map(|memory| Ok(memory.join("canaries").join(key(&texts, uses, settings, &memory)?)))
            .transpose()?;
        Ok(Self {
            texts,
            judge: judge.to_owned(),
            record,
            before: None,
        })
    }

    /// The texts to score.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Takes what the texts score now: compares with before in this run, the first time with the record, which is made when
    /// there is none.
    ///
    /// # Errors
    /// When a canary moved by more than [`TOLERANCE`]; the error names it.
    pub fn check(&mut self, now: Vec<Readings>, provenance: &[(String, String)]) -> Result<(), Error> {
        if let Some(before) = &self.before {
            return self.compare(before, &now, "before this use of the judge");
        }
        if let Some(path) = &self.record {
            match std::fs::read(path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            {
                Some(record) => self.compare_record(record, &now, provenance, path)?,
                // A record that can not be written is no reason to stop: the next run compares nothing.
                None => drop(self.write(path, &now, provenance)),
            }
        }
        self.before = Some(now);
        Ok(())
    }

    fn compare_record(
        &self,
        record: Record,
        now: &[Readings],
        provenance: &[(String, String)],
        path: &Path,
    ) -> Result<(), Error> {
        let recorded: Vec<Readings> = record
            .canaries
            .into_iter()
            .map(|(_, readings)| readings.ok_or_else(|| "it had no score".to_owned()))
            .collect();
        let shown = |all: &[(String, String)]| {
            let all: Vec<String> = all.iter().map(|(name, value)| format!("{name} {value}")).collect();
            all.join(", ")
        };
        self.compare(&recorded, now, "when this judge ran first").map_err(|error| {
            error
                .cause(format!(
                    "then with {}, now with {}",
                    shown(&record.provenance),
                    shown(provenance)
                ))
                .hint(format!(
                    "nothing was scored; scores of then and now must not be compared. If the change is meant, use a new \
                     store (--store) or remove {}",
                    path.display()
                ))
        })
    }

    fn compare(&self, before: &[Readings], now: &[Readings], when: &str) -> Result<(), Error> {
        let mut worst: Option<(usize, f64, f64, f64)> = None;
        for (index, (before, now)) in before.iter().zip(now).enumerate() {
            let (before, now) = match (before, now) {
                (Ok(before), Ok(now)) if before.len() == now.len() => (before, now),
                (Err(_), Err(_)) => continue,
                (_, Err(cause)) => return Err(self.drift(index, "gave no score").cause(cause)),
                (_, Ok(now)) => {
                    let problem = format!("gave {} numbers, another count than {when}", now.len());
                    return Err(self.drift(index, &problem));
                }
            };
            for (before, now) in before.iter().zip(now) {
                let moved = (before - now).abs();
                if worst.is_none_or(|(_, most, ..)| moved > most) {
                    worst = Some((index, moved, *before, *now));
                }
            }
        }
        match worst {
            Some((index, moved, before, now)) if moved > TOLERANCE => Err(self.drift(
                index,
                &format!("moved by {moved:.4}: {before:.4} {when}, {now:.4} now (at most {TOLERANCE} is allowed)"),
            )),
            _ => Ok(()),
        }
    }

    fn drift(&self, index: usize, problem: &str) -> Error {
        let text = self.texts.get(index).map_or("", String::as_str);
        let mut shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Error::new(
            ErrorKind::Task,
            format!(
                "the judge `{}` drifted: canary {} (\"{shown}\") {problem}",
                self.judge,
                index + 1
            ),
        )
    }

    fn write(&self, path: &Path, now: &[Readings], provenance: &[(String, String)]) -> std::io::Result<()> {
        let readings = now.iter().map(|readings| readings.as_ref().ok().cloned());
        let record = Record {
            judge: self.judge.clone(),
            provenance: provenance.to_vec(),
            canaries: self.texts.iter().cloned().zip(readings).collect(),
        };
        let Some(folder) = path.parent() else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        file.persist(path)?;
        Ok(())
    }
}

/// What the readings of a judge depend on, as a file name. Digests of its files are remembered beside.
fn key(texts: &[String], uses: &[FileUse], settings: &str, memory: &Path) -> Result<String, Error> {
    let digests = FileDigests::open(memory);
    let mut framed = Framed::new("canaries of a judge, version 1");
    framed.text(settings).number(texts.len() as u64);
    for text in texts {
        framed.text(text);
    }
    for file in uses {
        framed.text(&file.role);
        match &file.path {
            Some(path) => {
                let state = digests
                    .digest(path)
                    .map_err(|error| Error::input(format!("cannot read {}", path.display())).cause(error))?;
                framed.digest(&state.digest);
            }
            None => {
                framed.text("absent");
            }
        }
    }
    let digest: Digest<Bytes> = framed.finish();
    Ok(format!("{}.json", digest.hex()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Folder(PathBuf);

    impl Files for Folder {
        fn locate(&self, path: &str) -> PathBuf {
            self.0.join(path)
        }
        fn head(&self, path: &Path, limit: usize) -> Result<Vec<u8>, Error> {
            let mut bytes = std::fs::read(path).map_err(|e| Error::input("no file").cause(e))?;
            bytes.truncate(limit);
            Ok(bytes)
        }
        fn size(&self, _: &Path) -> Option<u64> {
            None
        }
        fn list(&self, _: &Path) -> Option<Vec<String>> {
            None
        }
        fn memory(&self) -> Option<PathBuf> {
            Some(self.0.join("memory"))
        }
    }

    fn canaries(folder: &Folder, settings: &str) -> Canaries {
        let model = folder.0.join("model");
        if !model.exists() {
            std::fs::write(&model, "weights").unwrap();
        }
        let uses = [FileUse::present("model", model), FileUse::absent("other")];
        Canaries::new(vec!["one".into(), "two".into()], "judge", &uses, settings, folder).unwrap()
    }

    fn readings(second: f64) -> Vec<Readings> {
        vec![Ok(vec![0.5, 0.5]), Ok(vec![1.0 - second, second])]
    }

    #[test]
    fn shipped_canaries_are_a_handful_of_texts() {
        assert!((4..20).contains(&Canaries::shipped().len()));
    }

    #[test]
    fn a_canary_that_moved_is_named_with_what_it_moved_by() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder(home.path().to_owned());
        let here = [("onnxruntime".to_owned(), "1.31.1".to_owned())];
        let mut first = canaries(&folder, "");
        first.check(readings(0.8), &here).unwrap();
        first.check(readings(0.8005), &here).unwrap();
        let error = first.check(readings(0.79), &here).unwrap_err();
        assert!(error.message.contains("canary 2 (\"two\") moved by 0.0100"), "{error}");
        // The next run compares with the record.
        canaries(&folder, "").check(readings(0.8004), &here).unwrap();
        let there = [("onnxruntime".to_owned(), "1.40.0".to_owned())];
        let error = canaries(&folder, "").check(readings(0.7), &there).unwrap_err();
        assert!(
            error.to_string().contains("1.31.1") && error.to_string().contains("1.40.0"),
            "{error}"
        );
        assert!(error.hint.unwrap().contains("memory"));
        // Another setting or another file is another judge.
        canaries(&folder, "stride 4").check(readings(0.1), &here).unwrap();
        std::fs::write(folder.0.join("model"), "other weights").unwrap();
        canaries(&folder, "").check(readings(0.1), &here).unwrap();
    }

    #[test]
    fn a_canary_that_has_no_score_any_more_is_drift() {
        let home = tempfile::tempdir().unwrap();
        let mut canaries = canaries(&Folder(home.path().to_owned()), "");
        canaries.check(readings(0.8), &[]).unwrap();
        let mut broken = readings(0.8);
        broken[0] = Err("NaN".to_owned());
        let error = canaries.check(broken, &[]).unwrap_err();
        assert!(
            error.to_string().contains("canary 1") && error.to_string().contains("NaN"),
            "{error}"
        );
    }

    #[test]
    fn files_of_three_forms_are_read() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder(home.path().to_owned());
        for (name, text) in [
            ("a.txt", "one\n\ntwo\n"),
            ("a.json", r#"["one", "two"]"#),
            ("a.jsonl", "{\"text\": \"one\", \"p\": 1}\n{\"text\": \"two\"}\n"),
        ] {
            std::fs::write(home.path().join(name), text).unwrap();
            assert_eq!(Canaries::read(name, &folder).unwrap(), ["one", "two"], "{name}");
        }
        std::fs::write(home.path().join("b.txt"), "\n").unwrap();
        assert!(
            Canaries::read("b.txt", &folder)
                .unwrap_err()
                .to_string()
                .contains("no text")
        );
        assert!(Canaries::read("none.txt", &folder).is_err());
    }
}
