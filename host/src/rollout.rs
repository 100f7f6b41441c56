//! Bringing plans to clusters that are directories: what GitOps, or the lab, applies from there.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use policy::compile::{ClusterPlans, Plans};
use policy::name::{ClusterName, Namespace};
use policy::plan::{PlanError, Role};

use crate::digest::sha256;
use crate::plugin::{self, Deployed};

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
    /// A digest over those of its plans.
    pub digest: String,
    /// The files that are new or differ.
    pub written: Vec<PathBuf>,
    /// The files of plans that there are no more.
    pub removed: Vec<PathBuf>,
    /// How many files are as they should be already.
    pub unchanged: usize,
}

/// Writes every cluster's objects into its directory, or with `dry_run` only says what would be written.
///
/// All objects of all clusters are made before the first is written, and each file is replaced whole, so that
/// nothing half-made is ever there to be applied. A plan of one namespace comes before the plan that leaves the
/// namespace to it, and goes after the plan that takes it back: in between both judge, and never neither.
pub fn to_directories(
    plans: &Plans,
    directories: &BTreeMap<ClusterName, PathBuf>,
    namespace: &Namespace,
    module: &Deployed,
    dry_run: bool,
) -> Result<Vec<Change>, RolloutError> {
    let mut wanted = Vec::new();
    for (cluster, plans) in plans {
        let Some(directory) = directories.get(cluster) else { continue };
        let (digest, files) = objects(cluster, plans, namespace, module)?;
        let files: Vec<(PathBuf, String)> =
            files.into_iter().map(|(name, text)| (directory.join(name), text)).collect();
        let stale = stale(directory, &files)?;
        wanted.push((cluster.clone(), digest, files, stale));
    }
    wanted
        .into_iter()
        .map(|(cluster, digest, files, removed)| {
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
            for path in removed.iter().filter(|_| !dry_run) {
                std::fs::remove_file(path)
                    .map_err(|source| RolloutError::Write { path: path.clone(), source })?;
            }
            Ok(Change { cluster, digest, written, removed, unchanged: same.len() })
        })
        .collect()
}

/// The files of a cluster by name, those of single namespaces first, and a digest over all their plans.
fn objects(
    cluster: &ClusterName,
    plans: &ClusterPlans,
    root: &Namespace,
    module: &Deployed,
) -> Result<(String, Vec<(String, String)>), RolloutError> {
    let plan_error = |source| RolloutError::Plan { cluster: cluster.clone(), source };
    let mut digests = String::new();
    let mut files = Vec::new();
    for (role, namespace, plan) in plans.parts() {
        let object = plugin::wasm_plugin(role, &plan, namespace.unwrap_or(root).as_str(), module)
            .map_err(plan_error)?;
        let yaml = serde_saphyr::to_string(&object)
            .map_err(|source| RolloutError::Yaml { cluster: cluster.clone(), source: Box::new(source) })?;
        let place = namespace.map_or_else(String::new, |namespace| format!("{NAMESPACE}{namespace}"));
        files.push((namespace.is_none(), (format!("{}{place}.yaml", plugin::name(role)), yaml)));
        digests += &plugin::digest(&plan).map_err(plan_error)?;
    }
    files.sort();
    Ok((sha256(digests), files.into_iter().map(|(_, file)| file).collect()))
}

/// What stands between the name of a plugin and its namespace in the name of a file; in neither of them can it be.
const NAMESPACE: &str = "@";

/// The files of plans of single namespaces that are wanted no more.
fn stale(directory: &Path, wanted: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, RolloutError> {
    let fail = |source| RolloutError::Write { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let ours = format!("{}{NAMESPACE}", plugin::name(Role::Inbound));
    let mut stale = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours));
        if is_ours && !wanted.iter().any(|(file, _)| *file == path) {
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
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
