//! The filter on a stock Envoy of each minor version: every place, and how well each version knows a source.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use isthmus::envoy::{OLDEST, TRIED, Version};
use isthmus::lab::{Answer, Client, Get, Lab, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::module;
use policy::{Mesh, Policy};

use super::tokens::{client, key};
use super::{eventually, fetched};

/// Two clusters under one root, and one of another mesh, with a root and a trust domain of its own.
const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  tokens: {life: 5m}
  meshes: [{name: abroad, trustDomain: abroad.example, root: abroad-2026}]
  clusters:
  - {name: cluster1, network: network1, gateway: {address: 192.0.2.1}, tokenKeys: [{kid: one, publicKey: ONE}]}
  - {name: cluster2, network: network2, gateway: {address: 192.0.2.2}, tokenKeys: [{kid: two, publicKey: TWO}]}
  - {name: cluster3, network: network3, gateway: {address: 192.0.2.3}, mesh: abroad}
  services:
    ledger.payments: {port: 8080, clusters: [cluster1]}
    reports.payments: {port: 8080, clusters: [cluster1]}
    cache.sample: {port: 6379, clusters: [cluster1, cluster2]}
";

const POLICIES: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: ledger, namespace: payments}
spec:
  services: [ledger]
  access: {source: Verified, allow: [{name: others, from: [{clusters: [cluster2, cluster3]}], to: [{paths: [/open]}]}]}
---
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: reports, namespace: payments}
spec: {services: [reports], exposure: {to: {networks: []}}}
---
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: cache, namespace: sample}
spec: {services: [cache], routing: {boundary: Cluster}}
";

const LEDGER: &str = "cluster1/ledger-v1.payments";

/// One lab on one version.
struct Tried {
    version: Version,
    stage: Stage,
    lab: Lab,
    asked: Cell<usize>,
}

/// What a client was answered: the status, and what refused it.
type Answered = (u16, String);

impl Tried {
    async fn up(version: Version, dir: &Path) -> Self {
        let public = |id: &str| key(dir, id).public().to_string();
        let text = MESH.replace("ONE", &public("one")).replace("TWO", &public("two"));
        let (mesh, findings) = Mesh::read("mesh.yaml", &text);
        let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
        let site = Site::claim(stage::blueprint(&mesh, clients()), dir).expect("a site");
        let stage = Stage::set(&mesh, &site, &module()).expect("a stage");
        for (cluster, id) in [("cluster1", "one"), ("cluster2", "two")] {
            site.give_token_key(cluster, Some("keyed"), &key(dir, id)).expect("a Secret");
        }
        stage.roll_out_with(&policies(&stage, POLICIES), true).expect("a rollout");
        let lab = site.up(&fetched(version), time::OffsetDateTime::now_utc()).await;
        let lab = lab.unwrap_or_else(|error| panic!("Envoy {version}: {error}"));
        Self { version, stage, lab, asked: Cell::new(0) }
    }

    async fn get(&self, from: &Client, host: &str, path: &str) -> (Answer, String) {
        let id = format!("case-{}", self.asked.replace(self.asked.get() + 1));
        let get = Get::new(host, path).header("x-request-id", &id).header("x-source-cluster", "cluster1");
        let answer = self.lab.get(from, &get).await;
        (answer.unwrap_or_else(|error| panic!("{}: {host}{path}: {error}", self.version)), id)
    }

    async fn asks(&self, from: &Client, host: &str, path: &str) -> Answered {
        let (answer, _) = self.get(from, host, path).await;
        (answer.status, answer.header("x-isthmus-reason").unwrap_or_default().to_owned())
    }

    /// How well the ledger's sidecar knows who sends this.
    async fn level(&self, from: &Client) -> String {
        let (_, id) = self.get(from, "ledger.payments", "/open").await;
        let line = eventually(async || {
            let log = self.lab.access_log(LEDGER).map_err(|error| error.to_string())?;
            let found = log.into_iter().find(|line| line.get("request_id").is_some_and(|found| *found == id));
            found.ok_or_else(|| format!("no {id}"))
        })
        .await;
        let text = |field: &str| line.get(field).and_then(|value| value.as_str()).map(str::to_owned);
        let claimed = text("claimed_cluster").map(|cluster| format!("{cluster}, claimed"));
        claimed.unwrap_or_else(|| {
            let said = ["source_cluster", "source_level"].map(|field| text(field).unwrap_or_default());
            said.join(", ")
        })
    }

    /// What this version can know of each client, and what comes of it.
    async fn knows(&self) {
        let [_, keyed, bare, abroad] = clients();
        let shows_leaf = self.version >= OLDEST;
        let with = |leaf: &'static str, none: &'static str| if shows_leaf { leaf } else { none };
        for (from, wanted) in [
            (&keyed, with("cluster2, verified by certificate", "cluster2, verified by token")),
            (&bare, with("cluster2, verified by certificate", "cluster2, claimed")),
            (&abroad, with("cluster3, verified by certificate", "cluster3, verified by trust domain")),
        ] {
            assert_eq!(self.level(from).await, wanted, "Envoy {}", self.version);
            let (allowed, elsewhere) = if wanted.ends_with("claimed") {
                ((403, "ledger/source-unverified"), (403, "ledger/source-unverified"))
            } else {
                ((200, ""), (403, "ledger/no-rule-matched"))
            };
            for (path, (status, reason)) in [("/open", allowed), ("/closed", elsewhere)] {
                let answered = self.asks(from, "ledger.payments", path).await;
                assert_eq!(answered, (status, reason.to_owned()), "Envoy {}: {wanted}", self.version);
            }
        }
    }

    /// What needs no proof: exposure at the gateway, and the boundary where a request leaves and behind the load balancer.
    async fn holds(&self) {
        let [here, keyed, ..] = clients();
        let version = self.version;
        assert_eq!(self.asks(&keyed, "reports.payments", "/").await, (503, String::new()), "Envoy {version}");
        assert_eq!(self.asks(&here, "reports.payments", "/").await.0, 200, "Envoy {version}");
        for _ in 0..4 {
            let (answer, _) = self.get(&here, "cache.sample:6379", "/").await;
            let at = (answer.status, answer.header("x-destination-cluster"));
            assert_eq!(at, (200, Some("cluster1")), "Envoy {version}");
        }
        // With its route gone, a request that is on its way out of the boundary is stopped before it is sent.
        let ours = self.lab.site().plugins("cluster1").join("isthmus-route@sample.cache.yaml");
        fs::remove_file(&ours).expect("removed");
        let refused = eventually(async || match self.get(&here, "cache.sample:6379", "/").await.0 {
            answer if answer.status == 403 => Ok(answer.body),
            answer => Err(format!("{answer:?}")),
        })
        .await;
        let by_source = refused.contains("cache/boundary") && refused.contains(r#""refused_by":"cluster1""#);
        assert!(by_source, "Envoy {version}: {refused}");
    }

    /// A plan that changes under load.
    async fn changes(&self) {
        let [_, keyed, ..] = clients();
        let changed = policies(&self.stage, &POLICIES.replace("paths: [/open]", "paths: [/open, /closed]"));
        self.stage.roll_out(&changed).expect("a rollout");
        eventually(async || {
            let open = self.asks(&keyed, "ledger.payments", "/open").await;
            assert_eq!(open, (200, String::new()), "Envoy {}", self.version);
            match self.asks(&keyed, "ledger.payments", "/closed").await {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

/// One of the ledger's own cluster, one that signs tokens, one that does not, and one of another mesh.
fn clients() -> [Client; 4] {
    [("cluster1", "keyed"), ("cluster2", "keyed"), ("cluster2", "bare"), ("cluster3", "bare")]
        .map(|(cluster, namespace)| client(cluster, namespace))
}

fn policies(stage: &Stage, text: &str) -> Vec<Policy> {
    let (policies, findings) = Policy::read("policies.yaml", text, stage.mesh().root_namespace());
    assert_eq!(findings, []);
    policies
}

#[tokio::test]
async fn every_version_holds_what_it_can_know_and_says_how_well() {
    for version in TRIED {
        let dir = tempfile::tempdir().expect("a directory");
        let tried = Tried::up(version, dir.path()).await;
        tried.knows().await;
        tried.holds().await;
        tried.changes().await;
        assert_eq!(tried.lab.refused(), None, "Envoy {version}");
        tried.lab.down().await.expect("all processes ended");
    }
}
