//! The stages of measurement: calibrate, threshold, agreement, fracture, frontier; tables in, tables out.
//!
//! The numbers themselves are `fracture-science`'s. Here rows become pairs (which rows belong together, LANGUAGE.md rule 7),
//! pairs become groups, and results become tables whose rows do not depend on the order in which anything arrived.
//! [`rows`], [`read`] and [`table`] are for other stages that work on verdicts too: `rows::Measured` reads a port into
//! groups of pairs, `table` makes the schema and the rows of a result from one list of columns.

#![forbid(unsafe_code)]

pub mod agreement;
pub mod calibrate;
pub mod fracture;
pub mod frontier;
pub mod order;
pub mod parameters;
pub mod read;
pub mod rows;
pub mod table;
pub mod threshold;

#[cfg(test)]
mod testing;

use fracture_stage::Declaration;

/// The stage kinds of this crate.
pub fn declarations() -> Vec<Declaration> {
    vec![
        agreement::declaration(),
        calibrate::declaration(),
        threshold::declaration(),
        fracture::declaration(),
        frontier::declaration(),
    ]
}
