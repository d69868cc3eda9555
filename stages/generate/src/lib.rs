//! Text generation with language models on candle.
//!
//! [`checkpoint`] opens a Hugging Face directory or a [`gguf`] file by its headers, [`config`] reads what the one
//! [`decoder`] needs to know of a family, [`weights`] maps tensors, each matrix a [`weight`], [`adapter`] merges into
//! them, [`text`] and [`template`] turn conversations into tokens and back, [`sampler`] chooses tokens, and [`engine`]
//! runs many requests as one batch. What a row gives depends on its prompt, its settings and its random stream, and on
//! nothing else: see [`engine`].

pub mod adapter;
pub mod bounded;
pub mod cache;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod engine;
pub mod gguf;
pub mod jinja;
mod kernel;
pub mod ops;
pub mod raw;
pub mod sampler;
pub mod stage;
pub mod template;
pub mod text;
pub mod weight;
pub mod weights;

pub use kernel::{Activation, Unit};
