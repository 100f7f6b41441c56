//! The objects that put the filter and a plan in front of a cluster's proxies: a `WasmPlugin`, or a `TrafficExtension` that
//! says the same.

mod kinds;
mod url;

use policy::Plan;
use policy::mesh::{Extension, OnFailure};
use policy::name::ClusterName;
use policy::plan::{Configuration, PlanError, Role};
use serde_json::{Map, Value, json};

use crate::digest::sha256;
pub(crate) use kinds::{API_VERSION, module, other, settings, settings_mut, without_module};
pub use kinds::{configured, extension};
pub use url::{FileModule, HttpModule, ModuleDigest, ModuleUrl, ModuleUrlError, OciModule};

/// The module as proxies run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Where they get it from.
    pub url: ModuleUrl,
    /// What they do when it breaks.
    pub on_failure: OnFailure,
    /// The kind of object that it comes as.
    pub extension: Extension,
}

/// The SHA-256 of a plan's canonical JSON, in hex: its name wherever one must say which plan runs.
pub fn digest(plan: &Plan) -> Result<String, PlanError> {
    Ok(sha256(plan.to_json()?))
}

/// What the plugin of a role that runs a plan is configured with.
pub fn configuration(role: Role, plan: &Plan) -> Result<Configuration, PlanError> {
    Ok(Configuration { role, digest: digest(plan)?, plan: plan.clone(), trial: None })
}

/// The name of the plugin of a role, in every cluster.
pub fn name(role: Role) -> String {
    format!("isthmus-{}", role.as_str())
}

/// What the object of a role's plugin is called, among those of a control plane that leads several clusters, `of` which one.
pub fn object_name(role: Role, of: Option<&ClusterName>) -> String {
    of.map_or_else(|| name(role), |cluster| format!("{}-{cluster}", name(role)))
}

/// The label that istiod gives every proxy and endpoint: its cluster.
pub const CLUSTER: &str = "topology.istio.io/cluster";

/// Before whose proxies a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach<'n> {
    /// In which namespaces.
    pub span: Span<'n>,
    /// In which cluster, where the control plane leads several: without that it reaches the proxies of all.
    pub of: Option<&'n ClusterName>,
}

/// The namespaces whose proxies a plugin reaches, and with that its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span<'n> {
    /// All: the plugin is in the root namespace, which is named here.
    All(&'n str),
    /// One, whose plan is set apart.
    One(&'n str),
}

impl Reach<'_> {
    fn namespace(&self) -> &str {
        match self.span {
            Span::All(namespace) | Span::One(namespace) => namespace,
        }
    }

    /// istiod puts the higher one first. The plugin of a namespace has to judge before that of the cluster, which looks
    /// whether it has.
    fn priority(self) -> u32 {
        match self.span {
            Span::All(_) => 100,
            Span::One(_) => 101,
        }
    }

    /// The labels of the proxies that it is for, beside those of its role.
    fn labels(self) -> Map<String, Value> {
        self.of.map(|cluster| (CLUSTER.to_owned(), Value::from(cluster.as_str()))).into_iter().collect()
    }
}

/// The object of a plan: all it takes for istiod to put the filter in its place.
///
/// `phase` and `priority` are said because leaving them out means something else in each Istio.
pub fn object(role: Role, plan: &Plan, reach: Reach<'_>, module: &Deployed) -> Result<Value, PlanError> {
    let plugin = wasm_plugin(role, plan, reach, module)?;
    Ok(match module.extension {
        Extension::WasmPlugin => plugin,
        Extension::TrafficExtension => kinds::traffic_extension(&plugin),
    })
}

fn wasm_plugin(role: Role, plan: &Plan, reach: Reach<'_>, module: &Deployed) -> Result<Value, PlanError> {
    let mut labels = reach.labels();
    let (phase, kind, mode) = match role {
        // Neither kind puts a filter behind the load balancer: an EnvoyFilter does.
        Role::Outbound | Role::Upstream => ("UNSPECIFIED_PHASE", "HTTP", Some("CLIENT")),
        Role::Inbound => ("AUTHZ", "HTTP", Some("SERVER")),
        Role::Gateway => {
            labels.insert("istio".to_owned(), Value::from("eastwestgateway"));
            ("AUTHN", "NETWORK", None)
        }
    };
    let mut spec = json!({
        "pluginName": name(role),
        "phase": phase,
        "priority": reach.priority(),
        "type": kind,
        "failStrategy": module.on_failure.as_str(),
        "pluginConfig": serde_json::to_value(configuration(role, plan)?)?,
    });
    if let Some(fields) = spec.as_object_mut() {
        module.url.describe(fields);
        fields.extend(mode.map(|mode| ("match".to_owned(), json!([{"mode": mode}]))));
        if !labels.is_empty() {
            fields.insert("selector".to_owned(), json!({"matchLabels": labels}));
        }
    }
    Ok(json!({
        "apiVersion": API_VERSION,
        "kind": Extension::WasmPlugin.as_str(),
        "metadata": {
            "name": object_name(role, reach.of),
            "namespace": reach.namespace(),
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
            "annotations": {"isthmus.dev/plan": digest(plan)?},
        },
        "spec": spec,
    }))
}
