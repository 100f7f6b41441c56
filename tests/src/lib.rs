//! Shared fixtures of the test tiers.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod example;
pub mod registry;
pub mod schedule;

use std::path::{Path, PathBuf};

/// The directory of the repository.
pub fn repository() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}
