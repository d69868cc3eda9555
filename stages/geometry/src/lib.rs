//! The stages of geometry and the game: landscape, flow, Stackelberg and the four numbers; tables in, tables out.

#![forbid(unsafe_code)]

pub mod flow;

use fracture_stage::Declaration;

/// The stage kinds of this crate.
pub fn declarations() -> Vec<Declaration> {
    vec![flow::declaration()]
}
