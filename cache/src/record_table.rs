//! The index of the records as it lies on the disk: rows of fixed width, sorted by digest, searched as they are. Opening it is
//! one read and one hash, whatever it holds, and a record costs 192 bytes of memory.
//!
//! ```text
//! header (16) · sequence · logs: count, then covered · length · name · rivals: count, then action · place
//! actions: count, then rows      recipes: count, then rows      blake3 of all that (32)
//! ```
//! All numbers are 8 bytes, little endian, except inside rows.

use crate::digest::{Action, Bytes, Digest, Recipe, Values};
use crate::record_index::{Alias, Entry, Facts, Kind, Place};

/// The first bytes of the file.
pub(crate) const HEADER: &[u8; 16] = b"fracture-index 2";

/// A row of an action: action, digest over its outputs, its object, rows, size, offset, sequence, length, log, kind, flags.
const ACTION: usize = 32 + 32 + 32 + 8 + 8 + 8 + 8 + 4 + 4 + 1 + 1 + 6;
/// A row of a recipe: recipe, sequence, the number of its action's row, log.
const RECIPE: usize = 32 + 8 + 4 + 4;

const COMPLETE: u8 = 1;
const FACTS: u8 = 2;

/// The rows of a file that was read.
#[derive(Debug, Default)]
pub(crate) struct Table {
    bytes: Vec<u8>,
    actions: Rows,
    recipes: Rows,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rows {
    begin: usize,
    count: usize,
}

impl Rows {
    fn row<const WIDTH: usize>(self, bytes: &[u8], index: usize) -> Option<&[u8; WIDTH]> {
        bytes.get(self.begin + index * WIDTH..)?.first_chunk()
    }

    /// The number of the row that begins with a key. Digests are spread evenly, so the search starts where the key should
    /// be, and few rows are looked at.
    fn find<const WIDTH: usize>(self, bytes: &[u8], key: &[u8; 32]) -> Option<usize> {
        let at = |index: usize| self.row::<WIDTH>(bytes, index).and_then(|row| row.first_chunk::<32>());
        let spread = u64::from_be_bytes(*key.first_chunk()?);
        let guess = ((u128::from(spread) * self.count as u128) >> 64) as usize;
        // Two standard deviations of where it lies; the rest of the table otherwise.
        let near = self.count.isqrt() + 4;
        let (mut low, mut high) = (guess.saturating_sub(near), (guess + near).min(self.count));
        if low > 0 && at(low)? > key {
            low = 0;
        }
        if high < self.count && at(high)? <= key {
            high = self.count;
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            match at(middle)?.cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

impl Table {
    /// How many actions it has.
    pub(crate) fn len(&self) -> usize {
        self.actions.count
    }

    /// The standing record of an action.
    pub(crate) fn action(&self, action: &Digest<Action>) -> Option<Entry> {
        let index = self.actions.find::<ACTION>(&self.bytes, action.as_bytes())?;
        self.entry(index).map(|(_, entry)| entry)
    }

    fn entry(&self, index: usize) -> Option<(Digest<Action>, Entry)> {
        let mut fields = Fields(self.actions.row::<ACTION>(&self.bytes, index)?);
        let action = fields.digest()?;
        let (output, object): (Digest<Values>, Digest<Bytes>) = (fields.digest()?, fields.digest()?);
        let (rows, size) = (fields.number()?, fields.number()?);
        let (offset, sequence) = (fields.number()?, fields.number()?);
        let (length, log) = (fields.small()?, fields.small()?);
        let [kind, flags] = *fields.take(2)?.first_chunk()?;
        let facts = Facts {
            rows,
            output,
            object,
            size,
        };
        let entry = Entry {
            place: Place { log, offset, length },
            kind: if kind == Kind::Replace as u8 {
                Kind::Replace
            } else {
                Kind::First
            },
            complete: flags & COMPLETE != 0,
            sequence,
            facts: (flags & FACTS != 0).then_some(facts),
        };
        Some((action, entry))
    }

    /// Where a recipe leads.
    pub(crate) fn recipe(&self, recipe: &Digest<Recipe>) -> Option<Alias> {
        let index = self.recipes.find::<RECIPE>(&self.bytes, recipe.as_bytes())?;
        self.alias(index).map(|(_, alias, _)| alias)
    }

    /// The action to which a recipe leads, with its standing record: a row of a recipe knows the row of its action.
    pub(crate) fn recorded(&self, recipe: &Digest<Recipe>) -> Option<(Digest<Action>, Entry)> {
        let index = self.recipes.find::<RECIPE>(&self.bytes, recipe.as_bytes())?;
        let (_, _, row) = self.alias(index)?;
        self.entry(row)
    }

    fn alias(&self, index: usize) -> Option<(Digest<Recipe>, Alias, usize)> {
        let mut fields = Fields(self.recipes.row::<RECIPE>(&self.bytes, index)?);
        let (recipe, sequence) = (fields.digest()?, fields.number()?);
        let (row, log) = (fields.small()? as usize, fields.small()?);
        let action = self.actions.row::<ACTION>(&self.bytes, row)?.first_chunk::<32>()?;
        let action = Digest::from_bytes(*action);
        Some((recipe, Alias { action, sequence, log }, row))
    }

    /// All actions, sorted.
    pub(crate) fn actions(&self) -> impl Iterator<Item = (Digest<Action>, Entry)> {
        (0..self.actions.count).filter_map(|index| self.entry(index))
    }

    /// All recipes, sorted.
    pub(crate) fn recipes(&self) -> impl Iterator<Item = (Digest<Recipe>, Alias)> {
        let alias = |index| self.alias(index).map(|(recipe, alias, _)| (recipe, alias));
        (0..self.recipes.count).filter_map(alias)
    }

    /// Adds sorted actions and sorted recipes to a file. A recipe that leads to no action of the file is left out: it says
    /// nothing before that action has a record, and then it is said again.
    pub(crate) fn write(
        out: &mut Vec<u8>,
        actions: &[(Digest<Action>, Entry)],
        recipes: &[(Digest<Recipe>, Alias)],
    ) -> Option<()> {
        out.reserve(16 + actions.len() * ACTION + recipes.len() * RECIPE + 32);
        out.extend((actions.len() as u64).to_le_bytes());
        for (action, entry) in actions {
            let nothing = Facts {
                rows: 0,
                output: Digest::from_bytes([0; 32]),
                object: Digest::from_bytes([0; 32]),
                size: 0,
            };
            let facts = entry.facts.unwrap_or(nothing);
            out.extend_from_slice(action.as_bytes());
            out.extend_from_slice(facts.output.as_bytes());
            out.extend_from_slice(facts.object.as_bytes());
            for number in [facts.rows, facts.size, entry.place.offset, entry.sequence] {
                out.extend(number.to_le_bytes());
            }
            out.extend(entry.place.length.to_le_bytes());
            out.extend(entry.place.log.to_le_bytes());
            let complete = if entry.complete { COMPLETE } else { 0 };
            let known = if entry.facts.is_some() { FACTS } else { 0 };
            out.extend([entry.kind as u8, complete | known, 0, 0, 0, 0, 0, 0]);
        }
        let row = |alias: &Alias| actions.binary_search_by_key(&alias.action, |(action, _)| *action).ok();
        let counted = out.len();
        out.extend([0; 8]);
        let mut count = 0_u64;
        for (recipe, alias) in recipes {
            let Some(row) = row(alias) else { continue };
            out.extend_from_slice(recipe.as_bytes());
            out.extend(alias.sequence.to_le_bytes());
            out.extend(u32::try_from(row).ok()?.to_le_bytes());
            out.extend(alias.log.to_le_bytes());
            count += 1;
        }
        out[counted..counted + 8].copy_from_slice(&count.to_le_bytes());
        Some(())
    }

    /// The rows at the end of a file, which was checked.
    pub(crate) fn read(bytes: Vec<u8>, begin: usize) -> Option<Self> {
        let rows = |begin: usize, width: usize| -> Option<Rows> {
            let count = Fields(bytes.get(begin..)?).number()?;
            let count = usize::try_from(count).ok()?;
            let begin = begin + 8;
            (count.checked_mul(width)?.checked_add(begin)? <= bytes.len()).then_some(Rows { begin, count })
        };
        let actions = rows(begin, ACTION)?;
        let recipes = rows(actions.begin + actions.count * ACTION, RECIPE)?;
        Some(Self {
            bytes,
            actions,
            recipes,
        })
    }
}

/// Fields read one after the other.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn small(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn digest<T>(&mut self) -> Option<Digest<T>> {
        Some(Digest::from_bytes(self.take(32)?.try_into().ok()?))
    }

    pub(crate) fn place(&mut self) -> Option<Place> {
        let (log, offset, length) = (self.number()?, self.number()?, self.number()?);
        Some(Place {
            log: u32::try_from(log).ok()?,
            offset,
            length: u32::try_from(length).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_row_is_found_and_no_other() {
        // Digests that are spread, and some that are crowded where the search does not expect them.
        let mut keys: Vec<Digest<Action>> = (0_u32..500)
            .map(|at| Digest::from_bytes(*blake3::hash(&at.to_le_bytes()).as_bytes()))
            .collect();
        keys.extend((0..200).map(|at| Digest::from_bytes([at; 32].map(|byte: u8| byte / 16))));
        keys.sort();
        keys.dedup();
        let entry = |at: usize| Entry {
            place: Place {
                log: 3,
                offset: at as u64,
                length: 9,
            },
            kind: if at.is_multiple_of(2) {
                Kind::First
            } else {
                Kind::Replace
            },
            complete: at.is_multiple_of(3),
            sequence: 7 + at as u64,
            facts: (at.is_multiple_of(5)).then(|| Facts {
                rows: at as u64,
                output: Digest::from_bytes([1; 32]),
                object: Digest::from_bytes([2; 32]),
                size: 5,
            }),
        };
        for count in [0, 1, 2, keys.len()] {
            let actions: Vec<_> = keys
                .iter()
                .take(count)
                .enumerate()
                .map(|(at, key)| (*key, entry(at)))
                .collect();
            let aliases = actions.iter().map(|(action, _)| Alias {
                action: *action,
                sequence: 1,
                log: 2,
            });
            let recipes: Vec<_> = aliases
                .map(|alias| (Digest::from_bytes(*alias.action.as_bytes()), alias))
                .collect();
            let mut bytes = vec![0; 3];
            Table::write(&mut bytes, &actions, &recipes).unwrap();
            let table = Table::read(bytes.clone(), 3).unwrap();
            assert_eq!(table.len(), count);
            assert!(table.actions().eq(actions.iter().copied()) && table.recipes().eq(recipes.iter().copied()));
            for (at, key) in keys.iter().enumerate() {
                assert_eq!(table.action(key), (at < count).then(|| entry(at)), "{at} of {count}");
                let recipe = Digest::from_bytes(*key.as_bytes());
                assert_eq!(table.recipe(&recipe).is_some(), at < count);
                assert_eq!(table.recorded(&recipe), (at < count).then(|| (*key, entry(at))));
            }
            bytes.truncate(bytes.len().saturating_sub(1));
            assert!(Table::read(bytes, 3).is_none());
        }
    }
}
