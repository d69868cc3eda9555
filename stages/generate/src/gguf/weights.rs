//! The tensors of a GGUF file, packed as they lie there, by the names that transformers gives them.

use super::names::{Names, Place};
use super::{Format, Gguf, TensorInfo};
use crate::config::Config;
use crate::kernel::{Order, Packed, Unit, can_be_packed, unpack_row};
use candle_core::{Device, Tensor};
use fracture_stage::Error;
use std::fmt;
use std::fs::File;
use std::sync::Arc;

/// The bytes of a file's tensors.
type Bytes = Arc<Vec<u8>>;

/// The tensors of a model in a GGUF file.
pub(crate) struct GgufWeights {
    gguf: Arc<Gguf>,
    names: Names,
    parts: Vec<Bytes>,
}

/// Rows of a matrix in a GGUF file, packed.
#[derive(Clone)]
pub struct PackedRows {
    bytes: Bytes,
    /// Where the first row begins.
    offset: usize,
    format: Format,
    rows: usize,
    width: usize,
    order: Order,
}

impl fmt::Debug for PackedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}, {}]", self.format.name(), self.rows, self.width)
    }
}

impl PackedRows {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.width)
    }

    /// For the kernels.
    pub(crate) fn packed(&self) -> Packed<'_> {
        Packed {
            bytes: &self.bytes[self.offset..],
            format: self.format,
            rows: self.rows,
            width: self.width,
            order: self.order,
        }
    }

    /// Some of the rows. `None` where they are not there, or do not lie one after the other.
    pub fn narrow(&self, from: usize, count: usize) -> Option<Self> {
        let inside = from.checked_add(count).is_some_and(|end| end <= self.rows);
        (inside && self.order == Order::Straight).then(|| Self {
            offset: self.offset + from * self.width / self.format.block() * self.format.bytes(),
            rows: count,
            ..self.clone()
        })
    }
}

/// A tensor and where it was found.
struct Found<'a> {
    part: usize,
    info: &'a TensorInfo,
    place: Place,
}

impl GgufWeights {
    /// Opens the files of a model that `config` describes.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn open(gguf: Arc<Gguf>, config: &Config) -> Result<Self, Error> {
        let mut parts = Vec::new();
        for part in gguf.parts() {
            let unreadable = |cause| Error::input(format!("{}: cannot be read", part.path().display())).cause(cause);
            let mut bytes = Vec::new();
            File::open(part.path())
                .and_then(|mut file| std::io::Read::read_to_end(&mut file, &mut bytes))
                .map_err(unreadable)?;
            let end = part
                .tensors()
                .values()
                .map(|tensor| tensor.offset + tensor.length)
                .max();
            if end.is_some_and(|end| end > bytes.len() as u64) {
                return Err(Error::input(format!(
                    "{}: became shorter while it was read",
                    part.path().display()
                )));
            }
            parts.push(Arc::new(bytes));
        }
        Ok(Self {
            names: Names::new(config),
            gguf,
            parts,
        })
    }

    /// The names that the file gives its tensors, but for those that are read with the architecture.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let with_config = [
            "rope_freqs.weight",
            "rope_factors_short.weight",
            "rope_factors_long.weight",
        ];
        self.gguf
            .names()
            .filter(move |name| !with_config.contains(name))
            .map(str::to_owned)
    }

    /// What the file calls a tensor, with the number of an expert in it.
    pub fn name(&self, name: &str) -> String {
        self.names
            .place(&self.gguf, name)
            .map_or_else(|| name.to_owned(), |place| place.name)
    }

    /// Is there a tensor of this name?
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<Found<'_>> {
        let place = self.names.place(&self.gguf, name)?;
        let (part, info) = self.gguf.tensor(&place.name)?;
        if place
            .expert
            .is_some_and(|expert| info.shape.len() != 3 || expert >= info.shape[0])
        {
            return None;
        }
        Some(Found { part, info, place })
    }

    /// The shape of a tensor, of one expert where several are stacked; `None` where there is none.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let found = self.find(name)?;
        let shape = &found.info.shape;
        Some(match found.place.expert {
            Some(_) => shape[1..].to_vec(),
            None => shape.clone(),
        })
    }

    /// A matrix as it lies in the file; `None` where it is none or its rows have to be unpacked.
    pub fn packed(&self, name: &str) -> Option<PackedRows> {
        let found = self.find(name)?;
        let shape = self.shape(name)?;
        let [rows, width] = shape[..] else {
            return None;
        };
        if !can_be_packed(found.info.format, width) || !fits(found.place.order, rows) {
            return None;
        }
        let size = rows * (width / found.info.format.block() * found.info.format.bytes());
        Some(PackedRows {
            bytes: self.parts[found.part].clone(),
            offset: found.info.offset as usize + found.place.expert.unwrap_or(0) * size,
            format: found.info.format,
            rows,
            width,
            order: found.place.order,
        })
    }

    /// A tensor unpacked to `f32`, its rows in the order that transformers gives them.
    ///
    /// # Errors
    /// A tensor that is not there.
    pub fn load(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let (Some(found), Some(shape)) = (self.find(name), self.shape(name)) else {
            candle_core::bail!("there is no tensor {name}");
        };
        let width = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / width;
        let format = found.info.format;
        let row_bytes = width / format.block() * format.bytes();
        let start = found.info.offset as usize + found.place.expert.unwrap_or(0) * rows * row_bytes;
        let bytes = &self.parts[found.part][start..start + rows * row_bytes];
        let mut values = vec![0.0; rows * width];
        if can_be_packed(format, width) {
            let packed = Packed {
                bytes,
                format,
                rows,
                width,
                order: Order::Straight,
            };
            for (row, out) in values.chunks_exact_mut(width).enumerate() {
                unpack_row(Unit::best(), packed, row, out);
            }
        } else {
            plain(format, bytes, &mut values);
        }
        let tensor = Tensor::from_vec(values, shape, device)?;
        match found.place.order {
            Order::Straight => Ok(tensor),
            Order::Paired(head) if tensor.dim(0)?.is_multiple_of(head) && head.is_multiple_of(2) => {
                // [heads, pairs, 2, ..] to [heads, 2, pairs, ..]
                let (dims, all) = (tensor.dims().to_vec(), tensor.elem_count());
                let heads = dims[0] / head;
                let turned = tensor.reshape((heads, head / 2, 2, all / dims[0]))?.transpose(1, 2)?;
                turned.contiguous()?.reshape(dims)
            }
            Order::Paired(head) => candle_core::bail!("rows do not divide into heads of {head}"),
        }
    }
}

fn fits(order: Order, rows: usize) -> bool {
    match order {
        Order::Straight => true,
        Order::Paired(head) => head > 0 && head.is_multiple_of(2) && rows.is_multiple_of(head),
    }
}

/// Values one by one, for rows that are no whole vectors.
fn plain(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::F16 => {
            for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *out = half::f16::from_le_bytes(*bytes).to_f32();
            }
        }
        Format::Bf16 => {
            for (bytes, out) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *out = half::bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        // The other formats have blocks of whole vectors.
        _ => {
            for (bytes, out) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}
