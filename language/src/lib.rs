//! The pipeline language of fracture: marked tree, specification, matrix, graph, diagnostics.
//!
//! ```text
//! text ─ yaml ─> Node ─ overlay ─> Node ─ substitute ─> Node ─ validate, spec ─> Document
//!                                                                │ stages, matrix
//!                                                    Pipeline <─ build <─ expand
//! ```
//!
//! Every value knows its place until it is in a task, so that whatever is wrong can be shown where it was written. The
//! crate knows no model, no Arrow compute and no scheduler; stage kinds come in as [`fracture_stage::Declaration`]s.

mod alike;
mod asked;
mod build;
mod columns;
mod compile;
mod diagnostic;
mod expand;
mod fill;
mod front;
mod join;
mod lost;
mod matrix;
mod names;
mod order;
mod overlay;
mod parameters;
mod pipeline;
mod place;
mod reference;
mod repair;
mod scalar;
mod schema;
mod select;
mod share;
mod source;
mod spec;
mod spread;
mod stages;
mod substitute;
mod templates;
mod timeout;
mod tree;
mod unused;
mod validate;
mod values;
mod yaml;

pub use compile::{compile, resolve};
pub use diagnostic::{Diagnostic, Diagnostics, Label, Severity};
pub use names::{listing, nearest, suggestion};
pub use pipeline::{
    CompileOptions, Connection, ConstantColumn, MAX_TASKS, Pipeline, SourceRef, StageNeed, StageNode, Task, TaskId,
    project_root,
};
pub use schema::json_schema;
pub use select::select;
pub use source::{Location, Mark, Source};
pub use yaml::MAX_BYTES;
