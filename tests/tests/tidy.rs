//! The tidy tier: what the repository promises about itself, and no compiler checks.

#![expect(clippy::expect_used, clippy::panic, reason = "a repository that cannot be read fails its test")]

#[path = "tidy/architecture.rs"]
mod architecture;
#[path = "tidy/commands.rs"]
mod commands;
#[path = "tidy/guides.rs"]
mod guides;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/modules.rs"]
mod modules;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/sources.rs"]
mod sources;

use std::fs;
use std::process::Command;

use isthmus_tests::repository;

/// The files that git tracks or would track, by patterns of its own.
fn tracked(patterns: &[&str]) -> Vec<String> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", "--"])
        .args(patterns)
        .current_dir(repository())
        .output()
        .expect("git runs");
    assert!(git.status.success(), "{}", String::from_utf8_lossy(&git.stderr));
    let listed = String::from_utf8(git.stdout).expect("paths are UTF-8");
    listed.lines().filter(|path| repository().join(path).is_file()).map(str::to_owned).collect()
}

/// The text of a file of the repository.
fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Fails with all mistakes at once.
fn none(mistakes: &[String]) {
    assert!(mistakes.is_empty(), "{} mistakes:\n{}", mistakes.len(), mistakes.join("\n"));
}
