//! Tables in and out of fracture: loading files, SQL over tables, exporting and showing them.
//!
//! This is the only crate that sees polars: it is more than half of a cold build. Tables come and go as Arrow record batches
//! of the types that an artifact can hold; polars reads Parquet and CSV, writes Parquet, and runs SQL.

mod bridge;
mod display;
mod export;
mod load;
mod normal;
mod query;
mod read;
mod rows;
mod sql;
#[cfg(test)]
mod tests;
mod value;

pub use display::display;
pub use export::{Format, export, to_csv};
pub use query::Condition;
pub use rows::{cells, rows_where};
pub use value::to_json;

use fracture_stage::Declaration;

/// The stage kinds of this crate: `load` and `query`.
pub fn declarations() -> [Declaration; 2] {
    [load::declaration(), query::declaration()]
}
