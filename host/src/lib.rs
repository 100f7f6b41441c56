//! The host.

pub mod build;
pub mod envoy;
pub mod toolchain;
pub mod workspace;
