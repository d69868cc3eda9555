//! Attention as one candle operation: rotates queries and keys, adds keys and values to the caches, attends.

use super::Slot;
use crate::cache::Cache;
use crate::config::{Config, Rope};
use crate::kernel::{self, Head, Part};
use crate::ops::{Run, values};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, bail};
use rayon::prelude::*;
use std::cell::RefCell;

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

/// Multiply-adds of scores below which another thread costs more than it brings.
const WORK_PER_THREAD: usize = 1 << 15;

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

impl Heads<'_> {
    /// Adds the new keys and values to the caches.
    fn store(&self, slots: &mut [Slot<'_>], keys: &[f32], values: &[f32]) {
        let head_dim = self.config.head_dim;
        let width = self.config.kv_heads * head_dim;
        let mut turned = vec![0.0; head_dim];
        let mut row = 0;
        for slot in slots {
            for ahead in 0..slot.tokens.len() {
                for head in 0..self.config.kv_heads {
                    let at = row * width + head * head_dim;
                    turned.copy_from_slice(&keys[at..at + head_dim]);
                    self.rotation.turn(row, &mut turned);
                    slot.cache.write(self.layer, false, head, ahead, &turned);
                    slot.cache
                        .write(self.layer, true, head, ahead, &values[at..at + head_dim]);
                }
                row += 1;
            }
        }
    }

    /// One row: all its heads over all that it may see.
    fn attend<'c>(&self, row: Row<'c>, queries: &[f32], out: &mut [f32], scratch: &mut Scratch<'c>) {
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
        scratch.queries.clear();
        scratch.queries.extend_from_slice(queries);
        for query in scratch.queries.chunks_exact_mut(head_dim) {
            self.rotation.turn(row.index, query);
            for value in query {
                *value *= attention_scale;
            }
        }
        let from = match self.config.layers[self.layer].window {
            Some(window) => (row.position + 1).saturating_sub(window),
            None => 0,
        };
        let width = head.group * head_dim;
        for (kv_head, (queries, out)) in scratch
            .queries
            .chunks_exact(width)
            .zip(out.chunks_exact_mut(width))
            .enumerate()
        {
            row.cache
                .parts(self.layer, kv_head, from, row.position + 1, &mut scratch.parts);
            kernel::attend(self.run.unit, head, queries, &scratch.parts, &mut scratch.scores, out);
        }
    }
}

/// A row of the batch: its number, its position in its sequence and that sequence's cache.
#[derive(Clone, Copy)]
struct Row<'a> {
    index: usize,
    position: usize,
    cache: &'a Cache,
}

#[derive(Default)]
struct Scratch<'a> {
    queries: Vec<f32>,
    scores: Vec<f32>,
    parts: Vec<Part<'a>>,
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
                (0..slot.tokens.len()).map(move |ahead| (first + ahead, &*slot.cache))
            })
            .enumerate()
            .map(|(index, (position, cache))| Row { index, position, cache })
            .collect();
        let mut out = vec![0.0; rows * width];
        let work: usize = order.iter().map(|row| row.position + 1).sum::<usize>() * width;
        let pieces = run.threads.min(work / WORK_PER_THREAD).clamp(1, rows);
        let heads = self.heads;
        let attend = |order: &[Row<'_>], queries: &[f32], out: &mut [f32]| {
            let mut scratch = Scratch::default();
            let queries = queries.chunks_exact(width);
            for (row, (queries, out)) in order.iter().zip(queries.zip(out.chunks_exact_mut(width))) {
                heads.attend(*row, queries, out, &mut scratch);
            }
        };
        if pieces == 1 {
            attend(&order, query, &mut out);
        } else {
            let piece = rows.div_ceil(pieces);
            order
                .par_chunks(piece)
                .zip(query.par_chunks(piece * width))
                .zip(out.par_chunks_mut(piece * width))
                .for_each(|((order, queries), out)| attend(order, queries, out));
        }
        Ok((CpuStorage::F32(out), query_layout.shape().clone()))
    }
}
