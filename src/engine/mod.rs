//! The engine: keys, plan, run. It joins the language, the store and the stages, and tells what happens as events.

pub mod agreement;
pub mod alone;
mod apart;
pub mod diff;
pub mod disk;
pub mod event;
pub mod history;
pub mod join;
pub mod keys;
pub mod lock;
mod looking;
pub mod memory;
pub mod models;
pub mod pins;
pub mod plan;
pub mod projects;
pub mod publish;
pub mod refresh;
mod result;
pub mod run;
pub mod session;
pub mod task;
pub mod trace;
mod unchanged;
pub mod views;
pub mod workspace;

pub use event::{Event, Summary};
pub use plan::{Plan, PlannedTask, State};
pub use run::{RunOptions, run};
pub use task::TaskManifest;
pub use workspace::Workspace;

use fracture_cache::StoreError;
use fracture_stage::{Error, ErrorKind};

/// The store's error as the error that people read.
pub fn store_error(error: StoreError) -> Error {
    let hint = error.hint();
    let mut told = Error::new(ErrorKind::Store, error.to_string()).hint(hint);
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        told = told.cause(cause);
        source = cause.source();
    }
    told
}
