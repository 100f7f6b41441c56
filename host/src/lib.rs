//! The host.

pub mod sandbox;
