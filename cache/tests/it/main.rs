//! The store as its users see it, and what it does when the disk, a kill or another process interferes.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod claim;
mod column;
mod compact;
mod files;
mod gc;
mod memo;
mod record;
mod store;
mod table;

use fracture_cache::{Digest, Framed, Store, StoreOptions};

/// A new store in a folder that goes away with the test.
fn new_store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), &StoreOptions::default()).unwrap();
    (folder, store)
}

/// A digest of a name.
fn digest<T>(name: &str) -> Digest<T> {
    Framed::new("test").text(name).finish()
}

/// The files with this suffix in a folder, sorted.
fn files_with(folder: &std::path::Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.to_str().unwrap().ends_with(suffix));
    files.sort();
    files
}

/// Runs one test of this program in another process, with a store to work on.
fn in_another_process(test: &str, store: &std::path::Path, argument: &str) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("FRACTURE_CACHE_TEST_STORE", store)
        .env("FRACTURE_CACHE_TEST_ARGUMENT", argument)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// The store and the argument that [`in_another_process`] gave, if this is such a process.
fn given_store() -> Option<(Store, String)> {
    let root = std::env::var_os("FRACTURE_CACHE_TEST_STORE")?;
    let store = Store::open(root.as_ref(), &StoreOptions::default()).unwrap();
    Some((store, std::env::var("FRACTURE_CACHE_TEST_ARGUMENT").unwrap()))
}

/// Changes one byte of a file in place. (Writing the file anew would make some file systems flush it.)
fn flip(path: &std::path::Path, at: usize) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at as u64).unwrap();
}

/// Cuts a file off, without flushing it.
fn cut(path: &std::path::Path, length: usize) {
    std::fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length as u64)
        .unwrap();
}
