//! The account that control planes read a cluster as, and what it may.

use serde_json::{Value, json};

use super::{READER, RemoteError};
use crate::kube::{Apply, Cluster, Id, MESH_MANAGER, is_managed_by};
use crate::manifest::ISTIO_NAMESPACE;

/// The role of the account. Istio's chart calls it so too.
const ROLE: &str = "istio-reader-clusterrole-istio-system";

/// Makes what is missing. What Istio's charts have made is theirs.
pub(super) async fn ensure(cluster: &Cluster, force: bool) -> Result<(), RemoteError> {
    for object in objects() {
        let Ok(id) = Id::of(&object) else { continue };
        let there = cluster.get(&id).await?;
        // Said again of a namespace, nothing would be what we say of it.
        let is_ours = |there| id.kind.name != "Namespace" && is_managed_by(there, MESH_MANAGER);
        if there.as_ref().is_none_or(is_ours) {
            cluster.apply(&object, Apply { dry_run: false, force }).await?;
        }
    }
    Ok(())
}

fn objects() -> [Value; 4] {
    let rbac = "rbac.authorization.k8s.io";
    let labels = json!({"app.kubernetes.io/managed-by": "isthmus"});
    let metadata = json!({"name": ROLE, "labels": labels});
    [
        // The account is in it. Whose it is besides is not ours to say.
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ISTIO_NAMESPACE}}),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": READER, "namespace": ISTIO_NAMESPACE, "labels": labels},
        }),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": metadata, "rules": rules()}),
        json!({
            "apiVersion": format!("{rbac}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": ROLE},
            "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": ISTIO_NAMESPACE}],
        }),
    ]
}

/// What Istio's chart lets its reader do.
fn rules() -> Value {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
    let read = ["get", "list", "watch"];
    let istio = ["config", "security", "networking", "authentication", "rbac", "telemetry", "extensions"]
        .map(|group| format!("{group}.istio.io"));
    let istio: Vec<&str> = istio.iter().map(String::as_str).collect();
    let core = [
        "configmaps",
        "endpoints",
        "namespaces",
        "nodes",
        "pods",
        "replicationcontrollers",
        "secrets",
        "services",
    ];
    json!([
        rule(&istio, &["*"], &read),
        rule(&[""], &core, &read),
        rule(&["networking.x-k8s.io", "gateway.networking.k8s.io"], &["gateways"], &read),
        rule(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &read),
        rule(&["discovery.k8s.io"], &["endpointslices"], &read),
        rule(&["multicluster.x-k8s.io"], &["serviceexports"], &["get", "list", "watch", "create", "delete"]),
        rule(&["multicluster.x-k8s.io"], &["serviceimports"], &read),
        rule(&["apps"], &["replicasets"], &read),
        rule(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        rule(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
    ])
}
