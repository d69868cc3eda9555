//! The stage kind `command`: a user's own program.
//!
//! The program runs in a temporary folder of its own, which holds the files that the stage lists and nothing else, with an
//! environment of the names that it lists and `PATH`, `IN`, `OUT`, `TMPDIR`. It reads one table per port, `$IN/PORT.arrow`,
//! and writes one, `$OUT/main.csv` say: a table of its own, or with `shape: map` the columns that it adds to the one that it
//! reads. The folder is no sandbox: a program that reads the clock, the network or a file by an
//! absolute path can do so, and its results are then not what its key says. `fracture verify` finds such programs.

mod files;
mod input;
mod mapped;
mod orphans;
mod output;
mod parameters;
mod process;
mod quote;
mod running;
mod stage;
#[cfg(test)]
mod tests;

pub use parameters::Parameters;
pub use running::stop_at_once;
pub use stage::declaration;
