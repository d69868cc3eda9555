//! The files that a program may read: listed while planning, placed before it runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use fracture_stage::{Error, ErrorKind, FileUse, Files};

/// Folders inside folders; beyond this a link must lead round in a circle.
const DEEPEST: usize = 64;

/// Files from here on are linked. Scripts are smaller: through a link they would find what lies beside the original.
const LINKED_BYTES: u64 = 64 << 20;

/// Every file below the listed paths: its path relative to the project's root, in order, and where it lies.
///
/// # Errors
/// When a path is not there, or a link leads out of the project.
pub fn listed(paths: &[String], files: &dyn Files) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = Vec::new();
    for path in paths {
        let place = files.locate(path);
        within(path, &place, files)?;
        if !walk(path, &place, files, 0, &mut found)? {
            return Err(Error::input(format!("`files` lists `{path}`, which is not there"))
                .parameter(&["files"])
                .hint("paths are relative to the project's root; check the name"));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Refuses what a link puts outside of the project, as paths with `..` are: what a program gets is the project's own.
fn within(path: &str, place: &Path, files: &dyn Files) -> Result<(), Error> {
    // What is not there leads nowhere.
    let (Ok(root), Ok(place)) = (fs::canonicalize(files.locate("")), fs::canonicalize(place)) else {
        return Ok(());
    };
    if place.starts_with(&root) {
        return Ok(());
    }
    Err(Error::input(format!(
        "`{path}` is a link that leads out of the project, to `{}`",
        place.display()
    ))
    .parameter(&["files"])
    .hint("copy what the program needs into the project: `files` places nothing from elsewhere"))
}

/// Whether there is something at the path; files go to `found`.
fn walk(
    path: &str,
    place: &Path,
    files: &dyn Files,
    depth: usize,
    found: &mut Vec<(String, PathBuf)>,
) -> Result<bool, Error> {
    if files.size(place).is_some() {
        found.push((path.to_owned(), place.to_owned()));
        return Ok(true);
    }
    let Some(names) = files.list(place) else {
        return Ok(false);
    };
    if depth == DEEPEST {
        return Err(Error::input(format!("`{path}` lies in too many folders"))
            .hint("is there a link that leads back to a folder above it?"));
    }
    for name in names {
        let (path, place) = (format!("{path}/{name}"), place.join(&name));
        if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_symlink()) {
            within(&path, &place, files)?;
        }
        walk(&path, &place, files, depth + 1, found)?;
    }
    Ok(true)
}

/// The files as parts of the key: by their relative path, which the program sees, and their content.
///
/// # Errors
/// As [`listed`].
pub fn uses(paths: &[String], files: &dyn Files) -> Result<Vec<FileUse>, Error> {
    let listed = listed(paths, files)?;
    Ok(listed
        .into_iter()
        .map(|(path, place)| FileUse::present(path, place))
        .collect())
}

/// Puts the files into a folder under their relative paths. They are copies so that the program can not change what it was
/// given, and all may be executed so that no permission, which is in no key, makes a difference. Large ones are links: a
/// program that writes to one spoils its result, since files are looked at again after it ran.
///
/// # Errors
/// When one can not be copied.
pub fn place(paths: &[String], files: &dyn Files, folder: &Path) -> Result<(), Error> {
    for (path, from) in listed(paths, files)? {
        let to = folder.join(&path);
        let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            if fs::metadata(&from)?.len() >= LINKED_BYTES {
                return symlink(fs::canonicalize(&from)?, &to);
            }
            fs::copy(&from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))
        });
        copied.map_err(|error| {
            Error::new(
                ErrorKind::Environment,
                format!("`{path}` can not be copied to where the program runs"),
            )
            .cause(error)
            .hint("the folder is made where TMPDIR says; is there room left?")
        })?;
    }
    Ok(())
}
