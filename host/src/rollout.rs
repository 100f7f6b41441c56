//! Bringing plans to clusters that are directories: what GitOps, or the lab, applies from there.

mod steps;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use policy::compile::{ClusterPlans, Plans};
use policy::name::{ClusterName, Namespace, Service};
use policy::plan::{PlanError, Role};
use policy::{Mesh, Plan};
use serde_json::Value;

use crate::digest::sha256;
use crate::native::upstream::{Behind, Module};
use crate::native::{self, Kind};
use crate::plugin::{self, Deployed, ModuleUrl, Reach};
use steps::{Step, Wanted};

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
    /// A check behind the load balancer with a module that is no file.
    #[error(
        "--upstream-check needs a --url of file://: Istio's agent does not fetch a module for an Envoy cluster, so it has to be in the proxy's image or on a volume"
    )]
    NoFile,
    /// An object that has no YAML.
    #[error("cannot write {path} as YAML")]
    Yaml {
        /// The file that it should stand in.
        path: PathBuf,
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
    /// The files of what there is no more.
    pub removed: Vec<PathBuf>,
    /// How many files are as they should be already.
    pub unchanged: usize,
}

/// How to roll out.
#[derive(Debug, Clone, Copy)]
pub struct Options<'o> {
    /// Where proxies get the module from.
    pub url: &'o ModuleUrl,
    /// Whether boundaries are held once more where the endpoint is known.
    pub upstream_check: bool,
    /// Whether to say only what would be written.
    pub dry_run: bool,
}

/// Writes every cluster's objects into its directory, or with `Options::dry_run` only says what would be written.
///
/// All objects of all clusters are made before the first is written, and each file is replaced whole, so that
/// nothing half-made is ever there to be applied. A plan of one namespace comes before the plan that leaves the
/// namespace to it, and goes after the plan that takes it back: in between both judge, and never neither.
pub fn to_directories(
    mesh: &Mesh,
    plans: &Plans,
    directories: &BTreeMap<ClusterName, PathBuf>,
    options: Options<'_>,
) -> Result<Vec<Change>, RolloutError> {
    let mut objects = native::objects(mesh, plans);
    let module = Deployed { url: options.url.clone(), on_failure: mesh.on_failure() };
    let (mut changes, mut all) = (Vec::new(), Vec::new());
    for (cluster, plans) in plans {
        let Some(directory) = directories.get(cluster) else { continue };
        let (digest, mut plugins) = plugins(cluster, plans, mesh.root_namespace(), &module)?;
        plugins.extend(upstream(mesh, cluster, plans, options)?);
        let plugins = plugins.into_iter().map(|(name, object)| (directory.join(name), object)).collect();
        let objects = objects.remove(cluster).unwrap_or_default().into_iter();
        let file = |((kind, service), object): ((Kind, Service), Value)| {
            let name = format!("{}{NAMESPACE}{}.{}.yaml", steps::stem(kind), service.namespace, service.name);
            (kind, directory.join(name), object)
        };
        let (steps, unchanged) =
            steps::steps(directory, Wanted { objects: objects.map(file).collect(), plugins })?;
        let mut change =
            Change { cluster: cluster.clone(), digest, written: Vec::new(), removed: Vec::new(), unchanged };
        for (_, step) in &steps {
            change.note(step);
        }
        changes.push(change);
        all.extend(steps);
    }
    all.sort_by_key(|(phase, _)| *phase);
    if !options.dry_run {
        all.iter().try_for_each(|(_, step)| step.run())?;
    }
    Ok(changes)
}

impl Change {
    /// Notes a step; a file that is written twice on the way counts once.
    fn note(&mut self, step: &Step) {
        let (paths, path) = match step {
            Step::Write(path, _) => (&mut self.written, path),
            Step::Remove(path) => (&mut self.removed, path),
        };
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
}

impl Step {
    fn run(&self) -> Result<(), RolloutError> {
        match self {
            Self::Write(path, text) => replace(path, text),
            Self::Remove(path) => std::fs::remove_file(path)
                .map_err(|source| RolloutError::Write { path: path.clone(), source }),
        }
    }
}

/// The plugins of a cluster by file, those of single namespaces first, and a digest over all their plans.
fn plugins(
    cluster: &ClusterName,
    plans: &ClusterPlans,
    root: &Namespace,
    module: &Deployed,
) -> Result<(String, Vec<(String, String)>), RolloutError> {
    let plan_error = |source| RolloutError::Plan { cluster: cluster.clone(), source };
    let mut digests = String::new();
    let mut files = Vec::new();
    for (role, namespace, plan) in plans.parts() {
        let reach = namespace.map_or(Reach::Cluster(root.as_str()), |own| Reach::Namespace(own.as_str()));
        let object = plugin::wasm_plugin(role, &plan, reach, module).map_err(plan_error)?;
        let place = namespace.map_or_else(String::new, |namespace| format!("{NAMESPACE}{namespace}"));
        let name = format!("{}{place}.yaml", plugin::name(role));
        let text = yaml(&object, Path::new(&name))?;
        files.push((namespace.is_none(), (name, text)));
        digests += &plugin::digest(&plan).map_err(plan_error)?;
    }
    files.sort();
    Ok((sha256(digests), files.into_iter().map(|(_, file)| file).collect()))
}

/// The file of the filter's place behind the load balancer.
fn upstream_file() -> String {
    format!("{}.yaml", plugin::name(Role::Upstream))
}

/// What holds boundaries behind the load balancer, by file, where it is wanted and there is a boundary.
fn upstream(
    mesh: &Mesh,
    cluster: &ClusterName,
    plans: &ClusterPlans,
    options: Options<'_>,
) -> Result<Option<(String, String)>, RolloutError> {
    let services = native::bounded(mesh, &plans.outbound);
    if !options.upstream_check || services.is_empty() {
        return Ok(None);
    }
    let file = options.url.file().ok_or(RolloutError::NoFile)?;
    let module = Module { file, on_failure: mesh.on_failure() };
    let place = |service: Service| {
        let plan = Plan::Outbound(plans.outbound.only(&service));
        let configuration = serde_json::to_value(plugin::configuration(Role::Upstream, &plan)?)?;
        Ok(Behind { service, configuration })
    };
    let places = services
        .into_iter()
        .map(place)
        .collect::<Result<Vec<Behind>, PlanError>>()
        .map_err(|source| RolloutError::Plan { cluster: cluster.clone(), source })?;
    let name = plugin::name(Role::Upstream);
    let object = native::upstream::envoy_filter(mesh.root_namespace(), &name, &module, &places);
    let text = yaml(&object, Path::new(&upstream_file()))?;
    Ok(Some((upstream_file(), text)))
}

/// What stands between the name of a kind and the namespace in the name of a file; in neither of them can it be.
const NAMESPACE: &str = "@";

fn yaml(object: &Value, path: &Path) -> Result<String, RolloutError> {
    serde_saphyr::to_string(object)
        .map_err(|source| RolloutError::Yaml { path: path.to_owned(), source: Box::new(source) })
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
