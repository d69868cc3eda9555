//! Judging texts with language models that answer with a verdict.
//!
//! [`template`] makes the prompt, [`candidates`] finds the tokens that spell the verdicts, [`judge`] asks the model on the
//! running batch of `generate`, [`raw`] is what is memoised, and [`verdict`] makes a score of it: the share of the
//! unsafe verdicts in the probability that all verdicts hold.

pub mod candidates;
pub mod judge;
pub mod prompt;
pub mod raw;
pub mod served;
pub mod template;
pub mod verdict;

pub use candidates::Candidates;
pub use judge::{GenerativeJudge, Question};
pub use prompt::{Asking, Renderer};
pub use raw::{RawVerdict, Vote};
pub use template::{Form, Template};
pub use verdict::{LEAST_MASS, VerdictScores, Words};
