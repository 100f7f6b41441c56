//! `isthmus rollout` to two real API servers, as a person runs it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use isthmus::kube::Apply;
use isthmus_tests::cluster::{Clusters, Fault, Faulty};
use isthmus_tests::repository;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{PATIENCE, get, namespace, post};

pub(super) const NAMES: [&str; 2] = ["cluster1", "cluster2"];
const URL: &str = "oci://registry.example/isthmus:v1";
pub(super) const PLUGINS: &str = "/apis/extensions.istio.io/v1alpha1/wasmplugins";
pub(super) const INBOUND: &str =
    "/apis/extensions.istio.io/v1alpha1/namespaces/istio-system/wasmplugins/isthmus-inbound";
pub(super) const RULES: &str = "/apis/networking.istio.io/v1/destinationrules";
pub(super) const ROUTES: &str = "/apis/networking.istio.io/v1/virtualservices";

/// The example mesh, with clusters that are there.
pub(super) struct Ground {
    pub(super) clusters: Clusters,
    pub(super) mesh: TempDir,
    pub(super) kubeconfig: PathBuf,
}

impl Ground {
    pub(super) async fn start() -> Option<Self> {
        Some(Self::on(Clusters::start(&NAMES).await?).await)
    }

    /// The same, with servers of one's own.
    pub(super) async fn on(clusters: Clusters) -> Self {
        for name in NAMES {
            let client = clusters.client(name).await;
            for wanted in ["istio-system", "sample", "payments"] {
                namespace(&client, wanted).await;
            }
        }
        let mesh = TempDir::new().expect("a directory");
        let example = repository().join("examples/two-clusters");
        let text = std::fs::read_to_string(example.join("mesh.yaml")).expect("a mesh");
        std::fs::write(mesh.path().join("mesh.yaml"), text.replace("kind-", "")).expect("a file");
        let policies = mesh.path().join("policies");
        std::fs::create_dir(&policies).expect("a directory");
        for name in ["cache.yaml", "ledger.yaml", "reports.yaml"] {
            std::fs::copy(example.join("policies").join(name), policies.join(name)).expect("a file");
        }
        let kubeconfig = clusters.kubeconfig();
        Self { clusters, mesh, kubeconfig }
    }

    pub(super) fn command(&self, more: &[&str]) -> Command {
        self.command_of("rollout", more)
    }

    pub(super) fn command_of(&self, verb: &str, more: &[&str]) -> Command {
        let mut command = self.bare(verb);
        if ["rollout", "diff"].contains(&verb) {
            command.args(["--url", URL, "--no-resolve"]);
        }
        command.args(more);
        command
    }

    /// A verb without a URL.
    pub(super) fn bare(&self, verb: &str) -> Command {
        let test = std::env::current_exe().expect("a test binary");
        let binary = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("isthmus");
        assert!(binary.is_file(), "no {}: run `cargo build -p isthmus`", binary.display());
        let mut command = Command::new(binary);
        command.stdin(Stdio::null()).args(verb.split(' ')).arg("-f").arg(self.mesh.path());
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command
    }

    /// Runs a rollout to its end while the servers of this process go on.
    pub(super) async fn roll(&self, more: &[&str]) -> Output {
        self.run("rollout", more).await
    }

    pub(super) async fn run(&self, verb: &str, more: &[&str]) -> Output {
        finished(self.command_of(verb, more)).await
    }

    pub(super) fn policy(&self, name: &str) -> PathBuf {
        self.mesh.path().join("policies").join(name)
    }

    pub(super) async fn list(&self, cluster: &str, path: &str) -> Vec<Value> {
        let list = get(&self.clusters.client(cluster).await, path).await;
        list["items"].as_array().expect("a list").clone()
    }

    /// The namespaces and names of all objects of a cluster that a rollout could make.
    pub(super) async fn names(&self, cluster: &str) -> Vec<String> {
        let mut names = Vec::new();
        for path in [PLUGINS, RULES, ROUTES] {
            for object in self.list(cluster, path).await {
                let field = |name: &str| object["metadata"][name].as_str().expect("text").to_owned();
                names.push(format!("{}/{}", field("namespace"), field("name")));
            }
        }
        names
    }
}

/// Runs to its end while the servers of this process go on.
pub(super) async fn finished(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    ended.await.expect("it ends")
}

/// What it told at last; events come before, a line each.
fn last_line(output: &Output) -> Value {
    serde_json::from_str(stdout(output).lines().last().expect("a line")).expect("JSON")
}

pub(super) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

pub(super) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub(super) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A lease that nobody waits long for, and that who works on a busy machine does not lose.
pub(super) const SHORT: [&str; 2] = ["--lease", "8"];

/// What a rollout of the whole example makes in each cluster.
pub(super) const ALL: [&str; 5] = [
    "istio-system/isthmus-gateway",
    "istio-system/isthmus-inbound",
    "istio-system/isthmus-outbound",
    "sample/isthmus-cache",
    "sample/isthmus-cache",
];

#[tokio::test]
async fn a_rollout_reaches_every_cluster_and_a_second_one_changes_nothing() {
    let Some(ground) = Ground::start().await else { return };
    for dry in ["--dry-run", "--dry-run=server"] {
        let output = ground.roll(&[dry]).await;
        assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""), "{dry}");
        assert!(stdout(&output).contains("cluster1: plan "), "{}", stdout(&output));
        assert!(stdout(&output).contains(", 5 would be written, 0 unchanged\n"), "{}", stdout(&output));
        assert!(stdout(&output).contains("\n  + WasmPlugin istio-system/isthmus-inbound\n"));
        assert_eq!(ground.names("cluster1").await, [""; 0], "{dry}");
    }
    let output = ground.roll(&[]).await;
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
    for cluster in NAMES {
        assert_eq!(ground.names(cluster).await, ALL, "{cluster}");
    }
    let before = [ground.list("cluster1", PLUGINS).await, ground.list("cluster2", RULES).await];
    let output = ground.roll(&["-o", "json"]).await;
    let told = last_line(&output);
    for item in told["items"].as_array().expect("a list") {
        assert_eq!(
            (&item["written"], &item["unchanged"], &item["error"]),
            (&json!([]), &json!(5), &Value::Null)
        );
    }
    assert_eq!([ground.list("cluster1", PLUGINS).await, ground.list("cluster2", RULES).await], before);
}

/// Changes a plugin of a cluster as `kubectl patch` does.
pub(super) async fn patch(ground: &Ground, cluster: &str, change: &Value) {
    let request = hyper::Request::patch(format!("{INBOUND}?fieldManager=kubectl"))
        .header("content-type", "application/merge-patch+json")
        .body(change.to_string().into_bytes())
        .expect("a request");
    ground.clusters.client(cluster).await.request::<Value>(request).await.expect("the server agrees");
}

#[tokio::test]
async fn a_diff_shows_what_a_rollout_would_change_and_nothing_else() {
    let Some(ground) = Ground::start().await else { return };
    let all = ground.run("diff", &[]).await;
    assert_eq!((code(&all), stderr(&all).as_str()), (Some(1), ""));
    let new = "--- /dev/null\n+++ cluster2: VirtualService sample/isthmus-cache\n@@ ";
    assert!(stdout(&all).contains(new), "{}", stdout(&all));
    let closes = "cluster1: closes ledger.payments to ";
    assert!(stdout(&all).contains(closes), "{}", stdout(&all));
    let dry = ground.roll(&["--dry-run"]).await;
    assert!(stdout(&dry).contains(closes), "{}", stdout(&dry));
    let meaning = ground.run("diff", &["--only", "meaning", "--cluster", "cluster2"]).await;
    let is_of_it = |line: &str| line.starts_with("cluster2: ");
    assert!(stdout(&meaning).lines().all(is_of_it) && !stdout(&meaning).is_empty(), "{}", stdout(&meaning));
    assert_eq!(ground.names("cluster1").await, [""; 0], "it only looks");
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    let none = ground.run("diff", &[]).await;
    assert_eq!((code(&none), stdout(&none).as_str()), (Some(0), ""));

    // What others add is theirs.
    patch(&ground, "cluster1", &json!({"metadata": {"annotations": {"team": "payments"}}})).await;
    assert_eq!(code(&ground.run("diff", &[]).await), Some(0));
    patch(&ground, "cluster1", &json!({"spec": {"url": "oci://elsewhere.example/x"}})).await;
    let held = ground.run("diff", &[]).await;
    assert_eq!(code(&held), Some(4));
    assert!(stderr(&held).contains(".spec.url belongs to \"kubectl\""), "{}", stderr(&held));
    let taken = ground.run("diff", &["--force-conflicts"]).await;
    assert_eq!(code(&taken), Some(1));
    let changed = |sign: char| {
        let lines = stdout(&taken);
        lines.lines().filter(|line| line.starts_with(sign)).map(str::to_owned).collect::<Vec<_>>()
    };
    let name = "cluster1: WasmPlugin istio-system/isthmus-inbound";
    assert_eq!(changed('-'), [format!("--- {name}"), "-  url: oci://elsewhere.example/x".to_owned()]);
    assert_eq!(changed('+'), [format!("+++ {name}"), format!("+  url: {URL}")]);

    let beside = "cluster1: not compared: WasmPlugin istio-system/isthmus-inbound: url, told as YAML alone\n";
    assert!(stdout(&taken).starts_with(beside), "{}", stdout(&taken));

    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    let gone = ground.run("diff", &["-o", "json", "--force-conflicts"]).await;
    let told: Value = serde_json::from_slice(&gone.stdout).expect("JSON");
    let changes = told["items"][1]["meaning"][0]["changes"].as_array().expect("a list");
    let moves = |change: &&Value| change["kind"] == "moves" && change["subject"] == "cache.sample";
    assert!(changes.iter().any(|change| moves(&change)), "{changes:#?}");
    let of = |name: &str| {
        let items = told["items"][1]["differences"].as_array().expect("a list");
        let found = items.iter().find(|item| item["name"] == name);
        found.unwrap_or_else(|| panic!("nothing of {name}: {items:#?}")).clone()
    };
    assert_eq!(of("DestinationRule sample/isthmus-cache")["after"], Value::Null);
    assert_eq!(of("WasmPlugin istio-system/isthmus-outbound")["after"]["kind"], "WasmPlugin");
    assert_eq!(ground.names("cluster2").await, ALL, "it only looks");
}

#[tokio::test]
async fn what_is_wanted_no_more_goes_and_what_others_made_stays() {
    let Some(ground) = Ground::start().await else { return };
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    let client = ground.clusters.client("cluster1").await;
    // One with our label and a name like ours, one with our label, one with neither.
    let rules = "/apis/networking.istio.io/v1/namespaces/sample/destinationrules";
    let rule = |name: &str, labels: Value| {
        let metadata = json!({"name": name, "labels": labels});
        let (version, kind) = ("networking.istio.io/v1", "DestinationRule");
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {"host": "x.sample.svc.cluster.local"}})
    };
    let ours = json!({"app.kubernetes.io/managed-by": "isthmus"});
    post(&client, rules, &rule("isthmus-orders", ours.clone())).await;
    post(&client, rules, &rule("orders", ours)).await;
    post(&client, rules, &rule("plain", json!({}))).await;
    // What the mesh needs is ours too, and nothing of a rollout.
    let mut of_mesh = rule("isthmus-ledger.payments", json!({"app.kubernetes.io/managed-by": "isthmus"}));
    of_mesh["metadata"]["namespace"] = "istio-system".into();
    let cluster = super::cluster(&ground.kubeconfig, "cluster1", PATIENCE).await;
    cluster.apply(&of_mesh, Apply::default()).await.expect("taken");
    // And what somebody did to one of ours is put right.
    patch(&ground, "cluster1", &json!({"spec": {"url": "oci://elsewhere.example/x"}})).await;

    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    let output = ground.roll(&[]).await;
    assert_eq!(code(&output), Some(4), "{}", stdout(&output));
    let told = "error: cluster1: cannot apply WasmPlugin istio-system/isthmus-inbound: .spec.url belongs to \"kubectl\": \
                --force-conflicts takes it from them\n";
    assert_eq!(stderr(&output), told);
    let output = ground.roll(&["--force-conflicts"]).await;
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
    assert_eq!(get(&client, INBOUND).await["spec"]["url"], URL);
    assert_eq!(ground.names("cluster2").await, ALL[..3]);
    let theirs =
        ["istio-system/isthmus-ledger.payments", "sample/isthmus-orders", "sample/orders", "sample/plain"];
    assert_eq!(ground.names("cluster1").await, [&ALL[..3], &theirs].concat());
}

#[tokio::test]
async fn a_cluster_that_is_down_is_told_and_the_others_go_on_and_later_it_catches_up() {
    let Some(mut ground) = Ground::start().await else { return };
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    ground.clusters.server_mut("cluster2").stop();
    let before = ground.list("cluster1", PLUGINS).await;
    let output = ground.roll(&[]).await;
    assert_eq!(code(&output), Some(4), "{}", stdout(&output));
    let told = stderr(&output);
    assert!(
        told.starts_with("error: cluster2: cannot get Lease istio-system/isthmus-rollout: ")
            && told.contains("Connection refused"),
        "{told}"
    );
    assert!(stdout(&output).contains("cluster2: plan ") && stdout(&output).contains(", not done\n"));
    let after = ground.list("cluster1", PLUGINS).await;
    assert_ne!(after, before);
    ground.clusters.server_mut("cluster2").resume().await;
    let output = ground.roll(&[]).await;
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
    let spec = |plugins: &[Value]| {
        plugins.iter().map(|plugin| plugin["metadata"]["annotations"].clone()).collect::<Vec<_>>()
    };
    assert_ne!(spec(&ground.list("cluster2", PLUGINS).await), spec(&before));
    assert_eq!(ground.list("cluster1", PLUGINS).await, after, "it was done already");

    ground.clusters.server_mut("cluster1").stop();
    ground.clusters.server_mut("cluster2").stop();
    assert_eq!(code(&ground.roll(&["--timeout", "2"]).await), Some(3), "none is done");
}

/// Puts a proxy before each server.
pub(super) async fn between(ground: &mut Ground) -> [Faulty; 2] {
    let [one, two] = NAMES.map(|name| ground.clusters.client(name));
    let proxies = [Faulty::before(one.await).await, Faulty::before(two.await).await];
    let entries: Vec<_> = NAMES
        .into_iter()
        .zip(&proxies)
        .map(|(name, proxy)| (name, proxy.url(), ground.clusters.server(name).token()))
        .collect();
    ground.kubeconfig = ground.clusters.kubeconfig_with(&entries);
    proxies
}

#[tokio::test]
async fn subsets_come_everywhere_before_routes_and_routes_before_filters() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    // Calls that fail once, so that one cluster is behind the other.
    let down = Fault::Answer(hyper::StatusCode::SERVICE_UNAVAILABLE, None, "");
    proxies[1].next([Fault::Pass, Fault::Pass, down.clone(), down.clone(), Fault::Pass, down]);
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    let order = |proxies: &[Faulty; 2]| {
        let mut seen: Vec<(Instant, String)> = proxies.iter().flat_map(Faulty::seen).collect();
        seen.sort();
        let kind = |(_, line): &(Instant, String)| {
            let kinds = ["destinationrules", "virtualservices", "wasmplugins"];
            let kind = kinds.into_iter().find(|kind| line.contains(kind))?;
            (line.starts_with("PATCH") || line.starts_with("DELETE")).then_some(kind)
        };
        let mut kinds: Vec<&str> = seen.iter().filter_map(kind).collect();
        kinds.dedup();
        kinds
    };
    assert_eq!(order(&proxies), ["destinationrules", "virtualservices", "wasmplugins"]);
    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    assert_eq!(order(&proxies), ["wasmplugins", "virtualservices", "destinationrules"]);
}

/// Waits until a proxy has been asked for something; false if whoever should ask has ended.
pub(super) async fn is_asked(proxy: &Faulty, what: &str, child: &mut Child) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !proxy.seen().iter().any(|(_, line)| line.contains(what)) {
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "nobody asks for {what}");
        // Whoever asks needs the processor more than whoever looks.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

#[tokio::test]
async fn a_rollout_that_is_killed_anywhere_is_finished_by_the_next() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    for what in [
        "labelSelector",
        "destinationrules/isthmus",
        "virtualservices/isthmus",
        "wasmplugins/isthmus-gateway",
    ] {
        proxies[0].hang_at(what);
        let mut child = ground.command(&SHORT).stdout(Stdio::null()).spawn().expect("it runs");
        assert!(is_asked(&proxies[0], what, &mut child).await, "it has ended");
        child.kill().expect("kill -9");
        child.wait().expect("reaped");
    }
    let output = ground.roll(&SHORT).await;
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
    for cluster in NAMES {
        assert_eq!(ground.names(cluster).await, ALL, "{cluster}");
    }
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
}

#[tokio::test]
async fn a_cluster_without_the_rights_is_told_what_it_lacks_and_who_would_need_it_waits() {
    let Some(mut ground) = Ground::start().await else { return };
    let client = ground.clusters.client("cluster2").await;
    let token = super::account(&client, "weak").await;
    let [one, two] = NAMES.map(|name| ground.clusters.server(name).url());
    let admin = ground.clusters.server("cluster1").token().to_owned();
    ground.kubeconfig =
        ground.clusters.kubeconfig_with(&[("cluster1", &one, &admin), ("cluster2", &two, &token)]);
    let output = ground.roll(&[]).await;
    assert_eq!(code(&output), Some(3), "none is done");
    let told = "error: cluster1: waits for cluster2, whose gateways do not know yet where its requests for sample.cache \
                should go\nerror: cluster2: cannot get Lease istio-system/isthmus-rollout: \
                system:serviceaccount:weak:weak may not get leases.coordination.k8s.io in namespace istio-system: grant the \
                verb with RBAC\n";
    assert_eq!(stderr(&output), told);
    assert_eq!(ground.names("cluster1").await, ["sample/isthmus-cache"], "a subset harms nobody");
}
