//! Plays istiod: WasmPlugins and TrafficExtensions of a cluster become the filters its proxies fetch, DestinationRules and
//! VirtualServices the clusters, routes and chains.
//!
//! Translates as istiod does: plugins reach a proxy from its own namespace and from the root namespace, by
//! selector and by direction. A proxy of the lab has one slot for plugins of either, a server one for each of them, and where
//! the lab is made so one for each kind: more plugins for one proxy are an error here.

mod plugin;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::bootstrap;
use super::config::{self, Config, Labels, Objects};
use super::error::PluginError;
use super::manifests::read_all;
use super::proxy::{ProxyKind, Slot, Workload};
use super::site::Site;
use crate::digest::sha256;
use plugin::{Kind, Plugin};

/// One istiod for each control plane, and what each wrote last.
#[derive(Debug)]
pub(super) struct Istiods {
    site: Arc<Site>,
    clusters: Vec<Istiod>,
}

impl Istiods {
    pub(super) fn new(site: Arc<Site>) -> Self {
        let mut clusters: BTreeMap<String, Istiod> = BTreeMap::new();
        for workload in &Workload::all(&site) {
            let name = &workload.cluster.control_plane;
            let istiod =
                clusters.entry(name.clone()).or_insert_with(|| Istiod::new(name, site.plugins(name)));
            istiod.proxies.push(Target::of(workload, &site.blueprint().root_namespace));
        }
        Self { clusters: clusters.into_values().collect(), site }
    }

    /// Writes everything at once, for proxies that do not run yet.
    pub(super) fn settle(&mut self) -> Result<(), PluginError> {
        self.reconcile()?;
        while self.clusters.iter().any(|istiod| !istiod.stages.is_empty()) {
            self.reconcile()?;
        }
        Ok(())
    }

    /// Looks at every cluster once and writes what has changed; one cluster's mistake does not hold the others.
    pub(super) fn reconcile(&mut self) -> Result<(), PluginError> {
        let site = &self.site;
        let resources = |primary: &str, config: &Config| {
            let all = Workload::all(site);
            let own = all.iter().filter(|own| own.cluster.control_plane == primary);
            own.map(|own| (own.name(), bootstrap::discovered(site, own, &all, config))).collect()
        };
        let results: Vec<Result<(), PluginError>> =
            self.clusters.iter_mut().map(|istiod| istiod.reconcile(&resources)).collect();
        results.into_iter().collect()
    }
}

/// What each proxy fetches beside its filters, by the name of the proxy: files, in the order in which they are written.
type Discovered = BTreeMap<String, Vec<(String, Value)>>;

/// The proxies of the clusters that it leads, and the directory that plays the API server of its own.
#[derive(Debug)]
struct Istiod {
    cluster: String,
    dir: PathBuf,
    proxies: Vec<Target>,
    // The files as last translated without an error.
    seen: Option<Vec<(PathBuf, String)>>,
    // What routes and subsets were made of last.
    objects: Objects,
    // What is still to be written, each a moment after the one before.
    stages: VecDeque<Vec<(PathBuf, Value)>>,
}

impl Istiod {
    fn new(cluster: &str, dir: PathBuf) -> Self {
        Self {
            cluster: cluster.to_owned(),
            dir,
            proxies: Vec::new(),
            seen: None,
            objects: Objects::new(),
            stages: VecDeque::new(),
        }
    }

    fn reconcile(&mut self, resources: &impl Fn(&str, &Config) -> Discovered) -> Result<(), PluginError> {
        let files = read_all(&self.dir)?;
        if self.seen.as_ref() != Some(&files) {
            self.translate(&files, resources)?;
            self.seen = Some(files);
        }
        // Proxies get a moment between one stage and the next; where a stage changes nothing there is nothing to wait for.
        while let Some(stage) = self.stages.pop_front() {
            let mut changed = false;
            for (path, response) in stage {
                changed |= publish(&path, &response)?;
            }
            if changed {
                break;
            }
        }
        Ok(())
    }

    /// Works out the stages from what is there to what the files want: routes and subsets of both, then filters, then
    /// routes and subsets of the new alone.
    fn translate(
        &mut self,
        files: &[(PathBuf, String)],
        resources: &impl Fn(&str, &Config) -> Discovered,
    ) -> Result<(), PluginError> {
        let (mut plugins, mut objects) = (Vec::new(), Objects::new());
        for (path, text) in files {
            plugins.extend(plugin::parse(path, text)?);
            config::take(path, text, &mut objects)?;
        }
        let mut filters = Vec::new();
        for target in &self.proxies {
            // In one go, as istiod sends them: which one Envoy takes first nobody knows.
            for slot in &target.slots {
                let filter = target.translate(slot, &plugins)?;
                let file = target.ecds.join(format!("{}.json", slot.name));
                filters.push((file, extension(&slot.name, &filter)));
            }
        }
        let narrow = Config::read(&objects)?;
        let wide = Config::read(&config::widened(&self.objects, &objects))?;
        let discovered = |config: &Config| -> Vec<(PathBuf, Value)> {
            let mut all = resources(&self.cluster, config);
            let mut written = Vec::new();
            for target in &self.proxies {
                let of = all.remove(&target.name).unwrap_or_default().into_iter();
                written.extend(of.map(|(file, value)| (target.discovery.join(file), value)));
            }
            written
        };
        let mut last = discovered(&narrow);
        last.reverse();
        self.stages = VecDeque::from([discovered(&wide), filters, last]);
        self.objects = objects;
        Ok(())
    }
}

/// A proxy, as far as attaching a plugin to it goes.
#[derive(Debug)]
struct Target {
    name: String,
    kind: ProxyKind,
    slots: Vec<Slot>,
    namespace: String,
    root: String,
    labels: Labels,
    ecds: PathBuf,
    discovery: PathBuf,
}

impl Target {
    fn of(workload: &Workload<'_>, root: &str) -> Self {
        Self {
            root: root.to_owned(),
            name: workload.name(),
            kind: workload.kind(),
            slots: workload.slots(),
            namespace: workload.namespace().to_owned(),
            labels: workload.labels(),
            ecds: workload.ecds(),
            discovery: workload.discovery(),
        }
    }

    fn translate(&self, slot: &Slot, plugins: &[Plugin]) -> Result<Value, PluginError> {
        let is_own = |plugin: &Plugin| plugin.namespace() != self.root;
        let fills = |plugin: &&Plugin| {
            slot.own.is_none_or(|own| own == is_own(plugin))
                && slot.extension.is_none_or(|extension| extension == plugin.extension())
        };
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
            && (namespace == self.root || namespace == self.namespace)
            && plugin.has_direction(self.kind)
            && config::selects(plugin.selector(), &self.labels)
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

/// A filter as an ECDS resource.
fn extension(name: &str, filter: &Value) -> Value {
    json!([{
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": name,
        "typed_config": filter,
    }])
}

/// Writes a discovery response beside the file and renames it, as Envoy does not notice a write in place; and whether
/// it is another than before.
fn publish(path: &Path, resources: &Value) -> Result<bool, PluginError> {
    let version = sha256(resources.to_string());
    let response = json!({"version_info": version, "resources": resources}).to_string();
    if fs::read_to_string(path).is_ok_and(|old| old == response) {
        return Ok(false);
    }
    replace(path, &response).map_err(|source| PluginError::File { path: path.to_owned(), source })?;
    Ok(true)
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

#[cfg(test)]
mod tests;
