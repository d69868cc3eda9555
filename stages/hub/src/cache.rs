//! The cache on the disk, in the layout that Python's `huggingface_hub` uses, so that what one fetched serves the other:
//! `models--ORG--NAME/{blobs/ETAG, snapshots/COMMIT/PATH -> blob, refs/REVISION}`. The list of a commit's files is kept
//! beside, in `.fracture/COMMIT.json`.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use fracture_stage::{Error, ErrorKind};
use hf_hub::{Cache, CacheRepo, Repo};

use crate::listing::{Entry, Listing, stays_inside};
use crate::reference::{Reference, is_commit_name};

/// The longest list of files that is read, bytes.
const LISTING_LIMIT: u64 = 64 << 20;
/// The most files of a snapshot that are looked at.
const SNAPSHOT_LIMIT: usize = 10_000;

/// A model's folder in the cache.
pub(crate) struct Repository {
    reference: Reference,
    root: PathBuf,
    inner: CacheRepo,
    locks: PathBuf,
}

/// What there is of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is there, whole as far as its size tells.
    Here(PathBuf),
    /// It is not there.
    Absent,
    /// It has another size than the hub says.
    Damaged(u64),
}

impl Repository {
    pub fn new(cache: &Path, reference: &Reference) -> Self {
        let repo = Repo::model(reference.repository());
        let folder = repo.folder_name();
        Self {
            reference: reference.clone(),
            root: cache.join(&folder),
            locks: cache.join(".locks").join(&folder),
            inner: Cache::new(cache.to_owned()).repo(repo),
        }
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.inner.pointer_path(commit)
    }

    /// Where a content lies.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.inner.blob_path(etag)
    }

    /// Where what was fetched of a content lies until it is whole.
    pub fn part(&self, etag: &str) -> PathBuf {
        self.inner.blob_path(&format!("{etag}.incomplete"))
    }

    /// The commit that the cache has for the revision.
    pub fn commit(&self) -> Option<String> {
        let text = fs::read_to_string(self.root.join("refs").join(&self.reference.revision)).ok()?;
        let commit = text.trim();
        is_commit_name(commit).then(|| commit.to_owned())
    }

    /// Notes which commit the revision means.
    pub fn note_commit(&self, commit: &str) -> io::Result<()> {
        if self.commit().as_deref() == Some(commit) || self.reference.is_commit() {
            return Ok(());
        }
        replace(
            &self.root.join("refs").join(&self.reference.revision),
            commit.as_bytes(),
        )
    }

    fn listing_path(&self, commit: &str) -> PathBuf {
        self.root.join(".fracture").join(format!("{commit}.json"))
    }

    /// The files of a commit: as the hub once said, else those of the snapshot, which may be a part; `None` when there is
    /// neither.
    pub fn listing(&self, commit: &str) -> Option<Listing> {
        let kept = || {
            let file = fs::File::open(self.listing_path(commit)).ok()?;
            let mut bytes = Vec::new();
            file.take(LISTING_LIMIT).read_to_end(&mut bytes).ok()?;
            let listing: Listing = serde_json::from_slice(&bytes).ok()?;
            let sound = listing.commit == commit && listing.files.iter().all(|entry| stays_inside(&entry.name));
            sound.then_some(listing)
        };
        kept().or_else(|| {
            let mut files = Vec::new();
            walk(&self.snapshot(commit), "", &mut files).ok()?;
            files.sort_by(|one: &Entry, other| one.name.cmp(&other.name));
            Some(Listing {
                commit: commit.to_owned(),
                files,
                complete: false,
            })
        })
    }

    /// Keeps the files of a commit. A cache that may not be written is asked again next time.
    pub fn keep_listing(&self, listing: &Listing) {
        let text = serde_json::to_vec(listing).unwrap_or_default();
        let path = self.listing_path(&listing.commit);
        // A cache that may only be read serves too; the hub is then asked again.
        if !fs::read(&path).is_ok_and(|old| old == text) {
            let _ = replace(&path, &text);
        }
    }

    /// Looks at a file of a commit.
    ///
    /// # Errors
    /// When a link leads outside the model's folder in the cache.
    pub fn look(&self, commit: &str, entry: &Entry) -> Result<Look, Error> {
        let path = self.snapshot(commit).join(&entry.name);
        let Ok(meta) = fs::metadata(&path) else {
            return Ok(Look::Absent);
        };
        if !self.holds(&path) {
            return Err(
                Error::input(format!("`{}` leads outside the cache of its model", path.display()))
                    .cause(format!(
                        "it is a link to {}",
                        fs::canonicalize(&path).unwrap_or_default().display()
                    ))
                    .hint("remove it; the next run fetches the file"),
            );
        }
        Ok(match entry.size {
            _ if !meta.is_file() => Look::Absent,
            Some(size) if size != meta.len() => Look::Damaged(meta.len()),
            _ => Look::Here(path),
        })
    }

    /// Whether what a path leads to lies in the model's folder.
    fn holds(&self, path: &Path) -> bool {
        let real = fs::canonicalize(path).ok().zip(fs::canonicalize(&self.root).ok());
        real.is_some_and(|(path, root)| path.starts_with(root))
    }

    /// Makes a whole content visible as a file of a commit.
    pub fn link(&self, commit: &str, name: &str, etag: &str) -> io::Result<()> {
        let place = self.snapshot(commit).join(name);
        let folder = place.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        let up = "../".repeat(name.matches('/').count() + 2);
        let temporary = folder.join(format!(".fracture-{}-{}", std::process::id(), number()));
        link(
            &PathBuf::from(format!("{up}blobs/{etag}")),
            &self.blob(etag),
            &temporary,
        )?;
        fs::rename(&temporary, &place).inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// The lock of a content: nobody else, Python included, fetches it while this is held. `None` where the file system
    /// has no locks.
    pub fn lock(&self, etag: &str) -> io::Result<fs::File> {
        fs::create_dir_all(&self.locks)?;
        fs::create_dir_all(self.root.join("blobs"))?;
        let path = self.locks.join(format!("{etag}.lock"));
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    }
}

#[cfg(unix)]
fn link(relative: &Path, blob: &Path, at: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(relative, at) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && blob.is_file() => {
            fs::hard_link(blob, at).map_err(|_| error)
        }
        other => other,
    }
}

#[cfg(not(unix))]
fn link(_: &Path, blob: &Path, at: &Path) -> io::Result<()> {
    fs::hard_link(blob, at).or_else(|_| fs::copy(blob, at).map(drop))
}

/// The files below a folder, links followed.
fn walk(folder: &Path, prefix: &str, files: &mut Vec<Entry>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(part) = entry.file_name().into_string() else {
            continue;
        };
        let name = format!("{prefix}{part}");
        if files.len() >= SNAPSHOT_LIMIT || !stays_inside(&name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{name}/"), files)?;
        } else if entry.path().is_file() {
            files.push(Entry {
                name,
                size: None,
                etag: None,
            });
        }
    }
    Ok(())
}

/// Writes a file so that readers see the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".fracture-{}-{}", std::process::id(), number()));
    let written = fs::File::create(&temporary).and_then(|mut file| file.write_all(bytes));
    written
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
}

/// Tells the temporary files of one process apart.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The error for a cache that can not be written.
pub(crate) fn unwritten(path: &Path, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Environment,
        format!("can not write to the hub's cache `{}`", path.display()),
    )
    .cause(error)
    .hint("free some space, make the folder writable, or set HF_HOME to another one")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn repository(cache: &Path) -> Repository {
        Repository::new(cache, &Reference::parse("hf://org/name@refs/pr/5").unwrap())
    }

    #[test]
    fn the_layout_is_that_of_python() {
        let folder = tempfile::tempdir().unwrap();
        let one = repository(folder.path());
        let root = folder.path().join("models--org--name");
        assert_eq!(one.snapshot("abc"), root.join("snapshots/abc"));
        assert_eq!(one.blob("e"), root.join("blobs/e"));
        assert_eq!(one.part("e"), root.join("blobs/e.incomplete"));
        one.note_commit("0123456789").unwrap();
        assert_eq!(fs::read_to_string(root.join("refs/refs/pr/5")).unwrap(), "0123456789");
        assert_eq!(one.commit().as_deref(), Some("0123456789"));
        fs::write(root.join("refs/refs/pr/5"), "../../x").unwrap();
        assert_eq!(one.commit(), None);
    }

    #[test]
    fn files_are_links_to_contents_and_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let one = repository(folder.path());
        let entry = |name: &str, size| Entry {
            name: name.to_owned(),
            size,
            etag: None,
        };
        fs::create_dir_all(one.blob("e").parent().unwrap()).unwrap();
        fs::write(one.blob("e"), "text").unwrap();
        for name in ["a.json", "onnx/deep/b.json"] {
            one.link("c0ffee0", name, "e").unwrap();
            one.link("c0ffee0", name, "e").unwrap();
            let path = one.snapshot("c0ffee0").join(name);
            assert_eq!(fs::read_to_string(&path).unwrap(), "text");
            assert!(fs::read_link(&path).unwrap().is_relative());
            assert_eq!(one.look("c0ffee0", &entry(name, Some(4))).unwrap(), Look::Here(path));
            assert_eq!(one.look("c0ffee0", &entry(name, Some(5))).unwrap(), Look::Damaged(4));
        }
        assert_eq!(one.look("c0ffee0", &entry("c.json", None)).unwrap(), Look::Absent);
        let listing = one.listing("c0ffee0").unwrap();
        assert!(!listing.complete && listing.has("onnx/deep/b.json") && listing.files.len() == 2);
        let told = Listing {
            complete: true,
            ..listing
        };
        one.keep_listing(&told);
        assert_eq!(one.listing("c0ffee0"), Some(told));
        assert_eq!(one.listing("c0ffee1"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_outside_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let one = repository(folder.path());
        let snapshot = one.snapshot("c0ffee0");
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(folder.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../../../secret", snapshot.join("config.json")).unwrap();
        let entry = Entry {
            name: "config.json".to_owned(),
            size: None,
            etag: None,
        };
        assert!(one.look("c0ffee0", &entry).unwrap_err().message.contains("outside"));
    }
}
