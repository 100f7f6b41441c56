//! The proxies of a walk, as Istio describes them.

use policy::name::{Namespace, ServiceAccount};
use policy::plan::{Plan, Role};
use serde_json::{Value, json};

use super::Journey;
use crate::sandbox::{Direction, Node};

/// Which proxy of a cluster it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proxy<'p> {
    pub(super) namespace: &'p Namespace,
    pub(super) account: Option<&'p ServiceAccount>,
    /// The label `istio` of a gateway.
    pub(super) gateway: Option<&'static str>,
}

/// A proxy's node, as Istio's bootstrap describes it.
pub(super) fn node(
    role: Role,
    plan: &Plan,
    proxy: &Proxy<'_>,
    (labels, key): (&Value, Option<String>),
) -> Node {
    let (home, namespace) = (plan.home(), proxy.namespace);
    let kind = if proxy.gateway.is_some() { "router" } else { "sidecar" };
    let mut metadata = json!({
        "CLUSTER_ID": home.cluster.as_str(),
        "NETWORK": home.network.as_str(),
        "MESH_ID": home.mesh,
        "NAMESPACE": namespace.as_str(),
        "LABELS": labels,
    });
    if let (Some(fields), Some(account)) = (metadata.as_object_mut(), proxy.account) {
        fields.insert("SERVICE_ACCOUNT".to_owned(), json!(account.as_str()));
        fields.extend(key.map(|key| ("ISTHMUS_TOKEN_KEY".to_owned(), json!(key))));
    }
    Node {
        id: format!("{kind}~192.0.2.1~app.{namespace}~{namespace}.svc.cluster.local"),
        cluster: format!("app.{namespace}"),
        metadata,
        listener_direction: match role {
            Role::Inbound => Direction::Inbound,
            Role::Outbound | Role::Upstream | Role::Gateway => Direction::Outbound,
        },
        ..Node::default()
    }
}

/// The egress gateway of the source's cluster, as istiod describes it.
pub(super) fn egress(journey: &Journey<'_>) -> Value {
    let workload = format!("gateway;{};gateway;;{}", journey.identity.namespace, journey.source.name);
    json!({"filter_metadata": {"istio": {"workload": workload}}})
}

/// The endpoint that is chosen, as istiod describes it.
pub(super) fn workload(journey: &Journey<'_>) -> Value {
    let (service, cluster) = (&journey.service, &journey.destination.name);
    let workload = format!("{0};{1};{0};v1;{cluster}", service.name, service.namespace);
    json!({"filter_metadata": {"istio": {"workload": workload}}})
}
