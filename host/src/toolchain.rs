//! What compiles the filter for `wasm32-unknown-unknown`: see docs/adr/0002-wasm-toolchain.md.

mod attempt;
mod compiler;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Workspace;
pub use attempt::Unfit;
use compiler::Compiler;

/// The target that the filter is compiled for: no WASI, so the only imports are the proxy's.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// A way to compile the filter, known to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The active Rust has the target's standard library.
    Installed {
        /// The compiler's release, such as `1.95.0`.
        release: String,
        /// The compiler's sysroot.
        sysroot: PathBuf,
    },
    /// A Rust with its library's source, which compiles the standard library along with the filter.
    BuildStd {
        /// The compiler's release, such as `1.96.0`.
        release: String,
        /// The compiler's sysroot.
        sysroot: PathBuf,
        /// The compiler.
        rustc: PathBuf,
        /// The cargo that belongs to it.
        cargo: PathBuf,
        /// A linker for wasm.
        linker: PathBuf,
    },
}

/// Why the filter cannot be compiled here.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// No way is there, and none could be installed.
    #[error(
        "nothing here can compile the filter for {TARGET}; tried:{}\ninstall one of: \
         `rustup target add {TARGET}`, `rustup component add rust-src`, \
         or on Debian `apt-get install rustc-web cargo-web rust-web-src` (and its lld, or rustup's rust-lld)",
        listed(tried)
    )]
    None {
        /// Each way that was tried and what it lacks.
        tried: Vec<Unfit>,
    },
    /// The note of what was tried before cannot be written.
    #[error("cannot write {path}")]
    Note {
        /// The note.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Toolchain {
    /// Looks for a way that is already here, without touching the network.
    pub fn find(workspace: &Workspace) -> Result<Self, ToolchainError> {
        let mut tried = Vec::new();
        installed(workspace, &mut tried)
            .or_else(|| build_std(workspace, &mut tried))
            .ok_or(ToolchainError::None { tried })
    }

    /// Looks for a way, and installs one when there is none; `say` gets one line before each step that takes time.
    ///
    /// The installed target is preferred to compiling the standard library, so `rustup target add` is tried before
    /// build-std, but once only: its failure is noted in `.tools`, and a build-std that works is then used at once.
    pub fn provide(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> Result<Self, ToolchainError> {
        let mut tried = Vec::new();
        if let Some(found) = installed(workspace, &mut tried) {
            return Ok(found);
        }
        let note = workspace.tools().join("rustup-target-add.failed");
        let available = build_std(workspace, &mut tried);
        if let (Some(found), true) = (&available, note.exists()) {
            return Ok(found.clone());
        }
        match attempt::add_target(workspace, say) {
            Ok(()) => {
                if let Some(found) = installed(workspace, &mut tried) {
                    return Ok(found);
                }
            }
            Err(unfit) => {
                if matches!(unfit, Unfit::InstallFailed { .. }) {
                    remember(&note, &unfit)?;
                }
                tried.push(unfit);
            }
        }
        if let Some(found) = available {
            return Ok(found);
        }
        match attempt::install_debian_rust(say) {
            Ok(()) => build_std(workspace, &mut tried).ok_or(ToolchainError::None { tried }),
            Err(unfit) => {
                tried.push(unfit);
                Err(ToolchainError::None { tried })
            }
        }
    }

    /// The compiler's release, such as `1.95.0`.
    #[must_use]
    pub fn release(&self) -> &str {
        match self {
            Self::Installed { release, .. } | Self::BuildStd { release, .. } => release,
        }
    }

    /// The compiler's sysroot.
    #[must_use]
    pub fn sysroot(&self) -> &Path {
        match self {
            Self::Installed { sysroot, .. } | Self::BuildStd { sysroot, .. } => sysroot,
        }
    }

    /// A `cargo build` for the target in this workspace, free of the caller's own build settings.
    ///
    /// Compiler flags, wrappers and profile overrides in the environment would make one source give many modules.
    #[must_use]
    pub fn cargo_build(&self, workspace: &Workspace) -> Command {
        let mut command = match self {
            Self::Installed { .. } => Command::new("cargo"),
            Self::BuildStd { cargo, .. } => Command::new(cargo),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(sways_the_compiler) {
                command.env_remove(name);
            }
        }
        command.current_dir(workspace.root()).args(["build", "--target", TARGET]);
        if let Self::BuildStd { rustc, linker, .. } = self {
            command
                .arg("-Zbuild-std=std,panic_abort")
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", rustc)
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed { release, .. } => write!(f, "rustc {release}, target {TARGET} installed"),
            Self::BuildStd { release, .. } => {
                write!(f, "rustc {release}, standard library for {TARGET} from source")
            }
        }
    }
}

fn installed(workspace: &Workspace, tried: &mut Vec<Unfit>) -> Option<Toolchain> {
    let checked = Compiler::active(workspace).and_then(|compiler| {
        compiler.has_target()?;
        Ok(Toolchain::Installed { release: compiler.release, sysroot: compiler.sysroot })
    });
    kept(checked, tried)
}

fn build_std(workspace: &Workspace, tried: &mut Vec<Unfit>) -> Option<Toolchain> {
    let active = Compiler::active(workspace).and_then(|compiler| compiler.with_source(workspace));
    kept(active, tried).or_else(|| {
        let debian = Compiler::debian(workspace).and_then(|compiler| compiler.with_source(workspace));
        kept(debian, tried)
    })
}

fn kept(checked: Result<Toolchain, Unfit>, tried: &mut Vec<Unfit>) -> Option<Toolchain> {
    match checked {
        Ok(toolchain) => Some(toolchain),
        Err(unfit) => {
            if !tried.contains(&unfit) {
                tried.push(unfit);
            }
            None
        }
    }
}

fn remember(note: &Path, unfit: &Unfit) -> Result<(), ToolchainError> {
    let fail = |source| ToolchainError::Note { path: note.to_path_buf(), source };
    if let Some(dir) = note.parent() {
        std::fs::create_dir_all(dir).map_err(fail)?;
    }
    std::fs::write(note, format!("{unfit}\nRemove this file to have `isthmus setup` try again.\n"))
        .map_err(fail)
}

fn listed(tried: &[Unfit]) -> String {
    tried.iter().map(|unfit| format!("\n  - {unfit}")).collect()
}

fn sways_the_compiler(name: &str) -> bool {
    name.starts_with("RUSTC")
        || name == "RUSTFLAGS"
        || name == "CARGO_ENCODED_RUSTFLAGS"
        || ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests;
