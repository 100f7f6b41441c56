//! The policy crate.
