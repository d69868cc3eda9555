//! Checkpoints and judges from a model hub, pinned to a revision.
