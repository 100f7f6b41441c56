//! One kind of plugin in the place of the other, in real Envoys that stand in two clusters and under load.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::Path;

use isthmus::lab::{Blueprint, Client, Get, Lab, LabError, Site};
use isthmus::rollout::strategy::Strategy;
use isthmus::rollout::{Campaign, DryRun, Holder, How, Options, Origin};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::module;
use isthmus_tests::repository;
use policy::{Mesh, Policy};

use super::{eventually, start};

const LEDGER: &str = "cluster1/ledger-v1.payments";
const TREASURY: &str = "cluster2/sleep.treasury";
const POLICIES: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: hello, namespace: sample}
spec:
  services: [helloworld]
  routing: {split: [{cluster: cluster1, weight: 50}, {cluster: cluster2, weight: 50}]}
---
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: ledger, namespace: payments}
spec:
  services: [ledger]
  access:
    source: Verified
    allow:
    - {name: treasury-reads, from: [{clusters: [cluster2], namespaces: [treasury]}], to: [{methods: [GET], paths: [/v1/*]}]}
---
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: reports, namespace: payments}
spec:
  services: [reports]
  exposure: {to: {networks: []}}
";

/// The example's mesh, whose plugins are of the one kind or of the other.
fn mesh(extensions: bool) -> Mesh {
    let text = std::fs::read_to_string(repository().join("examples/two-clusters/mesh.yaml")).expect("a mesh");
    let text = if extensions {
        text.replace("version: \"1.30\"", "version: \"1.30\", trafficExtension: true")
    } else {
        text
    };
    assert_eq!(text.contains("trafficExtension"), extensions);
    Mesh::read("mesh.yaml", &text).0.expect("a mesh")
}

/// The policies; those that are opened let the namespace `sample` read the ledger as well.
fn policies(mesh: &Mesh, opened: bool) -> Vec<Policy> {
    let namespaces = if opened { "[treasury, sample]" } else { "[treasury]" };
    let text = POLICIES.replace("[treasury]", namespaces);
    let (policies, findings) = Policy::read("policies.yaml", &text, mesh.root_namespace());
    assert_eq!(findings, []);
    policies
}

/// Brings policies to the lab as a person would, by the kind that a mesh asks for.
async fn bring(lab: &Lab, mesh: &Mesh, opened: bool) {
    let stage = Stage::set(mesh, lab.site(), &module()).expect("a stage");
    let plans = stage.compile(&policies(mesh, opened)).expect("plans");
    let campaign = Campaign {
        root: mesh.root_namespace().to_string(),
        targets: stage.targets(),
        how: How { dry_run: DryRun::No, force: false, parallel: 2 },
        holder: Holder {
            name: "test".to_owned(),
            time: std::time::Duration::from_secs(60),
            clock: time::OffsetDateTime::now_utc,
        },
        gates: &|_| Vec::new(),
        history: 10,
        tell: &mut |_| {},
    };
    let options = Options { url: stage.url(), upstream_check: false, dry_run: false };
    let strategy = Strategy::all_at_once(mesh.clusters().map(|cluster| &cluster.name));
    let origin = Origin::at(time::OffsetDateTime::now_utc());
    let report = Box::pin(campaign.roll_out((stage.mesh(), &plans, options), strategy, origin)).await;
    let outcomes = report.expect("a rollout").outcomes;
    assert!(outcomes.iter().all(|outcome| outcome.trouble.is_none()), "{outcomes:?}");
}

/// The plugins of a cluster, by file.
fn plugins(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    let roles = ["isthmus-outbound", "isthmus-inbound", "isthmus-gateway"];
    names.filter(|name| roles.iter().any(|role| name.starts_with(role))).collect()
}

/// What is asked all the while, and what it always has to come to.
const STEADY: [(&str, &str, &str, u16); 4] = [
    ("treasury", "ledger.payments", "/v1/accounts", 200),
    ("treasury", "helloworld.sample", "/hello", 200),
    ("sample", "ledger.payments", "/v2/accounts", 403),
    ("sample", "reports.payments", "/", 503),
];

fn client(namespace: &str) -> Client {
    Client::new("cluster2", namespace, "sleep")
}

/// A lab under load.
struct Loaded {
    lab: Lab,
    done: Cell<bool>,
    asked: Cell<u32>,
    wrong: RefCell<Vec<String>>,
    /// What the request that the two plans judge otherwise came to, each time that it changed.
    changing: RefCell<Vec<u16>>,
}

impl Loaded {
    async fn up(dir: &Path) -> Self {
        let mesh = mesh(false);
        let clients = ["treasury", "sample"].map(client);
        let site = Site::claim(Blueprint { both_kinds: true, ..stage::blueprint(&mesh, clients) }, dir)
            .expect("a site");
        let stage = Stage::set(&mesh, &site, &module()).expect("a stage");
        stage.roll_out(&policies(&mesh, false)).expect("a rollout");
        let (done, asked) = (Cell::default(), Cell::default());
        let lab = start(site).await;
        Self { lab, done, asked, wrong: RefCell::default(), changing: RefCell::default() }
    }

    async fn status(&self, (namespace, service, path): (&str, &str, &str)) -> Result<u16, LabError> {
        let answer = self.lab.get(&client(namespace), &Get::new(service, path)).await;
        self.asked.set(self.asked.get() + 1);
        Ok(answer?.status)
    }

    async fn steady(&self, (namespace, service, path, wanted): (&str, &str, &str, u16)) {
        while !self.done.get() {
            let came = self.status((namespace, service, path)).await;
            if !matches!(came, Ok(status) if status == wanted) {
                self.wrong.borrow_mut().push(format!("{namespace} to {service}{path}: {came:?}"));
            }
        }
    }

    async fn changing(&self) {
        while !self.done.get() {
            let came = self.status(("sample", "ledger.payments", "/v1/accounts")).await.unwrap_or_default();
            let mut changing = self.changing.borrow_mut();
            if changing.last() != Some(&came) {
                changing.push(came);
            }
        }
    }

    async fn until(&self, wanted: u16) {
        eventually(async || {
            let now = self.changing.borrow().last().copied();
            if now == Some(wanted) { Ok(()) } else { Err(format!("the ledger answers {now:?}")) }
        })
        .await;
    }

    /// How often the ledger's proxy took something new into the slots of plugins and of extensions.
    async fn taken(&self) -> [u64; 2] {
        let stat = |slot: &str| format!("extension_config_discovery.http_filter.{slot}.config_reload");
        let [plugins, extensions] = ["isthmus-inbound", "isthmus-inbound-extension"].map(stat);
        let count = async |stat: &str| self.lab.stat(LEDGER, stat).await.expect("a stat");
        [count(&plugins).await, count(&extensions).await]
    }

    /// Rolls out, and sees that each slot took something and one kind of plugin is left.
    async fn roll(&self, extensions: bool, opened: bool) {
        let before = self.taken().await;
        bring(&self.lab, &mesh(extensions), opened).await;
        self.until(if opened { 200 } else { 403 }).await;
        let mark = if extensions { ".trafficextension" } else { "" };
        let wanted = ["gateway", "inbound", "outbound"].map(|role| format!("isthmus-{role}{mark}.yaml"));
        assert_eq!(plugins(&self.lab.site().plugins("cluster1")), wanted.into());
        eventually(async || {
            let now = self.taken().await;
            let have_all = now.iter().zip(before).all(|(now, before)| *now > before);
            if have_all { Ok(()) } else { Err(format!("{before:?} -> {now:?}")) }
        })
        .await;
    }
}

#[tokio::test]
async fn one_kind_of_plugin_takes_the_place_of_the_other_under_load_and_every_request_is_judged() {
    let dir = tempfile::tempdir().expect("a directory");
    let loaded = Loaded::up(dir.path()).await;
    let rolling = async {
        loaded.until(403).await;
        loaded.roll(true, true).await;
        loaded.roll(false, false).await;
        loaded.roll(true, false).await;
        loaded.done.set(true);
    };
    let [one, two, three, four] = STEADY.map(|asked| loaded.steady(asked));
    tokio::join!(rolling, one, two, three, four, loaded.changing());
    let Loaded { lab, asked, wrong, changing, .. } = loaded;
    assert_eq!(wrong.into_inner(), [""; 0], "of {} requests", asked.get());
    assert_eq!(changing.into_inner(), [403, 200, 403], "each plan once");
    assert!(asked.get() > 1_000, "only {} requests", asked.get());
    let stats = lab.admin(TREASURY, "/stats").await.expect("stats");
    assert!(stats.contains("isthmus_requests_total") && !stats.contains("isthmus_breaches_total"), "{stats}");
    lab.down().await.expect("all processes ended");
}
