//! The stage kinds of this version.

use fracture_stage::Declaration;

/// Every kind that `uses:` may name, and `figure`, which `figures:` uses.
pub fn catalogue() -> Vec<Declaration> {
    let mut kinds = fracture_table::declarations().to_vec();
    kinds.extend(fracture_measure::declarations());
    kinds.extend(fracture_geometry::declarations());
    kinds.extend(fracture_embed::declarations());
    kinds.extend([
        fracture_command::declaration(),
        fracture_prompt::declaration(),
        fracture_generate::stage::declaration(),
        fracture_judge::stage::declaration(),
        fracture_figure::declaration(),
    ]);
    kinds
}
