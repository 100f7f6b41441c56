//! What a cluster has while new plans are tried there.
//!
//! All that judges there stays, and goes on judging; beside it each new plan judges the same requests and is counted, and
//! nothing is done by it. What stays is taken from what is there and not from what is kept: so nothing that is refused now is
//! let on meanwhile, and nothing that is let on now is refused, whoever has changed what since; and whoever goes on with a
//! rollout needs to know no more than the revision that it brings.

use std::collections::BTreeMap;

use policy::mesh::OnFailure;
use policy::name::ClusterName;
use policy::plan::{Configuration, Role};
use serde_json::{Map, Value, json};

use super::packed::Packed;
use super::rendered::{Part, Sort, sort_of};
use super::target::Trouble;
use crate::plugin::{self, configured};

/// Where a plugin's configuration has the plan that is tried.
const TRIAL: &str = "trial";
/// Of a plugin that is there for a trial alone.
const ADDED: &str = "isthmus.dev/trial";
/// Of a plugin: the digest of the plan that it judges by.
const PLAN: &str = "isthmus.dev/plan";
/// A server takes an object of 1.5 MiB, and keeps beside it who owns its fields.
const LARGEST: usize = 1_400_000;

/// For which requests a plugin is: those of a role, in the proxies of a cluster, of one namespace or of all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    role: String,
    cluster: String,
    namespace: Option<String>,
}

impl Place {
    fn of(object: &Value, root: &str) -> Option<Self> {
        let configuration = configured(object)?;
        let text = |value: &Value, path: &str| value.pointer(path)?.as_str().map(str::to_owned);
        Some(Self {
            role: text(configuration, "/role")?,
            cluster: text(configuration, "/plan/home/cluster")?,
            namespace: text(object, "/metadata/namespace").filter(|namespace| namespace != root),
        })
    }

    /// The place whose plan judges where a namespace has none of its own.
    fn around(&self) -> Option<Self> {
        self.namespace.as_ref()?;
        (self.role == Role::Inbound.as_str()).then(|| Self { namespace: None, ..self.clone() })
    }
}

/// The plugins of a cluster while its new plans are tried, in the order in which they may come.
pub(super) fn staged(
    there: &BTreeMap<String, Value>,
    wanted: &[Part],
    (cluster, root): (&ClusterName, &str),
) -> Result<Vec<Part>, Trouble> {
    let plugins = there.iter().filter(|(file, _)| sort_of(file) == Some(Sort::Plugin));
    let old: BTreeMap<Place, (&String, &Value)> =
        plugins.filter_map(|(file, object)| Some((Place::of(object, root)?, (file, object)))).collect();
    let placed = wanted.iter().filter(|part| part.sort == Sort::Plugin).filter_map(|part| {
        let object = part.object.open();
        Some((Place::of(&object, root)?, &part.file, object))
    });
    let new: Vec<(Place, &String, Value)> = placed.collect();
    let mut parts = Vec::new();
    for (place, file, wanted) in &new {
        let (file, object) = match old.get(place) {
            Some((file, seen)) => (*file, beside(seen, wanted)),
            None if there.contains_key(*file) => (*file, Err("no plan can be read in it".to_owned())),
            None => {
                let around = place.around().and_then(|around| old.get(&around));
                (*file, added(wanted, around.map(|(_, seen)| *seen)))
            }
        };
        parts.push(part_of(file, object, cluster)?);
    }
    // A namespace that is to have no plan of its own any more is judged by the one around it.
    for (place, (file, seen)) in old.iter().filter(|(place, _)| new.iter().all(|(own, ..)| own != *place)) {
        let around = place.around().and_then(|around| new.iter().find(|(own, ..)| *own == around));
        if let Some((.., wanted)) = around {
            let object = tried(seen, wanted).map(|object| with_metadata(object, seen));
            parts.insert(0, part_of(file, object, cluster)?);
        }
    }
    Ok(parts)
}

/// Whether any new plan is tried by these.
pub(super) fn tries(parts: &[Part]) -> bool {
    let is_tried = |part: &Part| configured(&part.object.open())?.get(TRIAL).map(drop);
    parts.iter().any(|part| is_tried(part).is_some())
}

/// An object as it was before something was tried by it; `None` if it was not there.
pub(super) fn untried(mut object: Value) -> Option<Value> {
    if object.pointer("/metadata/annotations").is_some_and(|all| all.get(ADDED).is_some()) {
        return None;
    }
    if let Some(configuration) = configured_mut(&mut object) {
        configuration.remove(TRIAL);
    }
    Some(object)
}

fn part_of(file: &str, object: Result<Value, String>, cluster: &ClusterName) -> Result<Part, Trouble> {
    let length = |object: &Value| object.to_string().len();
    let object = object.and_then(|object| match length(&object) {
        fits if fits <= LARGEST => Ok(object),
        bytes => {
            Err(format!("both plans are {bytes} bytes together, and no server takes more than {LARGEST}"))
        }
    });
    let object =
        object.map_err(|why| Trouble::Untriable { cluster: cluster.clone(), file: file.to_owned(), why })?;
    Ok(Part { file: file.to_owned(), sort: Sort::Plugin, object: Packed::of(&object) })
}

/// A plugin that is there, with the new plan beside its own; without, where that is the same.
fn beside(seen: &Value, new: &Value) -> Result<Value, String> {
    let plan = |object| configured(object).and_then(|found| found.get("plan"));
    let is_same = plan(seen).is_some() && plan(seen) == plan(new);
    let object =
        if is_same { untried(seen.clone()).unwrap_or_else(|| seen.clone()) } else { tried(seen, new)? };
    Ok(with_metadata(object, new))
}

/// A plugin that is there, with the new module, and the new plan on trial.
fn tried(seen: &Value, new: &Value) -> Result<Value, String> {
    let trial = trial(new)?;
    // Only that module is known to try plans.
    let mut object = plugin::without_module(seen);
    if let Some(fields) = plugin::settings_mut(&mut object) {
        fields.extend(plugin::module(new));
    }
    let configuration = configured_mut(&mut object).ok_or("no plan can be read in it")?;
    configuration.insert(TRIAL.to_owned(), trial);
    Ok(object)
}

/// A plugin where there is none, which judges as is judged there now: by the plan around it, or not at all.
fn added(new: &Value, around: Option<&Value>) -> Result<Value, String> {
    let mut object = new.clone();
    let trial = trial(new)?;
    let failing = around.and_then(|around| plugin::settings(around)?.get("failStrategy").cloned());
    let now = around.and_then(configured).and_then(Value::as_object);
    let (digest, plan) = match now.and_then(|now| now.get("digest").cloned().zip(now.get("plan").cloned())) {
        Some(now) => now,
        None => open(new)?,
    };
    if let Some(fields) = plugin::settings_mut(&mut object) {
        // Where nothing is judged, nothing is refused for want of a judge.
        fields.insert("failStrategy".to_owned(), failing.unwrap_or_else(|| OnFailure::Open.as_str().into()));
    }
    let configuration = configured_mut(&mut object).ok_or("it has no configuration")?;
    configuration.insert("digest".to_owned(), digest.clone());
    configuration.insert("plan".to_owned(), plan);
    configuration.insert(TRIAL.to_owned(), trial);
    annotate(&mut object, [(PLAN, Some(digest)), (ADDED, Some("only".into()))]);
    Ok(object)
}

/// The plan by which nothing is decided, with its digest.
fn open(new: &Value) -> Result<(Value, Value), String> {
    let read = || {
        let configuration = serde_json::to_vec(configured(new)?).ok()?;
        let Configuration { role, plan, .. } = Configuration::read(&configuration).ok()?;
        serde_json::to_value(plugin::configuration(role, &plan.without_policies()).ok()?).ok()
    };
    let open = read().ok_or("its plan cannot be read")?;
    let field = |name: &str| open.get(name).cloned().unwrap_or_default();
    Ok((field("digest"), field("plan")))
}

fn trial(new: &Value) -> Result<Value, String> {
    let configuration = configured(new).and_then(Value::as_object);
    let field = |name: &str| configuration?.get(name).cloned();
    let (digest, plan) = field("digest").zip(field("plan")).ok_or("it has no plan")?;
    Ok(json!({"digest": digest, "plan": plan}))
}

/// An object under the name and the labels of another, so that nothing of what servers and others say of it is said by us.
fn with_metadata(mut object: Value, of: &Value) -> Value {
    let judges = digest(&object).cloned();
    let metadata = |field: &str| of.pointer("/metadata").and_then(|metadata| metadata.get(field).cloned());
    let is_added = object.pointer("/metadata/annotations").and_then(|all| all.get(ADDED).cloned());
    let kept =
        ["name", "namespace", "labels"].into_iter().filter_map(|field| Some((field, metadata(field)?)));
    let mut made = json!({});
    if let Some(fields) = made.as_object_mut() {
        fields.extend(kept.map(|(field, value)| (field.to_owned(), value)));
        fields.insert("annotations".to_owned(), json!({}));
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        fields.insert("metadata".to_owned(), made);
    }
    annotate(&mut object, [(PLAN, judges), (ADDED, is_added)]);
    object
}

fn annotate<const N: usize>(object: &mut Value, said: [(&str, Option<Value>); N]) {
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        for (name, value) in said {
            annotations.extend(value.map(|value| (name.to_owned(), value)));
        }
    }
}

fn digest(object: &Value) -> Option<&Value> {
    configured(object)?.get("digest")
}

fn configured_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    plugin::settings_mut(object)?.get_mut("pluginConfig")?.as_object_mut()
}

#[cfg(test)]
mod tests;
