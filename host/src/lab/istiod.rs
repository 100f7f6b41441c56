//! Plays istiod: WasmPlugins of a cluster become the filters its proxies fetch.
//!
//! Translates as istiod does: plugins reach a proxy from its own namespace and from the root namespace, by
//! selector and by direction. A proxy of the lab has one slot for plugins of either, a server one for each of them:
//! more plugins for one proxy are an error here.

mod plugin;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::blueprint::ROOT_NAMESPACE;
use super::proxy::{ProxyKind, Workload};
use crate::digest::sha256;
use plugin::{Kind, Plugin};

/// What a cluster's istiod could not take; its proxies keep what they had.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// A file or directory could not be read or written.
    #[error("cannot read or write {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not YAML.
    #[error("{path} is not YAML")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// What the parser said.
        source: Box<serde_saphyr::Error>,
    },
    /// A WasmPlugin has a shape that the API server would refuse.
    #[error("{path}: not a WasmPlugin the API server would take")]
    Shape {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// A module is not a local file; the lab fetches nothing.
    #[error("plugin {plugin} has url {url:?}: the lab takes file:// only")]
    Url {
        /// The plugin.
        plugin: String,
        /// Its URL.
        url: String,
    },
    /// Two plugins of one namespace reach a proxy, which has one slot for them.
    #[error("plugins {first} and {second} both reach {proxy}")]
    TwoPlugins {
        /// The proxy.
        proxy: String,
        /// One plugin.
        first: String,
        /// The other.
        second: String,
    },
}

/// One istiod for each cluster, and what each wrote last.
#[derive(Debug)]
pub(super) struct Istiods {
    clusters: Vec<Istiod>,
}

impl Istiods {
    pub(super) fn new(plugins: impl Fn(&str) -> PathBuf, workloads: &[Workload<'_>]) -> Self {
        let mut clusters: BTreeMap<String, Istiod> = BTreeMap::new();
        for workload in workloads {
            let name = &workload.cluster.name;
            let istiod = clusters.entry(name.clone()).or_insert_with(|| Istiod {
                dir: plugins(name),
                proxies: Vec::new(),
                seen: None,
            });
            istiod.proxies.push(Target::of(workload));
        }
        Self { clusters: clusters.into_values().collect() }
    }

    /// Looks at every cluster once and writes what has changed; one cluster's mistake does not hold the others.
    pub(super) fn reconcile(&mut self) -> Result<(), PluginError> {
        let results: Vec<Result<(), PluginError>> = self.clusters.iter_mut().map(Istiod::reconcile).collect();
        results.into_iter().collect()
    }
}

/// The proxies of one cluster and the directory that plays its API server.
#[derive(Debug)]
struct Istiod {
    dir: PathBuf,
    proxies: Vec<Target>,
    // The files as last translated without an error.
    seen: Option<Vec<(PathBuf, String)>>,
}

impl Istiod {
    fn reconcile(&mut self) -> Result<(), PluginError> {
        let files = read_all(&self.dir)?;
        if self.seen.as_ref() == Some(&files) {
            return Ok(());
        }
        let mut plugins = Vec::new();
        for (path, text) in &files {
            plugins.extend(plugin::parse(path, text)?);
        }
        let mut filters = Vec::new();
        for target in &self.proxies {
            for (number, slot) in target.kind.slots().iter().enumerate() {
                filters.push((
                    target.ecds.join(format!("{slot}.json")),
                    slot,
                    target.translate(number, &plugins)?,
                ));
            }
        }
        // The last slot first: what a plugin of the root namespace leaves to another is there before it does.
        for (path, slot, filter) in filters.iter().rev() {
            publish(path, slot, filter)?;
        }
        self.seen = Some(files);
        Ok(())
    }
}

/// A proxy, as far as attaching a plugin to it goes.
#[derive(Debug)]
struct Target {
    name: String,
    kind: ProxyKind,
    namespace: String,
    labels: BTreeMap<&'static str, String>,
    ecds: PathBuf,
}

impl Target {
    fn of(workload: &Workload<'_>) -> Self {
        Self {
            name: workload.name(),
            kind: workload.kind(),
            namespace: workload.namespace().to_owned(),
            labels: workload.labels(),
            ecds: workload.ecds(),
        }
    }

    fn translate(&self, slot: usize, plugins: &[Plugin]) -> Result<Value, PluginError> {
        let is_own = |plugin: &Plugin| plugin.namespace() != ROOT_NAMESPACE;
        let fills = |plugin: &&Plugin| self.kind.slots().len() == 1 || usize::from(is_own(plugin)) == slot;
        let mut reaching = plugins.iter().filter(|plugin| self.is_reached_by(plugin)).filter(fills);
        match (reaching.next(), reaching.next()) {
            (None, _) => Ok(pass_through(self.kind)),
            (Some(plugin), None) => plugin.filter(),
            (Some(first), Some(second)) => Err(PluginError::TwoPlugins {
                proxy: self.name.clone(),
                first: first.name(),
                second: second.name(),
            }),
        }
    }

    fn is_reached_by(&self, plugin: &Plugin) -> bool {
        let kind = match self.kind {
            ProxyKind::Client | ProxyKind::Server => Kind::Http,
            ProxyKind::Gateway => Kind::Network,
        };
        let namespace = plugin.namespace();
        plugin.kind() == kind
            && (namespace == ROOT_NAMESPACE || namespace == self.namespace)
            && plugin.has_direction(self.kind)
            && plugin.selector().iter().all(|(key, value)| self.labels.get(key.as_str()) == Some(value))
    }
}

/// What Istio's agent puts where no plugin is: an RBAC filter without rules, which lets everything pass.
fn pass_through(kind: ProxyKind) -> Value {
    match kind {
        ProxyKind::Client | ProxyKind::Server => {
            json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"})
        }
        ProxyKind::Gateway => json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
            "stat_prefix": "pass_through",
        }),
    }
}

/// Writes a discovery response beside the file and renames it: Envoy does not notice a write in place.
fn publish(path: &Path, name: &str, filter: &Value) -> Result<(), PluginError> {
    let content = filter.to_string();
    let version = sha256(&content);
    let response = json!({
        "version_info": version,
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            "name": name,
            "typed_config": filter,
        }],
    })
    .to_string();
    if fs::read_to_string(path).is_ok_and(|old| old == response) {
        return Ok(());
    }
    replace(path, &response).map_err(|source| PluginError::File { path: path.to_owned(), source })
}

fn replace(path: &Path, content: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir)?;
    // Not in the directory Envoy watches: each file there makes it look.
    let mut file = tempfile::NamedTempFile::new_in(dir.parent().unwrap_or(dir))?;
    file.write_all(content.as_bytes())?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// Every YAML file of a directory by name; a file that is gone in between was never there.
fn read_all(dir: &Path) -> Result<Vec<(PathBuf, String)>, PluginError> {
    let failed = |path: &Path, source| PluginError::File { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| failed(dir, source))? {
        let path = entry.map_err(|source| failed(dir, source))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => files.push((path, text)),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(&path, source)),
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
