//! What an istiod says of the clusters that it reads by remote secrets, asked through the API server of its own cluster.
//!
//! It is asked for its metrics, which it gives to everybody; who wants to ask the rest of what it knows has to be a workload of Istio's
//! namespace. `istiod_remote_cluster_sync_status` is 1 for the state that a cluster is in.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{Asking, ExpositionError, Silence, exposition};
use crate::kube::{Cluster, PodPort, many};

const METRIC: &str = "istiod_remote_cluster_sync_status";
/// What the container calls its port for metrics, and the port where it does not say it.
const PORT: (&str, u16) = ("http-monitoring", 15014);

/// The states of clusters that an istiod says of, by their names.
pub type Reads = BTreeMap<String, String>;

/// An istiod, and what it said; `None` where it is too old to say it, or reads no other cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Istiod {
    /// Its pod.
    pub pod: String,
    /// What it said.
    pub said: Result<Option<Reads>, Silence>,
}

/// Asks every istiod among the pods of a cluster.
pub async fn istiods(cluster: &Arc<Cluster>, pods: &[Value], namespace: &str, asking: Asking) -> Vec<Istiod> {
    let found: Vec<PodPort> = pods.iter().filter_map(|pod| place(pod, namespace)).collect();
    let asked = found.into_iter().map(|at| ask(Arc::clone(cluster), at, asking));
    many::bounded(asked, asking.parallel).await
}

/// Where an istiod answers, if a pod is one that is not about to end.
fn place(pod: &Value, namespace: &str) -> Option<PodPort> {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str);
    let is_one = text("/metadata/namespace")? == namespace && text("/metadata/labels/app") == Some("istiod");
    if !is_one || pod.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let mut ports = containers.filter_map(|container| container.get("ports")?.as_array()).flatten();
    let (name, default) = PORT;
    let said = ports.find(|port| port.get("name").is_some_and(|said| said == name));
    let port = said.and_then(|port| u16::try_from(port.get("containerPort")?.as_u64()?).ok());
    Some(PodPort {
        namespace: namespace.to_owned(),
        pod: text("/metadata/name")?.to_owned(),
        port: port.unwrap_or(default),
    })
}

async fn ask(cluster: Arc<Cluster>, at: PodPort, asking: Asking) -> Istiod {
    let said = match cluster.ask_pod(&at, "/metrics", asking.patience).await {
        Ok(text) => read(&text).map_err(Silence::from),
        Err(problem) => Err(problem.into()),
    };
    Istiod { pod: at.pod, said }
}

fn read(text: &str) -> Result<Option<Reads>, ExpositionError> {
    let mut reads = None;
    for sample in exposition::samples(text) {
        let sample = sample?;
        if sample.name != METRIC {
            continue;
        }
        let reads: &mut Reads = reads.get_or_insert_default();
        if let (Some(cluster), Some(state), true) =
            (sample.label("cluster"), sample.label("status"), sample.value > 0.0)
        {
            reads.insert(cluster.to_owned(), state.to_owned());
        }
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_each_cluster_the_state_counts_that_it_is_in() {
        let text = "# TYPE istiod_remote_cluster_sync_status gauge\n\
            istiod_remote_cluster_sync_status{cluster=\"eu\",cluster_type=\"remote\",status=\"synced\"} 1\n\
            istiod_remote_cluster_sync_status{cluster=\"eu\",cluster_type=\"remote\",status=\"timeout\"} 0\n\
            istiod_remote_cluster_sync_status{cluster=\"us\",cluster_type=\"remote\",status=\"timeout\"} 1\n\
            istiod_remote_cluster_sync_status{cluster=\"gone\",cluster_type=\"remote\",status=\"synced\"} 0\n\
            pilot_xds_push_time_bucket{type=\"cds\",le=\"+Inf\"} 4\n";
        let wanted =
            [("eu", "synced"), ("us", "timeout")].map(|(name, state)| (name.to_owned(), state.to_owned()));
        assert_eq!(read(text), Ok(Some(wanted.into())));
        assert_eq!(read("istiod_uptime_seconds 4\n"), Ok(None));
        assert!(read("<html>").is_err());
    }

    #[test]
    fn an_istiod_is_asked_at_the_port_that_it_says() {
        let pod = |ports: Value| {
            json!({
                "metadata": {"namespace": "istio-system", "name": "istiod-1", "labels": {"app": "istiod"}},
                "spec": {"containers": [{"name": "discovery", "ports": ports}]},
            })
        };
        let port = |pod: &Value, namespace: &str| place(pod, namespace).map(|at| at.port);
        assert_eq!(port(&pod(json!([])), "istio-system"), Some(15014));
        let said = pod(
            json!([{"name": "http-debug", "containerPort": 8080}, {"name": "http-monitoring", "containerPort": 9}]),
        );
        assert_eq!(port(&said, "istio-system"), Some(9));
        assert_eq!(port(&said, "default"), None, "anybody may call a pod istiod");
    }
}
