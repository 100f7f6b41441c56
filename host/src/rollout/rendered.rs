//! The objects of each cluster, each under the name of a file, by which it is known in a directory and in a cluster alike.

use std::collections::BTreeMap;

use policy::compile::{ClusterPlans, Plans};
use policy::mesh::Extension;
use policy::name::{ClusterName, Namespace, Service};
use policy::plan::{PlanError, Role};
use policy::{Mesh, Plan};
use serde_json::Value;

use super::packed::Packed;
use super::{Options, RolloutError};
use crate::digest::sha256;
use crate::native::upstream::{Behind, Module};
use crate::native::{self, Kind};
use crate::plugin::{self, Deployed, Reach, Span};

/// The kinds that a rollout makes.
pub(super) const KINDS: [(&str, &str); 5] = [
    ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ("extensions.istio.io/v1alpha1", "TrafficExtension"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
];

/// What stands between the name of a kind and the namespace in the name of a file; in neither of them can it be.
pub(super) const NAMESPACE: char = '@';

/// What the name of a plugin's file ends in where it is a `TrafficExtension`: for as long as one kind takes the place of the
/// other, both are there.
const TRAFFIC_EXTENSION: &str = ".trafficextension";

/// An object of more bytes no API server would store: etcd takes 1.5 MiB. Plans are kept smaller when they are made, but what
/// stands behind the load balancer is one object for all services.
const MOST_BYTES: usize = 3 << 19;

/// What an object is to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// Something of Istio's that a filter leads requests by.
    Native(Kind),
    /// A filter.
    Plugin,
}

/// One object.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) file: String,
    pub(super) sort: Sort,
    pub(super) object: Packed,
}

/// What a cluster should have: its plugins in the order in which they may come.
#[derive(Debug, Clone, Default)]
pub(super) struct Rendered {
    /// A digest over those of its plans.
    pub(super) digest: String,
    pub(super) parts: Vec<Part>,
}

/// Everything that the plans of a mesh need, by the cluster that has it: a remote is none of them, what is for it is in
/// the cluster of its control plane.
pub(super) fn render(
    mesh: &Mesh,
    plans: &Plans,
    options: Options<'_>,
) -> Result<BTreeMap<ClusterName, Rendered>, RolloutError> {
    let extension = mesh.installation().extension;
    let module = Deployed { url: options.url.clone(), on_failure: mesh.on_failure(), extension };
    let mut rendered = BTreeMap::new();
    for (primary, led, natives) in native::by_control_plane(mesh, plans) {
        let natives = natives.into_iter();
        let mut parts: Vec<Part> =
            natives.map(|((kind, service), object)| of(kind, &service, &object)).collect();
        let (mut digests, mut everywhere) = (Vec::new(), Vec::new());
        for cluster in &led {
            let Some(plans) = plans.get(&cluster.name) else { continue };
            let of = (led.len() > 1).then_some(&cluster.name);
            let site = Site { cluster: &cluster.name, of, root: mesh.root_namespace() };
            let plugins = plugins(site, plans, &module)?;
            digests.push(plugins.digest);
            parts.extend(plugins.apart);
            everywhere.extend(plugins.everywhere);
            everywhere.extend(upstream(mesh, site, plans, options)?);
        }
        parts.extend(everywhere);
        let digest = match <[String; 1]>::try_from(digests) {
            Ok([digest]) => digest,
            Err(digests) => sha256(digests.concat()),
        };
        if let Some(part) = parts.iter().find(|part| part.object.length() > MOST_BYTES) {
            let (cluster, file) = (primary.name.clone(), part.file.clone());
            return Err(RolloutError::TooLarge { cluster, file, kib: part.object.length() / 1024 });
        }
        rendered.insert(primary.name.clone(), Rendered { digest, parts });
    }
    Ok(rendered)
}

/// For whose proxies a plan is.
#[derive(Clone, Copy)]
struct Site<'s> {
    cluster: &'s ClusterName,
    /// The same, where an object has to say it.
    of: Option<&'s ClusterName>,
    root: &'s Namespace,
}

/// The plugins of a cluster.
struct Plugins {
    /// A digest over all their plans.
    digest: String,
    /// Those of single namespaces, which come first.
    apart: Vec<Part>,
    everywhere: Vec<Part>,
}

fn of(kind: Kind, service: &Service, object: &Value) -> Part {
    Part {
        file: native_file(kind, service.namespace.as_str(), service.name.as_str()),
        sort: Sort::Native(kind),
        object: Packed::of(object),
    }
}

fn plugins(site: Site<'_>, plans: &ClusterPlans, module: &Deployed) -> Result<Plugins, RolloutError> {
    let plan_error = |source| RolloutError::Plan { cluster: site.cluster.clone(), source };
    let mut digests = String::new();
    let (mut apart, mut everywhere) = (Vec::new(), Vec::new());
    for (role, namespace, plan) in plans.parts() {
        let span = namespace.map_or(Span::All(site.root.as_str()), |own| Span::One(own.as_str()));
        let object = plugin::object(role, &plan, Reach { span, of: site.of }, module).map_err(plan_error)?;
        let name = plugin::object_name(role, site.of);
        let file = plugin_file(&name, namespace.map(Namespace::as_str), Some(module.extension));
        let parts = if namespace.is_some() { &mut apart } else { &mut everywhere };
        parts.push(Part { file, sort: Sort::Plugin, object: Packed::of(&object) });
        digests += &plugin::digest(&plan).map_err(plan_error)?;
    }
    apart.sort_by(|part, other| part.file.cmp(&other.file));
    everywhere.sort_by(|part, other| part.file.cmp(&other.file));
    Ok(Plugins { digest: sha256(digests), apart, everywhere })
}

/// What holds boundaries behind the load balancer, where it is wanted and there is a boundary.
fn upstream(
    mesh: &Mesh,
    site: Site<'_>,
    plans: &ClusterPlans,
    options: Options<'_>,
) -> Result<Option<Part>, RolloutError> {
    let services = native::bounded(mesh, &plans.outbound);
    if !options.upstream_check || services.is_empty() {
        return Ok(None);
    }
    let file = options.url.file().ok_or(RolloutError::NoFile)?;
    let module = Module { file, on_failure: mesh.on_failure() };
    let place = |service: Service| {
        let plan = Plan::Outbound(plans.outbound.only(&service));
        let configuration = serde_json::to_value(plugin::configuration(Role::Upstream, &plan)?)?;
        Ok(Behind { service, configuration })
    };
    let places = services
        .into_iter()
        .map(place)
        .collect::<Result<Vec<Behind>, PlanError>>()
        .map_err(|source| RolloutError::Plan { cluster: site.cluster.clone(), source })?;
    let object = native::upstream::envoy_filter(site.root, site.of, &module, &places);
    let file = plugin_file(&plugin::object_name(Role::Upstream, site.of), None, None);
    Ok(Some(Part { file, sort: Sort::Plugin, object: Packed::of(&object) }))
}

/// The file of a service's object.
pub(super) fn native_file(kind: Kind, namespace: &str, service: &str) -> String {
    format!("{}{NAMESPACE}{namespace}.{service}.yaml", stem(kind))
}

/// The file of a plugin: of a namespace of its own, or of the root namespace.
fn plugin_file(name: &str, namespace: Option<&str>, extension: Option<Extension>) -> String {
    let place = namespace.map_or_else(String::new, |namespace| format!("{NAMESPACE}{namespace}"));
    let kind = match extension {
        Some(Extension::TrafficExtension) => TRAFFIC_EXTENSION,
        Some(Extension::WasmPlugin) | None => "",
    };
    format!("{name}{place}{kind}.yaml")
}

/// The kind of plugin that is in a file, if a plugin is.
pub(super) fn extension_of(file: &str) -> Option<Extension> {
    let is_filter = file.starts_with(&plugin::name(Role::Upstream));
    let stem = file.strip_suffix(".yaml").filter(|_| sort_of(file) == Some(Sort::Plugin) && !is_filter)?;
    let is_extension = stem.ends_with(TRAFFIC_EXTENSION);
    Some(if is_extension { Extension::TrafficExtension } else { Extension::WasmPlugin })
}

/// The file of the same plugin as the other kind.
pub(super) fn other_file(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".yaml")?;
    Some(match extension_of(file)? {
        Extension::WasmPlugin => format!("{stem}{TRAFFIC_EXTENSION}.yaml"),
        Extension::TrafficExtension => format!("{}.yaml", stem.strip_suffix(TRAFFIC_EXTENSION)?),
    })
}

/// How the name of an object's file starts.
fn stem(kind: Kind) -> String {
    format!("isthmus-{}", kind.as_str())
}

/// The file that an object of a cluster would be in, if it is one that a rollout makes. What the mesh itself needs is ours
/// as well, and named for a service and its namespace, with a dot.
pub(super) fn file_of(object: &Value, root: &str) -> Option<String> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let (name, namespace) = (text("/metadata/name")?, text("/metadata/namespace")?);
    let native = |kind: Kind| {
        let service = name.strip_prefix("isthmus-").filter(|service| !service.contains('.'))?;
        Some(native_file(kind, namespace, service))
    };
    match text("/kind")? {
        "DestinationRule" => native(Kind::DestinationRule),
        "VirtualService" => native(Kind::VirtualService),
        "WasmPlugin" | "TrafficExtension" | "EnvoyFilter" => {
            let own = Some(namespace).filter(|own| *own != root);
            Some(plugin_file(name, own, plugin::extension(object)))
        }
        _ => None,
    }
}

/// Whether an object is one that a rollout makes, under the file that it makes it under. What a cluster or a directory
/// keeps can be written by whoever writes there, and may neither bring anything else nor leave the directory.
pub(super) fn is_made_by_rollouts(part: &Part, root: &str) -> bool {
    let object = part.object.open();
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let kind = (text("/apiVersion").unwrap_or_default(), text("/kind").unwrap_or_default());
    KINDS.contains(&kind)
        && file_of(&object, root).as_ref() == Some(&part.file)
        && sort_of(&part.file) == Some(part.sort)
        && !part.file.contains(['/', '\\'])
}

/// What an object is that is wanted no more, by its file; `None` if it is not for a rollout to remove.
pub(super) fn sort_of(file: &str) -> Option<Sort> {
    let stem = file.strip_suffix(".yaml")?;
    let stem = stem.split_once(NAMESPACE).map_or(stem, |(stem, _)| stem);
    let stem = stem.strip_suffix(TRAFFIC_EXTENSION).unwrap_or(stem);
    let is_of = |role: Role| {
        let rest = stem.strip_prefix(&plugin::name(role));
        rest.is_some_and(|cluster| cluster.is_empty() || cluster.starts_with('-'))
    };
    if [Role::Inbound, Role::Outbound, Role::Gateway, Role::Upstream].into_iter().any(is_of) {
        return Some(Sort::Plugin);
    }
    Kind::ALL.into_iter().find(|kind| stem == self::stem(*kind)).map(Sort::Native)
}

#[cfg(test)]
mod tests;
