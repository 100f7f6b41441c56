//! `clusters.changed`: how long a change of plans takes from the command until every proxy says that it runs it.
//!
//! Three real API servers, and a lab whose Envoys are their pods. What brings an object from an API server to the proxies is
//! istiod's work; here a task for each cluster asks for the plugins again and again, and gives the lab what it finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus::kube::{Cluster, Kind, Kubeconfig};
use isthmus::lab::{Client, Lab, ProxyKind, Site};
use isthmus::proxies::Asking;
use isthmus::rollout::strategy::Strategy;
use isthmus::rollout::{Campaign, DryRun, Holder, How, Options, Origin, Target};
use isthmus::stage::{self, Stage};
use isthmus::status::{self, Condition, Look};
use isthmus_tests::cluster::{Clusters, Pod, Pods};
use policy::compile::Plans;
use policy::name::ClusterName;
use policy::{Mesh, Policy};
use serde_json::json;
use tokio::task::JoinSet;

use super::figure::{Report, median};
use super::ground::{Missing, envoy};
use super::{Outcome, module};

const MESH: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: bench}\nspec:\n  clusters:\n  \
    - {name: cluster1, network: network1, gateway: {address: 192.0.2.1}, podCidr: 10.1.0.0/16}\n  \
    - {name: cluster2, network: network2, gateway: {address: 192.0.2.2}, podCidr: 10.2.0.0/16}\n  \
    - {name: cluster3, network: network3, gateway: {address: 192.0.2.3}, podCidr: 10.3.0.0/16}\n  \
    services: {helloworld.sample: {port: 5000}}\n";
const NAMES: [&str; 3] = ["cluster1", "cluster2", "cluster3"];
const CHANGES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// How often istiod's part looks.
const TICK: Duration = Duration::from_millis(20);

/// A policy with one path more in every other plan, and another exposure with it: so every place has another plan.
fn policies(mesh: &Mesh, is_wide: bool) -> Outcome<Vec<Policy>> {
    let (path, port) = if is_wide { (", /other", ", 5001") } else { ("", "") };
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: hello, namespace: sample}}\n\
         spec:\n  services: [helloworld]\n  exposure: {{to: {{networks: [network1]}}, ports: [5000{port}]}}\n  \
         access: {{allow: [{{name: sleepers, from: [{{clusters: [cluster1], namespaces: [sample]}}], \
         to: [{{methods: [GET], paths: [/hello{path}]}}]}}]}}\n"
    );
    let (policies, findings) = Policy::read("bench.yaml", &text, mesh.root_namespace());
    if findings.is_empty() { Ok(policies) } else { Err(format!("{findings:?}").into()) }
}

/// `clusters.changed`
pub(super) fn in_force(report: &mut Report) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(report))
}

/// API servers and a lab whose proxies are their pods.
struct Scene {
    clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    stage: Stage,
    lab: Lab,
    _pods: Vec<Pods>,
    _servers: Clusters,
}

async fn measure(report: &mut Report) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let scene = Scene::set(directory.path()).await?;
    let mut feeding = JoinSet::new();
    for (name, cluster) in &scene.clusters {
        let (to, cluster) = (scene.lab.site().plugins(name.as_str()), Arc::clone(cluster));
        feeding.spawn(feed(cluster, to));
    }
    scene.change(false).await?;
    let (mut rolled, mut all) = (Vec::new(), Vec::new());
    for round in 0..CHANGES {
        let (done, in_force) = scene.change(round % 2 == 0).await?;
        rolled.push(done);
        all.push(in_force);
    }
    feeding.shutdown().await;
    let proxies = scene.lab.proxies().count();
    scene.lab.down().await?;
    report.put("change.proxies", proxies as f64, "");
    report.put("change.rolled_out_seconds", median(rolled), "s");
    report.put("change.in_force_seconds", median(all), "s");
    Ok(())
}

impl Scene {
    async fn set(directory: &Path) -> Outcome<Self> {
        let missing = || Missing::of("no API server here");
        let envoy = envoy()?;
        let servers = Clusters::start(&NAMES).await.ok_or_else(missing)?;
        let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
        let mesh = mesh.ok_or_else(|| format!("{findings:?}"))?;
        let clients = NAMES.map(|name| Client::new(name, "sample", "sleep"));
        let site = Site::claim(stage::blueprint(&mesh, clients), directory)?;
        let stage = Stage::set(&mesh, &site, &module())?;
        stage.roll_out(&policies(stage.mesh(), false)?)?;
        let lab = site.up(&envoy, time::OffsetDateTime::now_utc()).await?;
        let kubeconfig = Kubeconfig::read(Some(&servers.kubeconfig()), None, None)?;
        let (mut clusters, mut all) = (BTreeMap::new(), Vec::new());
        for name in NAMES {
            let client = servers.client(name).await;
            for namespace in ["istio-system", "sample"] {
                let namespace = json!({"metadata": {"name": namespace}}).to_string().into_bytes();
                let request = hyper::Request::post("/api/v1/namespaces");
                let request = request.header("content-type", "application/json").body(namespace)?;
                client.request::<serde_json::Value>(request).await?;
            }
            let mut pods = Pods::of(client).ok_or_else(missing)?;
            for proxy in lab.proxies().filter(|proxy| proxy.cluster == name) {
                add(&mut pods, proxy).await?;
            }
            all.push(pods);
            clusters.insert(name.parse()?, Arc::new(kubeconfig.cluster(name, PATIENCE).await?));
        }
        Ok(Self { clusters, stage, lab, _pods: all, _servers: servers })
    }

    fn targets(&self) -> BTreeMap<ClusterName, Result<Target, isthmus::kube::ClusterError>> {
        let target = |cluster: &Arc<Cluster>| Ok(Target::Cluster(Arc::clone(cluster)));
        self.clusters.iter().map(|(name, cluster)| (name.clone(), target(cluster))).collect()
    }

    /// Rolls a plan out and waits until all proxies run it: the seconds of the one, and of both.
    async fn change(&self, is_wide: bool) -> Outcome<(f64, f64)> {
        let begun = Instant::now();
        let mesh = self.stage.mesh();
        let plans: Plans = self.stage.compile(&policies(mesh, is_wide)?)?;
        let campaign = Campaign {
            root: mesh.root_namespace().to_string(),
            targets: self.targets(),
            how: How { dry_run: DryRun::No, force: false, parallel: NAMES.len() },
            holder: Holder {
                name: "bench".to_owned(),
                time: Duration::from_secs(15),
                clock: time::OffsetDateTime::now_utc,
            },
            gates: &|_| Vec::new(),
            history: 2,
            tell: &mut |_| {},
        };
        let options = Options { url: self.stage.url(), upstream_check: false, dry_run: false };
        let strategy = Strategy::all_at_once(mesh.clusters().map(|cluster| &cluster.name));
        let origin = Origin::at(time::OffsetDateTime::now_utc());
        let done = campaign.roll_out((mesh, &plans, options), strategy, origin).await?;
        if let Some(trouble) = done.outcomes.iter().find_map(|outcome| outcome.trouble.as_ref()) {
            return Err(trouble.to_string().into());
        }
        let rolled = begun.elapsed().as_secs_f64();
        while !self.is_in_force(&plans).await? {
            if begun.elapsed() > PATIENCE {
                return Err("a change is not in force".into());
            }
        }
        Ok((rolled, begun.elapsed().as_secs_f64()))
    }

    async fn is_in_force(&self, plans: &Plans) -> Outcome<bool> {
        let asking = Some(Asking { patience: PATIENCE, parallel: 8 });
        let look = Look { targets: self.targets(), envoys: BTreeMap::new(), asking, parallel: NAMES.len() };
        let statuses = status::look(self.stage.mesh(), plans, look).await?;
        Ok(statuses.iter().all(|status| status.condition() == Condition::InForce))
    }
}

/// A proxy of the lab as a pod of its cluster.
async fn add(pods: &mut Pods, proxy: &isthmus::lab::Proxy) -> Outcome<()> {
    let (_, own) = proxy.name.split_once('/').ok_or("a proxy has a cluster and a name")?;
    let (name, namespace) = own.rsplit_once('.').ok_or("a proxy has a name and a namespace")?;
    let (role, istio) = match proxy.kind {
        ProxyKind::Client => ("router", None),
        ProxyKind::Server => ("sidecar", None),
        ProxyKind::Gateway => ("router", Some("eastwestgateway")),
    };
    pods.add(Pod { namespace, name, role, istio, admin: proxy.admin }).await;
    Ok(())
}

/// Gives the lab whatever plugins an API server has, as istiod would.
async fn feed(cluster: Arc<Cluster>, to: PathBuf) {
    let kind = Kind::new("extensions.istio.io/v1alpha1", "WasmPlugin");
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    loop {
        for mut plugin in cluster.list(&kind).await.unwrap_or_default() {
            let name = plugin["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            plugin["metadata"]["managedFields"] = json!([]);
            let text = plugin.to_string();
            if given.get(&name) != Some(&text) {
                let (file, new) = (to.join(format!("{name}.yaml")), to.join(format!(".{name}.new")));
                std::fs::write(&new, &text).and_then(|()| std::fs::rename(&new, &file)).expect("a file");
                given.insert(name, text);
            }
        }
        tokio::time::sleep(TICK).await;
    }
}
