//! Checkpoints and judges from a model hub, pinned to a revision.
//!
//! A stage says which part of a model it reads ([`fracture_stage::ModelFiles`]); [`Hub::find`] looks whether the files are
//! in the cache, and asks nobody; [`Hub::fetch`] brings those that are not. The cache is the one of Python's
//! `huggingface_hub`.
//!
//! Invariants: a file is visible only when it is whole and its SHA-256 is the one that the hub tells; no name from the hub
//! leads outside the cache; the token goes to the hub alone, never on to where it sends us, never over plain http except to
//! this machine, and into no message. Nothing is printed: what happens is told as [`Step`]s.

mod cache;
mod client;
mod download;
mod hub;
mod listing;
mod reference;
mod select;
mod settings;

pub use download::{Step, Watch};
pub use hub::{Folder, Found, Hub, Missing, unwatched};
pub use reference::{MAIN, Reference};
pub use select::External;
pub use settings::{Offline, Settings, Token};
