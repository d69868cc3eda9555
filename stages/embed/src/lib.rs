//! Texts as vectors: an encoder directory through ONNX Runtime, or the mean-pooled hidden states of a language model.
//!
//! [`source`] tells which of the two a folder holds, [`encoder`] and [`decoder`] compute, [`pooling`] makes one vector of a
//! text's states, [`raw`] is what is memoised: the pooled vector before it is scaled. A vector's bits depend on its text and the
//! model alone: texts are encoded in the fixed shapes that judges use, and the decoder's kernels do not know their batch.

#![forbid(unsafe_code)]

pub mod decoder;
pub mod encoder;
mod parameters;
pub mod pooling;
pub mod raw;
mod rows;
pub mod source;
mod stage;

use fracture_stage::Declaration;

pub use pooling::Pooling;

/// The stage kinds of this crate.
pub fn declarations() -> Vec<Declaration> {
    vec![stage::declaration()]
}
