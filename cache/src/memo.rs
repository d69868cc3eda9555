//! The row memo: raw rows of row-wise stages, by the digest of what determines them.
//!
//! A lineage has a folder of its own. Each writing handle appends to segments of its own, `NAME.rows`, whose frames hold
//! the row's digest and its payload; beside each lies `NAME.index`, whose frames say where the rows of a stretch of the
//! segment begin. The index is a cache of the segment: a stretch that no whole index frame covers is read from the
//! segment itself. In memory a row costs about 33 bytes in a hash table, that is 38 to 76 with its free room.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::digest::{Digest, Lineage, Row};
use crate::error::{READ, Result, StoreError};
use crate::frame::{self, HEAD};
use crate::log::{Log, read_tail, read_up_to};
use crate::memo_compact::compact;
use crate::memo_segment::{Entry, INDEX, Place, Places, ROWS, Short, payload, range, run_length, short, stretch};
use crate::store::{Store, lock};

/// A segment is left for a new one beyond this length, so that any segment can be read at once.
pub(crate) const SEGMENT_BYTES: u64 = 256 << 20;

/// So much is held back before it is written without being asked for.
pub(crate) const BUFFER_BYTES: usize = 4 << 20;

/// Stands for a row that is in the buffer and not in a segment yet.
const BUFFERED: u32 = u32::MAX;

/// The known rows of one lineage. It may be used from any thread.
#[derive(Debug)]
pub struct Memo {
    store: Store,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    places: Places,
    segments: Vec<Segment>,
    numbers: HashMap<String, u32>,
    own: Option<Own>,
    buffer: Vec<u8>,
    /// The rows in the buffer: digest, offset in the buffer, length of the frame.
    buffered: Vec<(Short, usize, u32)>,
}

#[derive(Debug)]
struct Segment {
    name: String,
    /// Up to here its rows are known.
    covered: u64,
    file: Option<Arc<File>>,
}

#[derive(Debug)]
struct Own {
    rows: Log,
    index: Log,
    segment: u32,
}

impl Memo {
    /// Opens the rows of a lineage.
    ///
    /// # Errors
    /// When a segment can not be read. Torn and damaged rows are no error: they are left out.
    pub fn open(store: &Store, lineage: &Digest<Lineage>) -> Result<Self> {
        let folder = store.root().join("memo").join(lineage.hex());
        let memo = Self {
            store: store.clone(),
            folder,
            state: Mutex::default(),
        };
        memo.refresh()?;
        Ok(memo)
    }

    /// How many rows are known.
    pub fn len(&self) -> usize {
        lock(&self.state).places.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a row is known. Reads nothing from the disk.
    pub fn contains(&self, row: &Digest<Row>) -> bool {
        lock(&self.state).places.contains_key(&short(row))
    }

    /// Which of some rows are known, in their order. Reads nothing from the disk.
    pub fn contains_many(&self, rows: &[Digest<Row>]) -> Vec<bool> {
        let state = lock(&self.state);
        rows.iter().map(|row| state.places.contains_key(&short(row))).collect()
    }

    /// The payload of a row. One that turns out damaged counts as unknown.
    ///
    /// # Errors
    /// When its segment can not be read.
    pub fn get(&self, row: &Digest<Row>) -> Result<Option<Vec<u8>>> {
        Ok(self.get_many(std::slice::from_ref(row))?.pop().flatten())
    }

    /// The payloads of some rows, in their order. Rows that lie together are read together.
    ///
    /// # Errors
    /// When a segment can not be read.
    pub fn get_many(&self, rows: &[Digest<Row>]) -> Result<Vec<Option<Vec<u8>>>> {
        let known = lock(&self.state).places.len();
        let payloads = self.read_many(rows)?;
        if lock(&self.state).places.len() == known {
            return Ok(payloads);
        }
        // Some were not where they should be: another process may have joined their segments meanwhile.
        self.refresh()?;
        self.read_many(rows)
    }

    fn read_many(&self, rows: &[Digest<Row>]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut payloads = vec![None; rows.len()];
        let mut wanted: Vec<(Place, usize)> = Vec::with_capacity(rows.len());
        {
            let state = lock(&self.state);
            for (at, row) in rows.iter().enumerate() {
                match state.places.get(&short(row)) {
                    Some(place) if place.segment == BUFFERED => {
                        payloads[at] = payload(state.buffer.get(range(place, 0)), row);
                    }
                    Some(place) => wanted.push((*place, at)),
                    None => {}
                }
            }
        }
        wanted.sort_unstable_by_key(|(place, _)| (place.segment, place.offset));
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let count = run_length(rest);
            let (run, after) = rest.split_at(count);
            self.read_run(run, rows, &mut payloads)?;
            rest = after;
        }
        Ok(payloads)
    }

    /// Reads places of one segment that lie close together.
    fn read_run(&self, run: &[(Place, usize)], rows: &[Digest<Row>], payloads: &mut [Option<Vec<u8>>]) -> Result<()> {
        let Some((first, _)) = run.first() else { return Ok(()) };
        let end = run
            .iter()
            .map(|(place, _)| place.offset + u64::from(place.length))
            .max()
            .unwrap_or(first.offset);
        let (file, path) = self.file(first.segment)?;
        let mut bytes = vec![0; usize::try_from(end - first.offset).unwrap_or(0)];
        if let Some(file) = file {
            let count =
                read_up_to(&file, &mut bytes, first.offset).map_err(|source| StoreError::io(READ, path, source))?;
            bytes.truncate(count);
        } else {
            bytes.clear();
        }
        for (place, at) in run {
            payloads[*at] = payload(bytes.get(range(place, first.offset)), &rows[*at]);
            if payloads[*at].is_none() {
                tracing::warn!(row = %rows[*at].short(), "a row of the memo is damaged and counts as unknown");
                lock(&self.state).places.remove(&short(&rows[*at]));
            }
        }
        Ok(())
    }

    fn file(&self, segment: u32) -> Result<(Option<Arc<File>>, PathBuf)> {
        let mut state = lock(&self.state);
        let Some(segment) = state.segments.get_mut(segment as usize) else {
            return Ok((None, self.folder.clone()));
        };
        let path = self.folder.join(format!("{}.rows", segment.name));
        if segment.file.is_none() {
            segment.file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(Arc::new(other.map_err(|source| StoreError::io(READ, &path, source))?)),
            };
        }
        Ok((segment.file.clone(), path))
    }

    /// Adds a row. It is held back until the next [`Memo::flush`]. A row that is known is left as it is.
    ///
    /// # Errors
    /// When much was held back and can not be written.
    pub fn put(&self, row: &Digest<Row>, payload: &[u8]) -> Result<()> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let short = short(row);
        if state.places.contains_key(&short) {
            return Ok(());
        }
        let offset = state.buffer.len();
        let length = frame::append(&mut state.buffer, ROWS, &[row.as_bytes(), payload]);
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        state.buffered.push((short, offset, length));
        state.places.insert(
            short,
            Place {
                offset: offset as u64,
                segment: BUFFERED,
                length,
            },
        );
        if state.buffer.len() >= BUFFER_BYTES {
            self.flush_locked(state)?;
        }
        Ok(())
    }

    /// Writes what was held back. The engine calls it once a second and at the end.
    ///
    /// # Errors
    /// When it can not be written; it is held back further then, and tried again by the next call.
    pub fn flush(&self) -> Result<()> {
        self.flush_locked(&mut lock(&self.state))
    }

    fn flush_locked(&self, state: &mut State) -> Result<()> {
        if state.buffer.is_empty() {
            return Ok(());
        }
        self.store.writable("write rows to")?;
        let usable = |own: &Own| own.rows.is_usable() && own.index.is_usable() && own.rows.length() < SEGMENT_BYTES;
        if !state.own.as_ref().is_some_and(usable) {
            let (rows, name) = Log::create(&self.folder, ".rows")?;
            let index = Log::create_as(&self.folder.join(format!("{name}.index")))?;
            let segment = state.segment(&name);
            state.own = Some(Own { rows, index, segment });
        }
        let Some(own) = &mut state.own else { return Ok(()) };
        let segment = own.segment;
        let start = own.rows.append(&state.buffer)?;
        let end = start + state.buffer.len() as u64;
        let mut entries = Vec::with_capacity(16 + state.buffered.len() * Entry::LENGTH);
        entries.extend_from_slice(&start.to_le_bytes());
        entries.extend_from_slice(&end.to_le_bytes());
        for (short, offset, length) in state.buffered.drain(..) {
            let place = Place {
                offset: start + offset as u64,
                segment,
                length,
            };
            Entry {
                short,
                offset: place.offset,
                length,
            }
            .encode(&mut entries);
            state.places.insert(short, place);
        }
        state.buffer.clear();
        if let Some(known) = state.segments.get_mut(segment as usize) {
            known.covered = end;
        }
        let mut index = Vec::new();
        frame::append(&mut index, INDEX, &[&entries]);
        // The rows are safe; without their index the next opening reads the segment itself.
        if let Err(error) = own.index.append(&index) {
            tracing::warn!(%error, "the index of a memo segment could not be written");
        }
        self.store.note_written(own.rows.path().to_owned());
        self.store.note_written(own.index.path().to_owned());
        Ok(())
    }

    /// Joins the segments that were not written for `idle` into few, when there are at least `many` of them; gives how many
    /// it joined. Writers that were idle so long and write again begin a new segment.
    ///
    /// # Errors
    /// When a segment can not be read or the joined one not be written; nothing is lost then.
    pub fn compact(&self, many: usize, idle: Duration) -> Result<usize> {
        self.store.writable("compact the memo of")?;
        let mut state = lock(&self.state);
        self.flush_locked(&mut state)?;
        let joined = compact(&self.store, &self.folder, many, idle)?;
        if joined > 0 {
            *state = State::default();
            self.refresh_locked(&mut state)?;
        }
        Ok(joined)
    }

    /// Picks up what other processes wrote.
    ///
    /// # Errors
    /// When a segment can not be read.
    pub fn refresh(&self) -> Result<()> {
        self.refresh_locked(&mut lock(&self.state))
    }

    fn refresh_locked(&self, state: &mut State) -> Result<()> {
        let failed = |source| StoreError::io(READ, &self.folder, source);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(failed)?,
        };
        let mut segments = BTreeSet::new();
        let mut index_bytes = 0;
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let length = entry.metadata().map_or(0, |meta| meta.len());
            match entry.file_name().to_str().and_then(|name| name.rsplit_once('.')) {
                Some((name, "rows")) => drop(segments.insert((name.to_owned(), length))),
                Some((_, "index")) => index_bytes += length,
                _ => {}
            }
        }
        if state.places.is_empty() {
            // Room for all at once: a table that grows step by step leaves its smaller copies behind in the heap.
            state
                .places
                .reserve(usize::try_from(index_bytes).unwrap_or(0) / Entry::LENGTH);
        }
        segments
            .iter()
            .try_for_each(|(name, length)| state.read_segment(&self.folder, name, *length))
    }
}

impl Drop for Memo {
    fn drop(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(%error, "rows of the memo could not be written");
        }
    }
}

impl State {
    fn segment(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.segments.len()).unwrap_or(BUFFERED - 1);
        self.numbers.insert(name.to_owned(), number);
        self.segments.push(Segment {
            name: name.to_owned(),
            covered: 0,
            file: None,
        });
        number
    }

    /// Reads what is new in a segment of this length: what its index says, and itself where the index says nothing.
    fn read_segment(&mut self, folder: &Path, name: &str, length: u64) -> Result<()> {
        let number = self.segment(name);
        let mut covered = self.segments[number as usize].covered;
        if covered >= length {
            return Ok(());
        }
        let rows = folder.join(format!("{name}.rows"));
        let index = read_tail(&folder.join(format!("{name}.index")), 0, None)?;
        for (_, body) in frame::scan(&index, INDEX) {
            let Some((start, end, entries)) = stretch(body) else {
                continue;
            };
            if end <= covered || end > length {
                continue;
            }
            if start > covered {
                self.read_rows(&rows, number, covered, Some(start))?;
            }
            self.places.reserve(entries.len() / Entry::LENGTH);
            for entry in entries.chunks_exact(Entry::LENGTH).filter_map(Entry::decode) {
                let place = Place {
                    offset: entry.offset,
                    segment: number,
                    length: entry.length,
                };
                self.places.entry(entry.short).or_insert(place);
            }
            covered = end;
        }
        if covered < length {
            covered = self.read_rows(&rows, number, covered, None)?;
        }
        self.segments[number as usize].covered = covered;
        Ok(())
    }

    /// Reads the frames of a stretch of a segment; gives the offset after the last whole one.
    fn read_rows(&mut self, path: &Path, segment: u32, from: u64, to: Option<u64>) -> Result<u64> {
        let bytes = read_tail(path, from, to)?;
        let mut frames = frame::scan(&bytes, ROWS);
        for (at, body) in frames.by_ref() {
            let Some(short) = body.first_chunk::<16>() else {
                continue;
            };
            let length = u32::try_from(HEAD + body.len()).unwrap_or(u32::MAX);
            self.places.entry(*short).or_insert(Place {
                offset: from + at as u64,
                segment,
                length,
            });
        }
        Ok(from + frames.end() as u64)
    }
}
