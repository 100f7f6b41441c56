//! What istiod itself sends the proxies of a mesh for our objects, beside what the lab's istiod sends them: plugins in their
//! order, routes, endpoints by priority, and what a gateway passes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use isthmus::envoy::Envoy;
use isthmus::lab::{Blueprint, Client, Lab, Proxy, ProxyKind, Site};
use isthmus::stage::{self, Stage};
use isthmus::workspace::Workspace;
use isthmus_tests::example::module;
use isthmus_tests::repository;
use policy::mesh::Cluster;
use policy::{Mesh, Policy};
use serde_json::{Value, json};

use super::PATIENCE;
use super::apply::Istio;

/// The hub leads the annex, on its own network, and the branch; the island leads itself.
const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: remotes}
spec:
  clusters:
  - {name: hub, network: core, region: north, gateway: {address: 192.0.2.1}}
  - {name: annex, network: core, region: north, controlPlane: {remoteOf: hub}, gateway: {address: 192.0.2.4}}
  - {name: branch, network: edge, region: south, controlPlane: {remoteOf: hub}, gateway: {address: 192.0.2.2}}
  - {name: island, network: sea, region: south, gateway: {address: 192.0.2.3}}
  services:
    web.shop: {port: 8080}
    ledger.payments: {port: 9090, clusters: [hub, branch, island]}
";

const CLUSTERS: [&str; 4] = ["hub", "annex", "branch", "island"];

/// Each with the name of what it is a case of.
const ROUTINGS: [(&str, &str, bool); 6] = [
    ("nothing is said", "{}", false),
    ("a boundary, held behind the load balancer too", "{boundary: Cluster}", true),
    ("regions", "{boundary: Region, prefer: Region}", false),
    (
        "networks and pins",
        "{boundary: Network, prefer: Network, pin: {header: x-cell, to: {a: hub, b: branch}}}",
        true,
    ),
    (
        "clusters and weights",
        "{prefer: Cluster, split: [{cluster: hub, weight: 1}, {cluster: island, weight: 3}]}",
        false,
    ),
    ("an order of regions", "{prefer: Region, failover: [hub, island]}", false),
];

fn policies(mesh: &Mesh, routing: &str, rules: usize) -> Vec<Policy> {
    let rules: Vec<String> = (0..rules)
        .map(|n| format!("{{name: r{n}, from: [{{clusters: [branch], namespaces: [team-{n}]}}], to: [{{paths: [/v{n}/*]}}]}}"))
        .collect();
    let access =
        if rules.is_empty() { String::new() } else { format!(", access: {{allow: [{}]}}", rules.join(", ")) };
    let of = |name: &str, namespace: &str, rest: &str| {
        format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{services: [{name}], exposure: {{to: {{notNetworks: [sea]}}}}, routing: {routing}{rest}}}\n"
        )
    };
    let text = format!("{}---\n{}", of("web", "shop", ""), of("ledger", "payments", &access));
    let (policies, _) = Policy::read("policies.yaml", &text, mesh.root_namespace());
    policies
}

/// The headers of a route, and the Envoy cluster that it leads to.
type Route = (BTreeMap<String, String>, String);

/// What a proxy is sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    /// Name, name of the root context, failure policy, file and configuration of each plugin, in order.
    plugins: Vec<[String; 5]>,
    /// The headers and the Envoy cluster of each route, by host.
    routes: BTreeMap<String, Vec<Route>>,
    /// The addresses behind each Envoy cluster, nearest first.
    endpoints: BTreeMap<String, Vec<BTreeSet<String>>>,
    /// The Envoy clusters that have the filter behind their load balancer.
    behind: BTreeSet<String>,
    /// The names that a gateway has chains for.
    names: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The same JSON, however it is written.
fn canonical(configuration: &Value) -> String {
    let parsed: Value = serde_json::from_str(configuration.as_str().unwrap_or_default()).expect("JSON");
    parsed.to_string()
}

/// A service of the mesh, by part of the name of what istiod makes of it.
fn is_ours(name: &str) -> bool {
    name.contains("web.shop.svc") || name.contains("ledger.payments.svc")
}

fn by_the_lab(proxy: &Proxy) -> Sent {
    let file = |path: &str| -> Value {
        let text = std::fs::read_to_string(proxy.dir.join(path)).unwrap_or_else(|_| "{}".to_owned());
        serde_json::from_str(&text).expect("JSON")
    };
    let mut sent = Sent::default();
    let slots: &[&str] = match proxy.kind {
        ProxyKind::Client => &["isthmus-outbound"],
        ProxyKind::Server => &["isthmus-inbound-own", "isthmus-inbound"],
        ProxyKind::Gateway => &["isthmus-gateway"],
    };
    for slot in slots.iter().flat_map(|slot| [(*slot).to_owned(), format!("{slot}-extension")]) {
        let config = &file(&format!("ecds/{slot}.json"))["resources"][0]["typed_config"]["config"];
        if config.is_object() {
            sent.plugins.push([
                text(&config["name"]),
                text(&config["root_id"]),
                text(&config["failure_policy"]),
                text(&config["vm_config"]["code"]["local"]["filename"]),
                canonical(&config["configuration"]["value"]),
            ]);
        }
    }
    for host in list(&file("discovery/routes.json")["resources"][0]["virtual_hosts"]) {
        let route = |route: &Value| {
            let headers = list(&route["match"]["headers"]).iter();
            let headers =
                headers.map(|header| (text(&header["name"]), text(&header["string_match"]["exact"])));
            (headers.collect(), text(&route["route"]["cluster"]))
        };
        sent.routes.insert(text(&host["name"]), list(&host["routes"]).iter().map(route).collect());
    }
    for cluster in list(&file("discovery/clusters.json")["resources"]) {
        let mut tiers: Vec<BTreeSet<String>> = Vec::new();
        for locality in list(&cluster["load_assignment"]["endpoints"]) {
            let tier = usize::try_from(locality["priority"].as_u64().unwrap_or_default()).expect("a tier");
            tiers.resize_with(tiers.len().max(tier + 1), BTreeSet::new);
            for endpoint in list(&locality["lb_endpoints"]) {
                tiers[tier].insert(text(&endpoint["endpoint"]["address"]["socket_address"]["address"]));
            }
        }
        if cluster.to_string().contains("isthmus-upstream") {
            sent.behind.insert(text(&cluster["name"]));
        }
        sent.endpoints.insert(text(&cluster["name"]), tiers);
    }
    for listener in list(&file("discovery/listeners.json")["resources"]) {
        let chains = list(&listener["filter_chains"]).iter();
        let names = chains.flat_map(|chain| list(&chain["filter_chain_match"]["server_names"]));
        sent.names.extend(names.map(text));
    }
    sent
}

fn by_istiod(proxy: &Proxy, answer: &Value) -> Sent {
    let mut sent = Sent::default();
    let listener = |name: &str| match proxy.kind {
        ProxyKind::Client => name.starts_with("0.0.0.0_"),
        ProxyKind::Server => name == "virtualInbound",
        ProxyKind::Gateway => name == "0.0.0.0_15443",
    };
    let of = |field: &'static str| answer[field].as_object().expect("a map");
    let mut plugins: BTreeSet<Vec<[String; 5]>> = BTreeSet::new();
    for (_, found) in of("plugins").iter().filter(|(name, _)| listener(name)) {
        let one = |plugin: &Value| {
            let field = |name: &str| text(&plugin[name]);
            [
                field("name"),
                field("rootId"),
                field("failurePolicy"),
                field("file"),
                canonical(&plugin["configuration"]),
            ]
        };
        plugins.insert(list(found).iter().map(one).collect());
    }
    assert!(plugins.len() <= 1, "{}: not the same on every port: {plugins:?}", proxy.name);
    sent.plugins = plugins.pop_first().unwrap_or_default();
    if proxy.kind == ProxyKind::Server {
        return sent;
    }
    for (host, routes) in of("routes").iter().filter(|(name, _)| is_ours(name)) {
        let route = |route: &Value| {
            let headers = route["headers"].as_object().expect("a map").iter();
            let headers = headers.map(|(name, value)| (name.clone(), text(value)));
            (headers.collect(), text(&route["cluster"]))
        };
        sent.routes.insert(host.clone(), list(routes).iter().map(route).collect());
    }
    // A gateway has those for its own calls as well, of which it makes none.
    let kind = if proxy.kind == ProxyKind::Gateway { "outbound_." } else { "outbound|" };
    for (name, tiers) in of("endpoints").iter().filter(|(name, _)| is_ours(name) && name.starts_with(kind)) {
        let tier = |tier: &Value| list(tier).iter().map(text).collect();
        sent.endpoints.insert(name.clone(), list(tiers).iter().map(tier).collect());
    }
    sent.behind = list(&answer["behind"]).iter().map(text).collect();
    sent.names = list(&answer["names"]).iter().map(text).filter(|name| is_ours(name)).collect();
    sent
}

/// Keeps of what a gateway passes on to what is in its cluster: the lab's knows no more, where istiod's passes on to all of
/// its network, in the order of a rule if there is one.
fn keep_own(sent: &mut Sent, lab: &Lab, cluster: &str) {
    let own: BTreeSet<String> = lab
        .proxies()
        .filter(|proxy| proxy.cluster == cluster)
        .map(|proxy| proxy.admin.ip().to_string())
        .collect();
    for tiers in sent.endpoints.values_mut() {
        let kept: BTreeSet<String> = tiers.iter().flatten().filter(|ip| own.contains(*ip)).cloned().collect();
        *tiers = if kept.is_empty() { Vec::new() } else { vec![kept] };
    }
}

/// The cluster's objects of Kubernetes, as far as istiod looks at them.
fn objects(mesh: &Mesh, cluster: &Cluster, lab: &Lab) -> Vec<Value> {
    let network = json!({"topology.istio.io/network": cluster.network.as_str()});
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "node", "labels": {
            "topology.kubernetes.io/region": cluster.region.as_ref().map_or("", |region| region.as_str()),
        }},
    })];
    for namespace in ["istio-system", "shop", "payments"] {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": network}}));
    }
    for (service, listing) in mesh.services() {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": service.name.as_str(), "namespace": service.namespace.as_str()},
            "spec": {"clusterIP": format!("10.96.0.{}", listing.port % 100), "selector": {"app": service.name.as_str()},
                "ports": [{"name": "http", "port": listing.port, "targetPort": listing.port}]},
        }));
    }
    for proxy in lab.proxies().filter(|proxy| proxy.cluster == cluster.name.as_str()) {
        let (name, namespace, app) = parts(proxy);
        let ip = proxy.admin.ip().to_string();
        let labels = labels(proxy, &cluster.network.to_string());
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": "node", "serviceAccountName": app, "containers": [{"name": "app", "image": "app"}]},
            "status": {"podIP": ip, "podIPs": [{"ip": ip}], "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}]},
        }));
        let port = match proxy.kind {
            ProxyKind::Client => continue,
            ProxyKind::Server => mesh
                .services()
                .find(|(service, _)| service.name.as_str() == app)
                .map(|(_, listing)| listing.port)
                .expect("its service"),
            ProxyKind::Gateway => 15443,
        };
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": app, "namespace": namespace, "labels": {"kubernetes.io/service-name": app}},
            "ports": [{"name": if port == 15443 { "tls" } else { "http" }, "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}, "nodeName": "node",
                "targetRef": {"kind": "Pod", "name": name, "namespace": namespace}}],
        }));
        if proxy.kind == ProxyKind::Gateway {
            objects.push(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": app, "namespace": namespace, "labels": network},
                "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.200", "selector": {"istio": "eastwestgateway"},
                    "ports": [{"name": "tls", "port": 15443, "targetPort": 15443}]},
                "status": {"loadBalancer": {"ingress": [{"ip": ip}]}},
            }));
        }
    }
    objects
}

/// The name of a proxy's pod, its namespace and what it is an instance of.
fn parts(proxy: &Proxy) -> (&str, &str, &str) {
    let (_, own) = proxy.name.split_once('/').expect("a cluster");
    let (name, namespace) = own.rsplit_once('.').expect("a namespace");
    (
        name,
        namespace,
        name.strip_suffix(|last: char| last.is_ascii_digit())
            .map_or(name, |name| name.strip_suffix("-v").unwrap_or(name)),
    )
}

fn labels(proxy: &Proxy, network: &str) -> Value {
    let (_, _, app) = parts(proxy);
    let mut labels = json!({
        "app": app, "security.istio.io/tlsMode": "istio", "topology.istio.io/network": network,
    });
    if proxy.kind == ProxyKind::Gateway {
        labels["istio"] = json!("eastwestgateway");
    }
    labels
}

/// Every control plane with what it knows: its own cluster's objects of Istio, and those of Kubernetes of all.
fn control_planes(mesh: &Mesh, lab: &Lab) -> Value {
    let all: BTreeMap<&str, Vec<Value>> =
        mesh.clusters().map(|cluster| (cluster.name.as_str(), objects(mesh, cluster, lab))).collect();
    let exposed = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
        "metadata": {"name": "cross-network-gateway", "namespace": "istio-system"},
        "spec": {"selector": {"istio": "eastwestgateway"}, "servers": [{
            "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.local"],
        }]},
    });
    let plane = |(primary, led): (&Cluster, Vec<&Cluster>)| {
        let mut config = vec![exposed.clone()];
        config.extend(files(&lab.site().plugins(primary.name.as_str())));
        let of = |name: &str| led.iter().find(|cluster| cluster.name.as_str() == name);
        let proxies = lab.proxies().filter_map(|proxy| Some((proxy, of(&proxy.cluster)?)));
        let proxies: Vec<Value> = proxies
            .map(|(proxy, cluster)| {
                let (name, namespace, _) = parts(proxy);
                let is_gateway = proxy.kind == ProxyKind::Gateway;
                let (kind, ip) = (if is_gateway { "router" } else { "sidecar" }, proxy.admin.ip());
                json!({
                    "name": proxy.name,
                    "id": format!("{kind}~{ip}~{name}.{namespace}~{namespace}.svc.cluster.local"),
                    "cluster": cluster.name.as_str(), "network": cluster.network.as_str(), "namespace": namespace,
                    "labels": labels(proxy, cluster.network.as_str()),
                    "view": if is_gateway { json!([cluster.network.as_str()]) } else { json!([]) },
                })
            })
            .collect();
        json!({"cluster": primary.name.as_str(), "config": config, "objects": all, "proxies": proxies})
    };
    mesh.control_planes().into_iter().map(plane).collect()
}

/// The objects of a directory. Plugins are older than extensions: of two that are alike istiod has the older one first.
fn files(directory: &Path) -> Vec<Value> {
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a file");
        let mut object: Value = serde_saphyr::from_str(&text).expect("YAML");
        let year = if object["kind"] == "TrafficExtension" { 2026 } else { 2025 };
        object["metadata"]["creationTimestamp"] = json!(format!("{year}-01-01T00:00:00Z"));
        object
    };
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "yaml"));
    paths.sort();
    paths.into_iter().map(read).collect()
}

/// What is said of routing, whether boundaries are held behind the load balancer too, and how many rules there are.
type Said<'s> = (&'s str, bool, usize);

fn bring(mesh: &Mesh, site: &Site, (routing, upstream_check, rules): &Said<'_>) {
    let stage = Stage::set(mesh, site, &module()).expect("a stage");
    let policies = policies(stage.mesh(), routing, *rules);
    stage.roll_out_with(&policies, *upstream_check).expect("a rollout");
}

async fn up(mesh: &Mesh, said: &Said<'_>, dir: &Path) -> Lab {
    let client = |cluster: &str| Client::new(cluster, "shop", "sleep");
    let blueprint = Blueprint { both_kinds: true, ..stage::blueprint(mesh, CLUSTERS.map(client)) };
    let site = Site::claim(blueprint, dir).expect("a site");
    bring(mesh, &site, said);
    let workspace = Workspace::find(&repository()).expect("the checkout");
    let envoy = Envoy::find(&workspace).expect("an Envoy");
    site.up(envoy.path(), time::OffsetDateTime::now_utc()).await.expect("the lab comes up")
}

/// The mesh with plugins of the other kind.
fn with_extensions() -> Mesh {
    let text = MESH.replace("spec:\n", "spec:\n  istio: {version: \"1.31\", trafficExtension: true}\n");
    let (mesh, findings) = Mesh::read("mesh.yaml", &text);
    mesh.unwrap_or_else(|| panic!("{findings:?}"))
}

/// What each proxy is sent, which istiod and the lab agree about.
fn agreed(istio: &Istio, mesh: &Mesh, lab: &Lab, case: &str) -> BTreeMap<String, Sent> {
    let answers = istio.answers(&["discover"], &control_planes(mesh, lab).to_string());
    let answers: Value = serde_json::from_str(&answers).expect("JSON");
    let sent = lab.proxies().map(|proxy| {
        let answer = &answers[&proxy.name];
        assert!(answer.is_object(), "{case}: nothing for {}", proxy.name);
        let (here, mut there) = (by_the_lab(proxy), by_istiod(proxy, answer));
        if proxy.kind == ProxyKind::Gateway {
            keep_own(&mut there, lab, &proxy.cluster);
        }
        assert_eq!(here, there, "{case}: {}: what the lab sends, and what istiod does", proxy.name);
        (proxy.name.clone(), here)
    });
    sent.collect()
}

/// Waits until the lab has sent to each proxy so many times as many plugins as before, and so many of them translated.
async fn until(lab: &Lab, before: &BTreeMap<String, Sent>, (times, translated): (usize, usize)) {
    let is_translated = |plugin: &&[String; 5]| plugin[0].ends_with("~istio-translated-wasmplugin");
    let is_there = |proxy: &Proxy| {
        let (plugins, before) = (by_the_lab(proxy).plugins, before[&proxy.name].plugins.len());
        let found = plugins.iter().filter(is_translated).count();
        (plugins.len(), found) == (before * times, before * translated)
    };
    let deadline = Instant::now() + PATIENCE;
    while !lab.proxies().all(is_there) {
        assert!(Instant::now() < deadline, "the lab's istiod has not taken what was rolled out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The kind that takes the place of the other brings the same to every proxy; and while both are there, each proxy has both.
async fn exchanged(
    istio: &Istio,
    lab: &Lab,
    (case, said): (&str, &Said<'_>),
    before: &BTreeMap<String, Sent>,
) {
    let (mesh, directories) = (with_extensions(), CLUSTERS.map(|name| lab.site().plugins(name)));
    let held: Vec<_> = directories
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| (std::fs::read_to_string(&path).expect("a file"), path))
        .collect();
    bring(&mesh, lab.site(), said);
    until(lab, before, (1, 0)).await;
    let sent = agreed(istio, &mesh, lab, &format!("{case}, by extensions"));
    let nameless = |sent: &Sent| -> Vec<Vec<String>> {
        sent.plugins.iter().map(|plugin| plugin[1..].to_vec()).collect()
    };
    for (proxy, now) in &sent {
        assert_eq!(nameless(now), nameless(&before[proxy]), "{case}: {proxy}: the same by either kind");
    }
    for (text, path) in held.iter().filter(|(_, path)| !path.exists()) {
        std::fs::write(path, text).expect("a file");
    }
    until(lab, before, (2, 1)).await;
    agreed(istio, &mesh, lab, &format!("{case}, by both"));
}

#[tokio::test]
async fn istiod_itself_sends_every_proxy_what_the_labs_istiod_sends_it() {
    let Some(istio) = Istio::find() else { return };
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let cut = ("a plan that is cut", "{}", false);
    for ((case, routing, upstream_check), rules) in
        ROUTINGS.map(|routing| (routing, 0)).into_iter().chain([(cut, 3_000)])
    {
        let (dir, said) = (tempfile::tempdir().expect("a directory"), (routing, upstream_check, rules));
        let lab = up(&mesh, &said, dir.path()).await;
        let sent = agreed(&istio, &mesh, &lab, case);
        for proxy in lab.proxies() {
            // The plan of a namespace judges before that of the cluster, which looks whether it has.
            let is_cut = rules > 0 && proxy.kind == ProxyKind::Server && proxy.name.contains("ledger");
            let count = sent[&proxy.name].plugins.len();
            assert_eq!(count, 1 + usize::from(is_cut), "{case}: {}", proxy.name);
        }
        // The plugins are those of one case or of the other.
        if routing == "{}" {
            exchanged(&istio, &lab, (case, &said), &sent).await;
        }
        lab.down().await.expect("all processes ended");
    }
}
