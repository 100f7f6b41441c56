use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use policy::Mesh;
use policy::name::ClusterName;
use serde_json::{Value, json};

use super::certs::{Ca, Place};
use super::clusters::{Clusters, contexts};
use super::{Common, Exit, Out, Output};
use crate::cert::{Bundle, Cell, Side, matrix};
use crate::doctor::Inventory;
use crate::install::authority_at;
use crate::kube::many;

/// `isthmus mesh trust`
#[derive(Debug, Args)]
pub(super) struct Trust {
    #[command(flatten)]
    place: Place,
    /// Judge by the CAs that the clusters have, in their Secrets `cacerts`, and not by those that lie here
    #[arg(long, conflicts_with = "from")]
    live: bool,
    /// Judge by the Secrets `cacerts` among the manifests of a directory, with one below it for each cluster, by its name
    #[arg(long, env = "ISTHMUS_FROM", value_name = "DIR")]
    from: Option<PathBuf>,
    #[command(flatten)]
    clusters: Clusters,
}

impl Trust {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        let ca = self.place.of(&project, mesh)?;
        let (sides, hint) = match &self.from {
            Some(from) => {
                (given(&ca, |name| read(from, name), out)?, "name the directory that has the clusters'")
            }
            None if self.live => {
                let mut there = super::runtime()?.block_on(self.look(mesh))?;
                let of = |name: &ClusterName| {
                    there.remove(name).unwrap_or_else(|| Err("mesh.yaml gives it no context".to_owned()))
                };
                (given(&ca, of, out)?, "`isthmus mesh apply` brings it there")
            }
            None => (sides(&ca, out)?, "`isthmus mesh certs` makes it"),
        };
        ensure!(!sides.is_empty(), "no cluster's CA is there: {hint}");
        let is_whole = sides.len() == ca.clusters.len();
        let cells = matrix(&sides, super::now());
        match common.output {
            Output::Json => out.json(&as_json(&cells)),
            Output::Text | Output::Junit | Output::Short => as_text(&sides, &cells, out),
        }
        Ok(match cells.iter().all(|cell| cell.result.is_ok()) {
            true if is_whole || !self.is_of_clusters() => Exit::Yes,
            true => Exit::Partly,
            false => Exit::No,
        })
    }

    fn is_of_clusters(&self) -> bool {
        self.live || self.from.is_some()
    }

    /// The CA of every cluster that can be had, or why there is none.
    async fn look(&self, mesh: &Mesh) -> anyhow::Result<BTreeMap<ClusterName, Result<Bundle, String>>> {
        let standing = self.clusters.connect(contexts(mesh)).await?;
        let looking = standing.into_iter().map(|(name, at)| async move {
            let there = match at {
                Ok(at) => authority_at(&at).await,
                Err(error) => Err(error),
            };
            let there = there.map_err(|error| error.to_string());
            (name, there.and_then(|bundle| bundle.ok_or_else(|| LACKS.to_owned())))
        });
        Ok(many::bounded(looking, self.clusters.parallel).await.into_iter().collect())
    }
}

/// What is said of a cluster without a CA that can be judged.
const LACKS: &str = "it has no Secret istio-system/cacerts that is whole";

/// The CA of a cluster among its manifests.
fn read(from: &Path, name: &ClusterName) -> Result<Bundle, String> {
    let inventory = Inventory::read(&from.join(name.as_str())).map_err(|error| error.to_string())?;
    inventory.authority().ok_or_else(|| LACKS.to_owned())
}

/// How clusters look by the CAs that they have.
fn given(
    ca: &Ca<'_>,
    mut of: impl FnMut(&ClusterName) -> Result<Bundle, String>,
    out: &mut Out,
) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    for cluster in &ca.clusters {
        match of(&cluster.name) {
            Ok(bundle) => {
                let name = cluster.name.as_str();
                sides.push(Side::of(name, cluster.trust_domain.as_str(), &bundle, super::now())?);
            }
            Err(why) => out.say(&format!("error: {}: {why}", cluster.name)),
        }
    }
    Ok(sides)
}

fn sides(ca: &Ca<'_>, out: &mut Out) -> anyhow::Result<Vec<Side>> {
    let mut sides = Vec::new();
    let hierarchy = &ca.hierarchy;
    for cluster in &ca.clusters {
        let name = cluster.name.as_str();
        if hierarchy.has(name)? {
            let bundle = hierarchy.bundle(name)?;
            sides.push(Side::of(name, cluster.trust_domain.as_str(), &bundle, super::now())?);
        } else {
            out.say(&format!("the CA of {name} does not lie in {}", hierarchy.cluster(name).display()));
        }
    }
    Ok(sides)
}

fn as_json(cells: &[Cell]) -> Value {
    let item = |Cell { from, to, result }: &Cell| match result {
        Ok(()) => json!({"from": from, "to": to, "accepted": true}),
        Err(why) => {
            json!({"from": from, "to": to, "accepted": false, "reason": why.word(), "message": why.to_string()})
        }
    };
    let items: Vec<Value> = cells.iter().map(item).collect();
    json!({"apiVersion": policy::API_VERSION, "kind": "TrustMatrix", "items": items})
}

/// A line for each cluster whose workloads are judged, a column for each that judges; then why not.
fn as_text(sides: &[Side], cells: &[Cell], out: &mut Out) {
    let word = |cell: &Cell| cell.result.as_ref().map_or_else(|why| why.word(), |()| "yes");
    let widest = cells.iter().flat_map(|cell| [cell.to.len(), cell.from.len(), word(cell).len()]);
    let width = widest.max().unwrap_or_default().max("from \\ to".len());
    let line = |words: Vec<&str>| {
        let padded: Vec<String> = words.iter().map(|word| format!("{word:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    out.print(&line(std::iter::once("from \\ to").chain(sides.iter().map(Side::cluster)).collect()));
    for row in cells.chunk_by(|one, next| one.from == next.from) {
        let name = row.first().map(|cell| cell.from.as_str());
        out.print(&line(name.into_iter().chain(row.iter().map(word)).collect()));
    }
    for cell in cells {
        if let Err(why) = &cell.result {
            out.print(&format!("{} does not accept the workloads of {}: {why}", cell.to, cell.from));
        }
    }
}
