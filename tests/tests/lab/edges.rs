//! The gateways at the edges of the mesh, on stock Envoys: what comes from outside brings no tag in.

use isthmus::lab::{Client, Get, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::{Example, module};

use super::start;

pub(super) fn edge(cluster: &str, kind: &str) -> Client {
    Client::new(cluster, "istio-system", &format!("istio-{kind}"))
}

#[tokio::test]
async fn an_ingress_gateway_gives_its_own_tags_and_shows_nothing_of_the_mesh() {
    let example = Example::read("examples/two-clusters");
    let (ingress, egress) = (edge("cluster2", "ingressgateway"), edge("cluster2", "egressgateway"));
    let clients = example.suite.clients().chain([ingress.clone(), egress.clone()]);
    let dir = tempfile::tempdir().expect("a directory");
    let site = Site::claim(stage::blueprint(example.mesh(), clients), dir.path()).expect("a site");
    let stage = Stage::set(example.mesh(), &site, &module()).expect("a stage");
    stage.roll_out(&example.project.policies).expect("a rollout");
    let lab = start(site).await;

    let forged = |host: &str| {
        Get::new(host, "/")
            .header("x-source-cluster", "cluster1")
            .header("x-source-network", "network1")
            .header("x-isthmus-route", "cluster=cluster1")
    };
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let answer = lab.get(&ingress, &forged("helloworld.sample:5000")).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("x-app-saw-source-cluster"), Some("cluster2"));
        assert_eq!(answer.header("x-app-saw-source-network"), Some("network2"));
        let told = ["x-destination-cluster", "x-destination-network"].map(|name| answer.header(name));
        assert_eq!(told, [None, None], "outside, nobody is told how the mesh is made");
        reached.insert(answer.body);
    }
    assert_eq!(reached.len(), 2, "a forged route steers nothing: both clusters answer");
    // Boundaries hold for what comes in from outside: the cache answers from the gateway's own network.
    for _ in 0..4 {
        let answer = lab.get(&ingress, &forged("cache.sample:6379")).await.expect("an answer");
        assert!(answer.status == 200 && answer.body.contains("cluster2"), "{answer:?}");
    }
    // What reaches an egress gateway without a certificate of the mesh brings no tag either.
    let answer = lab.get(&egress, &forged("helloworld.sample:5000")).await.expect("an answer");
    assert_eq!(answer.header("x-app-saw-source-cluster"), Some("cluster2"));
    assert!(answer.header("x-destination-cluster").is_some(), "a gateway of the mesh's own is told");
    lab.down().await.expect("all processes ended");
}
