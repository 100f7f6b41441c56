//! What a change of objects means: the plans in them, as they are and as they would be, and what both decide.

use std::collections::BTreeMap;

use policy::meaning::{self, Meaning, Running};
use policy::name::{ClusterName, Namespace};
use policy::plan::{Configuration, Plan, PlanError, Role};
use serde_json::Value;

use super::difference::{Difference, bare};
use super::rendered::{Sort, sort_of};
use crate::plugin;

/// The objects of a cluster by file, as they are or would be.
pub(super) type Objects = BTreeMap<String, Value>;

/// The plans of the clusters of one control plane, and what cannot be read of them.
#[derive(Default)]
struct Read {
    running: BTreeMap<ClusterName, Running>,
    unread: Vec<String>,
}

/// What differs in meaning, by the cluster whose proxies decide otherwise: a control plane has the objects of all that it
/// leads. What is found under the control plane's own name concerns no proxy alone.
pub(super) fn of(
    cluster: &ClusterName,
    root: &str,
    (before, after): (&Objects, &Objects),
    differences: &[(String, Difference)],
) -> BTreeMap<ClusterName, Meaning> {
    let sides = [before, after].map(|objects| read(objects, root));
    let [before, after] = &sides;
    let none = Running::default();
    let mut found: BTreeMap<ClusterName, Meaning> = BTreeMap::new();
    for home in before.running.keys().chain(after.running.keys()) {
        if !found.contains_key(home) {
            let [before, after] = [before, after].map(|side| side.running.get(home).unwrap_or(&none));
            found.insert(home.clone(), meaning::compare(before, after));
        }
    }
    let own = found.entry(cluster.clone()).or_default();
    own.untold.extend(before.unread.iter().map(|what| format!("{what}, as it is")));
    own.untold.extend(after.unread.iter().map(|what| format!("{what}, as it would be")));
    own.untold.extend(differences.iter().filter_map(|(file, difference)| beside(file, difference)));
    found
}

fn read(objects: &Objects, root: &str) -> Read {
    let mut read = Read::default();
    for object in objects.values() {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let Some(configuration) = plugin::configured(object) else { continue };
        let namespace = text("/metadata/namespace");
        match configured(configuration) {
            Ok(configuration) => {
                let home = configuration.plan.home().cluster.clone();
                let apart = namespace.parse().ok().filter(|_| namespace != root);
                put(read.running.entry(home).or_default(), configuration, apart);
            }
            Err(error) => read.unread.push(format!(
                "the plan in {} {namespace}/{}, which its proxies cannot read either ({error})",
                text("/kind"),
                text("/metadata/name")
            )),
        }
    }
    read
}

fn configured(configuration: &Value) -> Result<Configuration, PlanError> {
    Configuration::read(&serde_json::to_vec(configuration)?)
}

fn put(running: &mut Running, configuration: Configuration, apart: Option<Namespace>) {
    match (configuration.role, configuration.plan, apart) {
        // What stands behind the load balancer is told beside, with the object that it stands in.
        (Role::Upstream, ..) => {}
        (_, Plan::Inbound(plan), Some(namespace)) => drop(running.apart.insert(namespace, plan)),
        (_, Plan::Inbound(plan), None) => running.inbound = Some(plan),
        (_, Plan::Outbound(plan), _) => running.outbound = Some(plan),
        (_, Plan::Gateway(plan), _) => running.gateway = Some(plan),
    }
}

/// What differs of an object beside the plan in it.
fn beside(file: &str, difference: &Difference) -> Option<String> {
    let sides = [&difference.before, &difference.after];
    let has_plan = sides.into_iter().flatten().any(|object| plugin::configured(object).is_some());
    if !has_plan {
        let what = match sort_of(file) {
            Some(Sort::Plugin) => "what it checks behind the load balancer",
            Some(Sort::Native(_)) | None => "what Istio does by it",
        };
        return Some(format!("{}: {what}, told as YAML alone", difference.name));
    }
    let [Some(before), Some(after)] = sides else { return None };
    let fields = |object: &Value| {
        // A file has one kind of object, and what a plugin says is called alike in both.
        let mut spec = object.pointer("/spec").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(Value::Object(wasm)) = spec.remove("wasm") {
            spec.extend(wasm);
        }
        spec.remove("pluginConfig");
        spec
    };
    let (before, after) = (fields(before), fields(after));
    let names = before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name));
    let names: std::collections::BTreeSet<&str> = names.map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    (!names.is_empty()).then(|| format!("{}: {}, told as YAML alone", difference.name, names.join(", ")))
}

/// The objects of a cluster once these differences are made.
pub(super) fn made(there: &Objects, differences: &[(String, Difference)]) -> Objects {
    let mut objects: Objects = there.iter().map(|(file, object)| (file.clone(), bare(object))).collect();
    for (file, difference) in differences {
        match &difference.after {
            Some(object) => drop(objects.insert(file.clone(), object.clone())),
            None => drop(objects.remove(file)),
        }
    }
    objects
}

#[cfg(test)]
mod tests;
