//! The host.

pub mod build;
mod command;
pub mod envoy;
pub mod sandbox;
pub mod toolchain;
pub mod workspace;
