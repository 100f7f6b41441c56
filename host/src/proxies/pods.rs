//! The proxies of a cluster, each asked through the API server: who may read pods need not be able to reach them.
//!
//! Asked is Envoy's own port for metrics, 15090, and not the agent's, 15020: that one asks the application for its metrics
//! as well, and waits for it.

use std::sync::Arc;

use serde_json::Value;

use super::reading::QUERY;
use super::{Asking, Kind, Proxy, Reading, Silence};
use crate::kube::{Cluster, PodPort, Problem, many};

/// The container that Istio runs a proxy in, whatever the proxy is for.
const CONTAINER: &str = "istio-proxy";
/// What that container calls its port for metrics.
const PORT: &str = "http-envoy-prom";
/// The port where the container does not say it.
const DEFAULT_PORT: u16 = 15090;

/// A pod with a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPod {
    /// What it is for.
    pub kind: Kind,
    /// Where it is asked.
    pub at: PodPort,
    /// The version of its image.
    pub version: Option<String>,
}

/// Those of a cluster's pods that have a proxy and are not about to end.
pub fn with_proxies(pods: &[Value]) -> Vec<InPod> {
    pods.iter().filter_map(InPod::of).collect()
}

impl InPod {
    fn of(pod: &Value) -> Option<Self> {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            return None;
        }
        // A sidecar is an init container that goes on, where Kubernetes has those.
        let containers = ["/spec/containers", "/spec/initContainers"];
        let mut containers = containers.iter().filter_map(|path| pod.pointer(path)?.as_array()).flatten();
        let proxy =
            containers.find(|container| container.get("name").is_some_and(|name| name == CONTAINER))?;
        let ports = proxy.get("ports").and_then(Value::as_array).into_iter().flatten();
        let port = ports
            .filter(|port| port.get("name").is_some_and(|name| name == PORT))
            .find_map(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok());
        let at = PodPort {
            namespace: text("/metadata/namespace")?.to_owned(),
            pod: text("/metadata/name")?.to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
        };
        let image = proxy.get("image").and_then(Value::as_str);
        let version = image.and_then(tag).map(str::to_owned);
        Some(Self { kind: kind(proxy, text("/metadata/labels/istio")), at, version })
    }

    /// Asks it.
    async fn ask(self, cluster: Arc<Cluster>, asking: Asking) -> Proxy {
        let said = match cluster.ask_pod(&self.at, QUERY, asking.patience).await {
            Ok(text) => Reading::read(&text).map_err(Silence::from),
            Err(problem) => Err(problem.into()),
        };
        let namespace = self.at.namespace.parse().ok();
        Proxy { name: format!("{}/{}", self.at.namespace, self.at.pod), namespace, kind: self.kind, said }
    }
}

impl From<Problem> for Silence {
    fn from(problem: Problem) -> Self {
        if matches!(problem, Problem::Forbidden { .. }) {
            return Self::Forbidden(problem.to_string());
        }
        // The server says it of the pod and not of itself.
        if let Problem::Server { message, .. } = problem {
            return Self::Unreachable(message);
        }
        Self::Unreachable(problem.to_string())
    }
}

/// `pilot-agent proxy sidecar`, or `proxy router` in a gateway.
fn kind(container: &Value, istio: Option<&str>) -> Kind {
    let arguments = container.get("args").and_then(Value::as_array);
    let is_router = arguments.is_some_and(|arguments| arguments.iter().any(|argument| argument == "router"));
    match (is_router, istio) {
        (true, Some("eastwestgateway")) => Kind::EastWest,
        (true, _) => Kind::Gateway,
        (false, _) => Kind::Sidecar,
    }
}

/// The tag of an image, which is Istio's version where it is Istio's image.
pub(crate) fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next().unwrap_or(image);
    let (_, last) = name.rsplit_once('/').unwrap_or(("", name));
    last.split_once(':').map(|(_, tag)| tag)
}

/// Asks every proxy of a cluster, so many at a time.
pub async fn in_pods(cluster: &Arc<Cluster>, pods: Vec<InPod>, asking: Asking) -> Vec<Proxy> {
    let asked = pods.into_iter().map(|pod| pod.ask(Arc::clone(cluster), asking));
    many::bounded(asked, asking.parallel).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Value {
        let mut pod = json!({
            "metadata": {"namespace": "payments", "name": "ledger-1", "labels": {"app": "ledger"}},
            "spec": {"containers": [
                {"name": "ledger", "image": "ledger:v9"},
                {"name": "istio-proxy", "image": "docker.io:443/istio/proxyv2:1.30.2@sha256:00", "args": ["proxy", "sidecar"]},
            ]},
        });
        change(&mut pod);
        pod
    }

    #[test]
    fn a_sidecar_is_found_among_the_containers_and_among_those_that_start_first() {
        let beside = pod(|_| {});
        let before = pod(|pod| {
            let containers = pod["spec"]["containers"].take();
            pod["spec"] = json!({"containers": [containers[0]], "initContainers": [containers[1]]});
        });
        let found = with_proxies(&[beside, before]);
        let at = PodPort { namespace: "payments".to_owned(), pod: "ledger-1".to_owned(), port: 15090 };
        let wanted = InPod { kind: Kind::Sidecar, at, version: Some("1.30.2".to_owned()) };
        assert_eq!(found, [wanted.clone(), wanted]);
    }

    #[test]
    fn gateways_are_told_apart_and_what_has_no_proxy_or_ends_is_none() {
        let gateway = |label: Value| {
            pod(|pod| {
                pod["metadata"]["labels"]["istio"] = label;
                pod["spec"]["containers"] = json!([{
                    "name": "istio-proxy",
                    "image": "proxyv2",
                    "args": ["proxy", "router"],
                    "ports": [{"name": "tls", "containerPort": 15443}, {"name": "http-envoy-prom", "containerPort": 16090}],
                }]);
            })
        };
        let ends = pod(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        let bare = pod(|pod| pod["spec"]["containers"] = json!([{"name": "ledger"}]));
        let found =
            with_proxies(&[gateway(json!("eastwestgateway")), gateway(json!("ingressgateway")), ends, bare]);
        let kinds: Vec<_> =
            found.iter().map(|found| (found.kind, found.at.port, found.version.as_deref())).collect();
        assert_eq!(kinds, [(Kind::EastWest, 16090, None), (Kind::Gateway, 16090, None)]);
    }
}
