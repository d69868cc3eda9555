//! The stage kinds of this version.

use fracture_stage::Declaration;

/// Every kind that `uses:` may name, and `figure`, which `figures:` uses.
pub fn catalogue() -> Vec<Declaration> {
    let mut kinds = fracture_table::declarations().to_vec();
    kinds.extend([
        fracture_command::declaration(),
        fracture_prompt::declaration(),
        fracture_generate::stage::declaration(),
        fracture_judge::stage::declaration(),
        fracture_measure::threshold::declaration(),
        fracture_measure::fracture::declaration(),
        fracture_measure::frontier::declaration(),
        fracture_figure::declaration(),
    ]);
    kinds
}
