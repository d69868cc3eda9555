use std::fs;
use std::path::Path;
use std::process::Command;

use fracture_cache::{Artifact, Store, StoreError, StoreOptions};

use super::new_store;

fn overwrite(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_blob_is_found_by_its_content_and_written_once() {
    let (_folder, store) = new_store();
    let (digest, size) = store.put_blob(b"abc").unwrap();
    let written = fs::metadata(store.blob_path(&digest)).unwrap();
    assert_eq!(store.put_blob(b"abc").unwrap(), (digest, size));
    let again = fs::metadata(store.blob_path(&digest)).unwrap();
    assert_eq!(written.modified().unwrap(), again.modified().unwrap());
    assert!(again.permissions().readonly());
    assert_eq!(store.read_blob(&digest, 3).unwrap(), b"abc");
    assert!(store.contains(&digest, 3) && !store.contains(&digest, 4));
    assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
    store.sync().unwrap();
}

#[test]
fn large_and_small_files_get_the_digest_of_their_bytes() {
    let (folder, store) = new_store();
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let path = folder.path().join("file");
        fs::write(&path, &bytes).unwrap();
        let (digest, length) = store.put_file(&path).unwrap();
        assert_eq!(*digest.as_bytes(), *blake3::hash(&bytes).as_bytes());
        assert_eq!(length, u64::from(size));
        assert_eq!(store.read_blob(&digest, length).unwrap(), bytes);
    }
}

#[test]
fn a_damaged_object_is_noticed_and_set_aside() {
    let (_folder, store) = new_store();
    let (digest, size) = store.put_blob(b"some bytes").unwrap();
    overwrite(&store.blob_path(&digest), b"some bxtes");
    assert!(
        store.contains(&digest, size),
        "a flipped byte does not show in the size"
    );
    assert!(matches!(
        store.verify_blob(&digest, size),
        Err(StoreError::Damaged { .. })
    ));
    assert!(!store.contains(&digest, size), "it was set aside");
    assert_eq!(fs::read_dir(store.root().join("quarantine")).unwrap().count(), 1);

    store.put_blob(b"some bytes").unwrap();
    overwrite(&store.blob_path(&digest), b"some b");
    assert!(matches!(
        store.open_blob(&digest, size),
        Err(StoreError::Damaged { .. })
    ));
    let missing = store.read_blob(&digest, size).unwrap_err();
    assert!(missing.is_lost_object() && matches!(missing, StoreError::Missing { .. }));

    store.put_blob(b"some bytes").unwrap();
    store.verify_blob(&digest, size).unwrap();
}

#[test]
fn a_tree_is_sorted_and_refuses_links() {
    let (folder, store) = new_store();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("b/c")).unwrap();
    fs::write(tree.join("b/c/two"), "2").unwrap();
    fs::write(tree.join("a"), "1").unwrap();
    let artifact = store.put_tree(&tree).unwrap();
    let Artifact::Tree(files) = &artifact else {
        panic!("{artifact:?}")
    };
    assert_eq!(
        files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["a", "b/c/two"]
    );
    assert!(store.holds(&artifact));
    std::os::unix::fs::symlink("a", tree.join("link")).unwrap();
    assert!(store.put_tree(&tree).is_err());
}

#[test]
fn a_store_of_another_format_is_refused() {
    let (_folder, store) = new_store();
    fs::write(store.root().join("format"), "fracture-store 99\n").unwrap();
    let error = Store::open(store.root(), &StoreOptions::default()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Format { found, .. } if found == "fracture-store 99"),
        "{error}"
    );
    fs::write(store.root().join("format"), "").unwrap();
    Store::open(store.root(), &StoreOptions::default()).unwrap();
}

#[test]
fn a_store_that_may_only_be_read_is_read_and_not_written() {
    let (_folder, store) = new_store();
    let (digest, size) = store.put_blob(b"abc").unwrap();
    let store = Store::open(store.root(), &StoreOptions { read_only: true }).unwrap();
    assert_eq!(store.read_blob(&digest, size).unwrap(), b"abc");
    assert!(matches!(store.put_blob(b"new"), Err(StoreError::ReadOnly { .. })));
    store.put_blob(b"abc").unwrap();
    assert_eq!(fs::read_dir(store.root().join("staging")).unwrap().count(), 0);
    let nowhere = store.root().join("absent");
    assert!(matches!(
        Store::open(&nowhere, &StoreOptions { read_only: true }),
        Err(StoreError::ReadOnly { .. })
    ));
}

/// A file system of 256 KiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "none"])
            .arg(folder.path())
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.0.path()).output());
    }
}

#[test]
fn a_full_disk_is_an_error_of_its_own_and_leaves_the_store_usable() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: a_full_disk: this user can not mount a small file system");
        return;
    };
    let store = Store::open(&disk.0.path().join("store"), &StoreOptions::default()).unwrap();
    let (kept, size) = store.put_blob(&[1; 1000]).unwrap();
    let memo = fracture_cache::Memo::open(&store, &super::digest("lineage")).unwrap();
    let rows: Vec<_> = (0..40).map(|row| super::digest(&format!("{row}"))).collect();
    rows.iter().for_each(|row| memo.put(row, &[7; 10_000]).unwrap());
    assert!(matches!(memo.flush(), Err(StoreError::Full { .. })), "400 kB of rows");
    let error = store.put_blob(&[2; 300_000]).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(error.hint().contains("free some space"));
    assert_eq!(
        fs::read_dir(store.root().join("staging")).unwrap().count(),
        0,
        "no half object is left"
    );
    assert_eq!(store.read_blob(&kept, size).unwrap(), [1; 1000]);
    store.put_blob(&[3; 50_000]).unwrap();
    assert_eq!(
        memo.get(&rows[39]).unwrap().unwrap(),
        [7; 10_000],
        "rows that were not written are still held"
    );
    drop(memo);
    let memo = fracture_cache::Memo::open(&store, &super::digest("lineage")).unwrap();
    assert!(
        rows.iter()
            .all(|row| memo.get(row).unwrap().is_none_or(|payload| payload == [7; 10_000]))
    );
}
