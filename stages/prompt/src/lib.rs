//! The stage kind `prompt`: pools of prompts, each shown to the model under several regimes.
//!
//! A pool (one per axis) is a file of prompts; a regime is what the model is told around a prompt: nothing, a system
//! message, or a cue that ships with fracture. One row is one item under one regime, sorted by axis, item, regime and draw,
//! so that the order of a pool, of the regimes or of the axes changes nothing.

mod cells;
mod cue;
mod layout;
mod parameters;
mod pool;
mod read;
mod regime;
mod rows;
mod source;
mod stage;
mod template;
#[cfg(test)]
mod tests;

pub use cue::families;
pub use parameters::{Format, Objective, Parameters, PoolSpec, RegimeSpec};
pub use stage::{Prompt, declaration};
