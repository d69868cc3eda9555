//! Judging texts: with classifiers through ONNX Runtime, and with language models that give a verdict.
//!
//! [`Layout`] finds the files of a judge, [`Runtime`] finds and loads the library, [`Classifier`] turns texts into raw logits
//! in batches of fixed shapes, [`RawRow`] is what is memoised, and [`Scoring`] turns raw logits into probabilities. [`generative`] asks a language model on the
//! running batch of `generate`; [`canaries`] watches either.

pub mod canaries;
pub mod classifier;
pub mod config;
pub mod fetch;
pub mod generative;
pub mod graph;
mod jinja;
pub mod layout;
pub mod provider;
pub mod raw;
pub mod runtime;
pub mod score;
pub mod session;
pub mod shape;
pub mod stage;
#[cfg(test)]
mod testing;
pub mod tokenize;

pub use classifier::{Classifier, Options};
pub use config::{Activation, JudgeConfig};
pub use layout::Layout;
pub use raw::RawRow;
pub use runtime::{Note, Origin, Resolved, Runtime, RuntimeOptions};
pub use score::{Orientation, Reduce, Scores, Scoring};
pub use tokenize::{Encoded, Text, TextEncoder, Window};
