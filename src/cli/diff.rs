//! `diff`: what differs between two lock files, git revisions of one, or runs.

mod git;
mod text;

use std::path::{Path, PathBuf};

use clap::Args;
use fracture_cache::{Records, Store, StoreOptions};
use fracture_language::project_root;
use fracture_stage::{Error, ErrorKind};
use serde_json::json;

use super::failure::{Exit, Failure};
use super::print;
use super::project::shown;
use crate::engine::diff::{Diff, Results, Side, diff as compare};
use crate::engine::history::runs as recorded;
use crate::engine::lock::Lock;
use crate::engine::store_error;

/// `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A lock file, a git revision of one (`HEAD~3:`, `HEAD~3:pipelines/a.lock`), or the id of a run.
    was: String,
    /// What it is compared with (default: the lock file as it is now).
    now: Option<String>,
    /// The store's folder (default: `.fracture` in the project's root).
    #[arg(long, value_name = "DIR", env = "FRACTURE_STORE")]
    store: Option<PathBuf>,
    /// At most so many lines a table.
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,
}

/// A side as it was written.
enum Named {
    /// A lock file.
    File(PathBuf),
    /// A revision and the path of a lock file, which may be left to the other side.
    Revision(String, String),
    /// The beginning of a run's id.
    Run(String),
}

impl Named {
    fn read(text: &str) -> Result<Self, Error> {
        let path = Path::new(text);
        if path.is_file() {
            let lock = path
                .extension()
                .is_none_or(|ending| ending != "yaml" && ending != "yml");
            return Ok(Self::File(if lock { path.to_owned() } else { Lock::path(path, &[]) }));
        }
        if is_run(text) {
            return Ok(Self::Run(text.to_owned()));
        }
        match text.split_once(':') {
            Some((revision, path)) => Ok(Self::Revision(revision.to_owned(), path.to_owned())),
            None => Err(
                Error::pipeline(format!("`{text}` is no lock file, no revision and no run"))
                    .hint("name a lock file that is there, a git revision with a colon (`HEAD~3:`), or the id of a run (`fracture runs`)"),
            ),
        }
    }

    /// The folder whose project is meant.
    fn folder(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            _ => PathBuf::from("./any.lock"),
        }
    }
}

/// Whether a text begins as the ids of runs do: `20260102T03…`.
fn is_run(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (day, rest) = bytes.split_at(bytes.len().min(8));
    day.len() == 8
        && day.iter().all(u8::is_ascii_digit)
        && rest.first() == Some(&b'T')
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// Says what differs.
pub fn diff(args: &DiffArgs, as_json: bool) -> Result<Exit, Failure> {
    let was = Named::read(&args.was)?;
    let now = match &args.now {
        Some(now) => Named::read(now)?,
        None => Named::File(current(&was)?),
    };
    let file = [&was, &now].into_iter().find(|side| matches!(side, Named::File(_)));
    let root = project_root(&file.unwrap_or(&was).folder());
    let store = args.store.clone().unwrap_or_else(|| root.join(".fracture"));
    let results = open(&store)?;
    let sides = [
        side(&was, &now, results.as_ref(), &store)?,
        side(&now, &was, results.as_ref(), &store)?,
    ];
    let found = compare([&sides[0], &sides[1]], results.as_ref())?;
    if as_json {
        let value = json!({
            "was": sides[0].label, "now": sides[1].label, "files": found.files, "tasks": found.tasks,
            "unchanged": found.unchanged,
        });
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&value).unwrap_or_default()
        ))?;
    } else {
        print(&text::diff(&sides, &found, args.rows))?;
    }
    match lost(&found, &sides, results.is_some(), &store) {
        Some(error) => Err(error.into()),
        None => Ok(Exit::Done),
    }
}

/// The lock file as it is now, when only a revision is given.
fn current(was: &Named) -> Result<PathBuf, Error> {
    let Named::Revision(revision, path) = was else {
        return Err(Error::pipeline("there is nothing to compare with")
            .hint("name two lock files, revisions or runs; the second may be left out behind a git revision"));
    };
    let here = Path::new(".");
    let path = git::lock_path(here, revision, path, None)?;
    Ok(git::top(here)?.join(path))
}

/// Opens a store that is there.
fn open(path: &Path) -> Result<Option<Results>, Error> {
    if !path.join("format").is_file() {
        return Ok(None);
    }
    let store = Store::open(path, &StoreOptions::default()).map_err(store_error)?;
    let records = Records::open(&store).map_err(store_error)?;
    Ok(Some(Results { store, records }))
}

fn side(named: &Named, other: &Named, results: Option<&Results>, store: &Path) -> Result<Side, Error> {
    match named {
        Named::File(path) => {
            if !path.is_file() {
                return Err(Error::pipeline(format!("there is no lock file `{}`", shown(path))).hint("a run writes it"));
            }
            Ok(Side::of_lock(shown(path), &Lock::read(path)?))
        }
        Named::Revision(revision, path) => {
            let file = match other {
                Named::File(file) => Some(file.as_path()),
                _ => None,
            };
            let folder = file
                .and_then(Path::parent)
                .filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let beside = match other {
                Named::Revision(_, path) if !path.is_empty() => Some(path.clone()),
                _ => file.and_then(|file| git::inside(folder, file)),
            };
            let path = git::lock_path(folder, revision, path, beside)?;
            let label = format!("{revision}:{path}");
            let text = git::show(folder, revision, &path)?;
            let lock = Lock::parse(&text).map_err(|(line, problem)| {
                Error::input(format!("line {line} of `{label}` is none of a lock file")).cause(problem)
            })?;
            Ok(Side::of_lock(label, &lock))
        }
        Named::Run(id) => {
            let none = || {
                Error::new(ErrorKind::Input, format!("there is no store at `{}`", store.display()))
                    .hint("runs are recorded in a store: name it with --store, or go to the project's folder")
            };
            let results = results.ok_or_else(none)?;
            let (runs, _) = recorded(&results.store)?;
            let mut found = runs.iter().filter(|(run, _)| run.id.starts_with(id.as_str()));
            match (found.next(), found.next()) {
                (Some((run, _)), None) => Side::of_run(format!("run {}", run.id), run, results),
                (Some((one, _)), Some((other, _))) => Err(Error::pipeline(format!("several runs begin with `{id}`"))
                    .hint(format!("such as {} and {}", other.id, one.id))),
                _ => Err(
                    Error::pipeline(format!("there is no run `{id}` in `{}`", store.display()))
                        .hint("`fracture runs` lists those that are there; `gc` removes old ones"),
                ),
            }
        }
    }
}

/// The error that says which numbers could not be compared, and why.
fn lost(found: &Diff, sides: &[Side; 2], has_store: bool, store: &Path) -> Option<Error> {
    const SHOWN: usize = 10;
    let changed = || {
        found
            .tasks
            .iter()
            .filter(|task| task.change == crate::engine::diff::Difference::Changed)
    };
    if !has_store {
        let count = changed().count();
        let what = format!(
            "the numbers of {count} changed tasks can not be compared: there is no store at `{}`",
            store.display()
        );
        let error = Error::new(ErrorKind::Store, what);
        return (count > 0).then(|| error.hint("name the store that holds the results with --store"));
    }
    let lost: Vec<_> = changed().filter(|task| !task.lost.is_empty()).collect();
    if lost.is_empty() {
        return None;
    }
    let what = format!(
        "the numbers of {} changed tasks can not be compared: the store no longer holds their results",
        lost.len()
    );
    let told = lost.iter().take(SHOWN).map(|task| {
        let of: Vec<&str> = task.lost.iter().map(|side| sides[*side].label.as_str()).collect();
        format!("`{}` of {}", task.task, of.join(" and of "))
    });
    let mut error = told.fold(Error::new(ErrorKind::Store, what), Error::cause);
    if lost.len() > SHOWN {
        error = error.cause(format!("and {} more", lost.len() - SHOWN));
    }
    Some(error.hint("check that revision out and run it again, or name a store that holds them with --store"))
}
