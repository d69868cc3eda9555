//! Texts as vectors: an encoder directory through ONNX Runtime, or the mean-pooled hidden states of a language model.

#![forbid(unsafe_code)]

use fracture_stage::Declaration;

/// The stage kinds of this crate.
pub fn declarations() -> Vec<Declaration> {
    Vec::new()
}
