//! The proxies that a rollout's gates are about.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::Mesh;
use policy::mesh::Target;
use policy::name::ClusterName;

use super::{Reach, Targets};
use crate::cli::lab::Standing;
use crate::proxies::gate::{self, Sources};
use crate::proxies::{Asking, Envoy};
use crate::rollout::gate::Gate;
use crate::rollout::strategy::Limits;

/// How proxies are asked: all of a cluster about once a second, so none for long.
const ASKING: Asking = Asking { patience: Duration::from_secs(5), parallel: 32 };

/// Where the proxies are.
#[derive(Debug, Default)]
pub(super) struct Watched {
    sources: Sources,
    root: String,
}

impl Watched {
    /// Those in the pods of the clusters and of their remotes, and those of a lab.
    pub(super) async fn of(
        reach: &Reach,
        mesh: &Mesh,
        targets: &Targets,
        lab: Option<&Standing>,
    ) -> anyhow::Result<Self> {
        let envoys: BTreeMap<ClusterName, Vec<Envoy>> = lab.map(Standing::envoys).unwrap_or_default();
        // A rollout asks nothing of remotes; their proxies are in them all the same.
        let contexts =
            mesh.clusters().filter(|cluster| lab.is_none() && !targets.contains_key(&cluster.name));
        let contexts: BTreeMap<ClusterName, String> = contexts
            .filter_map(|cluster| match &cluster.target {
                Some(Target::Context(context)) => Some((cluster.name.clone(), context.clone())),
                Some(Target::Directory(_)) | None => None,
            })
            .collect();
        let remotes = if contexts.is_empty() || reach.output_dir.is_some() {
            BTreeMap::new()
        } else {
            reach.clusters.connect(contexts).await?
        };
        let sources = Sources::of(mesh, targets, &remotes, envoys);
        Ok(Self { sources, root: mesh.root_namespace().to_string() })
    }

    /// What a strategy demands of them.
    pub(super) fn gates(&self, limits: &Limits) -> Vec<Arc<dyn Gate>> {
        gate::gates(limits, &self.root, &self.sources, ASKING)
    }

    /// An error where a strategy demands what nobody can find out: nobody may think that a gate was asked which was not.
    pub(super) fn check(&self, limits: &Limits) -> anyhow::Result<()> {
        let unknown = self.sources.unknown();
        if self.gates(limits).is_empty() || unknown.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = unknown.into_iter().map(ClusterName::as_str).collect();
        anyhow::bail!(
            "the strategy demands something of proxies, and those of {} cannot be asked: give the cluster a context in mesh.yaml, or take \
             running, denials, errors and traps out of the gates",
            names.join(", ")
        )
    }
}
