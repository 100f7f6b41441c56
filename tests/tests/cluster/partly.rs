//! `isthmus mesh apply` where not everything goes well: a cluster that is down, an account that may too little; and where
//! nothing is to be done at all.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::apply::{Istio, certify, objects, verb_by};
use super::mesh::Mesh;
use super::{account, post};

const NAMES: [&str; 3] = ["east", "north", "west"];

async fn everything(mesh: &Mesh) -> BTreeMap<&'static str, BTreeMap<String, Value>> {
    let mut found = BTreeMap::new();
    for name in NAMES {
        found.insert(name, objects(mesh, name).await);
    }
    found
}

async fn apply(mesh: &Mesh, istio: &Istio, more: &[&str]) -> (Option<i32>, String, String) {
    verb_by(mesh, istio, &mesh.clusters.kubeconfig(), ("apply", more)).await
}

/// The last word on each cluster.
fn ends(out: &str) -> Vec<String> {
    let is_last = |line: &&str| line.contains(": done, ") || line.contains(": not done, ");
    let word = |line: &str| line.split(", ").next().unwrap_or_default().to_owned();
    out.lines().filter(is_last).map(word).collect()
}

#[tokio::test]
async fn a_cluster_that_is_down_is_told_while_the_others_go_on_and_a_second_run_catches_up() {
    let Some(istio) = Istio::find() else { return };
    let Some(mut mesh) = Mesh::start("examples/replicated").await else { return };
    certify(&mesh).await;
    let controllers = mesh.controllers().await;
    nothing_by_dry_runs(&mesh, &istio).await;

    mesh.clusters.server_mut("west").stop();
    let (code, out, err) = apply(&mesh, &istio, &["--timeout", "5"]).await;
    assert_eq!(ends(&out), ["east: done", "north: done", "west: not done"], "{out}\n{err}");
    let told = "error: west: ";
    let told = err.lines().find(|line| line.starts_with(told)).expect("what is wrong with it");
    assert!(told.contains("the API server cannot be reached"), "{told}");
    assert_eq!(code, Some(4), "{err}");

    mesh.clusters.server_mut("west").resume().await;
    let (code, out, err) = apply(&mesh, &istio, &[]).await;
    assert_eq!(ends(&out), ["east: done", "north: done", "west: done"], "{out}\n{err}");
    let changed = |name: &str| {
        let changed =
            |line: &&str| line.starts_with(&format!("{name}: made: ")) || line.contains(": changed: ");
        out.lines().filter(changed).count()
    };
    assert_eq!((code, changed("east"), changed("north")), (Some(0), 0, 0), "{out}\n{err}");
    assert!(changed("west") > 5, "{out}");

    // Nothing is to be done any more, and a dry run says so.
    let before = everything(&mesh).await;
    let (code, out, err) = apply(&mesh, &istio, &["--dry-run=server"]).await;
    assert!(!out.contains("would be made") && !out.contains("would be changed"), "{out}");
    assert_eq!(code, Some(0), "{err}");
    assert!(everything(&mesh).await == before);
    who_may_too_little_is_named(&mesh, &istio).await;
    drop(controllers);
}

/// What a dry run says is to come, and nothing is there after.
async fn nothing_by_dry_runs(mesh: &Mesh, istio: &Istio) {
    let before = everything(mesh).await;
    for dry_run in ["--dry-run", "--dry-run=server"] {
        let (code, out, err) = apply(mesh, istio, &[dry_run]).await;
        for name in NAMES {
            for what in ["would be made: ", "would be run: istioctl install"] {
                assert!(out.contains(&format!("{name}: {what}")), "{dry_run}: {out}\n{err}");
            }
        }
        assert_eq!(code, Some(0), "{dry_run}: {out}\n{err}");
        assert!(everything(mesh).await == before, "{dry_run} changed something");
    }
}

/// An account that may only look is told what it may not do.
async fn who_may_too_little_is_named(mesh: &Mesh, istio: &Istio) {
    let client = mesh.clusters.client("west").await;
    let token = account(&client, "narrow").await;
    let rules = serde_json::json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]);
    let role = serde_json::json!({"metadata": {"name": "looker"}, "rules": rules});
    post(&client, "/apis/rbac.authorization.k8s.io/v1/clusterroles", &role).await;
    let binding = serde_json::json!({
        "metadata": {"name": "looker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looker"},
        "subjects": [{"kind": "ServiceAccount", "name": "narrow", "namespace": "narrow"}],
    });
    post(&client, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &binding).await;
    let entries = NAMES.map(|name| {
        let server = mesh.clusters.server(name);
        let token = if name == "west" { token.clone() } else { server.token().to_owned() };
        (name, server.url(), token)
    });
    let entries: Vec<(&str, &str, &str)> =
        entries.iter().map(|(name, url, token)| (*name, url.as_str(), token.as_str())).collect();
    let kubeconfig = mesh.clusters.kubeconfig_with(&entries);
    let (code, out, err) = verb_by(mesh, istio, Path::new(&kubeconfig), ("apply", &[])).await;
    assert_eq!(ends(&out), ["east: done", "north: done", "west: not done"], "{out}\n{err}");
    let told = err.lines().find(|line| line.starts_with("error: west: ")).expect("what is wrong with it");
    let may_not = "system:serviceaccount:narrow:narrow may not patch ";
    assert!(told.contains(may_not) && told.contains("grant the verb with RBAC"), "{told}");
    assert_eq!(code, Some(4), "{err}");
}
