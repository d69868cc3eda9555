//! Canaries: texts that are scored before and after a judge whenever it runs, and compared with what they scored when this
//! judge first ran on this store. A judge that moved (another runtime, processor or provider, a damaged file) is stopped.
//!
//! A file of canaries may also say what each text must score. Such a file lies beside a judge that was shipped with one, and
//! catches what no digest can: a tokenizer or a model of another judge in the same folder.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use fracture_cache::digest::{Bytes, Framed};
use fracture_cache::{Digest, FileDigests};
use fracture_stage::{Error, ErrorKind, FileUse, Files};
use serde::{Deserialize, Serialize};

use crate::generative::LEAST_MASS;

/// A canary may move by this much.
pub const TOLERANCE: f64 = 1e-3;
/// A file of canaries may be this long, bytes.
const SIZE_LIMIT: usize = 1 << 20;
const SHIPPED: &str = include_str!("../canaries.json");

/// The file in a judge's folder that holds its own canaries.
pub const OWN: &str = "canaries.jsonl";
/// What a field of a canary's line that says a probability begins with.
const EXPECTED: &str = "p_";

/// The readings of one text: probabilities, as many as its judge has labels (and windows).
pub type Readings = Result<Vec<f64>, String>;

/// When a judge has drifted.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rule {
    /// When a number moved by more than [`TOLERANCE`].
    Moved,
    /// When less than this share of the verdicts are what they were: the numbers of a served judge move by themselves.
    Verdicts(f64),
}

/// A text that is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    /// The text.
    pub text: String,
    /// What it must score: label and probability.
    pub expected: Vec<(String, f64)>,
}

impl From<String> for Canary {
    fn from(text: String) -> Self {
        Self {
            text,
            expected: Vec::new(),
        }
    }
}

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
    canaries: Vec<Canary>,
    judge: String,
    record: Option<PathBuf>,
    before: Option<Vec<Readings>>,
    rule: Rule,
    found: Option<String>,
}

impl Canaries {
    /// The shipped texts.
    pub fn shipped() -> Vec<Canary> {
        // A test holds the file to being a list of texts.
        let texts: Vec<String> = serde_json::from_str(SHIPPED).unwrap_or_default();
        texts.into_iter().map(Canary::from).collect()
    }

    /// The canaries of a file: JSONL with a field `text` and, where it is said, `p_LABEL`; a JSON list of texts; or else one
    /// text a line.
    ///
    /// # Errors
    /// When it can not be read or holds no text.
    pub fn read(path: &str, files: &dyn Files) -> Result<Vec<Canary>, Error> {
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
        let plain = |texts: Vec<String>| texts.into_iter().map(Canary::from).collect();
        let canaries: Vec<Canary> = match Path::new(path).extension().and_then(|ending| ending.to_str()) {
            Some("json") => plain(serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?),
            Some("jsonl") => lines()
                .map(|line| canary(line).map_err(failed))
                .collect::<Result<_, _>>()?,
            _ => plain(lines().map(str::to_owned).collect()),
        };
        match canaries.is_empty() {
            true => Err(failed("it holds no text".to_owned())),
            false => Ok(canaries),
        }
    }

    /// The canaries of a judge that depends on `uses` and on `settings`. What they score is remembered under the digest of
    /// all that, in the memory that `files` gives; without a memory only before and after are compared.
    ///
    /// # Errors
    /// When a file of the judge can not be read.
    pub fn new(
        canaries: Vec<Canary>,
        judge: &str,
        uses: &[FileUse],
        settings: &str,
        files: &dyn Files,
    ) -> Result<Self, Error> {
        let record = files
            .memory()
            .map(|memory| Ok(memory.join("canaries").join(key(&canaries, uses, settings, &memory)?)))
            .transpose()?;
        Ok(Self {
            canaries,
            judge: judge.to_owned(),
            record,
            before: None,
            rule: Rule::Moved,
            found: None,
        })
    }

    /// The same canaries, compared by their verdicts: at least the share `least` must stay. Readings are then what the unsafe
    /// words hold, and what all words hold, of the probability.
    #[must_use]
    pub fn by_verdict(self, least: f64) -> Self {
        Self {
            rule: Rule::Verdicts(least),
            ..self
        }
    }

    /// What the last comparison of verdicts found, for the record.
    pub fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// The texts to score.
    pub fn texts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.canaries.iter().map(|canary| canary.text.as_str())
    }

    /// Compares with what the canaries must score. `score` is the probability that a label has of the text of that number;
    /// `None` where the judge has no score for the text, which is nothing to compare. That the judge has the labels is
    /// checked before ([`check_labels`]).
    ///
    /// # Errors
    /// When one is off by more than [`TOLERANCE`], or too few verdicts are what they must be.
    pub fn check_expected(&self, score: impl Fn(usize, &str) -> Option<f64>) -> Result<(), Error> {
        if let Rule::Verdicts(least) = self.rule {
            let sides = self.canaries.iter().enumerate().filter_map(|(index, canary)| {
                let (label, expected) = canary.expected.first()?;
                let now = score(index, label)?;
                Some((index, [*expected, now].map(|p| Some((p >= 0.5) == (label != "safe")))))
            });
            return self.agree(sides, "its file says", least).map(drop);
        }
        let mut worst: Option<(usize, f64, f64, f64, &str)> = None;
        for (index, canary) in self.canaries.iter().enumerate() {
            for (label, expected) in &canary.expected {
                let Some(now) = score(index, label) else { continue };
                let moved = (now - expected).abs();
                if worst.is_none_or(|(_, most, ..)| moved > most) {
                    worst = Some((index, moved, *expected, now, label));
                }
            }
        }
        match worst {
            Some((index, moved, expected, now, label)) if moved > TOLERANCE => Err(self
                .drift(
                    index,
                    &format!(
                        "is off by {moved:.4}: its file says {expected:.4} for `{label}`, the judge {now:.4} (at most \
                         {TOLERANCE} is allowed)"
                    ),
                )
                .hint(
                    "model, tokenizer and canaries are not of one judge, or it was exported otherwise (quantized?); take \
                     all files from one export, or name other `canaries`",
                )),
            _ => Ok(()),
        }
    }

    /// Takes what the texts score now: compares with before in this run, the first time with the record, which is made when
    /// there is none.
    ///
    /// # Errors
    /// When a canary moved by more than [`TOLERANCE`]; the error names it.
    pub fn check(&mut self, now: Vec<Readings>, provenance: &[(String, String)]) -> Result<(), Error> {
        if let Rule::Verdicts(_) = self.rule
            && let Some(cause) = failed_all(&now)
        {
            return Err(Error::task(format!(
                "the judge `{}` can not be asked about its canaries",
                self.judge
            ))
            .cause(cause));
        }
        if let Some(before) = &self.before {
            return self.compare(before, &now, "before this use of the judge").map(drop);
        }
        if let Some(path) = self.record.clone() {
            match std::fs::read(&path)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            {
                Some(record) => self.found = self.compare_record(record, &now, provenance, &path)?,
                // A canary that a server failed to answer once is no measure for later runs.
                None if self.rule != Rule::Moved && now.iter().any(Result::is_err) => {}
                // A record that can not be written is no reason to stop: the next run compares nothing.
                None => drop(self.write(&path, &now, provenance)),
            }
        }
        if let (Rule::Verdicts(_), None) = (self.rule, &self.found) {
            self.found = Some(format!("{} verdicts, to be compared with from now on", now.len()));
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
    ) -> Result<Option<String>, Error> {
        let recorded: Vec<Readings> = record
            .canaries
            .into_iter()
            .map(|(_, readings)| readings.ok_or_else(|| "it had no score".to_owned()))
            .collect();
        let shown = |all: &[(String, String)]| {
            let all: Vec<String> = all.iter().map(|(name, value)| format!("{name} {value}")).collect();
            all.join(", ")
        };
        self.compare(&recorded, now, "when this judge ran first").map_err(|mut error| {
            let before = error.hint.take().map_or_else(String::new, |hint| format!("{hint}. "));
            error
                .cause(format!(
                    "then with {}, now with {}",
                    shown(&record.provenance),
                    shown(provenance)
                ))
                .hint(format!(
                    "{before}nothing was scored; scores of then and now must not be compared. If the change is meant, use a new \
                     store (--store) or remove {}",
                    path.display()
                ))
        })
    }

    /// Compares two sides; gives what is to be said of it in the record.
    fn compare(&self, before: &[Readings], now: &[Readings], when: &str) -> Result<Option<String>, Error> {
        if let Rule::Verdicts(least) = self.rule {
            // A canary that was not answered on one side is nothing to compare.
            let both = before.iter().zip(now).enumerate();
            let sides = both.filter_map(|(index, (before, now))| {
                Some((index, [verdict(before.as_deref().ok()?), verdict(now.as_deref().ok()?)]))
            });
            return self.agree(sides, when, least).map(Some);
        }
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
            _ => Ok(None),
        }
    }

    /// Compares verdicts, canary by canary: then and now.
    fn agree(
        &self,
        sides: impl Iterator<Item = (usize, [Option<bool>; 2])>,
        when: &str,
        least: f64,
    ) -> Result<String, Error> {
        let (mut compared, mut same, mut first) = (0usize, 0usize, None);
        for (index, [then, now]) in sides {
            compared += 1;
            same += usize::from(then == now);
            if then != now && first.is_none() {
                first = Some((index, then, now));
            }
        }
        let said = format!("{same} of {compared} verdicts are the same");
        match first {
            // Shares are compared as counts: 99 of 100 are 0.99.
            Some((index, then, now)) if (same as f64) < least * compared as f64 - 1e-9 => Err(self
                .drift(
                    index,
                    &format!(
                        "is {} now and {} {when}: {said} (at least {least} is wanted)",
                        word(now),
                        word(then)
                    ),
                )
                .hint(
                    "another model answers, or the same one otherwise; `agreement:` says how many verdicts may change",
                )),
            _ => Ok(format!("{said} ({when})")),
        }
    }

    fn drift(&self, index: usize, problem: &str) -> Error {
        let text = self.canaries.get(index).map_or("", |canary| canary.text.as_str());
        Error::new(
            ErrorKind::Task,
            format!(
                "the judge `{}` drifted: canary {} ({}) {problem}",
                self.judge,
                index + 1,
                shown(text)
            ),
        )
    }

    fn write(&self, path: &Path, now: &[Readings], provenance: &[(String, String)]) -> std::io::Result<()> {
        let readings = now.iter().map(|readings| readings.as_ref().ok().cloned());
        let record = Record {
            judge: self.judge.clone(),
            provenance: provenance.to_vec(),
            canaries: self.texts().map(str::to_owned).zip(readings).collect(),
        };
        let Some(folder) = path.parent() else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(&record)?)?;
        file.persist(path)?;
        Ok(())
    }
}

/// What a judge says by what its words hold of the probability: unsafe or safe words, and all of them.
fn verdict(readings: &[f64]) -> Option<bool> {
    match readings {
        [bad, all] if *all >= LEAST_MASS => Some(bad / all >= 0.5),
        _ => None,
    }
}

fn word(verdict: Option<bool>) -> &'static str {
    match verdict {
        Some(true) => "unsafe",
        Some(false) => "safe",
        None => "no verdict",
    }
}

/// Why no text has readings; `None` where one has.
fn failed_all(now: &[Readings]) -> Option<&str> {
    match now.iter().all(Result::is_err) {
        true => now.first()?.as_ref().err().map(String::as_str),
        false => None,
    }
}

/// Checks that the judge has every label that a canary speaks of.
///
/// # Errors
/// When it does not; the error lists its labels.
pub fn check_labels(canaries: &[Canary], labels: &[&str]) -> Result<(), Error> {
    for (index, canary) in canaries.iter().enumerate() {
        let unknown = |(label, _): &&(String, f64)| !labels.contains(&label.as_str());
        if let Some((label, _)) = canary.expected.iter().find(unknown) {
            return Err(Error::input(format!(
                "canary {} ({}) says what `{label}` must score, and the judge has no such label",
                index + 1,
                shown(&canary.text)
            ))
            .cause(format!("its labels are {}", labels.join(", ")))
            .hint(format!(
                "write `{EXPECTED}LABEL` with one of its labels in the file of canaries"
            )));
        }
    }
    Ok(())
}

/// The beginning of a text, for messages.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// A canary from a line of JSON.
fn canary(line: &str) -> Result<Canary, String> {
    let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let text = value.get("text").and_then(serde_json::Value::as_str);
    let text = text.ok_or("a line has no field `text`")?.to_owned();
    let mut expected = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let Some(label) = name.strip_prefix(EXPECTED) else {
            continue;
        };
        match value.as_f64() {
            Some(p) if (0.0..=1.0).contains(&p) => expected.push((label.to_owned(), p)),
            _ => return Err(format!("`{name}` is {value}, which is no probability")),
        }
    }
    Ok(Canary { text, expected })
}

/// What the readings of a judge depend on, as a file name. Digests of its files are remembered beside.
fn key(canaries: &[Canary], uses: &[FileUse], settings: &str, memory: &Path) -> Result<String, Error> {
    let digests = FileDigests::open(memory);
    let mut framed = Framed::new("canaries of a judge, version 1");
    framed.text(settings).number(canaries.len() as u64);
    for canary in canaries {
        framed.text(&canary.text);
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
mod tests;
