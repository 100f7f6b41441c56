//! The lab tier: real Envoys on loopback.

#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that fails fails its test")]

#[path = "lab/differential.rs"]
mod differential;
#[path = "lab/edges.rs"]
mod edges;
#[path = "lab/exchange.rs"]
mod exchange;
#[path = "lab/failure.rs"]
mod failure;
#[path = "lab/forgery.rs"]
mod forgery;
#[path = "lab/grpc.rs"]
mod grpc;
#[path = "lab/kinds.rs"]
mod kinds;
#[path = "lab/listeners.rs"]
mod listeners;
#[path = "lab/older.rs"]
mod older;
#[path = "lab/paths.rs"]
mod paths;
#[path = "lab/remotes.rs"]
mod remotes;
#[path = "lab/roots.rs"]
mod roots;
#[path = "lab/routes.rs"]
mod routes;
#[path = "lab/tokens.rs"]
mod tokens;
#[path = "lab/versions.rs"]
mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use isthmus::envoy::{Envoy, Version};
use isthmus::lab::{Answer, Application, Blueprint, Client, Get, Lab, LabCluster, LabService, Site};
use isthmus::workspace::Workspace;

/// A module that needs no toolchain: an HTTP filter that writes filter state, and a network filter that closes.
const HTTP_PROBE: &str = include_str!("lab/http_probe.wat");
const NETWORK_PROBE: &str = include_str!("lab/network_probe.wat");

fn envoy() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let here = std::env::current_dir().expect("a current directory");
    here.ancestors()
        .map(|dir| dir.join(".tools/envoy-1.40.0/envoy"))
        .find(|path| path.is_file())
        .expect("no Envoy: set ENVOY to a binary, or have .tools/envoy-1.40.0/envoy here or above")
}

/// A stock Envoy of a pinned version, fetched where it is not there yet.
fn fetched(version: Version) -> PathBuf {
    // Of tests that want the same, one fetches it.
    static FETCHING: Mutex<()> = Mutex::new(());
    let _held = FETCHING.lock();
    let workspace = Workspace::find(&isthmus_tests::repository()).expect("the checkout");
    Envoy::fetch(&workspace, version, &mut |_what| ()).expect("an Envoy")
}

fn sleep() -> Client {
    Client::new("cluster1", "sample", "sleep")
}

fn blueprint() -> Blueprint {
    let cluster = |n: u8| LabCluster {
        name: format!("cluster{n}"),
        network: format!("network{n}"),
        region: Some(format!("region{n}")),
        trust_domain: "cluster.local".to_owned(),
        signer: format!("cluster{n}"),
        control_plane: format!("cluster{n}"),
    };
    let service = |name: &str, clusters: &[&str]| LabService {
        name: name.to_owned(),
        namespace: "sample".to_owned(),
        port: 5000,
        clusters: clusters.iter().map(|c| (*c).to_owned()).collect(),
        strays: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        application: Application::Hello,
    };
    Blueprint {
        mesh: "mesh1".to_owned(),
        root_namespace: "istio-system".to_owned(),
        clusters: vec![cluster(1), cluster(2)],
        services: vec![service("helloworld", &["cluster1", "cluster2"]), service("ledger", &["cluster2"])],
        clients: vec![sleep()],
        both_kinds: false,
    }
}

fn claim(dir: &Path) -> Site {
    Site::claim(blueprint(), dir).expect("a site")
}

async fn up(dir: &Path) -> Lab {
    start(claim(dir)).await
}

async fn start(site: Site) -> Lab {
    match site.up(&envoy(), time::OffsetDateTime::now_utc()).await {
        Ok(lab) => lab,
        Err(error) => panic!("the lab did not come up: {error} ({error:?})"),
    }
}

async fn hello(lab: &Lab, headers: &[(&str, &str)]) -> Answer {
    let get = Get::new("helloworld.sample:5000", "/hello");
    let get = headers.iter().fold(get, |get, (name, value)| get.header(name, value));
    lab.get(&sleep(), &get).await.expect("an answer")
}

/// Waits until `look` gives something; fails with what was seen last.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < deadline, "last seen: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The processes that name this directory on their command line.
fn processes_of(dir: &Path) -> Vec<String> {
    let name = dir.to_str().expect("text");
    fs::read_dir("/proc")
        .expect("proc")
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(name))
        .collect()
}

fn write_plugin(site: &Site, cluster: &str, name: &str, rest: &str) {
    let text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}, namespace: istio-system}}\nspec:\n{rest}"
    );
    let dir = site.plugins(cluster);
    fs::write(dir.join(".new"), text).expect("plugin");
    fs::rename(dir.join(".new"), dir.join(format!("{name}.yaml"))).expect("plugin");
}

fn write_module(site: &Site, name: &str, wat: &str) -> String {
    let path = site.dir().join(name);
    fs::write(&path, wat::parse_str(wat).expect("wat")).expect("module");
    path.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn without_a_filter_requests_reach_both_clusters_in_turn() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    let mut v1 = 0;
    for _ in 0..20 {
        let answer = hello(&lab, &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        match answer.body.as_str() {
            "Hello version: v1, instance: helloworld-v1-cluster1\n" => v1 += 1,
            "Hello version: v2, instance: helloworld-v2-cluster2\n" => {}
            other => panic!("not an answer of helloworld: {other}"),
        }
    }
    assert!((8..=12).contains(&v1), "{v1} of 20 by v1");
    lab.down().await.expect("down");
}

/// What makes the header of the filter lead somewhere in a cluster; `values` each with the label of its subset.
fn write_routes(site: &Site, cluster: &str, service: &str, values: &[(&str, &str, &str)]) {
    let host = format!("{service}.sample.svc.cluster.local");
    let head = |kind: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {service}, namespace: sample}}\nspec:"
        )
    };
    let (mut subsets, mut routes) = (Vec::new(), Vec::new());
    for (number, (value, label, labelled)) in values.iter().enumerate() {
        subsets.push(format!("{{name: s{number}, labels: {{{label}: {labelled}}}}}"));
        routes.push(format!(
            "{{name: r{number}, match: [{{headers: {{x-isthmus-route: {{exact: {value}}}}}}}], route: [{{destination: {{host: {host}, subset: s{number}}}}}]}}"
        ));
    }
    routes.push(format!("{{name: last, route: [{{destination: {{host: {host}}}}}]}}"));
    let text = format!(
        "{}\n  host: {host}\n  subsets: [{}]\n---\n{}\n  hosts: [{host}]\n  http: [{}]\n",
        head("DestinationRule"),
        subsets.join(", "),
        head("VirtualService"),
        routes.join(", ")
    );
    let dir = site.plugins(cluster);
    fs::write(dir.join(".new"), text).expect("routes");
    fs::rename(dir.join(".new"), dir.join(format!("{service}.yaml"))).expect("routes");
}

const NEAR: [(&str, &str, &str); 3] = [
    ("cluster", "topology.istio.io/cluster", "cluster1"),
    ("network", "topology.istio.io/network", "network1"),
    ("region", "topology.kubernetes.io/region", "region1"),
];

#[tokio::test]
async fn a_header_leads_where_the_objects_of_its_cluster_say() {
    let dir = tempfile::tempdir().expect("dir");
    let site = claim(dir.path());
    write_routes(&site, "cluster1", "helloworld", &NEAR);
    write_routes(&site, "cluster1", "ledger", &NEAR);
    let lab = start(site).await;
    for reach in ["cluster", "network", "region"] {
        for _ in 0..4 {
            let answer = hello(&lab, &[("x-isthmus-route", reach)]).await;
            assert!(answer.body.contains("v1"), "{reach}: {answer:?}");
        }
    }
    // The ledger is elsewhere only: held in this cluster, the request has nowhere to go.
    let ledger = Get::new("ledger.sample", "/");
    assert_eq!(lab.get(&sleep(), &ledger).await.expect("an answer").status, 200);
    let held = lab.get(&sleep(), &ledger.header("x-isthmus-route", "cluster")).await.expect("an answer");
    assert_eq!(held.status, 503, "{held:?}");
    // What no object says is no route: the last one takes it, to both clusters in turn.
    let bodies =
        [hello(&lab, &[("x-isthmus-route", "nowhere")]).await, hello(&lab, &[]).await].map(|a| a.body);
    assert_ne!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn routes_come_and_go_while_the_lab_runs_and_a_far_gateway_must_know_the_subset() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    let far = [("far", "topology.istio.io/cluster", "cluster2")];
    let ask = async || hello(&lab, &[("x-isthmus-route", "far")]).await;
    write_routes(lab.site(), "cluster1", "helloworld", &far);
    // The gateway of cluster2 knows no such SNI yet.
    eventually(async || match ask().await {
        answer if answer.status == 503 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    write_routes(lab.site(), "cluster2", "helloworld", &far);
    eventually(async || match ask().await {
        answer if answer.status == 200 => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    for _ in 0..6 {
        let answer = ask().await;
        assert!(answer.body.contains("v2"), "{answer:?}");
    }
    fs::remove_file(lab.site().plugins("cluster1").join("helloworld.yaml")).expect("removed");
    eventually(async || match ask().await {
        answer if answer.body.contains("v1") => Ok(()),
        answer => Err(format!("{answer:?}")),
    })
    .await;
    assert_eq!(lab.refused(), None);
}

#[tokio::test]
async fn the_access_log_names_the_cluster_that_signed_the_peer() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    let ledger = Get::new("ledger.sample", "/").header("x-request-id", "it-is-me");
    assert_eq!(lab.get(&sleep(), &ledger).await.expect("an answer").status, 200);
    let line = eventually(async || {
        let log = lab.access_log("cluster2/ledger-v1.sample").map_err(|e| e.to_string())?;
        log.first().cloned().ok_or_else(|| "an empty log".to_owned())
    })
    .await;
    assert_eq!(line["peer_issuer"], "L=cluster1,CN=Intermediate CA,O=Istio");
    assert_eq!(line["request_id"], "it-is-me");
    let gateway = lab.site().gateway("cluster2").expect("gateway").to_string();
    let remote = line["downstream_remote_address"].as_str().expect("text");
    assert!(remote.starts_with(&format!("{gateway}:")), "{remote} is not {gateway}");
}

#[tokio::test]
async fn a_gateway_closes_a_connection_for_what_its_cluster_does_not_run_or_nobody_knows() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    let gateway = lab.site().gateway("cluster1").expect("gateway");
    let client_dir = &lab.proxy("cluster1/sleep.sample").expect("client").dir;
    let tls = |server_name: &str| {
        let output = std::process::Command::new("openssl")
            .args(["s_client", "-connect", &format!("{gateway}:15443"), "-servername", server_name])
            .args([
                "-alpn",
                "istio",
                "-cert",
                "cert-chain.pem",
                "-key",
                "key.pem",
                "-CAfile",
                "root-cert.pem",
            ])
            .current_dir(client_dir)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let known = tls("outbound_.5000_._.helloworld.sample.svc.cluster.local");
    assert!(known.contains("Verify return code: 0 (ok)"), "{known}");
    // The ledger is a service of the mesh, but this cluster does not run it; the other is none.
    let ledger = "outbound_.5000_._.ledger.sample.svc.cluster.local";
    for name in [ledger, "outbound_.5000_._.nobody.sample.svc.cluster.local"] {
        let told = tls(name);
        assert!(told.contains("no peer certificate available"), "{told}");
    }
    let own = "cluster1/istio-eastwestgateway.istio-system";
    let nowhere = format!("cluster.{ledger}.upstream_cx_none_healthy");
    assert_eq!(lab.stat(own, &nowhere).await.expect("a stat"), 1);
    let unknown = format!("listener.{gateway}_15443.no_filter_chain_match");
    assert_eq!(lab.stat(own, &unknown).await.expect("a stat"), 1);
}

#[tokio::test]
async fn two_labs_run_side_by_side() {
    let (one, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (one, other) = tokio::join!(up(one.path()), up(other.path()));
    assert_ne!(one.client(&sleep()), other.client(&sleep()));
    assert_eq!(hello(&one, &[]).await.status, 200);
    one.down().await.expect("down");
    assert_eq!(hello(&other, &[]).await.status, 200);
}

#[tokio::test]
async fn a_lab_that_is_down_leaves_no_process() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    // One for each Envoy and one for the shell that keeps it, and a watcher that is a fork of the shell.
    assert!(processes_of(dir.path()).len() >= 2 * lab.proxies().count());
    lab.down().await.expect("down");
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());

    drop(up(dir.path()).await);
    assert_eq!(processes_of(dir.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_lab_that_stands_where_another_stood_has_none_of_its_access_logs() {
    const CLIENT: &str = "cluster1/sleep.sample";
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    assert_eq!(hello(&lab, &[]).await.status, 200);
    eventually(async || match lab.access_log(CLIENT) {
        Ok(log) if log.len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    lab.down().await.expect("down");
    assert_eq!(up(dir.path()).await.access_log(CLIENT).expect("a log"), Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn an_http_plugin_is_loaded_and_what_it_knows_is_in_the_access_log() {
    let dir = tempfile::tempdir().expect("dir");
    let site = claim(dir.path());
    let url = write_module(&site, "http.wasm", HTTP_PROBE);
    write_plugin(&site, "cluster1", "probe", &format!("  url: file://{url}\n  match: [{{mode: CLIENT}}]\n"));
    let lab = start(site).await;
    assert_eq!(hello(&lab, &[]).await.status, 200);
    let line = eventually(async || {
        let log = lab.access_log("cluster1/sleep.sample").map_err(|e| e.to_string())?;
        log.first().cloned().ok_or_else(|| "an empty log".to_owned())
    })
    .await;
    assert_eq!(line["reason"], "because");
    assert_eq!(line["verdict"], serde_json::Value::Null);
}

#[tokio::test]
async fn a_network_plugin_reaches_a_running_gateway_and_closes_before_anything_is_dialled() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    let url = write_module(lab.site(), "network.wasm", NETWORK_PROBE);
    let plugin = format!(
        "  type: NETWORK\n  url: file://{url}\n  selector: {{matchLabels: {{istio: eastwestgateway}}}}\n"
    );
    let gateway = "cluster2/istio-eastwestgateway.istio-system";
    let reloads = "extension_config_discovery.network_filter.isthmus-gateway.config_reload";
    let before = lab.stat(gateway, reloads).await.expect("stat");
    write_plugin(lab.site(), "cluster2", "probe", &plugin);
    // No request before it is in force: a connection that is open already is not judged again.
    eventually(async || match lab.stat(gateway, reloads).await {
        Ok(now) if now > before => Ok(()),
        other => Err(format!("{other:?} reloads, {before} before")),
    })
    .await;
    let ledger = Get::new("ledger.sample", "/");
    assert_eq!(lab.get(&sleep(), &ledger).await.expect("an answer").status, 503);
    let line = eventually(async || {
        let log = lab.access_log("cluster2/istio-eastwestgateway.istio-system").map_err(|e| e.to_string())?;
        let found = log.iter().find(|line| line["reason"] == "because").cloned();
        found.ok_or_else(|| format!("{log:?}"))
    })
    .await;
    assert_eq!(line["requested_server_name"], "outbound_.5000_._.ledger.sample.svc.cluster.local");
    assert_eq!(line["upstream_host"], serde_json::Value::Null);
    // Taken away, the gateway passes again: the slot falls back to letting all pass.
    fs::remove_file(lab.site().plugins("cluster2").join("probe.yaml")).expect("removed");
    eventually(async || {
        let answer = lab.get(&sleep(), &ledger).await.map_err(|e| e.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_plugin_that_cannot_be_read_is_reported_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let lab = up(dir.path()).await;
    fs::write(lab.site().plugins("cluster1").join("bad.yaml"), "a: [").expect("plugin");
    let refused = eventually(async || lab.refused().ok_or_else(|| "nothing refused".to_owned())).await;
    assert!(refused.contains("bad.yaml"), "{refused}");
    assert_eq!(hello(&lab, &[]).await.status, 200);
}
