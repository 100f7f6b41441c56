//! The same cases by `policy::evaluate`, by the module in wasmtime, and by the module in Envoy.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isthmus::lab::{Get, Lab, Site};
use isthmus::read::Project;
use isthmus::sandbox::Module;
use isthmus::stage::{self, Stage};
use isthmus::walk::{self, Ground, Offline, Stop, pure};
use isthmus_tests::example::{Example, module};
use policy::Policy;

use super::{envoy, eventually, start};

const LEDGER: &str = "cluster1/ledger-v1.payments";

pub(super) async fn staged(example: &Example, dir: &Path) -> (Stage, Lab) {
    let blueprint = stage::blueprint(example.mesh(), example.suite.clients());
    let site = Site::claim(blueprint, dir).expect("a site");
    let stage = Stage::set(example.mesh(), &site, &module()).expect("a stage");
    stage.roll_out(&example.project.policies).expect("a rollout");
    (stage, start(site).await)
}

async fn agree(example: &Example) -> BTreeMap<String, usize> {
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = staged(example, dir.path()).await;
    let plans = stage.compile(&example.project.policies).expect("plans");
    let wasm = std::fs::read(module()).expect("a module");
    let module = Module::compile(&wasm).expect("a module");
    let now = time::OffsetDateTime::now_utc();
    let mut offline =
        Offline::on(Arc::new(Ground::new(module, stage.mesh(), &plans, now).expect("a ground")));
    let mut reasons = BTreeMap::new();
    let mut number = 0;
    for case in &example.suite.cases {
        for journey in walk::journeys(stage.mesh(), &plans, &case.call).expect("a path") {
            number += 1;
            let pure = pure::walk(stage.mesh(), &plans, &journey).expect("a walk");
            let offline = offline.walk(&journey).expect("a walk");
            let real = walk::envoy::walk(&lab, &journey, number).await.expect("a walk");
            let what = format!("{} to {}", case.name.value, journey.destination.name);
            assert_eq!(pure, offline, "evaluate and wasmtime: {what}");
            assert_eq!(offline, real, "wasmtime and Envoy: {what}");
            assert!(real.meets(&case.expect), "{what}: expected {}, came {real}", case.expect);
            *reasons.entry(real.reason).or_default() += 1;
        }
    }
    lab.down().await.expect("all processes ended");
    assert!(number >= example.suite.cases.len(), "a case went nowhere");
    reasons
}

#[tokio::test]
async fn every_case_of_two_clusters_gets_one_verdict_from_evaluate_from_wasmtime_and_from_envoy() {
    let reasons = agree(&Example::read("examples/two-clusters")).await;
    for reason in [
        "no-policy",
        "same-cluster",
        "ledger/treasury-reads",
        "ledger/no-dumps",
        "ledger/no-rule-matched",
        "reports/not-exposed",
    ] {
        assert!(reasons.contains_key(reason), "no case met {reason}: {reasons:?}");
    }
}

#[tokio::test]
async fn every_reason_there_is_comes_out_the_same_in_all_three() {
    let reasons = agree(&Example::read("tests/tests/lab/strict")).await;
    for reason in [
        "not-denied",
        "stock/boundary",
        "near/unreachable",
        "operators/no-interns",
        "bank/tellers",
        "bank/no-rule-matched",
        "api/grpc",
        "api/reads",
        "api/no-dumps",
        "odd/not-exposed",
    ] {
        assert!(reasons.contains_key(reason), "no case met {reason}: {reasons:?}");
    }
}

#[tokio::test]
async fn the_application_sees_the_proven_source_and_never_a_forged_one() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let (_, lab) = staged(&example, dir.path()).await;
    let client = example.suite.clients().find(|client| client.namespace == "treasury").expect("a client");
    let forged = Get::new("ledger.payments", "/v1/accounts")
        .header("x-source-cluster", "cluster1")
        .header("x-source-network", "network1");
    let answer = lab.get(&client, &forged).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.header("x-app-saw-source-cluster"), Some("cluster2"));
    assert_eq!(answer.header("x-app-saw-source-network"), Some("network2"));
    lab.down().await.expect("all processes ended");
}

/// The example's policies with the treasury's rule opened to the namespace `sample`.
fn opened(project: &Project) -> Vec<Policy> {
    const BEFORE: &str = "namespaces: [treasury]";
    let (file, text) =
        project.sources.iter().find(|(_, text)| text.contains(BEFORE)).expect("the ledger's policy");
    let root = project.mesh.as_ref().expect("a mesh").root_namespace();
    let (changed, findings) =
        Policy::read(file, &text.replace(BEFORE, "namespaces: [treasury, sample]"), root);
    assert_eq!(findings, []);
    let replaced = |policy: &&Policy| changed.iter().any(|new| new.name.value == policy.name.value);
    let kept = project.policies.iter().filter(|policy| !replaced(policy)).cloned();
    kept.chain(changed.clone()).collect()
}

#[tokio::test]
async fn plans_change_under_load_and_no_request_fails() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = staged(&example, dir.path()).await;
    let client = |cluster: &str| {
        let mut clients = example.suite.clients();
        clients.find(|client| client.cluster == cluster && client.namespace == "sample").expect("a client")
    };
    let (loaded, asking) = (client("cluster1"), client("cluster2"));
    let (done, sent, failed) = (Cell::new(false), Cell::new(0), Cell::new(0));
    let lane = || async {
        while !done.get() {
            let answer = lab.get(&loaded, &Get::new("helloworld.sample", "/hello")).await;
            sent.set(sent.get() + 1);
            failed.set(failed.get() + i32::from(!answer.is_ok_and(|answer| answer.status == 200)));
        }
    };
    let opened = opened(&example.project);
    let changes = async {
        for round in 0..6 {
            let (policies, wanted) =
                if round % 2 == 0 { (&opened, 200) } else { (&example.project.policies, 403) };
            stage.roll_out(policies).expect("a rollout");
            eventually(async || {
                let answer =
                    lab.get(&asking, &Get::new("ledger.payments", "/v1/a")).await.expect("an answer");
                if answer.status == wanted {
                    Ok(())
                } else {
                    Err(format!("round {round}: {}", answer.status))
                }
            })
            .await;
            // The load, and not the clock, says when the next change comes: however slow the machine is,
            // every plan judges requests that were under way when it came and requests that came after.
            let enough = sent.get() + 20;
            while sent.get() < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        done.set(true);
    };
    tokio::join!(changes, lane(), lane(), lane(), lane());
    assert_eq!(failed.get(), 0, "of {} requests", sent.get());
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn a_plan_that_envoy_refuses_leaves_the_one_before_in_force() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = staged(&example, dir.path()).await;
    let asking = example.suite.clients().find(|client| client.cluster == "cluster2").expect("a client");
    let status = async || {
        let answer = lab.get(&asking, &Get::new("ledger.payments", "/v2/a")).await.expect("an answer");
        answer.status
    };
    assert_eq!(status().await, 403);
    let file = lab.site().plugins("cluster1").join("isthmus-inbound.yaml");
    let good = std::fs::read_to_string(&file).expect("a plugin");
    let stat = "extension_config_discovery.http_filter.isthmus-inbound.update_rejected";
    for (what, bad) in [
        (
            "another cluster's plan",
            good.replace("        cluster: cluster1\n", "        cluster: cluster2\n"),
        ),
        ("a newer schema", good.replace("schema: 1", "schema: 2")),
        ("a role that there is not", good.replace("role: inbound", "role: everywhere")),
    ] {
        assert_ne!(good, bad, "{what}");
        let before = lab.stat(LEDGER, stat).await.expect("a stat");
        let half = file.with_extension("half");
        std::fs::write(&half, bad).and_then(|()| std::fs::rename(&half, &file)).expect("a write");
        eventually(async || {
            let now = lab.stat(LEDGER, stat).await.expect("a stat");
            if now > before { Ok(()) } else { Err(format!("{what}: still {now} refused")) }
        })
        .await;
        assert_eq!(status().await, 403, "{what}");
    }
    assert!(envoy().is_file());
    stage.roll_out(&opened(&example.project)).expect("a rollout");
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn a_hidden_service_is_never_dialled() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = staged(&example, dir.path()).await;
    let plans = stage.compile(&example.project.policies).expect("plans");
    let hidden = |service: &str| {
        let mut cases = example.suite.cases.iter();
        let case = cases.find(|case| {
            case.call.from.cluster.value.as_str() == "cluster2"
                && case.call.request.host.value.starts_with(service)
        });
        walk::journeys(stage.mesh(), &plans, &case.expect("a case").call).expect("a path").remove(0)
    };
    let gateway = "cluster1/istio-eastwestgateway.istio-system";
    let dialled = async |service: &str| {
        let stat =
            format!("cluster.outbound_.8080_._.{service}.payments.svc.cluster.local.upstream_cx_total");
        lab.stat(gateway, &stat).await.expect("a stat")
    };
    let reports = walk::envoy::walk(&lab, &hidden("reports"), 1).await.expect("a walk");
    assert_eq!((reports.at, reports.reason.as_str()), (Stop::Gateway, "reports/not-exposed"));
    let ledger = walk::envoy::walk(&lab, &hidden("ledger"), 2).await.expect("a walk");
    assert_eq!(ledger.at, Stop::Destination);
    assert_eq!((dialled("reports").await, dialled("ledger").await > 0), (0, true));
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn a_plan_that_is_cut_holds_in_envoy_and_so_does_the_whole_one_after_it() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = staged(&example, dir.path()).await;
    let asking = example
        .suite
        .clients()
        .find(|client| client.cluster == "cluster2" && client.namespace == "sample")
        .expect("a client");
    let status = async |path: &str| {
        lab.get(&asking, &Get::new("ledger.payments", path)).await.expect("an answer").status
    };
    assert_eq!(status("/v9/x").await, 403);
    // More rules than one plan takes, and among them one for this client.
    let rules: Vec<String> = (0..3_000)
        .map(|n| format!("{{name: r{n}, from: [{{clusters: [cluster2], namespaces: [team-{n}]}}], to: [{{paths: [/v{n}/*]}}]}}"))
        .chain(["{name: sample, from: [{clusters: [cluster2], namespaces: [sample]}], to: [{paths: [/v9/*]}]}".to_owned()])
        .collect();
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: crowd, namespace: payments}}\nspec: {{services: [ledger], access: {{allow: [{}]}}}}\n",
        rules.join(", ")
    );
    let root = stage.mesh().root_namespace();
    let (crowd, findings) = Policy::read("crowd.yaml", &text, root);
    assert_eq!(findings, []);
    let all: Vec<Policy> = example.project.policies.iter().cloned().chain(crowd).collect();
    let part = lab.site().plugins("cluster1").join("isthmus-inbound@payments.yaml");
    let wait = async |wanted: u16| {
        eventually(async || {
            let now = status("/v9/x").await;
            if now == wanted { Ok(()) } else { Err(format!("/v9/x gets {now}")) }
        })
        .await;
    };
    // Envoy takes the two plugins of a cut plan in either order, and so everything is tried again.
    for _ in 0..3 {
        stage.roll_out(&all).expect("a rollout");
        assert!(part.is_file(), "the plan is cut");
        wait(200).await;
        assert_eq!(status("/v10/x").await, 403);
        stage.roll_out(&example.project.policies).expect("a rollout");
        assert!(!part.exists(), "the plan is whole again");
        wait(403).await;
    }
    lab.down().await.expect("all processes ended");
}

#[tokio::test]
async fn what_a_plan_leaves_to_a_plugin_that_is_not_there_is_refused() {
    let example = Example::read("examples/two-clusters");
    let dir = tempfile::tempdir().expect("a directory");
    let (stage, lab) = staged(&example, dir.path()).await;
    let mut clients = example.suite.clients();
    let allowed = clients.find(|client| client.cluster == "cluster2" && client.namespace == "treasury");
    let allowed = allowed.expect("a client");
    let status =
        async || lab.get(&allowed, &Get::new("ledger.payments", "/v1/x")).await.expect("an answer").status;
    let wait = async |wanted: u16| {
        eventually(async || {
            let now = status().await;
            if now == wanted { Ok(()) } else { Err(format!("the ledger answers {now}")) }
        })
        .await;
    };
    wait(200).await;
    let file = lab.site().plugins("cluster1").join("isthmus-inbound.yaml");
    let write = |text: &str, file: &Path| {
        let half = file.with_extension("half");
        std::fs::write(&half, text).and_then(|()| std::fs::rename(&half, file)).expect("a write");
    };
    let whole = std::fs::read_to_string(&file).expect("a plugin");
    let own = whole.replace("  namespace: istio-system\n", "  namespace: payments\n");
    let leaving = whole.replace("    plan:\n", "    plan:\n      apart: [payments]\n");
    assert!(own != whole && leaving != whole, "{whole}");
    let part = file.with_file_name("isthmus-inbound@payments.yaml");
    // So that it is known which of the two a proxy has.
    let taken = async |slot: &str, change: &dyn Fn()| {
        let stat = format!("extension_config_discovery.http_filter.{slot}.config_reload");
        let before = lab.stat(LEDGER, &stat).await.expect("a stat");
        change();
        eventually(async || {
            let now = lab.stat(LEDGER, &stat).await.expect("a stat");
            if now > before { Ok(()) } else { Err(format!("{slot} is still the one before")) }
        })
        .await;
    };
    // The plan before judges, until the other plugin has been there once.
    taken("isthmus-inbound", &|| write(&leaving, &file)).await;
    assert_eq!(status().await, 200);
    taken("isthmus-inbound-own", &|| write(&own, &part)).await;
    assert_eq!(status().await, 200);
    taken("isthmus-inbound-own", &|| std::fs::remove_file(&part).expect("a file")).await;
    wait(503).await;
    write(&own, &part);
    wait(200).await;
    stage.roll_out(&example.project.policies).expect("a rollout");
    assert!(!part.exists());
    wait(200).await;
    lab.down().await.expect("all processes ended");
}
