//! What can go wrong in the middle of a rollout, one after the other, against two real API servers: what is told then, what
//! stands in the clusters, and how it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Instant;

use hyper::StatusCode;
use isthmus::push;
use isthmus::push::credentials::Keychain;
use isthmus::push::image::Image;
use isthmus::push::registry::{Access, Reach};
use isthmus::reference::Reference;
use isthmus_tests::cluster::{self, Somebody, Span};
use isthmus_tests::registry::{Fault, Proxy, Registry, Setup};
use kube::Client;
use serde_json::{Value, json};

use super::rollout::{
    ALL, Ground, INBOUND, NAMES, PLUGINS, SHORT, between, code, finished, is_asked, patch, stderr, stdout,
};
use super::waves::{LEASES, kill};
use super::{PATIENCE, account, ask, get, post};

/// A fault of the cluster whose wave is the second, and what comes of it.
struct Case {
    name: &'static str,
    /// From which request on.
    at: &'static str,
    span: Span,
    fault: cluster::Fault,
    /// The exit code of the rollout.
    code: i32,
    /// What the record says then.
    end: &'static str,
    /// What is told of it, by the rollout and by whoever asks later.
    told: &'static str,
}

/// In the middle of a cluster's filters: one is written, and two are not.
const FILTER: &str =
    "PATCH /apis/extensions.istio.io/v1alpha1/namespaces/istio-system/wasmplugins/isthmus-inbound";

fn answer(code: StatusCode, text: &'static str) -> cluster::Fault {
    cluster::Fault::Answer(code, None, text)
}

fn each(name: &'static str, fault: cluster::Fault, told: &'static str) -> Case {
    Case { name, at: FILTER, span: Span::Each, fault, code: 4, end: "incomplete", told }
}

fn onward(name: &'static str, fault: cluster::Fault, told: &'static str) -> Case {
    Case { span: Span::Onward, ..each(name, fault, told) }
}

fn ways(nobody: Client, weak: Client) -> Vec<Case> {
    vec![
        onward("a server that goes", cluster::Fault::Cut, "the API server cannot be reached"),
        onward("a server that says nothing any more", cluster::Fault::Hang, "no answer within 3s"),
        onward(
            "a token that has expired",
            cluster::Fault::As(Somebody(nobody)),
            "the API server does not accept the credentials (Unauthorized): log in again",
        ),
        onward(
            "rights that were taken away",
            cluster::Fault::As(Somebody(weak)),
            "system:serviceaccount:weak:weak may not patch wasmplugins.extensions.istio.io in namespace istio-system: grant the verb with RBAC",
        ),
    ]
}

fn answers() -> Vec<Case> {
    vec![
        each(
            "an object that is changed by others all the time",
            answer(StatusCode::CONFLICT, CHANGED),
            "it has changed in the meantime (the object has been modified)",
        ),
        each(
            "too much to do",
            cluster::Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(0), "later"),
            "the API server has too much to do and asks to wait for 0ns",
        ),
        each(
            "too much to do for long",
            cluster::Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(600), "later"),
            "the API server has too much to do and asks to wait for 600s",
        ),
        each(
            "a server that fails",
            answer(StatusCode::INTERNAL_SERVER_ERROR, "etcd has lost its mind"),
            "the API server failed with 500: etcd has lost its mind",
        ),
        // The two limits of real servers, in their own words.
        each(
            "an object that is too large for the store",
            cluster::Fault::Grow(3 << 19),
            "which is too large (etcdserver: request is too large)",
        ),
        each(
            "an object that is too large for the server",
            cluster::Fault::Grow(3 << 20),
            "which is too large (Request entity too large: limit is 3145728)",
        ),
        each(
            "a kind that is there no more",
            answer(StatusCode::NOT_FOUND, "404 page not found\n"),
            "the cluster knows no WasmPlugin of extensions.istio.io/v1alpha1: install Istio's definitions there",
        ),
        Case {
            at: "PATCH /api/v1/namespaces/istio-system/configmaps/isthmus-rollout",
            code: 3,
            end: "under way",
            ..each(
                "a record that somebody else writes",
                answer(StatusCode::CONFLICT, CHANGED),
                "cluster1: somebody else has taken over here",
            )
        },
    ]
}

impl Case {
    /// That who asks later is told the same, while it lasts and after it.
    async fn is_told(&self, ground: &Ground, lasts: bool) {
        let Self { name, told, end, .. } = self;
        let (is_behind, standing) = (self.code == 4, ground.standing().await);
        let revision = &standing["record"]["revision"];
        assert_eq!(standing["end"], *end, "{name}: {standing:#}");
        let behind = &standing["record"]["state"]["clusters"]["cluster1"]["behind"];
        assert_eq!(behind.as_str().is_some_and(|why| why.contains(told)), is_behind, "{name}: {behind}");
        let status = ground.status().await;
        let state = if is_behind { end } else { "abandoned" };
        assert_eq!(status["rollout"]["state"], state, "{name}: {status:#}");
        if !is_behind {
            return;
        }
        let behind = &status["rollout"]["behind"][0];
        assert_eq!(behind["cluster"], "cluster1", "{name}: {status:#}");
        assert!(behind["why"].as_str().expect("text").contains(told), "{name}: {status:#}");
        let [one, two] = [&status["items"][0], &status["items"][1]];
        // Its old subsets stay as long as the other may ask for them.
        assert_eq!(two["revision"]["applied"], *revision, "{name}: {two:#}");
        // It has objects of both revisions, wherever it can be asked.
        let is_there = one["condition"] == "Outdated";
        let wanted = if is_there { revision } else { &Value::Null };
        assert_eq!((is_there || lasts, &one["revision"]["rollout"]), (true, wanted), "{name}: {one:#}");
        assert_eq!(one["revision"]["applied"], Value::Null, "{name}: {one:#}");
    }
}

const CHANGED: &str =
    r#"{"kind": "Status", "reason": "Conflict", "message": "the object has been modified", "code": 409}"#;

/// What others have in a cluster, beside ours and in the same namespaces.
const THEIRS: [&str; 2] = [
    "/apis/networking.istio.io/v1/namespaces/sample/destinationrules",
    "/api/v1/namespaces/istio-system/configmaps",
];

impl Ground {
    /// What `isthmus status` tells, to programs.
    async fn status(&self) -> Value {
        let output = self.run("status", &["-o", "json", "--timeout", "3"]).await;
        serde_json::from_str(&stdout(&output)).unwrap_or_else(|_| panic!("{}", stderr(&output)))
    }

    async fn put_theirs(&self) {
        for name in NAMES {
            let client = self.clusters.client(name).await;
            let metadata = json!({"name": "theirs"});
            let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata, "spec": {"host": "theirs"}});
            post(&client, THEIRS[0], &rule).await;
            post(&client, THEIRS[1], &json!({"metadata": metadata, "data": {"a": "b"}})).await;
        }
    }

    async fn theirs(&self) -> Vec<Value> {
        let mut found = Vec::new();
        for name in NAMES {
            let client = self.clusters.client(name).await;
            for path in THEIRS {
                found.push(get(&client, &format!("{path}/theirs")).await);
            }
        }
        found
    }
}

/// What a cluster says, among what both say.
fn of<'s>(said: &'s [String], cluster: &str) -> Vec<&'s String> {
    said.iter().filter(|line| line.starts_with(&format!("{cluster}/"))).collect()
}

#[tokio::test]
async fn whatever_goes_wrong_in_the_middle_of_a_wave_is_told_and_the_rollout_goes_on_to_its_end() {
    let Some(mut ground) = Ground::start().await else { return };
    let [one, nobody] = ["cluster1", "cluster1"].map(|name| ground.clusters.server(name).url());
    let token = account(&ground.clusters.client("cluster1").await, "weak").await;
    let somebody = async |url: &str, token: &str| {
        let kubeconfig = ground.clusters.kubeconfig_of("cluster1", url, token);
        cluster::client(&kubeconfig, "cluster1").await
    };
    let mut cases = ways(somebody(&nobody, "no-token-at-all").await, somebody(&one, &token).await);
    cases.extend(answers());
    let proxies = between(&mut ground).await;
    ground.put_theirs().await;
    let theirs = ground.theirs().await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let first = ground.says().await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let second = ground.says().await;
    let canary = ground.canary("0s", "");
    let canary: Vec<&str> = canary.iter().map(String::as_str).chain(["--timeout", "3"]).collect();
    for case in cases {
        let (name, wanted) = (case.name, case.code);
        let back = ground.run("rollout rollback", &SHORT).await;
        assert_eq!((code(&back), ground.says().await == first), (Some(0), true), "{name}: {}", stderr(&back));
        proxies[0].at(case.at, case.span, case.fault.clone());
        let output = ground.roll(&canary).await;
        assert_eq!(code(&output), Some(wanted), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(case.told), "{name}: {}", stderr(&output));

        // Of each object the one or the other, whole; and the wave before is where it should be.
        let now = ground.says().await;
        assert!(now.iter().all(|line| first.contains(line) || second.contains(line)), "{name}: {now:#?}");
        if wanted == 4 {
            assert_eq!(of(&now, "cluster2"), of(&second, "cluster2"), "{name}");
            assert_ne!(of(&now, "cluster1"), of(&first, "cluster1"), "{name}: it is in the middle");
            assert_ne!(of(&now, "cluster1"), of(&second, "cluster1"), "{name}: it is in the middle");
        }
        case.is_told(&ground, true).await;
        proxies[0].clear();
        case.is_told(&ground, false).await;

        let output = ground.run("rollout resume", &SHORT).await;
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        assert_eq!(ground.says().await, second, "{name}: {}", stdout(&output));
        assert_eq!(ground.standing().await["end"], "complete", "{name}");
        assert_eq!(ground.theirs().await, theirs, "{name}: nothing of others is touched");
    }
}

#[tokio::test]
async fn a_rollout_at_work_one_that_died_and_one_that_is_over_are_told_apart() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    let mut canary = ground.canary("0s", "");
    canary.extend(["--author", "me"].map(str::to_owned));
    let child = ground.hang("rollout", &canary, &proxies[0], "wasmplugins/isthmus-gateway?").await;
    let status = ground.status().await;
    let rollout = &status["rollout"];
    assert_eq!(
        (&rollout["state"], &rollout["wave"], &rollout["stage"], &rollout["revision"]),
        (&json!("underWay"), &json!("rest"), &json!("wave rest: filters change"), &json!(2)),
        "{rollout:#}"
    );
    assert!(rollout["holder"]["name"].as_str().expect("a name").starts_with("me ("), "{rollout:#}");
    assert_eq!(status["items"][1]["revision"]["applied"], 2);
    kill(child);
    // It let nothing go, so nobody knows before its time is over.
    let deadline = Instant::now() + PATIENCE;
    let silent = loop {
        let status = ground.status().await;
        if status["rollout"]["state"] != "underWay" {
            break status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
    };
    assert_eq!(silent["rollout"]["state"], "silent");
    let output = ground.run("rollout resume", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let status = ground.status().await;
    assert_eq!(
        (&status["rollout"]["state"], &status["rollout"]["holder"]),
        (&json!("complete"), &Value::Null)
    );
    assert!(status["items"].as_array().expect("a list").iter().all(|item| item["revision"]["applied"] == 2));
}

#[tokio::test]
async fn what_others_hold_in_the_second_wave_is_told_and_taken_only_when_that_is_said() {
    let Some(ground) = Ground::start().await else { return };
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    patch(&ground, "cluster1", &json!({"spec": {"url": "oci://elsewhere.example/x"}})).await;
    let canary = ground.canary("0s", "");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    let told =
        "cluster1: cannot apply WasmPlugin istio-system/isthmus-inbound: .spec.url belongs to \"kubectl\"";
    for (verb, more) in [("rollout", canary.as_slice()), ("rollout resume", &SHORT)] {
        let output = ground.run(verb, more).await;
        assert_eq!((code(&output), stderr(&output).contains(told)), (Some(4), true), "{}", stderr(&output));
        let inbound = get(&ground.clusters.client("cluster1").await, INBOUND).await;
        assert_eq!(inbound["spec"]["url"], "oci://elsewhere.example/x");
        let status = ground.status().await;
        assert_eq!(status["items"][0]["condition"], "Drifted");
        assert!(status["rollout"]["behind"][0]["why"].as_str().expect("text").contains(told), "{status:#}");
    }
    let output = ground.run("rollout resume", &[&SHORT[..], &["--force-conflicts"]].concat()).await;
    assert_eq!((code(&output), stderr(&output).contains("error")), (Some(0), false), "{}", stderr(&output));
    let status = ground.status().await;
    assert!(status["items"].as_array().expect("a list").iter().all(|item| item["condition"] == "InForce"));
}

#[tokio::test]
async fn a_cluster_without_istios_definitions_is_behind_until_they_are_there() {
    let Some(ground) = Ground::start().await else { return };
    let client = ground.clusters.client("cluster1").await;
    let definition =
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/wasmplugins.extensions.istio.io";
    ask(&client, hyper::Request::delete(definition), &Value::Null).await;
    let canary = ground.canary("0s", "");
    let canary: Vec<&str> = canary.iter().map(String::as_str).collect();
    let told = "cluster1: cannot apply WasmPlugin istio-system/isthmus-gateway: the cluster knows no WasmPlugin of \
                extensions.istio.io/v1alpha1: install Istio's definitions there";
    // The server goes on serving it for a moment, and refuses what would be made.
    let deadline = Instant::now() + PATIENCE;
    let output = loop {
        let output = ground.run("rollout", &canary).await;
        if stderr(&output).contains(told) || Instant::now() > deadline {
            break output;
        }
    };
    assert_eq!((code(&output), stderr(&output).contains(told)), (Some(4), true), "{}", stderr(&output));
    assert_eq!(ground.status().await["items"][0]["condition"], "NotApplied");
    ground.clusters.install("cluster1").await;
    let output = ground.run("rollout resume", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for cluster in NAMES {
        assert_eq!(ground.names(cluster).await, ALL, "{cluster}");
    }
}

/// A registry with an image, behind what breaks it; and where that is.
async fn registry() -> Option<(Registry, Proxy, Reference)> {
    let registry = Registry::start(Setup::default()).await?;
    let proxy = Proxy::before(registry.address()).await;
    let to: Reference = format!("{}/isthmus:v1", proxy.address()).parse().expect("a reference");
    let image = Image::of(b"\0asm\x01\0\0\0", &BTreeMap::new()).expect("an image");
    let reach = Reach { plain_http: false, ca_file: None, timeout: PATIENCE };
    let nobody = Keychain::read(None, None).expect("nothing").find(to.host()).expect("nothing");
    let at = push::registry::Registry::connect(&to, &reach, Access::Push, nobody).await.expect("a registry");
    let pushed = push::push(&image, &to, &at, false).await.expect("pushed");
    Some((registry, proxy, pushed.image))
}

impl Ground {
    /// Rolls out a module of a registry.
    fn bring(&self, url: &str, more: &[String]) -> Command {
        let mut command = self.bare("rollout");
        command.args(["--url", url, "--registry-timeout", "3"]).args(more);
        command
    }

    /// Where the plugins of both clusters say that the module is.
    async fn urls(&self) -> BTreeSet<String> {
        let mut urls = BTreeSet::new();
        for name in NAMES {
            for plugin in self.list(name, PLUGINS).await {
                urls.insert(plugin["spec"]["url"].as_str().expect("a URL").to_owned());
            }
        }
        urls
    }

    /// Whether any cluster has anything of a rollout: objects, a record, a lease.
    async fn is_touched(&self) -> bool {
        let mut found = Vec::new();
        for name in NAMES {
            found.extend(self.names(name).await);
            for path in ["/api/v1/namespaces/istio-system/configmaps", LEASES] {
                found.extend(self.list(name, path).await.iter().map(ToString::to_string));
            }
        }
        !found.is_empty()
    }
}

#[tokio::test]
async fn a_registry_that_is_gone_or_lies_is_told_before_anything_is_written() {
    let Some(ground) = Ground::start().await else { return };
    let Some((_registry, proxy, image)) = registry().await else { return };
    let (tagged, pinned) = (format!("oci://{}/isthmus:v1", proxy.address()), format!("oci://{image}"));
    let other = format!("{tagged}@sha256:{}", "a".repeat(64));
    for (url, at, fault, told) in [
        (&tagged, "", Fault::Cut, "no answer"),
        (&tagged, "", Fault::Hang, "no answer within 3s"),
        (&tagged, "/manifests/", answer_of_registry(404), "isthmus:v1 is not there"),
        (&pinned, "/manifests/", Fault::Lie, "was asked for: the registry is broken"),
        (&pinned, "/manifests/", answer_of_registry(404), "is not there: `isthmus push`"),
        (&other, "nothing", Fault::Cut, "is not there: `isthmus push`"),
    ] {
        proxy.always(at, fault);
        let output = finished(ground.bring(url, &[])).await;
        proxy.heal();
        let all = stderr(&output);
        assert_eq!(code(&output), Some(3), "{url}: {all}");
        assert!(all.contains(told) && all.contains("--no-resolve writes it as it is"), "{url}: {all}");
        assert!(!ground.is_touched().await, "{url}: {all}");
    }
    // One that has a digest needs nobody who says it, and that nobody has looked is told.
    proxy.always("", Fault::Cut);
    let output = finished(ground.bring(&pinned, &[])).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains(" is written unseen: "), "{}", stderr(&output));
    assert_eq!(ground.urls().await, BTreeSet::from([pinned]));
}

fn answer_of_registry(code: u16) -> Fault {
    Fault::Answer(code, Vec::new(), r#"{"errors": []}"#.to_owned())
}

#[tokio::test]
async fn a_registry_that_goes_in_the_middle_of_a_rollout_is_needed_no_more() {
    let Some(mut ground) = Ground::start().await else { return };
    let Some((mut registry, proxy, image)) = registry().await else { return };
    let servers = between(&mut ground).await;
    let tagged = format!("oci://{}/isthmus:v1", proxy.address());
    let canary = ground.canary("0s", "");
    servers[0].hang_at(FILTER);
    let mut child = ground.bring(&tagged, &canary).stderr(Stdio::null()).spawn().expect("it runs");
    assert!(is_asked(&servers[0], FILTER, &mut child).await, "it has ended");
    registry.stop();
    kill(child);
    let output = ground.run("rollout resume", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(ground.urls().await, BTreeSet::from([format!("oci://{image}")]));
}
