//! The filter and its plans, as the cluster's objects have them.

use policy::mesh::Extension;
use policy::plan::Role;
use serde_json::Value;

use super::tried::tried;
use super::{Failure, Found, Inventory, Kind, Object, Skip, Visit};
use crate::plugin;
use crate::status::{Plans, Runs};

pub(super) fn present(visit: &Visit<'_>) -> Found {
    let plans = visit.all.plans.get(&visit.cluster.name);
    let plans = plans.ok_or_else(|| Skip::idle("it has no plans"))?;
    let mesh = visit.mesh();
    let primary = &mesh.primary(visit.cluster).name;
    let inventory = inventory(visit)?;
    let extension = mesh.installation().extension;
    let wanted = inventory.of(kind_of(extension))?;
    // Where those cannot be seen nothing is said of them.
    let others = inventory.of(kind_of(extension.other())).unwrap_or_default();
    let of = mesh.shares_control_plane(visit.cluster).then_some(&visit.cluster.name);
    let elsewhere = if *primary == visit.cluster.name { String::new() } else { format!(" in {primary}") };
    let mut failures = Vec::new();
    for (role, namespace, plan) in plans.parts() {
        let namespace = namespace.unwrap_or(mesh.root_namespace()).as_str();
        let digest = plugin::digest(&plan).map_err(|why| Skip::unseen(why.to_string()))?;
        let name = plugin::object_name(role, of);
        let [found, other] = [wanted, others].map(|objects| {
            let mut named = objects.iter().filter(|object| object.name() == name);
            named.find(|object| object.namespace() == namespace)
        });
        if let Some(other) = other {
            failures.push(of_other_kind(other, extension));
        }
        match found.or(other) {
            Some(object) => failures.extend(stale(object, &digest)),
            None => failures.push(Failure::error(
                format!("no {} {namespace}/{name}{elsewhere}: {}", extension.as_str(), consequence(role)),
                "`isthmus rollout` writes it",
            )),
        }
    }
    Ok(failures)
}

fn kind_of(extension: Extension) -> Kind {
    match extension {
        Extension::WasmPlugin => Kind::WasmPlugin,
        Extension::TrafficExtension => Kind::TrafficExtension,
    }
}

/// What was seen where the plugins of a cluster are: istiod reads them in the cluster that it runs in.
fn inventory<'v>(visit: &Visit<'v>) -> Result<&'v Inventory, Skip> {
    let primary = &visit.mesh().primary(visit.cluster).name;
    let why = || Skip::unseen(format!("its plugins are in {primary}, which was not seen"));
    visit.other(primary).ok_or_else(why)
}

/// A plugin that was not brought over, or was left behind.
fn of_other_kind(object: &Object, wanted: Extension) -> Failure {
    Failure::warning(
        format!(
            "{} {} stands there, and mesh.yaml asks for {}",
            object.kind(),
            object.shown(),
            wanted.as_str()
        ),
        "`isthmus rollout` brings the one and takes the other away; two that differ both have to agree to a request",
    )
}

/// What proxies run is told by themselves alone: one may not have got the module, or have refused a plan.
pub(super) fn running(visit: &Visit<'_>) -> Found {
    let proxies = tried(visit)?.proxies.as_ref().ok_or_else(|| Skip::idle("nobody asked its proxies"))?;
    let proxies = proxies.as_ref().map_err(Skip::unseen)?;
    let inventory = inventory(visit)?;
    let extension = visit.mesh().installation().extension;
    let mut objects = inventory.of(kind_of(extension))?;
    if objects.is_empty() {
        objects = inventory.of(kind_of(extension.other())).unwrap_or_default();
    }
    let objects: Vec<Value> = objects.iter().filter_map(|object| object.at("")).cloned().collect();
    let plans = Plans::of_objects(&objects, &visit.cluster.name, visit.root());
    if plans == Plans::default() {
        return Err(Skip::idle("it has no plugins of ours"));
    }
    Ok(proxies.iter().filter_map(|proxy| amiss(&proxy.name, &plans.judge(proxy, &[]))).collect())
}

fn amiss(proxy: &str, runs: &Runs) -> Option<Failure> {
    let hint = "its log says whether it could fetch the module or has refused the plan; `isthmus status` watches all of them";
    match runs {
        Runs::Wanted => None,
        Runs::Nothing => {
            Some(Failure::error(format!("{proxy} does not run the filter: no policy holds there"), hint))
        }
        Runs::Lacks(role) => Some(Failure::error(
            format!("{proxy} does not run the filter at {}: {}", role.as_str(), consequence(*role)),
            hint,
        )),
        Runs::Other { role, stamp, .. } => Some(Failure::error(
            format!("{proxy} runs plan {stamp} at {}, which is not that of the plugins", role.as_str()),
            hint,
        )),
        Runs::Silent(why) => Some(Failure::warning(
            format!("{proxy} does not say what it runs: {why}"),
            "without its metrics nobody knows; see docs/status.md on how proxies are asked",
        )),
    }
}

fn stale(object: &Object, wanted: &str) -> Option<Failure> {
    let said = object.annotation("isthmus.dev/plan").unwrap_or_default();
    let configured = object.at("").and_then(plugin::configured);
    let configured = configured.and_then(|said| said.get("digest")?.as_str()).unwrap_or_default();
    let (kind, shown) = (object.kind(), object.shown());
    if said != configured {
        return Some(Failure::error(
            format!("{kind} {shown} was changed by hand: its plan is not the one that was rolled out"),
            "`isthmus rollout` writes it as it should be; change policies and not plugins",
        ));
    }
    (configured != wanted).then(|| {
        Failure::warning(
            format!(
                "{kind} {shown} has plan {}, and these policies come to {}",
                short(configured),
                short(wanted)
            ),
            "`isthmus rollout --dry-run` says what would change",
        )
    })
}

fn consequence(role: Role) -> &'static str {
    match role {
        Role::Inbound => "nothing is refused, and nobody is told the source",
        Role::Outbound | Role::Upstream => "requests leave without tags, and no boundary holds",
        Role::Gateway => "every network sees every service",
    }
}

/// As much of a digest as people compare.
fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(if digest.is_empty() { "(none)" } else { digest })
}

/// Whether a label selector has all of these pairs.
pub(super) fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let (Some(selector), Some(labels)) =
        (selector.and_then(Value::as_object), labels.and_then(Value::as_object))
    else {
        return false;
    };
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
