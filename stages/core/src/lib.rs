//! The `Stage` trait of fracture and the types every stage kind shares.
//!
//! A stage kind declares itself once ([`Declaration`]): its parameters (a Rust type from which parsing and the JSON
//! Schema both come), its ports and its shape. A resolved task is a [`Stage`]: it lists its files, types its columns,
//! describes itself to a [`Manifest`] and says how its work is done. Stages know no YAML and no scheduler.

pub mod declaration;
pub mod error;
pub mod executor;
mod fields;
pub mod files;
pub mod join;
pub mod manifest;
pub mod named;
pub mod names;
pub mod numbers;
pub mod order;
pub mod retry_after;
pub mod schema;
pub mod source;
pub mod stage;
pub mod user;
pub mod view;
pub mod yields;

pub use declaration::{
    Context, Declaration, MatrixValue, ModelSpec, ParameterError, PathPart, PortName, Shape, Spread, parse_parameters,
};
pub use error::{Error, ErrorKind};
pub use executor::{Executor, Outcome, Payload, Progress, Request, RowError, Ticket, Usage};
pub use files::{FileUse, Files, Forgotten, Noting};
pub use manifest::{Fact, KeyHasher, Manifest, PartText, Parts, Role, describe_json};
pub use named::{Arriving, Named};
pub use schema::{Completeness, Field, Outputs, Schema, Schemas};
pub use source::{ModelFiles, Part};
pub use stage::{Inputs, Keys, Kind, Need, Open, Output, Port, Product, RowWise, Stage, Whole, Work};
pub use view::{Constant, View};
pub use yields::YieldType;
