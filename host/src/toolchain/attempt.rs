//! The ways to get a toolchain, and why one does not serve.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::TARGET;
use crate::command::{failure, on_path, output_within};
use crate::workspace::Workspace;

/// Debian's current Rust, with the library's source; its plain `rustc` is too old in every stable release.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// rustup retries a dead network for long; a target is 20 MB.
const RUSTUP_LIMIT: Duration = Duration::from_secs(90);

/// Debian's packages are about 250 MB.
const APT_LIMIT: Duration = Duration::from_secs(600);

/// Why one way to compile the filter does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A program is not there.
    #[error("{program} is not there")]
    NotFound {
        /// Its name or path.
        program: PathBuf,
    },
    /// A program did not run to a good end.
    #[error("{program} does not answer: {why}")]
    Silent {
        /// Its name or path.
        program: PathBuf,
        /// What it did instead.
        why: String,
    },
    /// A compiler does not say what it is.
    #[error("`{rustc} -vV` has no line `{missing}`")]
    NoVersion {
        /// The compiler.
        rustc: PathBuf,
        /// The line that is missing.
        missing: &'static str,
    },
    /// The compiler is older than the sources need.
    #[error("{rustc} is {release}, older than {oldest}")]
    TooOld {
        /// The compiler.
        rustc: PathBuf,
        /// Its release.
        release: String,
        /// What the sources need.
        oldest: &'static str,
    },
    /// The target's standard library is not installed.
    #[error("the Rust in {sysroot} has no target {TARGET}")]
    NoTarget {
        /// The sysroot without it.
        sysroot: PathBuf,
    },
    /// The standard library's source is not installed.
    #[error("the Rust in {sysroot} has no library source (component rust-src)")]
    NoSource {
        /// The sysroot without it.
        sysroot: PathBuf,
    },
    /// No linker for wasm is there.
    #[error("{rustc} has the library source, but there is no rust-lld or wasm-ld")]
    NoLinker {
        /// The compiler that lacks one.
        rustc: PathBuf,
    },
    /// An installation failed.
    #[error("`{command}` failed: {why}")]
    InstallFailed {
        /// The command.
        command: String,
        /// How it failed.
        why: String,
    },
    /// Packages can be installed by root only.
    #[error("not root, so Debian's packages were not installed")]
    NotRoot,
}

/// Has rustup fetch the target for the workspace's toolchain.
pub(super) fn add_target(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> Result<(), Unfit> {
    let rustup = on_path("rustup").ok_or(Unfit::NotFound { program: "rustup".into() })?;
    let mut command = Command::new(rustup);
    command.args(["target", "add", TARGET]).current_dir(workspace.root());
    install(&mut command, &format!("rustup target add {TARGET}"), RUSTUP_LIMIT, say)
}

/// Has apt install a Rust that has its library's source.
pub(super) fn install_debian_rust(say: &mut dyn FnMut(&str)) -> Result<(), Unfit> {
    let apt = on_path("apt-get").ok_or(Unfit::NotFound { program: "apt-get".into() })?;
    if !is_root() {
        return Err(Unfit::NotRoot);
    }
    let apt_get = || {
        let mut command = Command::new(&apt);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    install(apt_get().args(["update", "-q"]), "apt-get update", APT_LIMIT, say)?;
    let shown = format!("apt-get install -y {}", DEBIAN_PACKAGES.join(" "));
    let mut command = apt_get();
    command.args(["install", "-y", "-q", "--no-install-recommends"]).args(DEBIAN_PACKAGES);
    install(&mut command, &shown, APT_LIMIT, say)
}

fn install(
    command: &mut Command,
    shown: &str,
    limit: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<(), Unfit> {
    say(&format!("running `{shown}` (at most {} s)", limit.as_secs()));
    let failed = |why| Unfit::InstallFailed { command: shown.to_owned(), why };
    let output = output_within(command, limit).map_err(|error| failed(error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(failure(&output))) }
}

/// Whether this process is root: the owner of its entry in /proc is its effective user.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
