//! Looks whether the objects of results are there while a plan goes on: a plan counts on every result that is recorded, and
//! is made again in the rare case that something is lost. Small plans look at the end; large ones keep a thread busy, so that
//! the system is asked while keys are computed.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use fracture_cache::digest::Bytes;
use fracture_cache::record::Found;
use fracture_cache::{Digest, Store};

/// So many objects are looked for at once.
const CHUNK: usize = 2048;

/// So many chunks may wait: a slow disk does not fill the memory.
const WAITING: usize = 4;

type Object = (Digest<Bytes>, u64);

/// A look at objects that is under way.
pub struct Looking {
    store: Arc<Store>,
    chunk: Vec<Object>,
    worker: Option<Worker>,
    absent: Vec<Digest<Bytes>>,
}

struct Worker {
    sender: SyncSender<Vec<Object>>,
    thread: JoinHandle<Vec<Digest<Bytes>>>,
}

impl Looking {
    /// Nothing to look at yet.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: Arc::clone(store),
            chunk: Vec::new(),
            worker: None,
            absent: Vec::new(),
        }
    }

    /// Looks for the objects of a result, at once or later.
    pub fn at(&mut self, found: &Found) {
        self.chunk.extend(found.object.iter().chain(&found.objects));
        if self.chunk.len() < CHUNK {
            return;
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        if self.worker.is_none() {
            self.worker = Worker::start(&self.store);
        }
        match &self.worker {
            Some(worker) => {
                if let Err(unsent) = worker.sender.send(chunk) {
                    self.chunk = unsent.0;
                }
            }
            None => self.absent.extend(self.store.absent(&mut chunk)),
        }
    }

    /// Ends the look: the objects that are not there.
    pub fn end(mut self) -> Vec<Digest<Bytes>> {
        let mut absent = std::mem::take(&mut self.absent);
        absent.extend(self.store.absent(&mut self.chunk));
        if let Some(Worker { sender, thread }) = self.worker.take() {
            drop(sender);
            absent.extend(thread.join().unwrap_or_default());
        }
        absent
    }
}

impl Worker {
    /// `None` when the system gives no thread.
    fn start(store: &Arc<Store>) -> Option<Self> {
        let store = Arc::clone(store);
        let (sender, receiver) = sync_channel::<Vec<Object>>(WAITING);
        let look = move || {
            let chunks = receiver.into_iter();
            chunks.flat_map(|mut chunk| store.absent(&mut chunk)).collect()
        };
        let thread = std::thread::Builder::new()
            .name("objects".to_owned())
            .spawn(look)
            .ok()?;
        Some(Self { sender, thread })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fracture_cache::StoreOptions;

    #[test]
    fn many_objects_are_looked_at_by_a_thread() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path(), &StoreOptions::default()).unwrap());
        let there = store.put_blob(b"there").unwrap();
        let lost = |number: usize| (Digest::<Bytes>::of(&number.to_le_bytes()), 8);
        let found = |object: Object| Found {
            action: Digest::from_bytes([0; 32]),
            rows: 0,
            output: Digest::from_bytes([0; 32]),
            object: Some(object),
            objects: Vec::new(),
        };
        for count in [0, 1, CHUNK, 3 * CHUNK + 5] {
            let mut looking = Looking::new(&store);
            for number in 0..count {
                looking.at(&found(if number % 100 == 7 { lost(number) } else { there }));
            }
            assert_eq!(looking.worker.is_some(), count >= CHUNK);
            let mut absent = looking.end();
            absent.sort_unstable();
            let mut expected: Vec<_> = (0..count)
                .filter(|number| number % 100 == 7)
                .map(|one| lost(one).0)
                .collect();
            expected.sort_unstable();
            assert_eq!(absent, expected, "of {count}");
        }
    }
}
