//! Whether a kubeconfig does for a control plane what it is for.

use std::time::Duration;

use super::RemoteError;
use crate::kube::{ClusterError, Kind, Kubeconfig, Right};

/// What istiod lists and watches in a cluster that it reads, whatever it is used for.
const READS: [(&str, &str); 7] = [
    ("", "services"),
    ("discovery.k8s.io", "endpointslices"),
    ("", "pods"),
    ("", "nodes"),
    ("", "namespaces"),
    ("", "configmaps"),
    ("", "secrets"),
];

/// Connects as the holder of a kubeconfig, lists what istiod needs first, and asks after the rest: what cannot be done is
/// the error. It is asked from here, so a way that only pods have, or only this machine, is not told apart.
pub async fn check(kubeconfig: &str, timeout: Duration) -> Result<(), RemoteError> {
    let config = Kubeconfig::parse(kubeconfig).map_err(RemoteError::Kubeconfig)?;
    let context = config.current().unwrap_or_default().to_owned();
    let unusable = |error: ClusterError| RemoteError::Refused {
        server: "the API server".to_owned(),
        why: error.problem.to_string(),
    };
    let cluster = config.cluster(&context, timeout).await.map_err(unusable)?;
    let refused = |error: ClusterError| RemoteError::Refused {
        server: cluster.server().unwrap_or_default().to_owned(),
        why: error.problem.to_string(),
    };
    let mut lacks = Vec::new();
    for (group, resource) in READS {
        for verb in ["list", "watch"] {
            let right = Right { verb, group, resource };
            if !cluster.may(right).await.map_err(refused)? {
                lacks.push(right.to_string());
            }
        }
    }
    if !lacks.is_empty() {
        return Err(RemoteError::Lacks { lacks });
    }
    cluster.survey(&Kind::new("v1", "Namespace"), None, None).await.map_err(refused)?;
    Ok(())
}
