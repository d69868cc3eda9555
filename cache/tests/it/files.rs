use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fracture_cache::{Digest, FileDigests};

/// Gives a file times that lie long ago; its change time stays young, since no one can set that.
fn age(path: &Path) {
    let past = SystemTime::now() - Duration::from_secs(3600);
    File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(past))
        .unwrap();
}

#[test]
fn a_young_file_is_not_trusted_and_an_old_one_is_hashed_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    fs::write(&path, [1; 1000]).unwrap();
    let digests = FileDigests::open(&folder.path().join("user"));
    let state = digests.digest(&path).unwrap();
    assert_eq!(state.digest, Digest::of(&[1; 1000]));
    // Nothing of it is remembered, so that a write in the same tick can not be missed.
    let other = FileDigests::open(&folder.path().join("user"));
    other.digest(&path).unwrap();
    digests.digest(&path).unwrap();
    assert_eq!((other.hashed_bytes(), digests.hashed_bytes()), (1000, 2000));
    // Rewritten at once with the same size, perhaps in the same tick: noticed, because the bytes are read again.
    fs::write(&path, [2; 1000]).unwrap();
    age(&path);
    assert!(digests.changed_since(&state).unwrap());
    assert_eq!(digests.digest(&path).unwrap().digest, Digest::of(&[2; 1000]));

    std::thread::sleep(Duration::from_millis(2100));
    let before = digests.hashed_bytes();
    let state = digests.digest(&path).unwrap();
    assert_eq!(digests.hashed_bytes(), before + 1000);
    digests.digest(&path).unwrap();
    assert!(!digests.changed_since(&state).unwrap());
    let again = FileDigests::open(&folder.path().join("user"));
    assert_eq!(again.digest(&path).unwrap(), state);
    assert_eq!((digests.hashed_bytes(), again.hashed_bytes()), (before + 1000, 0));

    fs::write(&path, [3; 1000]).unwrap();
    assert!(again.changed_since(&state).unwrap());
    assert_eq!(again.digest(&path).unwrap().digest, Digest::of(&[3; 1000]));
    fs::remove_file(&path).unwrap();
    assert!(again.changed_since(&state).unwrap());
    assert!(again.digest(&path).is_err());
}

/// What the memory tells states of a file by.
fn stamp(path: &Path) -> (u64, u64, i64, i64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).unwrap();
    let (modified, changed) = ((meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec()));
    (meta.ino(), meta.size(), modified.0, modified.1, changed.0, changed.1)
}

#[test]
fn a_file_rewritten_in_the_same_tick_with_the_same_size_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    let digests = FileDigests::open(&folder.path().join("user"));
    for _ in 0..200 {
        fs::write(&path, [1; 1000]).unwrap();
        let state = digests.digest(&path).unwrap();
        let before = stamp(&path);
        fs::write(&path, [2; 1000]).unwrap();
        if stamp(&path) != before {
            continue;
        }
        // Nothing but the bytes tells the two apart.
        assert!(digests.changed_since(&state).unwrap());
        assert_eq!(digests.digest(&path).unwrap().digest, Digest::of(&[2; 1000]));
        let other = FileDigests::open(&folder.path().join("user"));
        assert_eq!(other.digest(&path).unwrap().digest, Digest::of(&[2; 1000]));
        return;
    }
    eprintln!("SKIPPED: this file system's clock never stood still between two writes");
}

#[test]
fn large_files_have_the_digest_of_their_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let digests = FileDigests::open(&folder.path().join("user"));
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 3] {
        let bytes: Vec<u8> = (0..size).map(|at: usize| (at % 253) as u8).collect();
        let path = folder.path().join("file");
        fs::write(&path, &bytes).unwrap();
        let state = digests.digest(&path).unwrap();
        assert_eq!((state.digest, state.size), (Digest::of(&bytes), size as u64));
    }
}

#[test]
fn a_touched_file_with_the_same_bytes_did_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let digests = FileDigests::open(&folder.path().join("user"));
    let path = folder.path().join("file");
    fs::write(&path, "abc").unwrap();
    let state = digests.digest(&path).unwrap();
    age(&path);
    assert!(!digests.changed_since(&state).unwrap());
}

#[test]
fn a_damaged_or_unwritable_memory_only_costs_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "abc").unwrap();
    fs::create_dir(folder.path().join("user")).unwrap();
    fs::write(folder.path().join("user/file-digests"), [0xf1; 500]).unwrap();
    let digests = FileDigests::open(&folder.path().join("user"));
    assert_eq!(digests.digest(&path).unwrap().digest, Digest::of(b"abc"));
    let nowhere = FileDigests::open(&path.join("below a file"));
    assert_eq!(nowhere.digest(&path).unwrap().digest, Digest::of(b"abc"));
}
