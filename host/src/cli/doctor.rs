use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use policy::Mesh;
use policy::compile::Plans;
use policy::mesh::Target;
use policy::name::ClusterName;

use super::clusters::Clusters;
use super::{Common, Exit, Out, Output};
use crate::doctor::{Examined, Inventory, InventoryError, Seen, examine, look, probe, report};
use crate::kube::many;
use crate::manifest::ISTIO_NAMESPACE;

/// `isthmus doctor`
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Look at files instead of clusters: a directory with one for each cluster, by its name, of what `kubectl get -o
    /// yaml` or GitOps has
    #[arg(long, env = "ISTHMUS_FROM", value_name = "DIR")]
    from: Option<PathBuf>,
    /// Also try from here what clusters reach each other by: API servers, remote secrets, gateways and who answers behind
    /// them; and ask proxies which plan they run, and istiods which clusters they have read
    #[arg(long, env = "ISTHMUS_PROBE", conflicts_with = "from")]
    probe: bool,
    #[command(flatten)]
    clusters: Clusters,
}

impl Doctor {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        let seen = match &self.from {
            Some(from) => read(mesh, from)?,
            None => super::runtime()?.block_on(self.look(mesh, plans))?,
        };
        let all = Examined { mesh, plans, seen: &seen, now: super::now() };
        let checks = examine(all);
        let tally = report::Tally::of(&checks);
        match common.output {
            Output::Json => out.json(&report::json(&checks)),
            Output::Short => report::short(&checks).lines().for_each(|line| out.print(line)),
            Output::Text | Output::Junit => {
                out.print(&report::text(&checks));
                out.print(&format!("{}: {tally}", mesh.name()));
            }
        }
        Ok(if tally.errors == 0 { Exit::Yes } else { Exit::No })
    }

    /// Looks at every cluster at once.
    async fn look(&self, mesh: &Mesh, plans: &Plans) -> anyhow::Result<BTreeMap<ClusterName, Seen>> {
        let mut seen = BTreeMap::new();
        let mut contexts = BTreeMap::new();
        for cluster in mesh.clusters() {
            match &cluster.target {
                Some(Target::Context(context)) => {
                    contexts.insert(cluster.name.clone(), context.clone());
                }
                Some(Target::Directory(_)) | None => {
                    let why =
                        "mesh.yaml gives it no context: name a directory of manifests by --from".to_owned();
                    seen.insert(cluster.name.clone(), Seen::Nothing(why));
                }
            }
        }
        let clusters = self.clusters.connect(contexts).await?;
        let all = Arc::new((mesh.clone(), plans.clone()));
        let looking = clusters.into_iter().map(|(name, cluster)| {
            let (all, probes) = (Arc::clone(&all), self.probe);
            async move {
                let mut found = match &cluster {
                    Ok(cluster) => look(cluster, ISTIO_NAMESPACE).await,
                    Err(error) => Seen::Nothing(error.problem.to_string()),
                };
                if let (true, Ok(at), Seen::Objects(inventory), Some(cluster)) =
                    (probes, &cluster, &mut found, all.0.cluster(&name))
                {
                    inventory.tried = Some(Box::new(probe((&all.0, &all.1), cluster, (at, inventory)).await));
                }
                (name, found)
            }
        });
        seen.extend(many::bounded(looking, self.clusters.parallel).await);
        Ok(seen)
    }
}

/// What the directories of the clusters have.
fn read(mesh: &Mesh, from: &Path) -> anyhow::Result<BTreeMap<ClusterName, Seen>> {
    ensure!(from.is_dir(), "there is no directory {}", from.display());
    let mut seen = BTreeMap::new();
    for cluster in mesh.clusters() {
        let found = match Inventory::read(&from.join(cluster.name.as_str())) {
            Ok(inventory) => Seen::Objects(inventory),
            Err(missing @ InventoryError::Missing { .. }) => Seen::Absent(missing.to_string()),
            Err(why) => return Err(why).context("cannot see what the clusters have"),
        };
        seen.insert(cluster.name.clone(), found);
    }
    Ok(seen)
}
