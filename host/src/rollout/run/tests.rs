use std::collections::BTreeSet;
use std::path::Path;

use proptest::collection::vec;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestRunner};
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
  - {name: north, network: three, gateway: {address: 10.0.0.3}}
  services:
    ledger.payments: {port: 80, clusters: [east, west, north]}
";

/// What sends requests to a cluster, or to each of two; without a cluster, what sends them nowhere.
fn policy(clusters: &str) -> String {
    let pins: Vec<String> = ["a", "b"]
        .iter()
        .zip(clusters.split_terminator(' '))
        .map(|(value, to)| format!("{value}: {to}"))
        .collect();
    if pins.is_empty() {
        return String::new();
    }
    let pins = pins.join(", ");
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: payments}}\n\
         spec:\n  services: [ledger]\n  routing:\n    pin: {{header: x-cell, to: {{{pins}}}}}\n"
    )
}

/// Rolls out what sends requests to a cluster, into directories; `down` cannot be reached.
async fn rolled(dir: &Path, to: &str, down: &[&str]) -> Vec<Outcome> {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:#?}"));
    let (policies, findings) = policy::Policy::read("policy.yaml", &policy(to), mesh.root_namespace());
    assert!(findings.is_empty(), "{findings:#?}");
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
    let url = "oci://registry.example/isthmus:v1".parse().unwrap();
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
    let [east, _, west] = &outcomes[..] else { panic!("{outcomes:?}") };
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
    let west = &outcomes[2];
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
    assert!(outcomes[2].trouble.is_none(), "{outcomes:?}");
    assert_eq!(outcomes[2].change.written, [dir.join("west").join(FILTER).display().to_string()]);
}

const CLUSTERS: [&str; 3] = ["east", "north", "west"];
const SENT: [&str; 6] = ["", "east", "west", "east west", "north east", "west north"];

/// What each cluster's filter says, for everything that may be sent.
async fn filters(dir: &Path) -> BTreeMap<(&'static str, String), &'static str> {
    let mut filters = BTreeMap::new();
    for (number, to) in SENT.into_iter().enumerate() {
        let dir = dir.join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        rolled(&dir, to, &[]).await;
        filters.extend(CLUSTERS.map(|cluster| ((cluster, file(&dir, cluster, FILTER)), to)));
    }
    filters
}

/// The clusters that a text names the subsets of.
fn subsets(text: &str) -> BTreeSet<String> {
    let rest = text.split("isthmus-cluster-").skip(1);
    rest.map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
}

/// Nothing that a filter may ask for is lost, wherever a cluster stands.
fn check(dir: &Path, filters: &BTreeMap<(&'static str, String), &'static str>) {
    let subsets_of = |cluster: &str| subsets(&file(dir, cluster, RULE));
    for cluster in CLUSTERS {
        let routes = subsets(&file(dir, cluster, ROUTE));
        let filter = file(dir, cluster, FILTER);
        if !filter.is_empty() {
            let asked = filters.get(&(cluster, filter)).expect("a filter that was rolled out");
            for to in asked.split_terminator(' ') {
                assert!(
                    routes.contains(to),
                    "the filter of {cluster} asks for {to}, and its routes know {routes:?}"
                );
            }
        }
        for to in &routes {
            assert!(subsets_of(cluster).contains(to), "{cluster} sends to {to}, a subset that it lacks");
            assert!(subsets_of(to).contains(to), "{cluster} sends to {to}, whose gateways lack the subset");
        }
    }
}

#[test]
fn whatever_is_rolled_out_and_whoever_is_down_no_route_leads_nowhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let known = tempfile::tempdir().unwrap();
    let known = known.path();
    let filters = runtime.block_on(filters(known));
    let rollout = (0..SENT.len(), subsequence(CLUSTERS.to_vec(), 0..3));
    let schedule = (vec(rollout, 1..8), 0..SENT.len());
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let run = |(rollouts, last): (Vec<(usize, Vec<&str>)>, usize)| {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (to, down) in rollouts {
            runtime.block_on(rolled(dir, SENT[to], &down));
            check(dir, &filters);
        }
        // Once all can be reached, nothing is left of what was before.
        runtime.block_on(rolled(dir, SENT[last], &[]));
        for (cluster, name) in
            CLUSTERS.iter().flat_map(|cluster| [RULE, ROUTE, FILTER].map(|name| (cluster, name)))
        {
            assert_eq!(file(dir, cluster, name), file(&known.join(last.to_string()), cluster, name));
        }
        Ok(())
    };
    TestRunner::new(config).run(&schedule, run).unwrap();
}
