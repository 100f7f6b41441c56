//! Bringing plans to clusters that are directories: what GitOps, or the lab, applies from there.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use policy::compile::Plans;
use policy::name::{ClusterName, Namespace};
use policy::plan::{PlanError, Role};

use crate::plugin::{self, ModuleUrl};

/// Why a cluster did not get its objects. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A file that cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plan that has no JSON.
    #[error("cannot write the plan of {cluster} as JSON")]
    Plan {
        /// Whose.
        cluster: ClusterName,
        /// Why.
        source: PlanError,
    },
    /// An object that has no YAML.
    #[error("cannot write an object of {cluster} as YAML")]
    Yaml {
        /// Whose.
        cluster: ClusterName,
        /// Why.
        source: Box<serde_saphyr::SerializeError>,
    },
}

/// What a rollout does to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The cluster.
    pub cluster: ClusterName,
    /// The digest of its plan.
    pub digest: String,
    /// The files that are new or differ.
    pub written: Vec<PathBuf>,
    /// How many files are as they should be already.
    pub unchanged: usize,
}

/// Writes every cluster's objects into its directory, or with `dry_run` only says what would be written.
///
/// All objects of all clusters are made before the first is written, and each file is replaced whole, so that
/// nothing half-made is ever there to be applied.
pub fn to_directories(
    plans: &Plans,
    directories: &BTreeMap<ClusterName, PathBuf>,
    namespace: &Namespace,
    url: &ModuleUrl,
    dry_run: bool,
) -> Result<Vec<Change>, RolloutError> {
    let mut wanted = Vec::new();
    for (cluster, plan) in plans {
        let Some(directory) = directories.get(cluster) else { continue };
        let plan_error = |source| RolloutError::Plan { cluster: cluster.clone(), source };
        let mut files = Vec::new();
        for role in Role::ALL {
            let object = plugin::wasm_plugin(role, plan, namespace.as_str(), url).map_err(plan_error)?;
            let yaml = serde_saphyr::to_string(&object).map_err(|source| RolloutError::Yaml {
                cluster: cluster.clone(),
                source: Box::new(source),
            })?;
            files.push((directory.join(format!("{}.yaml", plugin::name(role))), yaml));
        }
        wanted.push((cluster.clone(), plugin::digest(plan).map_err(plan_error)?, files));
    }
    wanted
        .into_iter()
        .map(|(cluster, digest, files)| {
            let (same, different): (Vec<_>, Vec<_>) = files
                .into_iter()
                .partition(|(path, text)| std::fs::read_to_string(path).is_ok_and(|old| old == *text));
            let mut written = Vec::new();
            for (path, text) in different {
                if !dry_run {
                    replace(&path, &text)?;
                }
                written.push(path);
            }
            Ok(Change { cluster, digest, written, unchanged: same.len() })
        })
        .collect()
}

/// Writes a file so that a reader sees the old text or the new one, whole.
fn replace(path: &Path, text: &str) -> Result<(), RolloutError> {
    let write = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        set_readable(file.path())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source: io::Error| RolloutError::Write { path: path.to_owned(), source })
}

/// Temporary files are born private; what GitOps picks up is not.
#[cfg(unix)]
fn set_readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_readable(_path: &Path) -> io::Result<()> {
    Ok(())
}
