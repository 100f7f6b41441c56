//! Pods: those that run, and what their ports answer through the API server.

use std::time::Duration;

use serde_json::Value;

use super::call::Call;
use super::object::is_plain;
use super::{Cluster, ClusterError, Deed, Kind, Problem};

/// A port of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPort {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// The port.
    pub port: u16,
}

/// More bytes than the metrics of a proxy are. A pod answers what it likes.
const LARGEST: usize = 32 << 20;

impl Cluster {
    /// The pods of all namespaces that run.
    pub async fn running_pods(&self) -> Result<Vec<Value>, ClusterError> {
        let kind = Kind::new("v1", "Pod");
        let listed = self.pages(&kind, None, "fieldSelector=status.phase=Running&", Call::get).await;
        listed.map_err(|problem| self.error(Deed::list(&kind.to_string()), problem))
    }

    /// What a port of a pod answers to a GET, as text. The API server itself opens the connection. It is asked once:
    /// there are many, and one that does not answer now is told of as that.
    pub async fn ask_pod(&self, to: &PodPort, path: &str, patience: Duration) -> Result<String, Problem> {
        let PodPort { namespace, pod, port } = to;
        if !is_plain(namespace) || !is_plain(pod) {
            return Err(Problem::malformed("metadata.name", "is no name that an object can have"));
        }
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        let call = Call::get(path);
        match tokio::time::timeout(patience, self.bytes(&call, LARGEST)).await {
            Err(_) => Err(Problem::TimedOut { after: patience }),
            Ok(answer) => {
                String::from_utf8(answer?).map_err(|error| Problem::Unreadable { why: error.to_string() })
            }
        }
    }
}
