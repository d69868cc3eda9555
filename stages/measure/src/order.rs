//! The order of values in every table: that of all stages.

pub use fracture_stage::order::{compare, same};
