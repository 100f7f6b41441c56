use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use policy::Mesh;
use policy::name::ClusterName;

use super::{Common, Exit, Out, Output};
use crate::doctor::{Examined, Inventory, InventoryError, Seen, examine, report};

/// `isthmus doctor`
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Where the objects of the clusters are: a directory with one for each cluster, by its name, of what `kubectl get -o
    /// yaml` or GitOps has
    #[arg(long, env = "ISTHMUS_FROM", value_name = "DIR")]
    from: PathBuf,
}

impl Doctor {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        let seen = self.look(mesh)?;
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

    fn look(&self, mesh: &Mesh) -> anyhow::Result<BTreeMap<ClusterName, Seen>> {
        let mut seen = BTreeMap::new();
        for cluster in mesh.clusters() {
            let found = match Inventory::read(&self.from.join(cluster.name.as_str())) {
                Ok(inventory) => Seen::Objects(inventory),
                Err(missing @ InventoryError::Missing { .. }) => Seen::Nothing(missing.to_string()),
                Err(why) => return Err(why).context("cannot see what the clusters have"),
            };
            seen.insert(cluster.name.clone(), found);
        }
        Ok(seen)
    }
}
