//! Figures and tables for papers. A figure is a stage whose outputs are files: the same table gives the same bytes on
//! every machine, because layout, font and drawing are all in here.
//!
//! A plot makes a [`scene`] from tables; the scene is written as SVG, PDF and PNG, so that all three show the same.

mod axes;
mod caption;
mod font;
mod glyphs;
mod groups;
mod layout;
mod order;
mod page;
mod palette;
mod parameters;
mod pdf;
mod plots;
mod png;
mod rows;
mod scale;
mod scene;
mod split;
mod stage;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

use serde_json::Value;

pub use split::split_path;
pub use stage::declaration;
pub use terminal::terminal_table;

/// The outputs of a figure and the paths that they are copied to: `main` for the first path of `to`, then one side output
/// per path. Empty when the figure writes no file. With `split`, an output is a tree of files and its path a pattern that
/// [`split_path`] fills.
pub fn targets(with: &Value) -> Vec<(String, String)> {
    let paths = with.get("to").cloned().unwrap_or(Value::Null);
    let paths: parameters::Paths = serde_json::from_value(paths).unwrap_or_default();
    parameters::output_names(paths.all())
}
