use std::path::Path;

use serde_json::json;

use super::*;
use crate::kube::{Kubeconfig, KubeconfigError};

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters:
  - {name: east, network: one, gateway: {address: 10.0.0.1}}
  - {name: west, network: two, gateway: {address: 10.0.0.2}}
  services:
    ledger.payments: {port: 80, clusters: [east, west]}
";

/// What sends requests to a cluster; without a cluster, what sends them nowhere.
fn policy(cluster: &str) -> String {
    if cluster.is_empty() {
        return String::new();
    }
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: payments}}\n\
         spec: {{services: [ledger], routing: {{pin: {{header: x-cell, to: {{a: {cluster}}}}}}}}}\n"
    )
}

/// Rolls out what sends requests to a cluster, into directories; `down` cannot be reached.
async fn rolled(dir: &Path, to: &str, down: &[&str]) -> Vec<Outcome> {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:#?}"));
    let (policies, _) = policy::Policy::read("policy.yaml", &policy(to), mesh.root_namespace());
    let (plans, findings) = policy::compile(&mesh, &policies);
    let plans = plans.unwrap_or_else(|| panic!("{findings:#?}"));
    let mut targets = BTreeMap::new();
    for cluster in mesh.clusters() {
        let name = cluster.name.as_str();
        let target = match down.contains(&name) {
            true => Err(nowhere(dir).await),
            false => Ok(Target::Directory(dir.join(name))),
        };
        targets.insert(cluster.name.clone(), target);
    }
    let url = "oci://registry/isthmus:v1".parse().unwrap();
    let options = Options { url: &url, upstream_check: false, dry_run: false };
    let how = How { dry_run: DryRun::No, force: false, parallel: 2 };
    roll_out(&mesh, &plans, targets, (options, how)).await.unwrap()
}

/// The error of a cluster that cannot be reached.
async fn nowhere(dir: &Path) -> ClusterError {
    let path = dir.join("kubeconfig");
    std::fs::write(&path, json!({"contexts": []}).to_string()).unwrap();
    let kubeconfig: Result<Kubeconfig, KubeconfigError> = Kubeconfig::read(Some(&path), None, None);
    kubeconfig.unwrap().cluster("nowhere", std::time::Duration::from_secs(1)).await.unwrap_err()
}

fn file(dir: &Path, cluster: &str, file: &str) -> String {
    std::fs::read_to_string(dir.join(cluster).join(file)).unwrap_or_default()
}

const RULE: &str = "isthmus-destination@payments.ledger.yaml";
const ROUTE: &str = "isthmus-route@payments.ledger.yaml";
const FILTER: &str = "isthmus-outbound.yaml";

#[tokio::test]
async fn who_would_send_requests_through_a_cluster_that_is_down_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let outcomes = rolled(dir, "west", &["west"]).await;
    let [east, west] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(matches!(west.trouble, Some(Trouble::Cluster(_))), "{west:?}");
    let told = east.trouble.as_ref().expect("it waits").to_string();
    assert!(told.starts_with("east: waits for west") && told.contains("payments.ledger"), "{told}");
    assert!(file(dir, "east", RULE).contains("isthmus-cluster-west"), "a subset harms nobody");
    assert_eq!(file(dir, "east", ROUTE) + &file(dir, "east", FILTER), "");

    // When it is up again, the same rollout catches up.
    let outcomes = rolled(dir, "west", &[]).await;
    assert!(outcomes.iter().all(|outcome| outcome.trouble.is_none()), "{outcomes:?}");
    assert!(file(dir, "east", ROUTE).contains("isthmus-cluster-west"));
    assert!(file(dir, "west", RULE).contains("isthmus-cluster-west"));
}

#[tokio::test]
async fn a_subset_stays_as_long_as_a_cluster_that_is_down_may_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    let outcomes = rolled(dir, "", &["east"]).await;
    let west = &outcomes[1];
    assert!(west.trouble.is_none(), "{west:?}");
    assert_eq!(west.change.left, [dir.join("west").join(RULE).display().to_string()]);
    assert!(file(dir, "west", RULE).contains("isthmus-cluster-west"));
    assert_eq!(file(dir, "west", ROUTE), "", "its own filter asks for no route any more");

    let outcomes = rolled(dir, "", &[]).await;
    assert!(outcomes.iter().all(|outcome| outcome.trouble.is_none()), "{outcomes:?}");
    assert_eq!(file(dir, "west", RULE) + &file(dir, "east", RULE), "");
}

#[tokio::test]
async fn a_cluster_that_needs_nothing_of_one_that_is_down_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    std::fs::write(dir.join("west").join(FILTER), "an older one").unwrap();
    let outcomes = rolled(dir, "west", &["east"]).await;
    assert!(outcomes[1].trouble.is_none(), "{outcomes:?}");
    assert_eq!(outcomes[1].change.written, [dir.join("west").join(FILTER).display().to_string()]);
}
