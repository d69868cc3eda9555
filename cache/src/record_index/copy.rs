//! The copy of the index on the disk, which spares reading the logs again.

use std::fs;
use std::path::Path;

use super::Index;
use crate::error::{Result, StoreError};
use crate::record_table::{Fields, HEADER, Table};
use crate::store::Store;

/// The copy is written when at least this many entries are not in it.
const WORTH_WRITING: usize = 256;

/// Marks the length of a retired log in the copy.
const RETIRED: u64 = 1 << 63;

impl Index {
    /// Whether the copy on disk lacks enough to be written anew.
    pub(crate) fn is_worth_writing(&self) -> bool {
        self.unwritten >= WORTH_WRITING
    }

    /// Writes the copy.
    pub(crate) fn save(&mut self, folder: &Path, store: &Store) -> Result<()> {
        let Some(bytes) = self.encode() else { return Ok(()) };
        let staged = store.root().join("staging").join(crate::log::unique_name());
        let path = folder.join("index");
        fs::write(&staged, bytes).map_err(|source| StoreError::io("write", &path, source))?;
        fs::rename(&staged, &path).map_err(|source| StoreError::io("write", &path, source))?;
        self.unwritten = 0;
        Ok(())
    }

    /// Reads the copy; an empty index when it is absent or damaged.
    pub(crate) fn load(folder: &Path) -> Self {
        fs::read(folder.join("index"))
            .ok()
            .and_then(Self::decode)
            .unwrap_or_default()
    }

    /// The copy; none when there is more than it can count.
    fn encode(&self) -> Option<Vec<u8>> {
        let mut out = HEADER.to_vec();
        let number = |out: &mut Vec<u8>, number: u64| out.extend_from_slice(&number.to_le_bytes());
        number(&mut out, self.sequence);
        number(&mut out, self.logs.len() as u64);
        for log in &self.logs {
            number(&mut out, log.covered | if log.retired { RETIRED } else { 0 });
            number(&mut out, log.name.len() as u64);
            out.extend_from_slice(log.name.as_bytes());
        }
        number(&mut out, self.rivals.len() as u64);
        for (action, place) in &self.rivals {
            out.extend_from_slice(action.as_bytes());
            [u64::from(place.log), place.offset, u64::from(place.length)]
                .into_iter()
                .for_each(|field| number(&mut out, field));
        }
        let mut actions: Vec<_> = self.standing().collect();
        actions.sort_unstable_by_key(|(action, _)| *action);
        let old = self
            .table
            .recipes()
            .filter(|(recipe, _)| !self.recipes.contains_key(recipe));
        let new = self.recipes.iter().map(|(recipe, alias)| (*recipe, *alias));
        let mut recipes: Vec<_> = old.chain(new).collect();
        recipes.sort_unstable_by_key(|(recipe, _)| *recipe);
        Table::write(&mut out, &actions, &recipes)?;
        let check = blake3::hash(&out);
        out.extend_from_slice(check.as_bytes());
        Some(out)
    }

    fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        let (body, check) = bytes.split_last_chunk::<32>()?;
        // By one thread: a plan starts no pool of them for a few milliseconds.
        if blake3::hash(body) != blake3::Hash::from_bytes(*check) || !body.starts_with(HEADER) {
            return None;
        }
        let length = body.len();
        let mut fields = Fields(&body[HEADER.len()..]);
        let mut index = Self {
            sequence: fields.number()?,
            ..Self::default()
        };
        for _ in 0..fields.number()? {
            let covered = fields.number()?;
            let length = usize::try_from(fields.number()?).ok()?;
            let log = index.log_number(std::str::from_utf8(fields.take(length)?).ok()?);
            index.covered(log, covered & !RETIRED);
            index.logs[log as usize].retired = covered & RETIRED != 0;
        }
        for _ in 0..fields.number()? {
            index.rivals.push((fields.digest()?, fields.place()?));
        }
        let begin = length - fields.0.len();
        bytes.truncate(length);
        index.table = Table::read(bytes, begin)?;
        index.count = index.table.len();
        Some(index)
    }
}
