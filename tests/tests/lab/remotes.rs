//! Clusters of one control plane, whose objects are all in the cluster of that: each proxy runs what is for its own.

use std::collections::BTreeSet;
use std::path::Path;

use isthmus::lab::{Answer, Client, Get, Lab, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::module;
use policy::{Mesh, Policy};
use time::OffsetDateTime;

use super::{envoy, eventually};

/// The hub's istiod leads the branch, on a network of its own, and the annex, on the hub's. The island has its own.
const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: remotes}
spec:
  clusters:
  - {name: hub, network: core, region: north, gateway: {address: 192.0.2.1}}
  - {name: annex, network: core, region: north, controlPlane: {remoteOf: hub}}
  - {name: branch, network: edge, region: south, controlPlane: {remoteOf: hub}, gateway: {address: 192.0.2.2}}
  - {name: island, network: sea, region: south, gateway: {address: 192.0.2.3}}
  services:
    web.shop: {port: 8080}
";

const CLUSTERS: [&str; 4] = ["hub", "annex", "branch", "island"];

fn client(cluster: &str) -> Client {
    Client::new(cluster, "shop", "sleep")
}

async fn up(dir: &Path) -> (Stage, Lab) {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let site = Site::claim(stage::blueprint(&mesh, CLUSTERS.map(client)), dir).expect("a site");
    let stage = Stage::set(&mesh, &site, &module()).expect("a stage");
    stage.roll_out(&[]).expect("a rollout");
    let lab = site.up(&envoy(), OffsetDateTime::now_utc()).await.expect("the lab comes up");
    (stage, lab)
}

fn policy(stage: &Stage, spec: &str) -> Vec<Policy> {
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: web, namespace: shop}}\nspec: {{services: [web], {spec}}}\n"
    );
    let (policies, findings) = Policy::read("web.yaml", &text, stage.mesh().root_namespace());
    assert_eq!(findings, []);
    policies
}

async fn ask(lab: &Lab, from: &str, cell: &str) -> Answer {
    let get = Get::new("web.shop:8080", "/").header("x-cell", cell);
    lab.get(&client(from), &get).await.expect("an answer")
}

/// Waits until the requests of a cluster are answered by exactly these, in forty tries.
async fn answered_by(lab: &Lab, from: &str, cell: &str, by: &[&str]) {
    let wanted: BTreeSet<&str> = by.iter().copied().collect();
    eventually(async || {
        let mut answers = Vec::new();
        for _ in 0..40 {
            answers.push(ask(lab, from, cell).await);
        }
        let by: BTreeSet<&str> =
            answers.iter().map(|answer| answer.header("x-destination-cluster").unwrap_or("none")).collect();
        if by == wanted { Ok(()) } else { Err(format!("{from} is answered by {by:?}, not by {wanted:?}")) }
    })
    .await;
}

/// Where the requests of each cluster may go within a boundary.
async fn each_keeps_within(lab: &Lab, reached: &[(&str, &[&str])]) {
    for (from, by) in reached {
        answered_by(lab, from, "any", by).await;
    }
}

#[tokio::test]
async fn what_is_for_a_remote_is_in_the_cluster_of_its_control_plane_and_reaches_it_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = up(dir.path()).await;
    // Each is answered by all, and the tags are those of the proxies' own clusters.
    for from in CLUSTERS {
        answered_by(&lab, from, "any", &CLUSTERS).await;
    }
    for remote in ["annex", "branch"] {
        let files = std::fs::read_dir(lab.site().plugins(remote)).expect("its directory").count();
        assert_eq!(files, 0, "{remote} has objects of its own, which no istiod reads");
    }
    for upstream_check in [false, true] {
        let rolled = |spec: &str| {
            let policies = policy(&stage, spec);
            stage.roll_out_with(&policies, upstream_check).expect("a rollout");
        };
        rolled("routing: {boundary: Cluster}");
        let own = CLUSTERS.map(|cluster| [cluster]);
        let own: Vec<(&str, &[&str])> = own.iter().map(|own| (own[0], own.as_slice())).collect();
        each_keeps_within(&lab, &own).await;
        rolled("routing: {boundary: Region}");
        let (north, south): (&[&str], &[&str]) = (&["hub", "annex"], &["branch", "island"]);
        each_keeps_within(&lab, &[("hub", north), ("annex", north), ("branch", south), ("island", south)])
            .await;
        rolled("routing: {boundary: Network}");
        each_keeps_within(
            &lab,
            &[("hub", north), ("annex", north), ("branch", &["branch"]), ("island", &["island"])],
        )
        .await;
        rolled("routing: {pin: {header: x-cell, to: {a: annex, b: branch}}}");
        for from in CLUSTERS {
            answered_by(&lab, from, "a", &["annex"]).await;
            answered_by(&lab, from, "b", &["branch"]).await;
        }
    }
    assert_eq!(lab.refused(), None);
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn a_preference_holds_for_each_cluster_of_a_control_plane_by_one_setting() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = up(dir.path()).await;
    stage.roll_out(&policy(&stage, "routing: {prefer: Cluster}")).expect("a rollout");
    for from in CLUSTERS {
        answered_by(&lab, from, "any", &[from]).await;
    }
    stage.roll_out(&policy(&stage, "routing: {prefer: Region}")).expect("a rollout");
    for (from, by) in
        [("hub", ["hub", "annex"]), ("annex", ["hub", "annex"]), ("branch", ["branch", "island"])]
    {
        answered_by(&lab, from, "any", &by).await;
    }
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn the_gateway_of_a_remote_closes_what_its_own_plan_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = up(dir.path()).await;
    stage.roll_out(&policy(&stage, "exposure: {to: {networks: [edge]}}")).expect("a rollout");
    answered_by(&lab, "branch", "any", &CLUSTERS).await;
    // Within a network no gateway is passed.
    answered_by(&lab, "hub", "any", &["hub", "annex", "none"]).await;
    answered_by(&lab, "island", "any", &["island", "none"]).await;
    lab.down().await.expect("all processes ended");
}
