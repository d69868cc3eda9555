//! What the benchmarks share: made inputs, and how a time is taken and printed.
