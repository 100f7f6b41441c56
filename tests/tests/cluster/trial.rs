//! Plans that are tried in shadow before they are enforced: in real API servers, and in real Envoys behind their pods.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isthmus::lab::{Client, Get};
use isthmus::rollout::machine::End;
use isthmus::status::Condition;
use policy::Policy;
use policy::compile::Plans;
use serde_json::{Value, json};

use super::rollout::{Ground, NAMES, PLUGINS, SHORT, code, stderr, stdout};
use super::status::{Scene, found};
use super::waves::{ended, kill};
use super::{PATIENCE, get};

const OURS: &str = "/apis/extensions.istio.io/v1alpha1/namespaces/istio-system/wasmplugins";

impl Scene {
    /// The plans with one more policy for helloworld.
    fn with(&self, access: &str) -> Plans {
        let text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: hello, namespace: sample}}\nspec: {{services: [helloworld], access: {access}}}\n"
        );
        let (policies, findings) = Policy::read("p.yaml", &text, self.stage.mesh().root_namespace());
        assert_eq!(findings, []);
        let all: Vec<Policy> = self.policies.iter().cloned().chain(policies).collect();
        self.stage.compile(&all).expect("plans")
    }

    /// Brings the plugins of the API server to the proxies, as istiod does, for ever.
    async fn lead(&self) -> Infallible {
        let client = self.clusters.client("cluster1").await;
        let directory = self.lab.site().plugins("cluster1");
        loop {
            let list = get(&client, OURS).await;
            for item in list["items"].as_array().into_iter().flatten() {
                let metadata = json!({"name": item["metadata"]["name"], "namespace": "istio-system"});
                let object = json!({
                    "apiVersion": "extensions.istio.io/v1alpha1", "kind": "WasmPlugin", "metadata": metadata, "spec": item["spec"],
                });
                let path = directory.join(format!("{}.yaml", metadata["name"].as_str().expect("a name")));
                let text = serde_saphyr::to_string(&object).expect("YAML");
                if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
                    continue;
                }
                let aside = path.with_extension("aside");
                std::fs::write(&aside, text).expect("a file");
                std::fs::rename(aside, path).expect("a file");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends requests that are let on, for ever.
    async fn send(&self, sent: &AtomicU64) -> Infallible {
        let client = Client::new("cluster1", "sample", "sleep");
        let get = Get::new("helloworld.sample:5000", "/hello");
        loop {
            let answer = self.lab.get(&client, &get).await.expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rolls out while requests come, and says how that ended.
    async fn under_load(&self, plans: &Plans, spec: &str) -> (End, Vec<String>) {
        let strategy = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: RolloutStrategy\nmetadata: {{name: careful}}\nspec:\n  waves: [{{name: all, clusters: ['*']}}]\n  {spec}\n"
        );
        let sent = AtomicU64::new(0);
        let ended = tokio::select! {
            ended = self.roll_out_as(plans, &strategy, self.stage.url()) => ended,
            never = self.lead() => match never {},
            never = self.send(&sent) => match never {},
        };
        assert!(sent.load(Ordering::Relaxed) > 0, "nobody was served");
        ended
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_would_deny_real_traffic_is_held_and_a_good_one_goes_through_and_no_request_is_refused()
{
    let Some(scene) = Scene::set().await else { return };
    let old = scene.stage.compile(&scene.policies).expect("plans");
    assert_eq!(scene.under_load(&old, "gates: {running: {within: 60s}}").await, (End::Complete, Vec::new()));

    let bad = scene.with("{scope: All, allow: []}");
    let (end, refused) = scene.under_load(&bad, "shadowFirst: 2s").await;
    assert_eq!(end, End::Failed, "{refused:?}");
    assert!(
        refused[0].starts_with("cluster1: proxies: requests that the new plan would deny: "),
        "{refused:?}"
    );
    // What was in force is, in every proxy, and beside it one that has harmed nobody.
    let status = scene.look(&old).await;
    assert_eq!(found(&status).running(), Ok((6, 6)), "{status:#?}");
    let proxies = found(&status).proxies.as_ref().expect("proxies are asked");
    let trials =
        proxies.iter().filter(|judged| judged.proxy.said.as_ref().is_ok_and(|said| !said.trials.is_empty()));
    assert!(trials.count() > 0, "{status:#?}");

    let good = scene.with("{scope: All, allow: [{name: all, from: [{clusters: ['*']}]}]}");
    let ended = scene.under_load(&good, "shadowFirst: 2s").await;
    assert_eq!(ended, (End::Complete, Vec::new()));
    let status = scene.look(&good).await;
    assert_eq!(status.condition(), Condition::InForce, "{status:#?}");
    let said = |judged: &isthmus::status::Judged| judged.proxy.said.clone().expect("it says something");
    let proxies = found(&status).proxies.as_ref().expect("proxies are asked");
    assert!(
        proxies.iter().map(said).all(|said| said.trials.is_empty()),
        "nothing is tried any more: {status:#?}"
    );
    assert!(proxies.iter().map(said).map(|said| said.counts.tried).sum::<u64>() > 0, "{status:#?}");

    let (end, _) = scene.under_load(&bad, "shadowFirst: 2s\n  onFailure: Undo").await;
    assert_eq!(end, End::Undone);
    assert_eq!(scene.look(&good).await.condition(), Condition::InForce);
}

/// Runs a verb until its plans are watched in shadow.
pub(super) async fn trying(ground: &Ground, verb: &str, more: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = ground.command_of(verb, &[more, &["-o", "json"]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("its output"));
    let watched = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains("shadowBake") {
            line.clear();
            assert!(out.read_line(&mut line).expect("text") > 0, "it has ended");
        }
        (child, out)
    });
    let watched = watched.await.expect("it is watched");
    // It is told before it is kept.
    let deadline = Instant::now() + PATIENCE;
    while ground.standing().await["record"]["state"]["stage"] != json!({"shadowBake": 0}) {
        assert!(Instant::now() < deadline, "nobody keeps it");
    }
    watched
}

/// The plugins of a cluster, without what they try; and whether any tries something.
async fn enforced(ground: &Ground, cluster: &str) -> (Vec<Value>, bool) {
    enforced_as(ground, cluster, PLUGINS).await
}

/// The same of those of one kind.
pub(super) async fn enforced_as(ground: &Ground, cluster: &str, path: &str) -> (Vec<Value>, bool) {
    let mut tries = false;
    let plugins = ground.list(cluster, path).await.into_iter().map(|mut plugin| {
        let settings = if plugin["spec"]["wasm"].is_null() { "/spec" } else { "/spec/wasm" };
        let configuration = plugin.pointer_mut(&format!("{settings}/pluginConfig"));
        let configuration = configuration.and_then(Value::as_object_mut).expect("a configuration");
        tries |= configuration.remove("trial").is_some();
        plugin["spec"].take()
    });
    (plugins.collect(), tries)
}

#[tokio::test]
async fn a_rollout_that_is_killed_paused_or_undone_while_it_tries_has_enforced_nothing() {
    let Some(ground) = Ground::start().await else { return };
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let before = ground.says().await;
    let [first, second] = [enforced(&ground, NAMES[0]).await, enforced(&ground, NAMES[1]).await];
    for policy in ["cache.yaml", "reports.yaml"] {
        std::fs::remove_file(ground.policy(policy)).expect("removed");
    }
    let canary = ground.canary("0s", "  shadowFirst: 1h\n");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    let dry = ground.run("rollout", &[&canary[..], &["--dry-run=server"]].concat()).await;
    let told = "wave canary: cluster2, 1 at once, tried in shadow for 3600 s\n";
    assert!(stdout(&dry).starts_with(told), "{} {}", stdout(&dry), stderr(&dry));

    kill(trying(&ground, "rollout", &canary).await.0);
    assert_eq!(enforced(&ground, NAMES[0]).await, first, "it is none of the canary's");
    assert_eq!(enforced(&ground, NAMES[1]).await, (second.0.clone(), true), "what was in force is");
    let told = "wave canary: tried in shadow";
    let status = ground.run("rollout status", &[]).await;
    assert!(stdout(&status).contains(told), "{}", stdout(&status));
    let status = ground.run("status", &[]).await;
    assert!(stdout(&status).contains(told), "{}", stdout(&status));
    // What differs in meaning is told of what is in force.
    let diff = ground.run("diff", &["--only", "meaning"]).await;
    assert!(
        stdout(&diff).contains("cluster2: shows reports.payments"),
        "{} {}",
        stdout(&diff),
        stderr(&diff)
    );

    let (child, mut rest) = trying(&ground, "rollout resume", &SHORT).await;
    let asked = ground.run("rollout pause", &["-o", "json"]).await;
    let told: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    assert_eq!((&told["kind"], &told["clusters"]), (&json!("RolloutPause"), &json!(NAMES)));
    let drained = tokio::task::spawn_blocking(move || rest.read_line(&mut String::new()));
    assert_eq!(code(&ended(child).await), Some(4));
    drained.await.expect("it ends").expect("text");
    assert_eq!(enforced(&ground, NAMES[1]).await, (second.0.clone(), true));

    let undone = ground.run("rollout undo", &SHORT).await;
    assert_eq!(code(&undone), Some(0), "{}", stderr(&undone));
    assert_eq!(ground.says().await, before);

    let canary = ground.canary("0s", "  shadowFirst: 1s\n");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    let output = ground.roll(&canary).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for (cluster, before) in NAMES.into_iter().zip([first, second]) {
        let (plugins, tries) = enforced(&ground, cluster).await;
        assert!(plugins != before.0 && !tries, "{cluster}");
    }
}
