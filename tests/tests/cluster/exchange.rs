//! From plugins of one kind to those of the other, on real API servers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use isthmus_tests::cluster::{Clusters, ISTIO};
use serde_json::{Value, json};

use super::rollout::{ALL, Ground, INBOUND, NAMES, PLUGINS, SHORT, between, code, finished, stderr, stdout};
use super::trial::{enforced_as, trying};
use super::waves::kill;

const EXTENSIONS: &str = "/apis/extensions.istio.io/v1alpha1/trafficextensions";

/// The plan that each plugin says it has, by name, of those of one kind.
async fn plans(ground: &Ground, cluster: &str, path: &str) -> BTreeMap<String, Value> {
    let plan = |object: Value| {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let wasm = object["spec"].get("wasm").unwrap_or(&object["spec"]);
        assert_eq!(wasm["pluginConfig"]["digest"], object["metadata"]["annotations"]["isthmus.dev/plan"]);
        (name, wasm["pluginConfig"]["digest"].clone())
    };
    ground.list(cluster, path).await.into_iter().map(plan).collect()
}

/// Has the mesh ask for the one kind or for the other.
fn ask_for(ground: &Ground, extensions: bool) {
    let path = ground.mesh.path().join("mesh.yaml");
    let text = std::fs::read_to_string(&path).expect("a mesh").replace(", trafficExtension: true", "");
    let text = if extensions {
        text.replace("version: \"1.30\"", "version: \"1.30\", trafficExtension: true")
    } else {
        text
    };
    std::fs::write(path, text).expect("a file");
}

async fn conditions(ground: &Ground) -> Vec<Value> {
    let output = ground.run("status", &["-o", "json", "--no-proxies"]).await;
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["items"].as_array().expect("a list").iter().map(|item| item["condition"].clone()).collect()
}

#[tokio::test]
async fn plugins_of_the_other_kind_take_their_place_and_wherever_it_stops_it_goes_back() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let first = [plans(&ground, "cluster1", PLUGINS).await, plans(&ground, "cluster2", PLUGINS).await];
    assert_eq!(first[0].len(), 3);
    let before = ground.says().await;

    // Another kind and another plan in one rollout, which is killed while both kinds are there.
    ask_for(&ground, true);
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    assert_eq!(conditions(&ground).await, ["Outdated", "Outdated"]);
    let meaning = stdout(&ground.run("diff", &["--only", "meaning"]).await);
    assert!(meaning.contains("cluster1, cluster2: shows reports.payments"), "{meaning}");
    assert!(!meaning.contains("Extension") && !meaning.contains("Plugin"), "{meaning}");
    let canary = ground.canary("0s", "");
    kill(ground.hang("rollout", &canary, &proxies[1], "wasmplugins/isthmus-gateway").await);
    for path in [PLUGINS, EXTENSIONS] {
        assert_eq!(plans(&ground, "cluster2", path).await, first[1], "both kinds have the plan of before");
    }
    assert!(plans(&ground, "cluster1", EXTENSIONS).await.is_empty(), "it is the canary's turn");
    let output = ground.run("rollout undo", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(ground.says().await, before);
    assert!(plans(&ground, "cluster2", EXTENSIONS).await.is_empty());

    exchanges(&ground, "rollout", &SHORT).await;
    for cluster in NAMES {
        assert!(plans(&ground, cluster, PLUGINS).await.is_empty(), "{cluster}");
        assert_eq!(plans(&ground, cluster, EXTENSIONS).await.len(), 3, "{cluster}");
    }
    assert_ne!(plans(&ground, "cluster1", EXTENSIONS).await, first[0], "a policy has gone");
    assert_eq!(conditions(&ground).await, ["Unproven", "Unproven"]);
    assert_eq!(code(&ground.run("diff", &[]).await), Some(0));
    goes_on_as_before(&ground).await;

    // What is kept brings back the kind that was.
    let output = ground.run("rollout rollback 1", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(ground.says().await, before);
    assert!(plans(&ground, "cluster1", EXTENSIONS).await.is_empty());
    let plans = [plans(&ground, "cluster1", PLUGINS).await, plans(&ground, "cluster2", PLUGINS).await];
    assert_eq!(plans, first);
}

/// A verb that exchanges plugins: at no moment is there a cluster with neither kind.
async fn exchanges(ground: &Ground, verb: &str, more: &[&str]) {
    let done = Cell::new(false);
    let looking = async {
        let mut looks = 0_u32;
        while !done.get() {
            for cluster in NAMES {
                let (new, old) =
                    (ground.list(cluster, EXTENSIONS).await.len(), ground.list(cluster, PLUGINS).await.len());
                assert!(new == 3 || old == 3, "{cluster} has {old} plugins and {new} extensions");
            }
            looks += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        looks
    };
    let rolling = async {
        let output = finished(ground.command_of(verb, more)).await;
        done.set(true);
        output
    };
    let (output, looks) = tokio::join!(rolling, looking);
    assert_eq!((code(&output), looks > 10), (Some(0), true), "{}", stderr(&output));
}

#[tokio::test]
async fn plugins_that_are_to_be_of_the_other_kind_try_the_new_plans_first_as_what_they_are() {
    let Some(ground) = Ground::start().await else { return };
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let before = ground.says().await;
    let [one, two] =
        [enforced_as(&ground, NAMES[0], PLUGINS).await, enforced_as(&ground, NAMES[1], PLUGINS).await];
    ask_for(&ground, true);
    for policy in ["cache.yaml", "reports.yaml"] {
        std::fs::remove_file(ground.policy(policy)).expect("removed");
    }
    let canary = ground.canary("0s", "  shadowFirst: 1h\n");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    kill(trying(&ground, "rollout", &canary).await.0);
    assert_eq!(enforced_as(&ground, NAMES[0], PLUGINS).await, one, "it is none of the canary's");
    assert_eq!(enforced_as(&ground, NAMES[1], PLUGINS).await, (two.0.clone(), true), "what was in force is");
    for cluster in NAMES {
        assert!(plans(&ground, cluster, EXTENSIONS).await.is_empty(), "{cluster}");
    }
    let output = ground.run("rollout undo", &SHORT).await;
    assert_eq!((code(&output), ground.says().await), (Some(0), before.clone()), "{}", stderr(&output));
    there_and_back(&ground, [&one.0, &two.0], &before).await;
}

/// Tried, exchanged, and brought back the same way.
async fn there_and_back(ground: &Ground, first: [&Vec<Value>; 2], before: &[String]) {
    // Tried for its time, and then exchanged; what was tried stands nowhere any more.
    let canary = ground.canary("0s", "  shadowFirst: 1s\n");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    exchanges(ground, "rollout", &canary).await;
    for (cluster, old) in NAMES.into_iter().zip(first) {
        is_exchanged(ground, cluster, old).await;
    }
    // And back the same way: what is there then is an extension, which tries the plan of before.
    let canary = ground.canary("0s", "  shadowFirst: 1h\n");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    kill(trying(ground, "rollout rollback 1", &canary).await.0);
    let (extensions, tries) = enforced_as(ground, NAMES[1], EXTENSIONS).await;
    let others = plans(ground, NAMES[1], PLUGINS).await.len();
    assert_eq!((extensions.len(), tries, others), (3, true, 0));
    let canary = ground.canary("0s", "  shadowFirst: 1s\n");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    exchanges(ground, "rollout rollback 1", &canary).await;
    let others = plans(ground, NAMES[1], EXTENSIONS).await.len();
    assert_eq!((ground.says().await.as_slice(), others), (before, 0));
}

/// A cluster has extensions alone, which try nothing, and whose plan is another than it was.
async fn is_exchanged(ground: &Ground, cluster: &str, old: &[Value]) {
    assert!(plans(ground, cluster, PLUGINS).await.is_empty(), "{cluster}");
    let (new, tries) = enforced_as(ground, cluster, EXTENSIONS).await;
    assert_eq!((new.len(), tries), (3, false), "{cluster}");
    assert_ne!(new[1]["wasm"]["pluginConfig"]["digest"], Value::Null, "{cluster}");
    assert_ne!(new[1]["wasm"]["pluginConfig"], old[1]["pluginConfig"], "{cluster}");
}

/// Drift is told and put right for the other kind as well.
async fn goes_on_as_before(ground: &Ground) {
    let path = INBOUND.replace("wasmplugins", "trafficextensions");
    let client = ground.clusters.client("cluster1").await;
    let request = hyper::Request::patch(format!("{path}?fieldManager=kubectl"))
        .header("content-type", "application/merge-patch+json")
        .body(json!({"spec": {"priority": 7}}).to_string().into_bytes())
        .expect("a request");
    client.request::<Value>(request).await.expect("the server agrees");
    let force = [SHORT.as_slice(), &["--force-conflicts"]].concat();
    put_right(ground, &force, ("Drifted", ": \"kubectl\" wrote spec.priority at ")).await;
    super::ask(&client, hyper::Request::delete(&path), &Value::Null).await;
    put_right(ground, &SHORT, ("Outdated", " is not there")).await;
}

/// The first cluster is of this condition, for a reason that is told, until a rollout has been.
async fn put_right(ground: &Ground, how: &[&str], (condition, why): (&str, &str)) {
    assert_eq!(conditions(ground).await, [condition, "Unproven"]);
    let told = stdout(&ground.run("status", &["--no-proxies"]).await);
    let line = format!("cluster1: TrafficExtension istio-system/isthmus-inbound{why}");
    assert!(told.contains(&line), "{told}");
    assert_eq!(code(&ground.roll(how).await), Some(0));
    assert_eq!(conditions(ground).await, ["Unproven", "Unproven"]);
}

#[tokio::test]
async fn where_istio_is_too_old_for_extensions_that_is_said_and_nothing_is_written() {
    let [oldest, newest] = ISTIO;
    let Some(clusters) = Clusters::with_istio(&[("cluster1", oldest), ("cluster2", newest)]).await else {
        return;
    };
    let ground = Ground::on(clusters).await;
    ask_for(&ground, true);
    // Nothing of the other cluster leads through this one's gateways.
    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    let output = ground.roll(&SHORT).await;
    let told = "cluster1: cannot list TrafficExtension";
    assert_eq!((code(&output), stderr(&output).contains(told)), (Some(4), true), "{}", stderr(&output));
    assert_eq!(ground.names("cluster1").await, [""; 0]);
    assert_eq!(ground.names("cluster2").await, [""; 0], "its plugins are of the other kind");
    assert_eq!(plans(&ground, "cluster2", EXTENSIONS).await.len(), 3);
    // Another mesh.yaml, and it is as if nobody had asked.
    ask_for(&ground, false);
    let output = ground.roll(&SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for cluster in NAMES {
        assert_eq!(ground.names(cluster).await, ALL[..3], "{cluster}");
    }
    assert!(plans(&ground, "cluster2", EXTENSIONS).await.is_empty());
}
