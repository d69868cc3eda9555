//! The key-value cache of one sequence: runs of positions shared with other sequences, then a run of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The extents of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers of the model.
    pub layers: usize,
    /// Key-value heads of a layer.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl CacheShape {
    /// Bytes that one position takes.
    pub fn bytes_per_token(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * size_of::<f32>()
    }
}

/// How many positions all living segments hold.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// Positions held now.
    pub fn tokens(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keys and values of a run of positions: for each layer keys, then values, each `[kv_heads, capacity, head_dim]`.
#[derive(Debug)]
pub struct Segment {
    shape: CacheShape,
    capacity: usize,
    length: usize,
    data: Vec<f32>,
    meter: Meter,
}

impl Segment {
    fn new(shape: CacheShape, capacity: usize, meter: &Meter) -> Self {
        meter.0.fetch_add(capacity, Ordering::Relaxed);
        let data = vec![0.0; 2 * shape.layers * shape.kv_heads * capacity * shape.head_dim];
        Self {
            shape,
            capacity,
            length: 0,
            data,
            meter: meter.clone(),
        }
    }

    fn start(&self, layer: usize, values: bool, head: usize) -> usize {
        ((2 * layer + usize::from(values)) * self.shape.kv_heads + head) * self.capacity * self.shape.head_dim
    }

    /// Rows `from..to` of a head's keys or values, `[to - from, head_dim]`.
    fn rows(&self, layer: usize, values: bool, head: usize, from: usize, to: usize) -> &[f32] {
        let (start, width) = (self.start(layer, values, head), self.shape.head_dim);
        &self.data[start + from * width..start + to * width]
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.capacity, Ordering::Relaxed);
    }
}

/// The first `length` positions of a shared segment.
#[derive(Debug, Clone)]
pub struct View {
    segment: Arc<Segment>,
    length: usize,
}

impl View {
    /// The segment's identity, and how many positions it holds, seen or not.
    pub(crate) fn held(&self) -> (usize, usize) {
        (Arc::as_ptr(&self.segment).addr(), self.segment.capacity)
    }
}

/// The cache of one sequence.
#[derive(Debug)]
pub struct Cache {
    past: Vec<View>,
    past_length: usize,
    own: Segment,
}

impl Cache {
    /// A cache that continues `past` and has room for `capacity` positions of its own.
    pub fn new(shape: CacheShape, past: Vec<View>, capacity: usize, meter: &Meter) -> Self {
        let past_length = past.iter().map(|view| view.length).sum();
        Self {
            past,
            past_length,
            own: Segment::new(shape, capacity, meter),
        }
    }

    /// What tells caches apart that continue different positions: equal for those that share all before their own.
    pub(crate) fn origin(&self) -> usize {
        self.past.last().map_or(0, |view| view.held().0)
    }

    /// Positions in the cache.
    pub fn length(&self) -> usize {
        self.past_length + self.own.length
    }

    /// Positions that sequences of their own hold: `(segment, positions)` for what is shared, and what is not.
    pub(crate) fn held(&self) -> (impl Iterator<Item = (usize, usize)>, usize) {
        (self.past.iter().map(View::held), self.own.capacity)
    }

    /// Positions that still fit.
    pub fn room(&self) -> usize {
        self.own.capacity - self.own.length
    }

    /// Makes what is cached shareable.
    pub fn into_views(self) -> Vec<View> {
        let length = self.own.length;
        let mut views = self.past;
        if length > 0 {
            views.push(View {
                segment: Arc::new(self.own),
                length,
            });
        }
        views
    }

    /// Writes the key or value row of a head for the position `ahead` places after the last one.
    pub(crate) fn write(&mut self, layer: usize, values: bool, head: usize, ahead: usize, row: &[f32]) {
        let (start, width) = (self.own.start(layer, values, head), self.own.shape.head_dim);
        let at = start + (self.own.length + ahead) * width;
        self.own.data[at..at + width].copy_from_slice(row);
    }

    /// Counts `rows` positions, written in every layer, as cached.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.own.length += rows;
    }

    /// Pushes the keys and values of a head at positions `from..to`, in order; `to` may reach what was just written.
    pub(crate) fn parts<'a>(
        &'a self,
        layer: usize,
        head: usize,
        from: usize,
        to: usize,
        parts: &mut Vec<crate::kernel::Part<'a>>,
    ) {
        let mut start = 0;
        let shared = self.past.iter().map(|view| (&*view.segment, view.length));
        for (segment, length) in shared.chain([(&self.own, self.own.capacity)]) {
            let (low, high) = (from.max(start), to.min(start + length));
            if low < high {
                parts.push(crate::kernel::Part {
                    keys: segment.rows(layer, false, head, low - start, high - start),
                    values: segment.rows(layer, true, head, low - start, high - start),
                });
            }
            start += length;
        }
    }
}

/// The first `length` positions of `views`.
pub fn shorten(views: &[View], length: usize) -> Vec<View> {
    let mut left = length;
    let mut short = Vec::new();
    for view in views {
        let take = left.min(view.length);
        if take > 0 {
            short.push(View {
                segment: view.segment.clone(),
                length: take,
            });
        }
        left -= take;
    }
    short
}
