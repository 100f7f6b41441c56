//! What stands in every cluster, beside what should.

use std::collections::BTreeMap;

use policy::Mesh;
use policy::compile::Plans;
use policy::name::ClusterName;
use serde_json::Value;

use super::rendered::{self, Part, Rendered, sort_of};
use super::{Options, RolloutError, Target, Trouble, directory, live};
use crate::digest::sha256;
use crate::kube::Id;
use crate::plugin::ModuleUrl;

/// What stands in a cluster.
#[derive(Debug, Clone)]
pub struct Standing {
    /// A digest over the plans of those plugins that are there, as [`Wanted::digest`] is one; `None`: there are none.
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

/// What a cluster should have.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A digest over those of its plans.
    pub digest: String,
    root: String,
    parts: Vec<Part>,
}

/// What every cluster should have, by what policies come to.
pub fn wanted(mesh: &Mesh, plans: &Plans) -> Result<BTreeMap<ClusterName, Wanted>, RolloutError> {
    // Where proxies get the module from is not compared.
    let url: ModuleUrl = ModuleUrl::anywhere();
    let options = Options { url: &url, upstream_check: false, dry_run: true };
    let root = mesh.root_namespace().to_string();
    let of = |Rendered { digest, parts }| Wanted { digest, root: root.clone(), parts };
    Ok(rendered::render(mesh, plans, options)?
        .into_iter()
        .map(|(name, rendered)| (name, of(rendered)))
        .collect())
}

impl Wanted {
    /// Looks at what is there of it.
    pub async fn standing(&self, target: &Target) -> Result<Standing, Trouble> {
        let mut there = match target {
            Target::Directory(path) => directory::there(path, &self.parts)?,
            Target::Cluster(cluster) => live::there(cluster, &self.root, &self.parts).await?,
        };
        let digest = self.digest_of(&there);
        let mut objects: Vec<Placed> = Vec::new();
        for part in &self.parts {
            let seen = there.remove(&part.file);
            let state = match (&seen, target) {
                (None, _) => State::Missing,
                (Some(seen), Target::Cluster(_)) if live::holds(&unplaced(seen), &unplaced(&part.object)) => {
                    State::AsWanted
                }
                (Some(seen), Target::Directory(_)) if unplaced(seen) == unplaced(&part.object) => {
                    State::AsWanted
                }
                (Some(_), _) => State::Differs,
            };
            objects.push(Placed { name: name(&part.object), state, seen });
        }
        // What a rollout would leave alone; and whether boundaries are held behind load balancers too is said to a
        // rollout and nowhere else.
        there.retain(|file, object| {
            sort_of(file).is_some() && object.get("kind").is_none_or(|kind| kind != "EnvoyFilter")
        });
        let unwanted = |seen: Value| Placed { name: name(&seen), state: State::Unwanted, seen: Some(seen) };
        objects.extend(there.into_values().map(unwanted));
        Ok(Standing { digest, objects })
    }

    /// The digest that a rollout would have given to the plans of these plugins.
    fn digest_of(&self, there: &BTreeMap<String, Value>) -> Option<String> {
        let text =
            |object: &Value, path: &str| object.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let mut plans: Vec<(usize, String, String)> = Vec::new();
        for object in
            there.values().filter(|object| object.get("kind").is_some_and(|kind| kind == "WasmPlugin"))
        {
            let role = text(object, "/spec/pluginConfig/role").unwrap_or_default();
            let own = text(object, "/metadata/namespace").filter(|namespace| *namespace != self.root);
            let place = match (&own, role.as_str()) {
                (None, "outbound") => 0,
                (None, "inbound") => 1,
                (None, _) => 2,
                (Some(_), _) => 3,
            };
            let digest = text(object, "/spec/pluginConfig/digest").unwrap_or_default();
            plans.push((place, own.unwrap_or_default(), digest));
        }
        plans.sort();
        let digests: String = plans.iter().map(|(_, _, digest)| digest.as_str()).collect();
        (!plans.is_empty()).then(|| sha256(digests))
    }
}

/// An object without where it says that the module is.
fn unplaced(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("url");
    }
    object
}

fn name(object: &Value) -> String {
    Id::of(object).map_or_else(|_| "an object without a name".to_owned(), |id| id.to_string())
}
