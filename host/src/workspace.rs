//! Where the isthmus sources are, and the tools kept beside them.

use std::path::{Path, PathBuf};

/// A checkout of the isthmus sources: the directory that holds the workspace and the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    root: PathBuf,
}

/// Why no checkout was found.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// No directory from here up to the root is a checkout.
    #[error(
        "no checkout of isthmus, which holds the filter's source: {from} is not inside one, and neither is this program; \
         run it inside one, or give a module that was compiled elsewhere with --module"
    )]
    NotFound {
        /// Where the search began.
        from: PathBuf,
    },
    /// The starting directory cannot be resolved.
    #[error("cannot resolve the directory {path}")]
    Resolve {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Workspace {
    /// Searches upward from `start` for the checkout.
    pub fn find(start: &Path) -> Result<Self, WorkspaceError> {
        let from = start
            .canonicalize()
            .map_err(|source| WorkspaceError::Resolve { path: start.to_path_buf(), source })?;
        let root = from
            .ancestors()
            .find(|dir| dir.join("Cargo.toml").is_file() && dir.join("filter/Cargo.toml").is_file())
            .map(Path::to_path_buf);
        root.map(|root| Self { root }).ok_or(WorkspaceError::NotFound { from })
    }

    /// The checkout that somebody means who runs this program in the current directory: the one around it; else the one
    /// that the program lies in, or was compiled in, so that a mesh may be kept anywhere.
    pub fn here() -> Result<Self, WorkspaceError> {
        let current = Self::find(Path::new("."));
        let program = || Self::find(std::env::current_exe().ok()?.parent()?).ok();
        let source = || Self::find(Path::new(env!("CARGO_MANIFEST_DIR"))).ok();
        current.or_else(|error| program().or_else(source).ok_or(error))
    }

    /// The absolute path of the checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of downloaded tools, which git ignores.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    /// Where `build` puts the module and its manifest.
    #[must_use]
    pub fn wasm(&self) -> PathBuf {
        self.root.join("wasm")
    }
}

#[cfg(test)]
mod tests {
    use super::{Workspace, WorkspaceError};

    #[test]
    fn a_directory_inside_finds_the_checkout_above_it() {
        let here = Workspace::find(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(here.root().join("host/Cargo.toml").is_file());
        assert_eq!(Workspace::find(&here.root().join("filter/src")).unwrap(), here);
    }

    #[test]
    fn a_directory_outside_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = Workspace::find(dir.path()).unwrap_err();
        assert!(
            matches!(&error, WorkspaceError::NotFound { from } if *from == dir.path().canonicalize().unwrap())
        );
    }
}
