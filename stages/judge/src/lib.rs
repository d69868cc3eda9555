//! Judging texts with classifiers through ONNX Runtime.
//!
//! [`Layout`] finds the files of a judge, [`Runtime`] finds and loads the library, [`Classifier`] turns texts into raw logits
//! in batches of fixed shapes, [`RawRow`] is what is memoised, and [`Scoring`] turns raw logits into probabilities.

pub mod classifier;
pub mod config;
pub mod fetch;
pub mod graph;
pub mod layout;
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
