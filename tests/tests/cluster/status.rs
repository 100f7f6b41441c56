//! `isthmus status`: real API servers, and real Envoys behind their pods.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus::doctor::{self, Code, Examined, Outcome, Seen};
use isthmus::envoy::Envoy;
use isthmus::gate::{Sources, gates};
use isthmus::kube::Cluster;
use isthmus::lab::{Lab, ProxyKind, Site};
use isthmus::plugin::ModuleUrl;
use isthmus::proxies::Asking;
use isthmus::rollout::machine::{self, End};
use isthmus::rollout::strategy::{Limits, Strategy};
use isthmus::rollout::{Campaign, DryRun, Holder, How, Options, Origin, Progress, Target};
use isthmus::stage::{self, Stage};
use isthmus::status::{Condition, Found, Look, Runs, Status};
use isthmus::workspace::Workspace;
use isthmus_tests::cluster::{Clusters, Pod, Pods};
use isthmus_tests::example::{Example, module};
use isthmus_tests::repository;
use policy::Policy;
use policy::compile::Plans;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rollout::{Ground, INBOUND, code, stdout};
use super::{PATIENCE, account, cluster, namespace, post};

/// A lab, and an API server that has the pods of its first cluster.
pub(super) struct Scene {
    pub(super) clusters: Clusters,
    pods: Pods,
    pub(super) stage: Stage,
    pub(super) lab: Lab,
    pub(super) policies: Vec<Policy>,
    _directory: TempDir,
}

impl Scene {
    pub(super) async fn set() -> Option<Self> {
        let clusters = Clusters::start(&["cluster1"]).await?;
        let client = clusters.client("cluster1").await;
        let mut pods = Pods::of(client.clone())?;
        let example = Example::read("examples/two-clusters");
        let directory = TempDir::new().expect("a directory");
        let blueprint = stage::blueprint(example.mesh(), example.suite.clients());
        let site = Site::claim(blueprint, directory.path()).expect("a site");
        let stage = Stage::set(example.mesh(), &site, &module()).expect("a stage");
        let policies = example.project.policies.clone();
        stage.roll_out(&policies).expect("plans");
        let workspace = Workspace::find(&repository()).expect("the checkout");
        let envoy = Envoy::find(&workspace).expect("an Envoy");
        let lab = site.up(envoy.path(), time::OffsetDateTime::now_utc()).await.expect("a lab");
        for proxy in lab.proxies().filter(|proxy| proxy.cluster == "cluster1") {
            let (_, own) = proxy.name.split_once('/').expect("a cluster and a name");
            let (name, own) = own.rsplit_once('.').expect("a name and a namespace");
            namespace(&client, own).await;
            // A client of the lab has what leaves and nothing that arrives, as a gateway has.
            let (role, istio) = match proxy.kind {
                ProxyKind::Client => ("router", None),
                ProxyKind::Server => ("sidecar", None),
                ProxyKind::Gateway => ("router", Some("eastwestgateway")),
            };
            pods.add(Pod { namespace: own, name, role, istio, admin: proxy.admin }).await;
        }
        Some(Self { clusters, pods, stage, lab, policies, _directory: directory })
    }

    /// The policies with one more client let in to the ledger.
    fn opened(&self) -> Vec<Policy> {
        let file = repository().join("examples/two-clusters/policies/ledger.yaml");
        let text = std::fs::read_to_string(file).expect("a policy");
        let text = text.replace("namespaces: [treasury]", "namespaces: [treasury, sample]");
        let (changed, findings) = Policy::read("ledger.yaml", &text, self.stage.mesh().root_namespace());
        assert!(findings.is_empty() && !changed.is_empty(), "{findings:?}");
        let kept = self
            .policies
            .iter()
            .filter(|policy| changed.iter().all(|new| new.name.value != policy.name.value));
        kept.cloned().chain(changed.clone()).collect()
    }

    async fn reach(
        &self,
        kubeconfig: &Path,
    ) -> BTreeMap<policy::name::ClusterName, Result<Target, isthmus::kube::ClusterError>> {
        let cluster: Cluster = cluster(kubeconfig, "cluster1", PATIENCE).await;
        let name = "cluster1".parse().expect("a name");
        [(name, Ok(Target::Cluster(Arc::new(cluster))))].into()
    }

    /// Brings plans to the API server, and to no proxy.
    async fn apply(&self, plans: &Plans) {
        let url = "oci://registry.example/isthmus:v1".parse().expect("a URL");
        let options = Options { url: &url, upstream_check: false, dry_run: false };
        let mesh = self.stage.mesh();
        let campaign = Campaign {
            root: mesh.root_namespace().to_string(),
            targets: self.reach(&self.clusters.kubeconfig()).await,
            how: How { dry_run: DryRun::No, force: false, parallel: 4 },
            holder: Holder { name: "test".to_owned(), time: PATIENCE, clock: time::OffsetDateTime::now_utc },
            gates: &|_| Vec::new(),
            history: 10,
            tell: &mut |_| {},
        };
        let strategy = Strategy::all_at_once(mesh.clusters().map(|cluster| &cluster.name));
        let origin = Origin::at(time::OffsetDateTime::now_utc());
        let report = Box::pin(campaign.roll_out((mesh, plans, options), strategy, origin)).await;
        let outcomes = report.expect("a rollout").outcomes;
        assert!(outcomes.iter().all(|outcome| outcome.trouble.is_none()), "{outcomes:?}");
    }

    async fn look_as(&self, kubeconfig: &Path, plans: &Plans) -> Status {
        let asking = Some(Asking { patience: PATIENCE, parallel: 8 });
        let targets = self.reach(kubeconfig).await;
        let look = Look { targets, envoys: BTreeMap::new(), asking, parallel: 4 };
        let mut statuses = isthmus::status::look(self.stage.mesh(), plans, look).await.expect("plans");
        assert_eq!(statuses.len(), 1);
        statuses.remove(0)
    }

    /// What the doctor says of what runs there.
    async fn doctor(&self, plans: &Plans) -> Outcome {
        let cluster = Arc::new(cluster(&self.clusters.kubeconfig(), "cluster1", PATIENCE).await);
        let mesh = self.stage.mesh();
        let own = mesh.clusters().find(|own| own.name.as_str() == "cluster1").expect("a cluster");
        let Seen::Objects(mut inventory) = doctor::look(&cluster, "istio-system").await else {
            panic!("the server answers")
        };
        inventory.tried = Some(Box::new(doctor::probe((mesh, plans), own, (&cluster, &inventory)).await));
        let seen = [(own.name.clone(), Seen::Objects(inventory))].into();
        let now = time::OffsetDateTime::now_utc();
        let checks = doctor::examine(Examined { mesh, plans, seen: &seen, now });
        checks.into_iter().find(|check| check.code == Code::Running).expect("a check").outcome
    }

    pub(super) async fn look(&self, plans: &Plans) -> Status {
        self.look_as(&self.clusters.kubeconfig(), plans).await
    }

    /// Looks until the cluster comes to this, or patience ends.
    async fn until(&self, plans: &Plans, wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.look(plans).await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(super) fn found(status: &Status) -> &Found {
    status.found.as_ref().expect("the server answers")
}

/// What a proxy runs, by its name.
fn runs<'s>(status: &'s Status, name: &str) -> &'s Runs {
    let proxies = found(status).proxies.as_ref().expect("proxies are asked");
    &proxies.iter().find(|judged| judged.proxy.name == name).expect("a proxy").runs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_by_each_proxy_itself_and_not_by_objects() {
    let Some(mut scene) = Scene::set().await else { return };
    let old = scene.stage.compile(&scene.policies).expect("plans");
    let new = scene.stage.compile(&scene.opened()).expect("plans");

    let nothing = scene.look(&old).await;
    assert_eq!(nothing.condition(), Condition::NotApplied);
    assert!(matches!(scene.doctor(&old).await, Outcome::Skipped(_)), "there is nothing to run");
    scene.apply(&old).await;
    let status = scene.look(&old).await;
    assert_eq!(
        (status.condition(), found(&status).running()),
        (Condition::InForce, Ok((6, 6))),
        "{status:#?}"
    );
    assert_eq!(found(&status).istio, ["1.30.2"]);
    assert!(found(&status).kubernetes.as_deref().is_some_and(|version| version.starts_with('v')));
    assert!(found(&status).changed.is_some());

    assert_eq!(scene.doctor(&old).await, Outcome::Passed);

    // Another policy, applied: its proxies have not heard of it.
    scene.apply(&new).await;
    let status = scene.look(&new).await;
    assert_eq!(
        (status.condition(), found(&status).running()),
        (Condition::Behind, Ok((2, 6))),
        "{status:#?}"
    );
    assert!(matches!(runs(&status, "payments/ledger-v1"), Runs::Other { applied: false, .. }));
    let text = isthmus::status::text(std::slice::from_ref(&status), time::OffsetDateTime::now_utc(), false);
    let line =
        text.lines().find(|line| line.starts_with("cluster1: payments/ledger-v1 runs ")).expect("a line");
    assert!(line.ends_with(" at inbound, of revision 1, which is neither wanted nor applied"), "{text}");
    let told = found(&status).told.as_ref().expect("it tells");
    assert_eq!((told.applied, told.wanted), (Some(2), Some(2)));
    assert_eq!(*runs(&status, "sample/sleep"), Runs::Wanted, "what leaves is as before");
    // And by the policy of before, it is the objects that are wrong.
    assert_eq!(scene.look(&old).await.condition(), Condition::Outdated);
    scene.stage.roll_out(&scene.opened()).expect("plans");
    scene.until(&new, |status| status.condition() == Condition::InForce).await;

    // Gone from the proxies, whatever the objects say.
    std::fs::remove_file(scene.lab.site().plugins("cluster1").join("isthmus-gateway.yaml"))
        .expect("a plugin");
    let gateway = "istio-system/istio-eastwestgateway";
    let status = scene.until(&new, |status| *runs(status, gateway) == Runs::Nothing).await;
    assert_eq!((status.condition(), found(&status).running()), (Condition::Behind, Ok((5, 6))));

    scene.pods.silence("ledger-v1");
    let status = scene.look(&new).await;
    let Runs::Silent(why) = runs(&status, "payments/ledger-v1") else { panic!("{status:#?}") };
    assert!(why.contains("connection refused"), "{why}");
    assert_eq!(found(&status).running(), Ok((4, 6)));
    let text = isthmus::status::text(&[status], time::OffsetDateTime::now_utc(), false);
    assert!(text.contains("cluster1: payments/ledger-v1 does not say what it runs: "), "{text}");
    let Outcome::Failed(failures) = scene.doctor(&new).await else { panic!("two are not as they should be") };
    let said: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
    let [none, silent] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*none, format!("{gateway} does not run the filter: no policy holds there"));
    assert!(silent.starts_with("payments/ledger-v1 does not say what it runs: "), "{silent}");
    assert!(text.contains(&format!("cluster1: {gateway} does not run the filter")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_ask_proxies_is_told_so_once() {
    let Some(scene) = Scene::set().await else { return };
    let plans = scene.stage.compile(&scene.policies).expect("plans");
    scene.apply(&plans).await;
    let client = scene.clusters.client("cluster1").await;
    let token = account(&client, "looks").await;
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["extensions.istio.io", "networking.istio.io"], "resources": ["*"], "verbs": ["list"]},
    ]);
    let base = "/apis/rbac.authorization.k8s.io/v1";
    post(&client, &format!("{base}/clusterroles"), &json!({"metadata": {"name": "looks"}, "rules": rules}))
        .await;
    let binding = json!({
        "metadata": {"name": "looks"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "looks"},
        "subjects": [{"kind": "ServiceAccount", "name": "looks", "namespace": "looks"}],
    });
    post(&client, &format!("{base}/clusterrolebindings"), &binding).await;
    let url = scene.clusters.server("cluster1").url();
    let kubeconfig = scene.clusters.kubeconfig_of("cluster1", &url, &token);
    // The server hears of the binding by a watch of its own.
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        let status = scene.look_as(&kubeconfig, &plans).await;
        if status.condition() != Condition::Unreachable {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(status.condition(), Condition::Unproven, "{status:#?}");
    let untold = found(&status).told.as_ref().expect_err("nobody may read that");
    assert!(untold.contains("system:serviceaccount:looks:looks may not "), "{untold}");
    let why = found(&status).proxies.as_ref().expect_err("nobody may ask");
    assert!(
        why.starts_with("system:serviceaccount:looks:looks may not get pods/proxy in namespace "),
        "{why}"
    );
}

const STRATEGY: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: RolloutStrategy
metadata: {name: careful}
spec:
  waves: [{name: all, clusters: [\"*\"]}]
  gates: {running: {within: WITHIN, share: 100%}, traps: 0}
  onFailure: Undo
";

impl Scene {
    /// Brings plans to the API server behind a gate that asks the pods, and how that ends.
    async fn roll_out(&self, plans: &Plans, within: &str) -> (End, Vec<String>) {
        let url = "oci://registry.example/isthmus:v1".parse().expect("a URL");
        self.roll_out_as(plans, &STRATEGY.replace("WITHIN", within), &url).await
    }

    /// The same with a strategy, and with the module from somewhere.
    pub(super) async fn roll_out_as(
        &self,
        plans: &Plans,
        strategy: &str,
        url: &ModuleUrl,
    ) -> (End, Vec<String>) {
        let mesh = self.stage.mesh();
        let (strategy, findings) = Strategy::read("s.yaml", strategy, mesh);
        let strategy = strategy.unwrap_or_else(|| panic!("{findings:#?}"));
        let targets = self.reach(&self.clusters.kubeconfig()).await;
        let sources = Sources::of(mesh, &targets, &BTreeMap::new(), BTreeMap::new());
        let asking = Asking { patience: PATIENCE, parallel: 8 };
        let made = |limits: &Limits| gates(limits, mesh.root_namespace().as_str(), &sources, asking);
        let mut refused = Vec::new();
        let mut tell = |progress: &Progress| {
            if let Progress::Refused(cluster, why) = progress {
                refused.push(format!("{cluster}: {why}"));
            }
        };
        let campaign = Campaign {
            root: mesh.root_namespace().to_string(),
            targets,
            how: How { dry_run: DryRun::No, force: false, parallel: 4 },
            holder: Holder { name: "gated".to_owned(), time: PATIENCE, clock: time::OffsetDateTime::now_utc },
            gates: &made,
            history: 10,
            tell: &mut tell,
        };
        let options = Options { url, upstream_check: false, dry_run: false };
        let origin = Origin::at(time::OffsetDateTime::now_utc());
        let report = Box::pin(campaign.roll_out((mesh, plans, options), strategy, origin)).await;
        let state = report.expect("a rollout").record.expect("a record").state;
        let machine::Stage::Ended(end) = state.stage() else { panic!("{state:?}") };
        (end, refused)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_back_when_the_proxies_do_not_take_it_and_ends_when_they_do() {
    let Some(scene) = Scene::set().await else { return };
    let old = scene.stage.compile(&scene.policies).expect("plans");
    let new = scene.stage.compile(&scene.opened()).expect("plans");
    assert_eq!(scene.roll_out(&old, "60s").await, (End::Complete, Vec::new()));

    // The API server takes it, and no istiod tells the proxies.
    let (end, refused) = scene.roll_out(&new, "1s").await;
    assert_eq!(end, End::Undone, "{refused:?}");
    let told = "cluster1: proxies: 2 of 6 proxies run the plan, 0 do not answer; not ";
    assert!(refused[0].starts_with(told) && refused[0].ends_with(" after 1 s"), "{refused:?}");
    assert_eq!(scene.look(&old).await.condition(), Condition::InForce, "as it was");

    scene.stage.roll_out(&scene.opened()).expect("plans");
    assert_eq!(scene.roll_out(&new, "60s").await, (End::Complete, Vec::new()));
    assert_eq!(scene.look(&new).await.condition(), Condition::InForce);
}

/// The exit code of `status`, and its lines, each as words.
async fn status(ground: &Ground) -> (Option<i32>, Vec<Vec<String>>) {
    let output = ground.run("status", &[]).await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    (code(&output), stdout(&output).lines().map(words).collect())
}

/// Does something to the plugin of inbound requests, as somebody else.
async fn meddle(ground: &Ground, method: &str, body: &Value) {
    let request = hyper::Request::builder()
        .method(method)
        .uri(format!("{INBOUND}?fieldManager=kubectl-edit"))
        .header("content-type", "application/merge-patch+json")
        .body(if body.is_null() { Vec::new() } else { body.to_string().into_bytes() })
        .expect("a request");
    ground.clusters.client("cluster1").await.request::<Value>(request).await.expect("the server agrees");
}

#[tokio::test]
async fn who_has_changed_what_is_told_and_a_cluster_that_is_down_is_a_row() {
    let Some(mut ground) = Ground::start().await else { return };
    let (code, lines) = status(&ground).await;
    assert_eq!(
        (code, &lines[1][1..2], &lines[2][1..2]),
        (Some(1), ["NotApplied".to_owned()].as_slice(), ["NotApplied".to_owned()].as_slice())
    );
    std::fs::remove_file(ground.policy("reports.yaml")).expect("a policy");
    assert!(ground.roll(&[]).await.status.success());
    let (code, lines) = status(&ground).await;
    assert_eq!((code, lines.len()), (Some(0), 3), "{lines:?}");
    let [head, one, _] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(head[..3], ["CLUSTER", "STATUS", "WANTED"]);
    assert_eq!(
        (&one[..2], &one[2], &one[4..8]),
        (
            ["cluster1".to_owned(), "InForce".to_owned()].as_slice(),
            &one[3],
            ["1", "5/5", "0/0", "-"].map(str::to_owned).as_slice()
        )
    );

    // Where the module comes from is the rollout's to say, and not compared; who else writes it is told.
    meddle(&ground, "PATCH", &json!({"spec": {"url": "oci://elsewhere.example/x", "priority": 7}})).await;
    let (code, lines) = status(&ground).await;
    assert_eq!((code, lines[1][1].as_str(), lines[1][7].as_str()), (Some(1), "Drifted", "1"));
    let told = lines[3].join(" ");
    assert!(told.starts_with("cluster1: WasmPlugin istio-system/isthmus-inbound: \"kubectl-edit\" wrote spec.priority, spec.url at 20"), "{told}");
    let output = ground.run("status", &["-o", "json", "cluster1"]).await;
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let edit = &json["items"][0]["drift"][0]["edits"][0];
    assert_eq!(
        (&edit["manager"], &edit["fields"]),
        (&json!("kubectl-edit"), &json!(["spec.priority", "spec.url"]))
    );
    assert_eq!(json["items"].as_array().map(Vec::len), Some(1));

    // Something is taken out of it, so that nobody owns it; and then the whole object goes.
    assert!(ground.roll(&["--force-conflicts"]).await.status.success());
    assert_eq!(status(&ground).await.0, Some(0));
    meddle(&ground, "PATCH", &json!({"spec": {"pluginConfig": {"plan": {"sections": null}}}})).await;
    let (_, lines) = status(&ground).await;
    assert_eq!(lines[1][1], "Drifted");
    assert!(lines[3].join(" ").ends_with("lacks what was rolled out: somebody has removed it"), "{lines:?}");
    meddle(&ground, "DELETE", &Value::Null).await;
    let (code, lines) = status(&ground).await;
    assert_eq!((code, lines[1][1].as_str(), lines[1][5].as_str()), (Some(1), "Outdated", "4/5"));
    assert_eq!(lines[3].join(" "), "cluster1: WasmPlugin istio-system/isthmus-inbound is not there");

    ground.clusters.server_mut("cluster2").stop();
    let (code, lines) = status(&ground).await;
    assert_eq!(
        (code, &lines[2][..2]),
        (Some(4), ["cluster2".to_owned(), "Unreachable".to_owned()].as_slice())
    );
    assert!(
        lines.iter().any(|line| line.join(" ").contains("the API server cannot be reached")),
        "{lines:?}"
    );
}
