//! The command line of fracture.
fn main() {}
