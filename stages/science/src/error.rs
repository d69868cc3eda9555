//! What can be wrong with the arguments of a computation.

/// An argument that has no meaning, with what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ScienceError {
    /// A number is outside the range in which the quantity is defined.
    #[error("{name} is {value}, but must be {expected}")]
    OutOfRange {
        /// The parameter's name as the user writes it.
        name: &'static str,
        /// What was given.
        value: f64,
        /// The range in words.
        expected: &'static str,
    },
    /// Two inputs that must have the same shape do not.
    #[error("{what}: expected {expected}, found {found}")]
    Shape {
        /// Which input.
        what: String,
        /// The size that was expected.
        expected: usize,
        /// The size that was found.
        found: usize,
    },
    /// A problem that has no answer, or none that the solver could find.
    #[error("{0}")]
    Unsolvable(String),
}

/// The result of a computation of this crate.
pub type Result<T> = std::result::Result<T, ScienceError>;

/// `value` if `holds`, else the error that names it. `NaN` never holds, because comparisons with it are false.
pub(crate) fn require(holds: bool, name: &'static str, value: f64, expected: &'static str) -> Result<f64> {
    if holds {
        Ok(value)
    } else {
        Err(ScienceError::OutOfRange { name, value, expected })
    }
}
