//! The proxies that the gates of a rollout ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::mesh::{self, Mesh};
use policy::name::ClusterName;

use super::{Reach, Targets};
use crate::cli::lab::Standing;
use crate::gate::{Sources, gates};
use crate::proxies::{Asking, Envoy};
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
        // A rollout asks nothing of remotes; their proxies are in them all the same.
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
        let remotes =
            if remotes.is_empty() { BTreeMap::new() } else { reach.clusters.connect(remotes).await? };
        let envoys: BTreeMap<ClusterName, Vec<Envoy>> = lab.map(Standing::envoys).unwrap_or_default();
        let sources = Sources::of(mesh, targets, &remotes, envoys);
        Ok(Self { root: mesh.root_namespace().to_string(), sources })
    }

    /// An error where a strategy demands what nobody can find out: nobody may think that a gate was asked which was not.
    pub(super) fn check(&self, limits: &Limits) -> anyhow::Result<()> {
        let (demanded, unknown) = (limits.of_proxies(), self.sources.unknown());
        if demanded.is_empty() || unknown.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = unknown.into_iter().map(ClusterName::as_str).collect();
        anyhow::bail!(
            "{} is to be asked of proxies, and those of {} cannot be asked: give the cluster a context in mesh.yaml, or demand nothing of proxies, neither by gates nor by shadowFirst or --wait",
            demanded.join(", "),
            names.join(", ")
        )
    }

    /// What a strategy demands of them.
    pub(super) fn gates(&self, limits: &Limits) -> Vec<Arc<dyn Gate>> {
        gates(limits, &self.root, &self.sources, ASKING)
    }
}
