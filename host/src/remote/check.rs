//! Whether a kubeconfig does for a control plane what it is for.

use std::time::Duration;

use serde_json::Value;

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

/// What a kubeconfig has besides an address, certificates and a token. It may be another's: what would run a program or read
/// a file here is not tried.
pub(super) fn foreign(kubeconfig: &str) -> Option<String> {
    let config: Value = serde_saphyr::from_str(kubeconfig).unwrap_or_default();
    let known = |list: &str, field: &str, known: &[&str]| -> Option<String> {
        let entries = config.get(list).and_then(Value::as_array).into_iter().flatten();
        let keys = entries.filter_map(|entry| entry.get(field)?.as_object()).flat_map(|entry| entry.keys());
        keys.into_iter().find(|key| !known.contains(&key.as_str())).cloned()
    };
    let of_cluster = ["server", "certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify"];
    known("clusters", "cluster", &of_cluster).or_else(|| known("users", "user", &["token"]))
}

/// Connects as the holder of a kubeconfig, lists what istiod needs first, and asks after the rest: what cannot be done is
/// the error. It is asked from here, so a way that only pods have, or only this machine, is not told apart.
pub async fn check(kubeconfig: &str, timeout: Duration) -> Result<(), RemoteError> {
    if let Some(what) = foreign(kubeconfig) {
        return Err(RemoteError::Foreign { what });
    }
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
