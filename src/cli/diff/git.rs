//! Lock files of git revisions, through the program `git`.

use std::path::{Path, PathBuf};
use std::process::Command;

use fracture_stage::{Error, ErrorKind};

/// The first words of a lock file.
const BEGIN: &str = "# fracture lock";

/// Runs `git` in a folder and gives what it prints.
fn git(folder: &Path, args: &[&str]) -> Result<String, Error> {
    let shown = || format!("`git {}`", args.join(" "));
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(args)
        .output()
        .map_err(|error| {
            Error::new(ErrorKind::Environment, "can not start `git`")
                .cause(error)
                .hint("revisions are read by the program `git`: install it, or name lock files")
        })?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let line = told.lines().next().unwrap_or("it said nothing").to_owned();
        return Err(Error::pipeline(format!("{} failed", shown())).cause(line));
    }
    String::from_utf8(output.stdout).map_err(|_| Error::input(format!("{} gave no text", shown())))
}

/// The root of the working tree.
pub fn top(folder: &Path) -> Result<PathBuf, Error> {
    git(folder, &["rev-parse", "--show-toplevel"]).map(|top| PathBuf::from(top.trim_end_matches('\n')))
}

/// A file's path inside the repository, as git writes it; `None` when it is in none.
pub fn inside(folder: &Path, file: &Path) -> Option<String> {
    let file = std::fs::canonicalize(file).ok()?;
    let top = std::fs::canonicalize(top(folder).ok()?).ok()?;
    Some(file.strip_prefix(top).ok()?.display().to_string())
}

/// The lock file that is meant, a path from the repository's root: the one that is named, that of the other side, or the
/// only one of the revision.
///
/// # Errors
/// When there is no such revision, or several lock files could be meant.
pub fn lock_path(folder: &Path, revision: &str, path: &str, other: Option<String>) -> Result<String, Error> {
    if revision.is_empty() || revision.starts_with('-') {
        return Err(Error::pipeline(format!("`{revision}` is no revision")).hint("write `HEAD~3:` or `HEAD~3:PATH`"));
    }
    git(
        folder,
        &["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")],
    )
    .map_err(|error| {
        let error = if error.kind == ErrorKind::Environment {
            error
        } else {
            Error::pipeline(format!("git knows no revision `{revision}`"))
        };
        match error.hint {
            Some(_) => error,
            None => error.hint("`git log --oneline` lists revisions; is this folder in a repository?"),
        }
    })?;
    let tree = git(folder, &["ls-tree", "-r", "-z", "--full-tree", "--name-only", revision])?;
    let tree: Vec<&str> = tree.split('\0').filter(|name| !name.is_empty()).collect();
    let has = |name: &str| tree.contains(&name);
    if !path.is_empty() {
        // From the repository's root as git reads it, else from the folder that the user is in.
        let prefix = git(folder, &["rev-parse", "--show-prefix"])?;
        let here = format!("{}{}", prefix.trim_end_matches('\n'), path.trim_start_matches("./"));
        let found = [path.to_owned(), here].into_iter().find(|name| has(name));
        return found.ok_or_else(|| {
            Error::pipeline(format!("`{path}` is not in the revision `{revision}`"))
                .hint(lock_files(folder, revision, &tree).1)
        });
    }
    if let Some(other) = other {
        if has(&other) {
            return Ok(other);
        }
        return Err(
            Error::pipeline(format!("`{other}` is not in the revision `{revision}`"))
                .hint(lock_files(folder, revision, &tree).1),
        );
    }
    let (found, hint) = lock_files(folder, revision, &tree);
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(Error::pipeline(format!("`{revision}:` does not say which lock file is meant")).hint(hint)),
    }
}

/// The lock files of a revision, and how to name one.
fn lock_files(folder: &Path, revision: &str, tree: &[&str]) -> (Vec<String>, String) {
    let named = tree.iter().filter(|name| name.ends_with(".lock"));
    let is = |name: &&&str| show(folder, revision, name).is_ok_and(|text| text.starts_with(BEGIN));
    let found: Vec<String> = named.filter(is).map(|name| (*name).to_owned()).collect();
    let hint = match found.first() {
        None => "that revision has no lock file".to_owned(),
        Some(first) => format!("its lock files are {}; write `{revision}:{first}`", found.join(", ")),
    };
    (found, hint)
}

/// The text of a file of a revision.
///
/// # Errors
/// When it is not there, or no text.
pub fn show(folder: &Path, revision: &str, path: &str) -> Result<String, Error> {
    git(folder, &["cat-file", "blob", &format!("{revision}:{path}")])
}
