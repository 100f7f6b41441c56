//! What stands in every cluster, beside what should.

use std::collections::BTreeMap;

use policy::Mesh;
use policy::compile::Plans;
use policy::name::ClusterName;
use policy::plan::PlanError;
use serde_json::Value;

use super::rendered::{self, Part, Rendered, Sort, sort_of};
use super::{Options, RolloutError, Target, Trouble, directory, live};
use crate::digest::sha256;
use crate::kube::Id;
use crate::plugin::{self, ModuleUrl, without_module};

/// What stands of a cluster.
#[derive(Debug, Clone)]
pub struct Standing {
    /// A digest over the plans of those plugins that are there, as [`Wanted::digests`] are; `None`: there are none.
    pub digest: Option<String>,
    /// Each object that is there or should be.
    pub objects: Vec<Placed>,
}

/// One object.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Its kind, namespace and name.
    pub name: String,
    /// How it stands to what should be there.
    pub state: State,
    /// The object, if it is there.
    pub seen: Option<Value>,
}

/// How what is there stands to what should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be, wherever it says that the module is.
    AsWanted,
    /// It says something else.
    Differs,
    /// It is not there.
    Missing,
    /// It should not be there.
    Unwanted,
}

/// What a cluster with a control plane should have, for itself and for the remotes that it leads.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of each cluster that it is for, a digest over its plans.
    pub digests: BTreeMap<ClusterName, String>,
    primary: ClusterName,
    root: String,
    parts: Vec<Part>,
}

/// What every cluster with a control plane should have, by what policies come to.
pub fn wanted(mesh: &Mesh, plans: &Plans) -> Result<BTreeMap<ClusterName, Wanted>, RolloutError> {
    // Where proxies get the module from is not compared.
    let url = ModuleUrl::anywhere();
    let options = Options { url: &url, upstream_check: false, dry_run: true };
    let mut rendered = rendered::render(mesh, plans, options)?;
    let mut wanted = BTreeMap::new();
    for (primary, led) in mesh.control_planes() {
        let Some(Rendered { parts, .. }) = rendered.remove(&primary.name) else { continue };
        let mut digests = BTreeMap::new();
        for plans in led.iter().filter_map(|cluster| plans.get_key_value(&cluster.name)) {
            let (cluster, plans) = plans;
            let each = plans
                .parts()
                .iter()
                .map(|(_, _, plan)| plugin::digest(plan))
                .collect::<Result<String, PlanError>>();
            let each = each.map_err(|source| RolloutError::Plan { cluster: cluster.clone(), source })?;
            digests.insert(cluster.clone(), sha256(each));
        }
        let (primary, root) = (primary.name.clone(), mesh.root_namespace().to_string());
        wanted.insert(primary.clone(), Wanted { digests, primary, root, parts });
    }
    Ok(wanted)
}

impl Wanted {
    /// The namespace that the control plane reads everything for all in.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// What a rollout calls the plans of all these clusters together, by the digest of each in the order of their names.
    pub fn together(digests: &[&str]) -> String {
        match digests {
            [alone] => (*alone).to_owned(),
            several => sha256(several.concat()),
        }
    }

    /// Looks at what is there, for each cluster that it is for.
    pub async fn standing(&self, target: &Target) -> Result<BTreeMap<ClusterName, Standing>, Trouble> {
        let mut there = match target {
            Target::Directory(path) => directory::there(path, &self.parts)?,
            Target::Cluster(cluster) => live::there(cluster, &self.root, &self.parts).await?,
        };
        let mut standing: BTreeMap<ClusterName, Standing> = BTreeMap::new();
        for cluster in self.digests.keys() {
            let digest = self.digest_of(&there, cluster);
            standing.insert(cluster.clone(), Standing { digest, objects: Vec::new() });
        }
        let mut place = |object: &Value, state, seen| {
            let placed = Placed { name: name(object), state, seen };
            if let Some(standing) = standing.get_mut(&self.whose(object)) {
                standing.objects.push(placed);
            }
        };
        for part in &self.parts {
            let (seen, object) = (there.remove(&part.file), part.object.open());
            let state = match (&seen, target) {
                (None, _) => State::Missing,
                (Some(seen), Target::Cluster(_))
                    if live::holds(&without_module(seen), &without_module(&object)) =>
                {
                    State::AsWanted
                }
                (Some(seen), Target::Directory(_)) if without_module(seen) == without_module(&object) => {
                    State::AsWanted
                }
                (Some(_), _) => State::Differs,
            };
            place(&object, state, seen);
        }
        for (file, seen) in there {
            // Whether boundaries are held once more behind load balancers is said to a rollout, and nowhere else.
            let is_filter = seen.get("kind").is_some_and(|kind| kind == "EnvoyFilter");
            if sort_of(&file).is_some() && !is_filter {
                place(&seen, State::Unwanted, Some(seen.clone()));
            }
        }
        Ok(standing)
    }

    /// The cluster that an object is for, among those that are led from here.
    fn whose(&self, object: &Value) -> ClusterName {
        let home = plugin::configured(object).and_then(|said| said.pointer("/plan/home/cluster")?.as_str());
        let named = |cluster: &&ClusterName| Some(cluster.as_str()) == home;
        self.digests.keys().find(named).unwrap_or(&self.primary).clone()
    }

    /// The digest that a rollout would give to the plans of these plugins of a cluster.
    fn digest_of(&self, there: &BTreeMap<String, Value>, cluster: &ClusterName) -> Option<String> {
        let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let mut plans: Vec<(usize, String, String)> = Vec::new();
        for (file, object) in there {
            let is_plugin =
                matches!(sort_of(file), Some(Sort::Plugin)) && plugin::extension(object).is_some();
            if !is_plugin || self.whose(object) != *cluster {
                continue;
            }
            let said = |path: &str| plugin::configured(object).and_then(|said| text(said, path));
            let role = said("/role").unwrap_or_default();
            let own = text(object, "/metadata/namespace").filter(|namespace| *namespace != self.root);
            // As the parts of a cluster's plans stand.
            let place = match (&own, role.as_str()) {
                (None, "outbound") => 0,
                (None, "inbound") => 1,
                (None, _) => 2,
                (Some(_), _) => 3,
            };
            let digest = said("/digest").unwrap_or_default();
            plans.push((place, own.unwrap_or_default(), digest));
        }
        plans.sort();
        let digests: String = plans.iter().map(|(_, _, digest)| digest.as_str()).collect();
        (!plans.is_empty()).then(|| sha256(digests))
    }
}

fn name(object: &Value) -> String {
    Id::of(object).map_or_else(|_| "an object without a name".to_owned(), |id| id.to_string())
}

#[cfg(test)]
mod tests;
