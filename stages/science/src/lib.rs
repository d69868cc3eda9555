//! The numbers of fracture: flips, intervals, frontier, geometry, games; pure functions.
//!
//! Plain slices in, structs out. Nothing here knows a table, a file, a clock or a thread count. Rows are told apart by
//! 64-bit hashes of their identity ([`identity`]); every sum runs in the order of those hashes and every random draw is
//! a function of (seed, cluster hash, draw number), so that reordering the input changes no bit of a result.
//!
//! A score that is `NaN` is *invalid*: it is never silently safe, it drops out of the pair and is counted.

// Two modules use it: one calls the gemm kernels, one vector instructions.
#![deny(unsafe_code)]

mod agreement;
mod audit;
mod bands;
mod bootstrap;
mod calibration;
mod caps;
mod compare;
mod corrected;
mod correction;
mod curve;
mod entry;
mod error;
mod flow;
mod fracture;
mod frontier;
mod hash;
mod interval;
mod intervals;
mod isotonic;
mod landscape;
mod leading;
mod linear;
mod mcnemar;
mod median;
mod multiplicity;
mod pca;
mod power;
mod product;
mod quantiles;
mod raters;
mod reliability;
mod stackelberg;
mod stratified;
mod tau;
mod tiles;

pub use agreement::{Confusion, cohen_kappa, confusion, flip_set_jaccard, krippendorff_alpha};
pub use audit::{
    AuditCosts, AuditDraw, AuditGame, Behaviour, FlipDraws, Outcome, Prior, Watched, outcome, pure_payoffs,
};
pub use bootstrap::{ClusterRow, ClusterSums, bca, percentile, quantile};
pub use calibration::{
    Calibrated, CalibrationMap, CalibrationMethod, LabelledScore, calibrate, fit_calibration, fold_of,
};
pub use caps::{CHOOSING, Cap, CappedRisk, Caps, REPORTING, caps};
pub use compare::{Comparison, Metric, compare, pr_ascending};
pub use corrected::{Cells, Corrected, CorrectionOptions, CorrectionRow, inverted, labelled_apart, powered};
pub use correction::{JudgeErrors, PredictionPowered, corrected_flip_table, prediction_powered, rogan_gladen};
pub use curve::{CurvePoint, curve};
pub use entry::{Boundary, Entry, EntryOptions, Labelled, auc, entry};
pub use error::{Result, ScienceError};
pub use flow::{Displacement, FlowItem, displacement, embed_mean};
pub use fracture::{
    Aggregate, Bounds, FlipOptions, FlipSummary, IntervalChoice, Pair, Rates, bounds_between, cells, flips, half, rates,
};
pub use frontier::{Frontier, FrontierOptions, FrontierPoint, ItemScore, frontier, reduce};
pub use hash::identity;
pub use interval::{Estimate, Interval, Method, newcombe_10, normal_quantile, phi_corrected, rule_of_three, wilson};
pub use landscape::{LandscapeCell, SurfaceCell, surface};
pub use linear::Plane;
pub use mcnemar::{mcnemar_exact, mcnemar_mid_p, sign_flip_p};
pub use median::{median, median_interval};
pub use multiplicity::{benjamini_hochberg, holm};
pub use pca::{Principal, principal_components};
pub use power::{minimal_effect, sample_size};
pub use quantiles::QuantileLift;
pub use raters::{Agreement, RatedUnit, agreement, flip_overlap};
pub use reliability::{Bin, Quality, quality, reliability};
pub use stackelberg::{
    FollowerType, Game, PureCommitment, Solution, audit_payoff, dirichlet_posterior, solve, value_of,
};
pub use stratified::stratified;
pub use tau::{Convention, Thresholds, threshold};
