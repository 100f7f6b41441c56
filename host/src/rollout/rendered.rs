//! The objects of each cluster, each under the name of a file, by which it is known in a directory and in a cluster alike.

use std::collections::BTreeMap;

use policy::compile::{ClusterPlans, Plans};
use policy::name::{ClusterName, Namespace, Service};
use policy::plan::{PlanError, Role};
use policy::{Mesh, Plan};
use serde_json::Value;

use super::{Options, RolloutError};
use crate::digest::sha256;
use crate::native::upstream::{Behind, Module};
use crate::native::{self, Kind};
use crate::plugin::{self, Deployed, Reach};

/// What stands between the name of a kind and the namespace in the name of a file; in neither of them can it be.
const NAMESPACE: char = '@';

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
    pub(super) object: Value,
}

/// What a cluster should have: its plugins in the order in which they may come.
#[derive(Debug, Clone, Default)]
pub(super) struct Rendered {
    /// A digest over those of its plans.
    pub(super) digest: String,
    pub(super) parts: Vec<Part>,
}

/// Everything that the plans of a mesh need, in each cluster.
pub(super) fn render(
    mesh: &Mesh,
    plans: &Plans,
    options: Options<'_>,
) -> Result<BTreeMap<ClusterName, Rendered>, RolloutError> {
    let mut objects = native::objects(mesh, plans);
    let module = Deployed { url: options.url.clone(), on_failure: mesh.on_failure() };
    let mut rendered = BTreeMap::new();
    for (cluster, plans) in plans {
        let (digest, plugins) = plugins(cluster, plans, mesh.root_namespace(), &module)?;
        let natives = objects.remove(cluster).unwrap_or_default().into_iter();
        let mut parts: Vec<Part> =
            natives.map(|((kind, service), object)| of(kind, &service, object)).collect();
        parts.extend(plugins);
        parts.extend(upstream(mesh, cluster, plans, options)?);
        rendered.insert(cluster.clone(), Rendered { digest, parts });
    }
    Ok(rendered)
}

fn of(kind: Kind, service: &Service, object: Value) -> Part {
    Part {
        file: native_file(kind, service.namespace.as_str(), service.name.as_str()),
        sort: Sort::Native(kind),
        object,
    }
}

/// The plugins of a cluster, those of single namespaces first, and a digest over all their plans.
fn plugins(
    cluster: &ClusterName,
    plans: &ClusterPlans,
    root: &Namespace,
    module: &Deployed,
) -> Result<(String, Vec<Part>), RolloutError> {
    let plan_error = |source| RolloutError::Plan { cluster: cluster.clone(), source };
    let mut digests = String::new();
    let mut parts = Vec::new();
    for (role, namespace, plan) in plans.parts() {
        let reach = namespace.map_or(Reach::Cluster(root.as_str()), |own| Reach::Namespace(own.as_str()));
        let object = plugin::wasm_plugin(role, &plan, reach, module).map_err(plan_error)?;
        let file = plugin_file(&plugin::name(role), namespace.map(Namespace::as_str));
        parts.push((namespace.is_none(), Part { file, sort: Sort::Plugin, object }));
        digests += &plugin::digest(&plan).map_err(plan_error)?;
    }
    parts.sort_by(|(everywhere, part), (other, another)| {
        (everywhere, &part.file).cmp(&(other, &another.file))
    });
    Ok((sha256(digests), parts.into_iter().map(|(_, part)| part).collect()))
}

/// What holds boundaries behind the load balancer, where it is wanted and there is a boundary.
fn upstream(
    mesh: &Mesh,
    cluster: &ClusterName,
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
        .map_err(|source| RolloutError::Plan { cluster: cluster.clone(), source })?;
    let name = plugin::name(Role::Upstream);
    let object = native::upstream::envoy_filter(mesh.root_namespace(), &name, &module, &places);
    Ok(Some(Part { file: plugin_file(&name, None), sort: Sort::Plugin, object }))
}

/// The file of a service's object.
pub(super) fn native_file(kind: Kind, namespace: &str, service: &str) -> String {
    format!("{}{NAMESPACE}{namespace}.{service}.yaml", stem(kind))
}

/// The file of a plugin: of a namespace of its own, or of the root namespace.
fn plugin_file(name: &str, namespace: Option<&str>) -> String {
    let place = namespace.map_or_else(String::new, |namespace| format!("{NAMESPACE}{namespace}"));
    format!("{name}{place}.yaml")
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
        "WasmPlugin" | "EnvoyFilter" => Some(plugin_file(name, Some(namespace).filter(|own| *own != root))),
        _ => None,
    }
}

/// What an object is that is wanted no more, by its file; `None` if it is not for a rollout to remove.
pub(super) fn sort_of(file: &str) -> Option<Sort> {
    let is = |what: &str| file.strip_prefix(what).is_some_and(|rest| rest.starts_with(NAMESPACE));
    let roles = [Role::Inbound, Role::Outbound, Role::Gateway, Role::Upstream];
    if roles.into_iter().any(|role| is(&plugin::name(role)))
        || file == plugin_file(&plugin::name(Role::Upstream), None)
    {
        return Some(Sort::Plugin);
    }
    Kind::ALL.into_iter().find(|kind| is(&stem(*kind))).map(Sort::Native)
}
