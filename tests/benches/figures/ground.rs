//! What it takes to measure the filter in Envoy: an Envoy, and a module that does nothing to measure it against.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use isthmus::envoy::Envoy;
use isthmus::toolchain::{TARGET, Toolchain};
use isthmus::workspace::Workspace;
use tempfile::TempDir;

use super::Outcome;

/// What this machine lacks for a figure.
#[derive(Debug)]
pub(super) struct Missing(String);

impl Missing {
    pub(super) fn of(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

/// An Envoy, modules and a directory to work in.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) envoy: PathBuf,
    pub(super) isthmus: PathBuf,
    pub(super) noop: PathBuf,
    pub(super) dir: TempDir,
}

impl Ground {
    /// Finds the Envoy and compiles the module that does nothing.
    pub(super) fn find() -> Outcome<Self> {
        let workspace = workspace()?;
        let envoy = envoy()?;
        let toolchain = Toolchain::find(&workspace).map_err(|error| Missing(error.to_string()))?;
        let target = workspace.root().join("target/noop");
        let status = toolchain
            .cargo_build(&workspace)
            .args(["--manifest-path", "tests/noop/Cargo.toml", "--profile", "wasm", "--locked", "--quiet"])
            .arg("--target-dir")
            .arg(&target)
            .stdin(Stdio::null())
            .status()?;
        if !status.success() {
            return Err(format!("tests/noop does not compile: cargo ended with {status}").into());
        }
        let noop = target.join(TARGET).join("wasm/isthmus_noop.wasm");
        Ok(Self { envoy, isthmus: super::module(), noop, dir: tempfile::tempdir()? })
    }
}

fn workspace() -> Outcome<Workspace> {
    Ok(Workspace::find(&isthmus_tests::repository())?)
}

/// The Envoy of this machine.
pub(super) fn envoy() -> Outcome<PathBuf> {
    let envoy = Envoy::find(&workspace()?).map_err(|error| Missing(error.to_string()))?;
    Ok(envoy.path().to_owned())
}

/// The nanoseconds of CPU that a process has used, all threads of it.
pub(super) fn cpu(process: u32) -> Outcome<u64> {
    let mut all = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread that ends in between takes its time with it: Envoy ends none while it serves.
        let line = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let used = line.split(' ').next().ok_or("an empty schedstat")?;
        all += used.parse::<u64>()?;
    }
    Ok(all)
}

/// The process that runs Envoy with this bootstrap: its keeper is a shell.
pub(super) fn process_of(envoy: &std::path::Path, bootstrap: &std::path::Path) -> Outcome<u32> {
    let wanted =
        [envoy, std::path::Path::new("-c"), bootstrap].map(|part| part.as_os_str().as_encoded_bytes());
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while std::time::Instant::now() < deadline {
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            if line.split(|byte| *byte == 0).take(3).eq(wanted) {
                return Ok(process);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("no process runs Envoy with {}", bootstrap.display()).into())
}
