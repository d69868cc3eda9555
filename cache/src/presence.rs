//! Whether many objects are there, asked at once: a plan asks it of every result of a pipeline.

use std::fs::File;

use rustix::fs::{AtFlags, FileType, statat};

use crate::digest::{Bytes, Digest};
use crate::store::Store;

impl Store {
    /// Those of some objects that are not there with their size; each is told once. Their bytes are not read.
    ///
    /// They are looked for from the store's folder on, in the order of their names: that costs half of looking for each by
    /// its path.
    pub fn absent(&self, objects: &mut Vec<(Digest<Bytes>, u64)>) -> Vec<Digest<Bytes>> {
        objects.sort_unstable();
        objects.dedup();
        let Ok(folder) = File::open(self.root().join("objects")) else {
            return objects.iter().map(|(digest, _)| *digest).collect();
        };
        let there = |digest: &Digest<Bytes>, size: u64| {
            let name = name(digest);
            let found = statat(&folder, name.as_slice(), AtFlags::empty());
            found.is_ok_and(|found| {
                FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
                    && u64::try_from(found.st_size) == Ok(size)
            })
        };
        let absent = objects.iter().filter(|(digest, size)| !there(digest, *size));
        absent.map(|(digest, _)| *digest).collect()
    }
}

/// `ab/cdef…`: where an object lies among the objects.
fn name(digest: &Digest<Bytes>) -> [u8; 65] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut name = [b'/'; 65];
    for (at, byte) in digest.as_bytes().iter().enumerate() {
        let place = 2 * at + usize::from(at > 0);
        name[place] = DIGITS[usize::from(byte >> 4)];
        name[place + 1] = DIGITS[usize::from(byte & 15)];
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Digest, Store, StoreOptions};

    #[test]
    fn what_is_lost_or_cut_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &StoreOptions::default()).unwrap();
        let mut objects: Vec<_> = (0..50_u8).map(|one| store.put_blob(&[one; 9]).unwrap()).collect();
        objects.extend(objects.clone());
        assert_eq!(store.absent(&mut objects.clone()), []);
        let (lost, cut) = (objects[7].0, objects[9].0);
        std::fs::remove_file(store.blob_path(&lost)).unwrap();
        let path = store.blob_path(&cut);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"short").unwrap();
        let never = Digest::of(b"never there");
        objects.push((never, 11));
        let mut expected = vec![lost, cut, never];
        expected.sort_unstable();
        assert_eq!(store.absent(&mut objects), expected);
        std::fs::remove_dir_all(folder.path().join("objects")).unwrap();
        assert_eq!(store.absent(&mut objects).len(), objects.len());
    }
}
