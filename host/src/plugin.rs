//! The `WasmPlugin` objects that put the filter and a plan in front of a cluster's proxies.

mod url;

use policy::Plan;
use policy::mesh::OnFailure;
use policy::plan::{Configuration, PlanError, Role};
use serde_json::{Value, json};

use crate::digest::sha256;
pub use url::{FileModule, HttpModule, ModuleDigest, ModuleUrl, ModuleUrlError, OciModule};

/// The module as proxies run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Where they get it from.
    pub url: ModuleUrl,
    /// What they do when it breaks.
    pub on_failure: OnFailure,
}

/// The SHA-256 of a plan's canonical JSON, in hex: its name wherever one must say which plan runs.
pub fn digest(plan: &Plan) -> Result<String, PlanError> {
    Ok(sha256(plan.to_json()?))
}

/// What the plugin of a role that runs a plan is configured with.
pub fn configuration(role: Role, plan: &Plan) -> Result<Configuration, PlanError> {
    Ok(Configuration { role, digest: digest(plan)?, plan: plan.clone() })
}

/// The name of the plugin of a role, in every cluster.
pub fn name(role: Role) -> String {
    format!("isthmus-{}", role.as_str())
}

/// Before whose proxies a plugin stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'n> {
    /// Those of the whole cluster: the plugin is in the root namespace, which is named here.
    Cluster(&'n str),
    /// Those of one namespace, whose plan is set apart.
    Namespace(&'n str),
}

impl Reach<'_> {
    fn namespace(&self) -> &str {
        match self {
            Self::Cluster(namespace) | Self::Namespace(namespace) => namespace,
        }
    }

    /// istiod puts the higher one first. The plugin of a namespace has to judge before that of the cluster, which looks
    /// whether it has.
    fn priority(self) -> u32 {
        match self {
            Self::Cluster(_) => 100,
            Self::Namespace(_) => 101,
        }
    }
}

/// The `WasmPlugin` of a plan: all it takes for istiod to put the filter in its place.
///
/// `phase` and `priority` are said because leaving them out means something else in each Istio.
pub fn wasm_plugin(role: Role, plan: &Plan, reach: Reach<'_>, module: &Deployed) -> Result<Value, PlanError> {
    let (phase, kind, (attach, to)) = match role {
        // No WasmPlugin puts a filter behind the load balancer: an EnvoyFilter does.
        Role::Outbound | Role::Upstream => {
            ("UNSPECIFIED_PHASE", "HTTP", ("match", json!([{"mode": "CLIENT"}])))
        }
        Role::Inbound => ("AUTHZ", "HTTP", ("match", json!([{"mode": "SERVER"}]))),
        Role::Gateway => {
            ("AUTHN", "NETWORK", ("selector", json!({"matchLabels": {"istio": "eastwestgateway"}})))
        }
    };
    let mut spec = json!({
        "pluginName": name(role),
        "phase": phase,
        "priority": reach.priority(),
        "type": kind,
        "failStrategy": module.on_failure.as_str(),
        "pluginConfig": serde_json::to_value(configuration(role, plan)?)?,
        attach: to,
    });
    if let Some(spec) = spec.as_object_mut() {
        module.url.describe(spec);
    }
    Ok(json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {
            "name": name(role),
            "namespace": reach.namespace(),
            "labels": {"app.kubernetes.io/managed-by": "isthmus"},
            "annotations": {"isthmus.dev/plan": digest(plan)?},
        },
        "spec": spec,
    }))
}
