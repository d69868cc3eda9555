//! Attention as one candle operation: rotates queries and keys, adds keys and values to the caches, attends.

use super::Slot;
use crate::cache::Cache;
use crate::config::{Config, Rope};
use crate::kernel::{self, Head, Seen, scatter, scatter_mut};
use crate::ops::{Run, values};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, bail};
use std::cell::RefCell;
use std::ops::Range;

/// Cosines and sines of every row of a batch, `[rows, pairs]`.
#[derive(Debug)]
pub(super) struct Rotation {
    pairs: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotation {
    pub fn new(rope: &Rope, slots: &[Slot<'_>]) -> Self {
        let pairs = rope.frequencies.len();
        let rows: usize = slots.iter().map(|slot| slot.tokens.len()).sum();
        let (mut cosines, mut sines) = (vec![0.0; rows * pairs], vec![0.0; rows * pairs]);
        let mut out = cosines.chunks_exact_mut(pairs).zip(sines.chunks_exact_mut(pairs));
        for slot in slots {
            for position in slot.cache.length()..slot.cache.length() + slot.tokens.len() {
                if let Some((cosines, sines)) = out.next() {
                    rope.angles(position, cosines, sines);
                }
            }
        }
        Self { pairs, cosines, sines }
    }

    /// Turns a head `[head_dim]`: dimension `i` with dimension `i + pairs`; dimensions beyond stay.
    fn turn(&self, row: usize, head: &mut [f32]) {
        let angles = row * self.pairs..(row + 1) * self.pairs;
        let (low, high) = head.split_at_mut(self.pairs);
        let turns = self.cosines[angles.clone()].iter().zip(&self.sines[angles]);
        for ((low, high), (cosine, sine)) in low.iter_mut().zip(high).zip(turns) {
            let (a, b) = (*low, *high);
            *low = a * cosine - b * sine;
            *high = b * cosine + a * sine;
        }
    }
}

/// The operation on queries `[rows, heads · head_dim]`, keys and values `[rows, kv_heads · head_dim]`.
pub(super) struct Attention<'a, 'b> {
    heads: Heads<'a>,
    // The operation is given as `&self`, and it is applied once, on this thread.
    slots: RefCell<&'a mut [Slot<'b>]>,
}

/// What all rows of a layer have in common.
#[derive(Clone, Copy)]
struct Heads<'a> {
    run: Run,
    config: &'a Config,
    layer: usize,
    rotation: &'a Rotation,
}

/// Multiply-adds of scores below which a piece of its own costs more than it brings.
const WORK_PER_PIECE: usize = 1 << 14;
/// Query rows that go through what they share together at most: they and their sums stay in the first-level cache.
const ROWS_TOGETHER: usize = 24;

impl<'a, 'b> Attention<'a, 'b> {
    pub fn new(run: Run, config: &'a Config, layer: usize, slots: &'a mut [Slot<'b>], rotation: &'a Rotation) -> Self {
        Self {
            heads: Heads {
                run,
                config,
                layer,
                rotation,
            },
            slots: RefCell::new(slots),
        }
    }
}

/// A row of the batch: its position in its sequence and that sequence's cache.
#[derive(Clone, Copy)]
struct Row<'a> {
    position: usize,
    cache: &'a Cache,
}

impl Row<'_> {
    /// Do rows begin with the same positions? Rows of one sequence do, and samples of one prompt.
    fn akin(&self, other: &Self) -> bool {
        std::ptr::eq(self.cache, other.cache) || self.cache.origin() != 0 && self.cache.origin() == other.cache.origin()
    }
}

/// Buffers of a piece of work.
#[derive(Default)]
struct Scratch<'a> {
    queries: Vec<f32>,
    scores: Vec<f32>,
    seen: Seen<'a>,
    out: Vec<f32>,
}

impl Heads<'_> {
    /// Adds the new keys and values to the caches, those of some slots on each thread.
    fn store(&self, slots: &mut [Slot<'_>], keys: &[f32], values: &[f32]) {
        let firsts: Vec<usize> = slots
            .iter()
            .scan(0, |rows, slot| Some(std::mem::replace(rows, *rows + slot.tokens.len())))
            .collect();
        let each = slots.len().div_ceil(self.run.threads.max(1)).max(1);
        scatter_mut(self.run.threads, slots, each, |piece, slots| {
            let mut turned = vec![0.0; self.config.head_dim];
            for (slot, &first) in slots.iter_mut().zip(&firsts[piece * each..]) {
                self.store_slot(slot, first, keys, values, &mut turned);
            }
        });
    }

    /// The new keys and values of one slot, whose first row is `first`; `turned` has room for a head.
    fn store_slot(&self, slot: &mut Slot<'_>, first: usize, keys: &[f32], values: &[f32], turned: &mut [f32]) {
        let head_dim = self.config.head_dim;
        let width = self.config.kv_heads * head_dim;
        for ahead in 0..slot.tokens.len() {
            for head in 0..self.config.kv_heads {
                let at = (first + ahead) * width + head * head_dim;
                turned.copy_from_slice(&keys[at..at + head_dim]);
                self.rotation.turn(first + ahead, turned);
                slot.cache.write(self.layer, false, head, ahead, turned);
                slot.cache
                    .write(self.layer, true, head, ahead, &values[at..at + head_dim]);
            }
        }
    }

    /// One key-value head of some rows over all that they may see, into `scratch.out [rows, group, head_dim]`.
    fn attend<'c>(&self, rows: &[Row<'c>], first: usize, kv_head: usize, queries: &[f32], scratch: &mut Scratch<'c>) {
        let Config {
            heads,
            kv_heads,
            head_dim,
            attention_scale,
            attention_cap,
            ..
        } = *self.config;
        let head = Head {
            group: heads / kv_heads,
            head_dim,
            cap: attention_cap,
        };
        let width = head.group * head_dim;
        scratch.queries.clear();
        scratch.seen.clear();
        for (index, row) in rows.iter().enumerate() {
            let at = (first + index) * heads * head_dim + kv_head * width;
            scratch.queries.extend_from_slice(&queries[at..at + width]);
            for query in scratch.queries[index * width..].chunks_exact_mut(head_dim) {
                self.rotation.turn(first + index, query);
                for value in query {
                    *value *= attention_scale;
                }
            }
            let from = match self.config.layers[self.layer].window {
                Some(window) => (row.position + 1).saturating_sub(window),
                None => 0,
            };
            let to = row.position + 1;
            scratch
                .seen
                .row(|parts| row.cache.parts(self.layer, kv_head, from, to, parts));
        }
        scratch.out.resize(rows.len() * width, 0.0);
        let Scratch {
            queries,
            scores,
            seen,
            out,
        } = scratch;
        kernel::attend(self.run.unit, head, queries, seen, scores, out);
    }
}

/// Cuts rows into runs of akin ones, none longer than `longest`.
fn runs(rows: &[Row<'_>], longest: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.len() < longest && rows[run.start].akin(row) => run.end = index + 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// Where pieces put their results, each in places of its own.
struct Places(*mut f32);

// SAFETY: no place is written by two pieces.
unsafe impl Sync for Places {}

impl Places {
    /// # Safety
    /// The place lies inside, and nobody else uses it.
    unsafe fn put(&self, at: usize, values: &[f32]) {
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0.add(at), values.len()) };
    }
}

impl CustomOp3 for Attention<'_, '_> {
    fn name(&self) -> &'static str {
        "cached-attention"
    }

    fn cpu_fwd(
        &self,
        query: &CpuStorage,
        query_layout: &Layout,
        key: &CpuStorage,
        key_layout: &Layout,
        value: &CpuStorage,
        value_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (query, key) = (values(query, query_layout)?, values(key, key_layout)?);
        let value = values(value, value_layout)?;
        let mut slots = self.slots.borrow_mut();
        let rows: usize = slots.iter().map(|slot| slot.tokens.len()).sum();
        let Heads { run, config, .. } = self.heads;
        let (width, kv_width) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        if query.len() != rows * width || key.len() != rows * kv_width || value.len() != rows * kv_width {
            bail!(
                "attention of {rows} rows over {:?} and {:?}",
                query_layout.shape(),
                key_layout.shape()
            );
        }
        self.heads.store(&mut slots, key, value);
        let order: Vec<Row<'_>> = slots
            .iter()
            .flat_map(|slot| {
                let first = slot.cache.length();
                (0..slot.tokens.len()).map(move |ahead| Row {
                    position: first + ahead,
                    cache: &*slot.cache,
                })
            })
            .collect();
        let mut out = vec![0.0; rows * width];
        let work: usize = order.iter().map(|row| row.position + 1).sum::<usize>() * width;
        let pieces = match run.threads {
            1 => 1,
            threads => (4 * threads).min(work / WORK_PER_PIECE).max(1),
        };
        // A piece is some items of consecutive numbers; an item is a run of akin rows and one of their heads.
        let longest = ROWS_TOGETHER * config.kv_heads / config.heads;
        let runs = runs(&order, longest.min(rows.div_ceil(pieces)).max(1));
        let items = runs.len() * config.kv_heads;
        let each = items.div_ceil(pieces);
        let (places, heads, group) = (Places(out.as_mut_ptr()), self.heads, width / config.kv_heads);
        scatter(run.threads, items.div_ceil(each), |piece| {
            let mut scratch = Scratch::default();
            for item in piece * each..items.min((piece + 1) * each) {
                let (rows, kv_head) = (&runs[item / config.kv_heads], item % config.kv_heads);
                heads.attend(&order[rows.clone()], rows.start, kv_head, query, &mut scratch);
                for (row, values) in rows.clone().zip(scratch.out.chunks_exact(group)) {
                    // SAFETY: row and head lie inside `out`, and no other item has both.
                    unsafe { places.put(row * width + kv_head * group, values) };
                }
            }
        });
        Ok((CpuStorage::F32(out), query_layout.shape().clone()))
    }
}
