//! The host.

#![forbid(unsafe_code)]

pub mod build;
mod command;
pub mod envoy;
pub mod sandbox;
pub mod toolchain;
pub mod workspace;
