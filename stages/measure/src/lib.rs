//! The stages of measurement: threshold, fracture, frontier; tables in, tables out.
//!
//! The numbers themselves are `fracture-science`'s. Here rows become pairs (which rows belong together, LANGUAGE.md rule 7),
//! pairs become groups, and results become tables whose rows do not depend on the order in which anything arrived.

#![forbid(unsafe_code)]

mod order;
mod parameters;
mod read;
mod rows;
mod table;

pub mod fracture;
pub mod frontier;
pub mod threshold;

#[cfg(test)]
mod testing;

use fracture_stage::Declaration;

/// The stage kinds of this crate.
pub fn declarations() -> Vec<Declaration> {
    vec![
        threshold::declaration(),
        fracture::declaration(),
        frontier::declaration(),
    ]
}
