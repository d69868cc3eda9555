//! End-to-end tests of the program: what a user types, sees and finds on the disk. One binary, since each links much.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod absent;
mod calibrated;
mod command;
mod contract;
mod diagnostics;
mod diff;
mod faults;
mod gc;
mod generate;
mod gguf;
mod hub;
mod incremental;
mod interrupt;
mod judge;
mod llama;
mod paper;
mod pools;
mod project;
mod quickstart;
mod renamed;
mod scheduler;
mod scores;
mod served;
#[path = "../../stages/hub/tests/it/server.rs"]
mod server;
mod shipped;
mod together;
mod verbs;
mod verify;
