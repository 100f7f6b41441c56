//! Everything of isthmus that touches files, clusters, the network and the clock.

#![forbid(unsafe_code)]

pub mod build;
pub mod case;
pub mod cert;
pub mod cli;
mod command;
pub mod coverage;
pub mod digest;
pub mod doctor;
pub mod envoy;
pub mod gate;
pub mod install;
pub mod kube;
pub mod lab;
pub mod manifest;
pub mod mutate;
pub mod native;
pub mod plugin;
pub mod proxies;
pub mod push;
pub mod read;
pub mod reference;
pub mod remote;
pub mod render;
pub mod report;
pub mod rollout;
pub mod runner;
pub mod sandbox;
pub mod stage;
pub mod status;
mod text;
pub mod toolchain;
pub mod verify;
pub mod walk;
pub mod workspace;

/// The page runs as it stands.
#[cfg(doctest)]
#[doc = include_str!("../../docs/sandbox.md")]
mod page {}
