//! What a rollout tells Istio, done by real Envoys.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use isthmus::lab::{Answer, Client, Get, Lab};
use isthmus::stage::Stage;
use isthmus_tests::example::Example;
use policy::Policy;

use super::differential::staged;
use super::eventually;

/// A lab of the example's mesh, without its policies.
async fn bare(dir: &Path) -> (Stage, Lab, Client) {
    let mut example = Example::read("examples/two-clusters");
    example.project.policies.clear();
    let (stage, lab) = staged(&example, dir).await;
    let mut clients = example.suite.clients();
    let here = clients.find(|client| client.cluster == "cluster1" && client.namespace == "sample");
    (stage, lab, here.expect("a client"))
}

/// A policy for helloworld with this routing.
fn routing(stage: &Stage, routing: &str) -> Vec<Policy> {
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: hello, namespace: sample}}\nspec: {{services: [helloworld], routing: {routing}}}\n"
    );
    let (policies, findings) = Policy::read("hello.yaml", &text, stage.mesh().root_namespace());
    assert_eq!(findings, []);
    policies
}

async fn ask(lab: &Lab, client: &Client, cell: &str) -> Answer {
    let get = Get::new("helloworld.sample:5000", "/hello").header("x-cell", cell);
    lab.get(client, &get).await.expect("an answer")
}

/// Waits until requests of a cell are answered by a cluster, ten in a row.
async fn settled(lab: &Lab, client: &Client, cell: &str, cluster: &str) {
    eventually(async || {
        for _ in 0..10 {
            let answer = ask(lab, client, cell).await;
            if answer.header("x-destination-cluster") != Some(cluster) {
                return Err(format!("{cell}: {answer:?}"));
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until requests go to both clusters.
async fn settled_nowhere(lab: &Lab, client: &Client) {
    eventually(async || match ask(lab, client, "a").await {
        answer if answer.header("x-destination-cluster") == Some("cluster2") => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
}

/// Ends a proxy, as if its node had gone.
fn kill(lab: &Lab, proxy: &str) {
    let mut admin = TcpStream::connect(lab.proxy(proxy).expect("a proxy").admin).expect("its admin");
    admin
        .write_all(
            b"POST /quitquitquit HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        )
        .expect("a request");
    let _whatever_it_says = admin.read_to_end(&mut Vec::new());
}

#[tokio::test]
async fn what_is_near_is_preferred_until_it_fails_and_then_the_rest_is_turned_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab, here) = bare(dir.path()).await;
    for preference in ["{prefer: Region}", "{prefer: Cluster}", "{failover: [cluster2]}", "{prefer: Network}"]
    {
        stage.roll_out(&routing(&stage, preference)).expect("a rollout");
        settled(&lab, &here, "any", "cluster1").await;
        stage.roll_out(&[]).expect("a rollout");
        settled_nowhere(&lab, &here).await;
    }
    stage.roll_out(&routing(&stage, "{prefer: Cluster}")).expect("a rollout");
    settled(&lab, &here, "any", "cluster1").await;
    kill(&lab, "cluster1/helloworld-v1.sample");
    settled(&lab, &here, "any", "cluster2").await;
}

#[tokio::test]
async fn routes_change_under_load_and_no_request_leaves_what_old_and_new_agree_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab, here) = bare(dir.path()).await;
    // Three ways of keeping these requests in cluster1, each by a route of its own.
    let ways = [
        routing(&stage, "{pin: {header: x-cell, to: {a: cluster1, b: cluster2}}}"),
        routing(&stage, "{boundary: Cluster}"),
        routing(&stage, "{boundary: Network}"),
    ];
    stage.roll_out(&ways[0]).expect("a rollout");
    settled(&lab, &here, "a", "cluster1").await;
    settled(&lab, &here, "b", "cluster2").await;
    let reloads = async || {
        let stat = "extension_config_discovery.http_filter.isthmus-outbound.config_reload";
        lab.stat("cluster1/sleep.sample", stat).await.expect("a stat")
    };
    for round in 1..10 {
        let before = reloads().await;
        stage.roll_out(&ways[round % 3]).expect("a rollout");
        // On until the filter has the new plan, and a while longer, when what was only for the old one goes.
        let mut left = 200;
        while left > 0 {
            let answer = ask(&lab, &here, "a").await;
            assert_eq!(answer.status, 200, "round {round}: {answer:?}");
            assert_eq!(answer.header("x-destination-cluster"), Some("cluster1"), "round {round}");
            if left < 200 || reloads().await > before {
                left -= 1;
            }
        }
    }
    stage.roll_out(&[]).expect("a rollout");
    settled_nowhere(&lab, &here).await;
    assert_eq!(lab.refused(), None);
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn behind_the_load_balancer_a_boundary_holds_even_where_the_routes_have_lost_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab, here) = bare(dir.path()).await;
    let near = routing(&stage, "{boundary: Cluster}");
    let refused_by = |answer: &Answer| -> String {
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("a refusal");
        format!(
            "{} {}",
            body["reason"].as_str().unwrap_or_default(),
            body["refused_by"].as_str().unwrap_or_default()
        )
    };
    for (upstream_check, by) in [(true, "hello/boundary cluster1"), (false, "hello/boundary cluster2")] {
        stage.roll_out_with(&near, upstream_check).expect("a rollout");
        settled(&lab, &here, "any", "cluster1").await;
        // Someone else's route takes the place of ours.
        let ours = lab.site().plugins("cluster1").join("isthmus-route@sample.helloworld.yaml");
        std::fs::remove_file(&ours).expect("removed");
        let answer = eventually(async || match ask(&lab, &here, "any").await {
            answer if answer.status == 403 => Ok(answer),
            answer => Err(format!("{answer:?}")),
        })
        .await;
        assert_eq!(refused_by(&answer), by);
        assert_eq!(lab.refused(), None);
    }
    lab.down().await.expect("all processes ended");
}
