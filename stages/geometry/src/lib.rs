//! The stages of geometry and the game: landscape, flow, Stackelberg and the four numbers; tables in, tables out.

#![forbid(unsafe_code)]

mod batch;
mod memory;

pub mod flow;
pub mod landscape;
pub mod numbers;
pub mod stackelberg;

#[cfg(test)]
mod testing;

use fracture_stage::Declaration;

/// The stage kinds of this crate.
pub fn declarations() -> Vec<Declaration> {
    vec![
        landscape::declaration(),
        flow::declaration(),
        stackelberg::declaration(),
        numbers::declaration(),
    ]
}
