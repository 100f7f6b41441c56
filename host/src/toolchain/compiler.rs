//! One Rust compiler on this machine and what it has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::attempt::Unfit;
use super::{TARGET, Toolchain};
use crate::command::{failure, is_executable, on_path, output_within};
use crate::workspace::Workspace;

/// The oldest Rust that compiles the workspace, as Cargo.toml says.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Asking a compiler about itself takes milliseconds; a rustup that fetches something first is not waited for.
const ANSWER: Duration = Duration::from_secs(20);

/// A compiler that answered and is new enough.
#[derive(Debug)]
pub(super) struct Compiler {
    pub(super) rustc: PathBuf,
    pub(super) cargo: PathBuf,
    pub(super) release: String,
    pub(super) sysroot: PathBuf,
    host: String,
}

impl Compiler {
    /// The compiler that cargo would use in the workspace.
    pub(super) fn active(workspace: &Workspace) -> Result<Self, Unfit> {
        let rustc = on_path("rustc").ok_or(Unfit::NotFound { program: "rustc".into() })?;
        let cargo = on_path("cargo").ok_or(Unfit::NotFound { program: "cargo".into() })?;
        Self::asked(rustc, cargo, workspace)
    }

    /// The compiler of Debian's packages, whichever one the path puts first.
    pub(super) fn debian(workspace: &Workspace) -> Result<Self, Unfit> {
        let [rustc, cargo] = ["/usr/bin/rustc", "/usr/bin/cargo"].map(PathBuf::from);
        for file in [&rustc, &cargo] {
            if !is_executable(file) {
                return Err(Unfit::NotFound { program: file.clone() });
            }
        }
        Self::asked(rustc, cargo, workspace)
    }

    /// Checks that the target's standard library is installed.
    pub(super) fn has_target(&self) -> Result<(), Unfit> {
        let library = self.sysroot.join("lib/rustlib").join(TARGET).join("lib");
        if library.is_dir() { Ok(()) } else { Err(Unfit::NoTarget { sysroot: self.sysroot.clone() }) }
    }

    /// Makes a build-std toolchain of it, if it has the library's source and there is a linker.
    pub(super) fn with_source(self, workspace: &Workspace) -> Result<Toolchain, Unfit> {
        let lock = self.sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        if !lock.is_file() {
            return Err(Unfit::NoSource { sysroot: self.sysroot });
        }
        let linker = self.linker(workspace).ok_or_else(|| Unfit::NoLinker { rustc: self.rustc.clone() })?;
        let Self { rustc, cargo, release, sysroot, .. } = self;
        Ok(Toolchain::BuildStd { release, sysroot, rustc, cargo, linker })
    }

    fn asked(rustc: PathBuf, cargo: PathBuf, workspace: &Workspace) -> Result<Self, Unfit> {
        let version = ask(&rustc, &["-vV"], workspace)?;
        let sysroot = ask(&rustc, &["--print", "sysroot"], workspace)?;
        let field = |name: &'static str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name));
            value
                .map(|value| value.trim().to_owned())
                .ok_or_else(|| Unfit::NoVersion { rustc: rustc.clone(), missing: name })
        };
        let (release, host) = (field("release:")?, field("host:")?);
        if !is_at_least(&release, OLDEST) {
            return Err(Unfit::TooOld { rustc, release, oldest: OLDEST });
        }
        Ok(Self { rustc, cargo, release, sysroot: sysroot.trim().into(), host })
    }

    /// Its own `rust-lld`, else that of the active toolchain, else LLVM's.
    ///
    /// Debian's package holds a link to an lld that it does not depend on, hence the look at where it leads.
    fn linker(&self, workspace: &Workspace) -> Option<PathBuf> {
        let own = rust_lld(&self.sysroot, &self.host);
        if is_executable(&own) {
            return Some(own);
        }
        let of_active = Self::active(workspace).ok().map(|active| rust_lld(&active.sysroot, &active.host));
        of_active
            .filter(|file| is_executable(file))
            .or_else(|| on_path("rust-lld"))
            .or_else(|| on_path("wasm-ld"))
    }
}

/// Compares dotted releases by number; what follows a dash (`-nightly`) does not count.
fn is_at_least(release: &str, oldest: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let plain = text.split('-').next().unwrap_or_default();
        plain.split('.').map_while(|part| part.parse().ok()).collect()
    };
    numbers(release) >= numbers(oldest)
}

fn rust_lld(sysroot: &Path, host: &str) -> PathBuf {
    sysroot.join("lib/rustlib").join(host).join("bin/rust-lld")
}

fn ask(rustc: &Path, args: &[&str], workspace: &Workspace) -> Result<String, Unfit> {
    let mut command = Command::new(rustc);
    command.args(args).current_dir(workspace.root());
    let silent = |why| Unfit::Silent { program: rustc.to_path_buf(), why };
    let output = output_within(&mut command, ANSWER).map_err(|error| silent(error.to_string()))?;
    if !output.status.success() {
        return Err(silent(failure(&output)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::is_at_least;

    #[test]
    fn releases_compare_by_number_not_by_text() {
        assert!(is_at_least("1.100.0", "1.95"));
        assert!(is_at_least("1.95.0", "1.95"));
        assert!(is_at_least("1.97.0-nightly", "1.95"));
        assert!(!is_at_least("1.63.0", "1.95"));
        assert!(!is_at_least("1.94.9", "1.95"));
        assert!(!is_at_least("", "1.95"));
    }
}
