//! Everything of isthmus that touches files, clusters, the network and the clock.

#![forbid(unsafe_code)]

pub mod build;
pub mod cert;
mod command;
pub mod envoy;
pub mod lab;
pub mod plugin;
pub mod sandbox;
pub mod toolchain;
pub mod workspace;
