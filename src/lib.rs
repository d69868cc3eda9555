//! fracture: declarative, content-addressed pipelines for alignment-faking evaluations.
//!
//! The library joins the language, the store and the stages; the program is [`cli::main`].

pub mod catalogue;
pub mod cli;
pub mod engine;
