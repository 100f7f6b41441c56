//! The proxies that the gates of a rollout ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::mesh::{self, Mesh};
use policy::name::ClusterName;

use super::{Reach, Targets};
use crate::cli::lab::Standing;
use crate::proxies::gate::{Sources, gates};
use crate::proxies::{Asking, Envoy};
use crate::rollout::Target;
use crate::rollout::gate::Gate;
use crate::rollout::strategy::Limits;

/// How they are asked.
const ASKING: Asking = Asking { patience: Duration::from_secs(5), parallel: 32 };

/// Where they are.
pub(super) struct Asked {
    root: String,
    sources: Sources,
}

impl Asked {
    /// Those of clusters that can be had, of their remotes, and of the lab.
    pub(super) async fn of(
        mesh: &Mesh,
        targets: &Targets,
        reach: &Reach,
        lab: Option<&Standing>,
    ) -> anyhow::Result<Self> {
        let known = targets
            .iter()
            .filter_map(|(name, target)| Some((name.clone(), Ok(target.as_ref().ok()?.clone()))));
        let mut all: Targets = known.collect();
        let remote = |cluster: &mesh::Cluster| match &cluster.target {
            Some(mesh::Target::Context(context)) if !targets.contains_key(&cluster.name) => {
                Some((cluster.name.clone(), context.clone()))
            }
            Some(mesh::Target::Context(_) | mesh::Target::Directory(_)) | None => None,
        };
        let remotes: BTreeMap<ClusterName, String> = match (lab, &reach.output_dir) {
            (None, None) => mesh.clusters().filter_map(remote).collect(),
            _ => BTreeMap::new(),
        };
        if !remotes.is_empty() {
            let remotes = reach.clusters.connect(remotes).await?;
            all.extend(remotes.into_iter().map(|(name, cluster)| (name, cluster.map(Target::Cluster))));
        }
        let envoys: BTreeMap<ClusterName, Vec<Envoy>> = lab.map(Standing::envoys).unwrap_or_default();
        Ok(Self { root: mesh.root_namespace().to_string(), sources: Sources::of(mesh, &all, envoys) })
    }

    /// What a strategy demands of them.
    pub(super) fn gates(&self, limits: &Limits) -> Vec<Arc<dyn Gate>> {
        gates(limits, &self.root, &self.sources, ASKING)
    }
}
