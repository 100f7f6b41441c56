//! An Envoy that does not give the peer's certificate away: all that needs no proof holds there, and nothing passes
//! for proven.

use isthmus::cert::{Hierarchy, Validity};
use isthmus::envoy::WITHOUT_CERTIFICATES;
use isthmus::lab::{Client, Get, Lab, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::{Example, module};
use policy::{Mesh, Policy};

use super::forgery::{Shown, answers, ledger};
use super::{envoy, fetched, tokens};

/// Lets in whom the tag claims.
const CLAIMED: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: hello, namespace: sample}
spec:
  services: [helloworld]
  access: {source: Claimed, allow: [{name: one, from: [{clusters: [cluster1]}]}]}
";

async fn asked(lab: &Lab, client: &Client, get: &Get) -> (u16, String) {
    let answer = lab.get(client, get).await.expect("an answer");
    (answer.status, answer.header("x-isthmus-reason").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn an_envoy_without_certificates_holds_what_needs_no_proof_and_believes_nothing_else() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let site =
        Site::claim(stage::blueprint(example.mesh(), example.suite.clients()), dir.path()).expect("a site");
    let stage = Stage::set(example.mesh(), &site, &module()).expect("a stage");
    let mut policies = example.project.policies.clone();
    policies.extend(Policy::read("hello.yaml", CLAIMED, example.mesh().root_namespace()).0);
    stage.roll_out(&policies).expect("a rollout");
    let lab = site
        .up(&fetched(WITHOUT_CERTIFICATES), time::OffsetDateTime::now_utc())
        .await
        .expect("the lab comes up");

    let client = |cluster: &str, namespace: &str| {
        let is = |client: &Client| client.cluster == cluster && client.namespace == namespace;
        example.suite.clients().find(is).expect("a client")
    };
    let (one, two) = (client("cluster1", "sample"), client("cluster2", "sample"));
    let treasury = client("cluster2", "treasury");
    // The ledger demands proof; without it nobody comes in, not from the same cluster and not from the right one.
    let unverified = (403, "ledger/source-unverified".to_owned());
    for sender in [&one, &two, &treasury] {
        let forged = Get::new("ledger.payments", "/v1/accounts").header("x-source-cluster", "cluster1");
        assert_eq!(asked(&lab, sender, &forged).await, unverified, "{sender:?}");
    }
    // A claim counts where a policy says that it may; the source's own sidecar has made it.
    let hello = Get::new("helloworld.sample:5000", "/hello").header("x-source-cluster", "cluster2");
    for _ in 0..4 {
        assert_eq!(asked(&lab, &one, &hello).await.0, 200);
    }
    let mut answers = std::collections::BTreeSet::new();
    for _ in 0..4 {
        answers.insert(asked(&lab, &two, &Get::new("helloworld.sample:5000", "/hello")).await);
    }
    // The load balancer sends it to either cluster: the other one refuses it, its own does not judge it.
    let both = [(200, String::new()), (403, "hello/no-rule-matched".to_owned())];
    assert_eq!(Vec::from_iter(answers), both);
    // The application is shown no tag that nothing proves.
    let answer = lab.get(&one, &hello).await.expect("an answer");
    assert_eq!(answer.header("x-app-saw-source-cluster"), None);
    // A boundary keeps requests inside at their source, and at the destination lets in whom it can place, which is nobody.
    let cache = lab.get(&one, &Get::new("cache.sample:6379", "/")).await.expect("an answer");
    assert_eq!((cache.status, cache.header("x-isthmus-reason")), (403, Some("cache/source-unverified")));
    assert_eq!(cache.header("x-destination-cluster"), Some("cluster1"));
    // Exposure at the gateway needs no proof; its client gets 503.
    assert_eq!(asked(&lab, &two, &Get::new("reports.payments", "/")).await.0, 503);
    lab.down().await.expect("all processes ended");
}

/// A trust domain for cluster2 alone, below the root of all.
const ONE_ROOT: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: cluster1, network: network1}
  - {name: cluster2, network: network1, trustDomain: two.example}
  - {name: cluster3, network: network1}
  services:
    ledger.payments: {port: 8080, clusters: [cluster1]}
";

#[tokio::test]
async fn the_ca_of_another_cluster_gains_nothing_by_a_trust_domain_below_the_same_root() {
    let (mesh, findings) = Mesh::read("mesh.yaml", ONE_ROOT);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let (policies, findings) = Policy::read("ledger.yaml", tokens::POLICY, mesh.root_namespace());
    assert_eq!(findings, []);
    // Where the issuer is shown it tells who signed; where it is not, the domain proves nobody, not even its own.
    for (binary, own) in [(fetched(WITHOUT_CERTIFICATES), "HTTP/1.1 403"), (envoy(), "HTTP/1.1 200")] {
        let dir = tempfile::tempdir().expect("a directory");
        let site = Site::claim(stage::blueprint(&mesh, []), dir.path()).expect("a site");
        let stage = Stage::set(&mesh, &site, &module()).expect("a stage");
        stage.roll_out(&policies).expect("a rollout");
        let now = time::OffsetDateTime::now_utc();
        let lab = site.up(&binary, now).await.expect("the lab comes up");
        let shown = |cluster: &str| {
            let ca = Hierarchy::at(dir.path().join("ca")).intermediate(cluster).expect("a CA");
            let validity = Validity::from(now, time::Duration::days(1));
            let leaf = ca.leaf("spiffe://two.example/ns/treasury/sa/app", validity).expect("a leaf");
            Shown { chain: leaf.chain, key: leaf.key }
        };
        let answer = |shown: &Shown| answers(dir.path(), ledger(&lab), shown, &["Connection: close"]);
        let forged = answer(&shown("cluster3"));
        assert!(
            forged.starts_with("HTTP/1.1 403") && forged.contains("ledger/source-unverified"),
            "{}: {forged}",
            binary.display()
        );
        let honest = answer(&shown("cluster2"));
        assert!(honest.starts_with(own), "{}: {honest}", binary.display());
        lab.down().await.expect("all processes ended");
    }
}
