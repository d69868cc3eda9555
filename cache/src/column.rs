//! The canonical digest of a column: the same for the same type, validity and values, however they are cut into batches,
//! sliced, or laid out in a file.
//!
//! `H("column/1", type, rows, nulls, H(validity), H(lengths), H(values))` over four streams that only ever grow:
//! - *validity*: one bit a row, eight to a byte, the lowest first; left out when nothing is null;
//! - *lengths* of texts and lists: a little-endian `u64` a row that is not null;
//! - *values* of the rows that are not null: texts as bytes, numbers as little-endian bytes with one NaN, flags as bits,
//!   lists as the column digest of their items. What an array holds below a null is never hashed.

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder};
use arrow::buffer::{BooleanBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType, Field, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt32Type, UInt64Type,
};
use std::sync::Arc;

use crate::artifact::ColumnType;
use crate::digest::{Digest, Framed, Values};
use crate::error::{Result, StoreError};
use crate::spool::hash;

#[cfg(target_endian = "big")]
compile_error!("columns are hashed as they lie in memory, which must be little-endian");

/// The column type of an Arrow type, if an artifact can hold it.
pub fn column_type(data_type: &DataType) -> Option<ColumnType> {
    Some(match data_type {
        DataType::LargeUtf8 => ColumnType::Text,
        DataType::Boolean => ColumnType::Bool,
        DataType::Int64 => ColumnType::I64,
        DataType::UInt32 => ColumnType::U32,
        DataType::UInt64 => ColumnType::U64,
        DataType::Float32 => ColumnType::F32,
        DataType::Float64 => ColumnType::F64,
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if is_utc(zone) => ColumnType::Time,
        DataType::LargeList(item) if *item.data_type() == DataType::UInt32 => ColumnType::ListU32,
        DataType::LargeList(item) if *item.data_type() == DataType::Float32 => ColumnType::ListF32,
        DataType::FixedSizeList(item, length) if *item.data_type() == DataType::Float32 => {
            ColumnType::Vector(u32::try_from(*length).ok()?)
        }
        _ => return None,
    })
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00")
}

/// The Arrow type that an artifact holds a column type in.
pub fn arrow_type(kind: ColumnType) -> DataType {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    match kind {
        ColumnType::Text => DataType::LargeUtf8,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::I64 => DataType::Int64,
        ColumnType::U32 => DataType::UInt32,
        ColumnType::U64 => DataType::UInt64,
        ColumnType::F32 => DataType::Float32,
        ColumnType::F64 => DataType::Float64,
        ColumnType::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::ListU32 => DataType::LargeList(item(DataType::UInt32)),
        ColumnType::ListF32 => DataType::LargeList(item(DataType::Float32)),
        // A length beyond i32 can not come from an Arrow file; the largest stands for it.
        ColumnType::Vector(length) => {
            DataType::FixedSizeList(item(DataType::Float32), i32::try_from(length).unwrap_or(i32::MAX))
        }
    }
}

fn tag(kind: ColumnType) -> String {
    match kind {
        ColumnType::Text => "text".to_owned(),
        ColumnType::Bool => "bool".to_owned(),
        ColumnType::I64 => "i64".to_owned(),
        ColumnType::U32 => "u32".to_owned(),
        ColumnType::U64 => "u64".to_owned(),
        ColumnType::F32 => "f32".to_owned(),
        ColumnType::F64 => "f64".to_owned(),
        ColumnType::Time => "time".to_owned(),
        ColumnType::ListU32 => "list u32".to_owned(),
        ColumnType::ListF32 => "list f32".to_owned(),
        ColumnType::Vector(length) => format!("vector {length}"),
    }
}

/// The canonical digest of a column that is given in chunks.
///
/// # Errors
/// When a chunk has another type than `kind`.
pub fn column_digest(kind: ColumnType, chunks: &[ArrayRef]) -> Result<Digest<Values>> {
    let mut hasher = ColumnHasher::new(kind);
    chunks.iter().try_for_each(|chunk| hasher.update(chunk))?;
    Ok(hasher.finish())
}

/// Hashes a column chunk by chunk.
#[derive(Debug)]
pub struct ColumnHasher {
    kind: ColumnType,
    rows: u64,
    nulls: u64,
    validity: Bits,
    lengths: blake3::Hasher,
    values: ValueHasher,
}

#[derive(Debug)]
enum ValueHasher {
    Bytes(blake3::Hasher),
    Flags(Bits),
    Items(Box<ColumnHasher>),
}

impl ColumnHasher {
    /// Starts the digest of a column of this type.
    pub fn new(kind: ColumnType) -> Self {
        let values = match kind {
            ColumnType::Bool => ValueHasher::Flags(Bits::default()),
            ColumnType::ListU32 => ValueHasher::Items(Box::new(Self::new(ColumnType::U32))),
            ColumnType::ListF32 | ColumnType::Vector(_) => ValueHasher::Items(Box::new(Self::new(ColumnType::F32))),
            _ => ValueHasher::Bytes(blake3::Hasher::new()),
        };
        let (validity, lengths) = (Bits::default(), blake3::Hasher::new());
        Self {
            kind,
            rows: 0,
            nulls: 0,
            validity,
            lengths,
            values,
        }
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// When it has another type.
    pub fn update(&mut self, chunk: &ArrayRef) -> Result<()> {
        if column_type(chunk.data_type()) != Some(self.kind) {
            let problem = format!("a chunk is {}, not {}", chunk.data_type(), tag(self.kind));
            return Err(StoreError::Column {
                column: tag(self.kind),
                problem,
            });
        }
        self.rows += chunk.len() as u64;
        self.nulls += chunk.null_count() as u64;
        match chunk.nulls() {
            Some(nulls) => self.validity.push(nulls.inner()),
            None => self.validity.push(&BooleanBuffer::new_set(chunk.len())),
        }
        match chunk.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) => nulls
                .valid_slices()
                .for_each(|(start, end)| self.values(chunk, start, end)),
            None => self.values(chunk, 0, chunk.len()),
        }
        Ok(())
    }

    /// Adds the values of the rows from `start` to `end`, none of which is null.
    fn values(&mut self, chunk: &ArrayRef, start: usize, end: usize) {
        let length = end - start;
        match (&mut self.values, self.kind) {
            (ValueHasher::Bytes(hasher), ColumnType::Text) => {
                let texts = chunk.as_string::<i64>();
                let (from, to) = extent(texts.offsets(), start, end);
                hash_lengths(&mut self.lengths, texts.offsets(), start, end);
                hash(hasher, &texts.values().as_slice()[from..to]);
            }
            (ValueHasher::Flags(bits), _) => bits.push(&chunk.as_boolean().values().slice(start, length)),
            (ValueHasher::Bytes(hasher), ColumnType::F32) => {
                hash_floats(hasher, &chunk.as_primitive::<Float32Type>().values()[start..end]);
            }
            (ValueHasher::Bytes(hasher), ColumnType::F64) => {
                hash_floats(hasher, &chunk.as_primitive::<Float64Type>().values()[start..end]);
            }
            (ValueHasher::Bytes(hasher), ColumnType::U32) => {
                hash_numbers(
                    hasher,
                    &chunk.as_primitive::<UInt32Type>().values().slice(start, length),
                );
            }
            (ValueHasher::Bytes(hasher), ColumnType::U64) => {
                hash_numbers(
                    hasher,
                    &chunk.as_primitive::<UInt64Type>().values().slice(start, length),
                );
            }
            (ValueHasher::Bytes(hasher), ColumnType::I64) => {
                hash_numbers(hasher, &chunk.as_primitive::<Int64Type>().values().slice(start, length));
            }
            (ValueHasher::Bytes(hasher), ColumnType::Time) => {
                hash_numbers(
                    hasher,
                    &chunk
                        .as_primitive::<TimestampMicrosecondType>()
                        .values()
                        .slice(start, length),
                );
            }
            (ValueHasher::Items(items), ColumnType::Vector(width)) => {
                let width = width as usize;
                items.push(&chunk.as_fixed_size_list().values().slice(start * width, length * width));
            }
            (ValueHasher::Items(items), _) => {
                let lists = chunk.as_list::<i64>();
                let (from, to) = extent(lists.offsets(), start, end);
                hash_lengths(&mut self.lengths, lists.offsets(), start, end);
                items.push(&lists.values().slice(from, to - from));
            }
            // `new` pairs every other type with the kind of hasher above.
            (ValueHasher::Bytes(_), _) => {}
        }
    }

    /// Adds items whose type the outer column has checked.
    fn push(&mut self, items: &ArrayRef) {
        drop(self.update(items));
    }

    /// The digest.
    pub fn finish(self) -> Digest<Values> {
        let mut framed = Framed::new("column/1");
        framed.text(&tag(self.kind)).number(self.rows).number(self.nulls);
        if self.nulls > 0 {
            framed.raw(&self.validity.finish());
        }
        framed.raw(self.lengths.finalize().as_bytes());
        framed.raw(&match self.values {
            ValueHasher::Bytes(hasher) => *hasher.finalize().as_bytes(),
            ValueHasher::Flags(bits) => bits.finish(),
            ValueHasher::Items(items) => *items.finish().as_bytes(),
        });
        framed.finish()
    }
}

fn extent(offsets: &OffsetBuffer<i64>, start: usize, end: usize) -> (usize, usize) {
    (offsets[start].as_usize(), offsets[end].as_usize())
}

fn hash_lengths(hasher: &mut blake3::Hasher, offsets: &OffsetBuffer<i64>, start: usize, end: usize) {
    let lengths: Vec<u64> = offsets[start..=end]
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).unsigned_abs())
        .collect();
    hash_numbers(hasher, &ScalarBuffer::from(lengths));
}

fn hash_numbers<T: ArrowNativeType>(hasher: &mut blake3::Hasher, numbers: &ScalarBuffer<T>) {
    hash(hasher, numbers.inner().as_slice());
}

/// A float whose NaNs are made one.
trait Float: ArrowNativeType {
    fn canonical(self) -> Self;
    fn is_not_a_number(self) -> bool;
}

impl Float for f32 {
    fn canonical(self) -> Self {
        if self.is_nan() {
            f32::from_bits(0x7fc0_0000)
        } else {
            self
        }
    }
    fn is_not_a_number(self) -> bool {
        self.is_nan()
    }
}

impl Float for f64 {
    fn canonical(self) -> Self {
        if self.is_nan() {
            f64::from_bits(0x7ff8_0000_0000_0000)
        } else {
            self
        }
    }
    fn is_not_a_number(self) -> bool {
        self.is_nan()
    }
}

/// Hashes floats; `-0.0` and `0.0` stay two numbers, since `1/x` tells them apart.
fn hash_floats<T: Float>(hasher: &mut blake3::Hasher, numbers: &[T]) {
    if numbers.iter().any(|number| number.is_not_a_number()) {
        let canonical: Vec<T> = numbers.iter().map(|number| number.canonical()).collect();
        hash(hasher, arrow::buffer::Buffer::from_vec(canonical).as_slice());
    } else {
        hash(hasher, arrow::datatypes::ToByteSlice::to_byte_slice(numbers));
    }
}

/// A stream of bits, hashed byte by byte as they fill up.
#[derive(Debug, Default)]
struct Bits {
    hasher: blake3::Hasher,
    pending: BitTail,
}

/// Up to seven bits that do not fill a byte yet.
#[derive(Debug, Default)]
struct BitTail {
    bits: u8,
    count: usize,
}

impl Bits {
    fn push(&mut self, bits: &BooleanBuffer) {
        let mut joined = BooleanBufferBuilder::new(self.pending.count + bits.len());
        (0..self.pending.count).for_each(|at| joined.append(self.pending.bits >> at & 1 == 1));
        joined.append_buffer(bits);
        let whole = joined.len() / 8;
        hash(&mut self.hasher, &joined.as_slice()[..whole]);
        self.pending.count = joined.len() % 8;
        self.pending.bits = joined
            .as_slice()
            .get(whole)
            .map_or(0, |byte| byte & ((1 << self.pending.count) - 1));
    }

    /// The digest; how many bits there were is hashed by the column.
    fn finish(mut self) -> [u8; 32] {
        if self.pending.count > 0 {
            self.hasher.update(&[self.pending.bits]);
        }
        *self.hasher.finalize().as_bytes()
    }
}
