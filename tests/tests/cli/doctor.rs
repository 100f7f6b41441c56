//! `isthmus doctor` on directories of manifests: a mesh in which nothing is wrong, and then one thing at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use isthmus::cert::{self, Form, Hierarchy, KeyKind};
use isthmus::doctor::{Category, Check, Code, Examined, Inventory, Outcome, Seen, examine};
use isthmus::read::Project;
use isthmus::rollout::{self, Options};
use isthmus_tests::repository;
use serde_json::{Value, json};

use super::{run, stdout};

/// A mesh in which nothing is wrong: what was written by hand, and the plugins as a rollout writes them.
struct Mesh {
    dir: tempfile::TempDir,
    project: Project,
}

impl Mesh {
    fn healthy() -> Self {
        let (from, dir) = (repository().join("tests/doctor"), tempfile::tempdir().expect("a directory"));
        for (path, text) in super::files(&from) {
            let to = dir.path().join(path.strip_prefix(&from).expect("below it"));
            std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
            std::fs::write(to, text).expect("a file");
        }
        let project = Project::read(Some(dir.path()), dir.path()).expect("a project");
        assert_eq!(project.findings, []);
        let mesh = Self { dir, project };
        mesh.roll_out();
        let authority = mesh.authority("ca");
        mesh.sign_with(&authority, "cluster1", "cluster1", Form::Files);
        mesh.sign_with(&authority, "cluster2", "cluster2", Form::Tls);
        mesh
    }

    /// A root, and an intermediate for each cluster that holds for a hundred days.
    fn authority(&self, name: &str) -> Hierarchy {
        let authority = Hierarchy::at(self.file(name));
        let options = cert::Options {
            key: KeyKind::P256,
            intermediate_lifetime: time::Duration::days(100),
            ..cert::Options::default()
        };
        authority.ensure(&["cluster1", "cluster2"], options, now()).expect("a hierarchy");
        authority
    }

    /// Gives a cluster the CA of one, and its workloads the root.
    fn sign_with(&self, authority: &Hierarchy, cluster: &str, of: &str, form: Form) {
        let bundle = authority.bundle(of).expect("a bundle");
        let secret = cert::secret(&bundle, "istio-system", form).expect("a Secret");
        let roots = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio-ca-root-cert", "namespace": "shop"},
            "data": {"root-cert.pem": bundle.root()},
        });
        self.write(&format!("{cluster}/cacerts.yaml"), &secret);
        self.write(&format!("{cluster}/roots.yaml"), &roots);
    }

    fn write(&self, file: &str, object: &Value) {
        std::fs::write(self.file(file), object.to_string()).expect("a file");
    }

    /// Changes the cluster's Secret cacerts.
    fn spoil(&self, cluster: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
        let path = self.file(&format!("{cluster}/cacerts.yaml"));
        let mut secret: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
        change(secret.get_mut("data").and_then(Value::as_object_mut).expect("data"));
        std::fs::write(path, secret.to_string()).expect("a file");
    }

    fn roll_out(&self) {
        let (mesh, plans) = (self.project.mesh.as_ref(), self.project.plans.as_ref());
        let (mesh, plans) = (mesh.expect("a mesh"), plans.expect("plans"));
        let url = "oci://registry.example/isthmus:v1".parse().expect("a URL");
        let options = Options { url: &url, upstream_check: false, dry_run: false };
        let plugins = |name: &policy::name::ClusterName| self.dir.path().join(name.as_str()).join("plugins");
        let directories = mesh.clusters().map(|one| (one.name.clone(), plugins(&one.name))).collect();
        rollout::to_directories(mesh, plans, &directories, options).expect("a rollout");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Everything that is wrong, as `cluster code: message`.
    fn wrong(&self) -> Vec<String> {
        self.wrong_at(now())
    }

    fn wrong_at(&self, now: time::OffsetDateTime) -> Vec<String> {
        let mut wrong = Vec::new();
        for Check { code, cluster, outcome } in self.checks(now) {
            if let Outcome::Failed(failures) = outcome {
                wrong.extend(failures.into_iter().map(|one| format!("{cluster} {code}: {}", one.message)));
            }
        }
        wrong
    }

    fn checks(&self, now: time::OffsetDateTime) -> Vec<Check> {
        let (mesh, plans) = (self.project.mesh.as_ref(), self.project.plans.as_ref());
        let (mesh, plans) = (mesh.expect("a mesh"), plans.expect("plans"));
        let seen: BTreeMap<_, _> = mesh
            .clusters()
            .map(|cluster| match Inventory::read(&self.file(cluster.name.as_str())) {
                Ok(inventory) => (cluster.name.clone(), Seen::Objects(inventory)),
                Err(why) => (cluster.name.clone(), Seen::Absent(why.to_string())),
            })
            .collect();
        examine(Examined { mesh, plans, seen: &seen, now })
    }
}

/// 2026-11-21.
const NOW: i64 = 1_795_219_200;

fn now() -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(NOW).expect("a time")
}

/// One thing to spoil: in a file, each text by the other; and what is wrong then, and nothing else.
struct Fault {
    file: &'static str,
    edit: &'static [(&'static str, &'static str)],
    wrong: &'static [&'static str],
}

const fn fault(
    file: &'static str,
    edit: &'static [(&'static str, &'static str)],
    wrong: &'static [&'static str],
) -> Fault {
    Fault { file, edit, wrong }
}

const FAULTS: &[Fault] = &[
    // Control planes.
    fault(
        "cluster1/istio.yaml",
        &[("labels: {app: istiod}", "labels: {app: gone}")],
        &["cluster1 ISD011: no istiod: mesh.yaml says that cluster1 is a primary"],
    ),
    fault(
        "cluster3/istio.yaml",
        &[(
            "apiVersion: v1\nkind: ServiceAccount",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod-old, namespace: istio-system, labels: {app: istiod}}\n\
             spec: {template: {spec: {containers: [{env: [{name: CLUSTER_ID, value: cluster3}]}]}}}\n---\napiVersion: v1\n\
             kind: ServiceAccount",
        )],
        &["cluster3 ISD011: an istiod of its own: mesh.yaml says that cluster3 is run by that of cluster1"],
    ),
    fault(
        "cluster2/istio.yaml",
        &[("pilot:1.30.3", "pilot:1.28.1")],
        &["cluster2 ISD012: istio-system/istiod is Istio 1.28.1, and mesh.yaml says 1.30"],
    ),
    fault(
        "cluster2/istio.yaml",
        &[("{name: CLUSTER_ID, value: cluster2}", "{name: OTHER, value: x}")],
        &[
            "cluster2 ISD013: istio-system/istiod takes its own cluster for \"Kubernetes\", and mesh.yaml says \"cluster2\"",
        ],
    ),
    fault(
        "cluster2/istio.yaml",
        &[("\"network\": \"network2\"", "\"network\": \"\"")],
        &[
            "cluster2 ISD013: istio-system/istio-sidecar-injector gives proxies global.network \"\", and mesh.yaml says \"network2\"",
        ],
    ),
    fault(
        "cluster2/istio.yaml",
        &[("trustDomain: cluster.local", "trustDomain: other.example")],
        &[
            "cluster2 ISD014: istio-system/istio says trust domain \"other.example\", and mesh.yaml says \"cluster.local\"",
        ],
    ),
    fault(
        "cluster3/istio.yaml",
        &[("- addresses: [192.0.2.11]", "- addresses: [10.10.1.7]")],
        &[
            "cluster3 ISD015: Service istio-system/istiod leads to 10.10.1.7, and the gateway of cluster1 is at 192.0.2.11: \
           sidecars get no configuration",
        ],
    ),
    // Remote secrets.
    fault(
        "cluster1/secrets.yaml",
        &[(
            "  name: istio-remote-secret-cluster2\n  namespace: istio-system\n  labels: {istio/multiCluster: \"true\"}\n",
            "  name: istio-remote-secret-cluster2\n  namespace: istio-system\n",
        )],
        &["cluster1 ISD030: no remote secret of cluster2: its istiod sees no endpoint there"],
    ),
    fault(
        "cluster2/secrets.yaml",
        &[
            ("  cluster3: |", "  cluster-3: |"),
            ("networking.istio.io/cluster: cluster3", "networking.istio.io/cluster: cluster-3"),
        ],
        &[
            "cluster2 ISD030: no remote secret of cluster3: its istiod sees no endpoint there",
            "cluster2 ISD031: istio-system/istio-remote-secret-cluster3 is of \"cluster-3\", and the mesh has no such cluster",
        ],
    ),
    fault(
        "cluster2/secrets.yaml",
        &[("networking.istio.io/cluster: cluster3", "networking.istio.io/cluster: cluster9")],
        &[
            "cluster2 ISD031: istio-system/istio-remote-secret-cluster3 has the key \"cluster3\" and says that it is of \"cluster9\"",
        ],
    ),
    fault(
        "cluster2/secrets.yaml",
        &[("server: https://192.0.2.1:6443", "server: https://127.0.0.1:6443")],
        &[
            "cluster2 ISD032: istio-system/istio-remote-secret-cluster1 leads to https://127.0.0.1:6443, which inside a pod is the \
           pod itself",
        ],
    ),
    fault(
        "cluster2/secrets.yaml",
        &[("server: https://192.0.2.1:6443", "server: https://192.0.2.1:8443")],
        &[
            "cluster2 ISD032: istio-system/istio-remote-secret-cluster1 leads to https://192.0.2.1:8443, and mesh.yaml says that \
           cluster1 answers at https://192.0.2.1:6443",
        ],
    ),
    fault(
        "cluster1/istio.yaml",
        &[("the CA of the API server of cluster1", "another CA")],
        &[
            "cluster2 ISD032: istio-system/istio-remote-secret-cluster1 trusts another CA than cluster1 has: its API server is refused",
        ],
    ),
    fault(
        "cluster2/secrets.yaml",
        &[(
            "    - name: cluster1\n      user:\n",
            "    - name: cluster1\n      user:\n        exec: {command: aws}\n",
        )],
        &[
            "cluster2 ISD033: istio-system/istio-remote-secret-cluster1 uses exec, which istiod refuses: a remote secret could make \
           it run or read anything",
        ],
    ),
    fault(
        "cluster2/secrets.yaml",
        &[("    current-context: cluster1\n", "    current-context: kind-cluster1\n")],
        &[
            "cluster2 ISD033: istio-system/istio-remote-secret-cluster1 has no kubeconfig for cluster1: it has no context \
           \"kind-cluster1\", which is its current one",
        ],
    ),
    fault(
        "cluster1/secrets.yaml",
        &[("  name: istio-reader-service-account-istio-remote-secret-token\n", "  name: another\n")],
        &["cluster2 ISD034: the token of istio-system/istio-remote-secret-cluster1 was that of \
           istio-system/istio-reader-service-account-istio-remote-secret-token in cluster1, which is gone: it is refused"],
    ),
    fault(
        "cluster3/istio.yaml",
        &[("{name: istio-reader-service-account,", "{name: other,")],
        &[
            "cluster3 ISD035: no service account istio-system/istio-reader-service-account: no token can be made for other control \
           planes",
        ],
    ),
    // Networks.
    fault(
        "cluster2/namespaces.yaml",
        &[("labels: {topology.istio.io/network: network2}", "labels: {topology.istio.io/network: network1}")],
        &[
            "cluster2 ISD040: namespace istio-system says network \"network1\", and mesh.yaml says \"network2\"",
        ],
    ),
    fault(
        "cluster3/namespaces.yaml",
        &[("labels: {topology.istio.io/network: network1}", "labels: {}")],
        &[
            "cluster3 ISD040: namespace istio-system says no network: its endpoints count as reachable from everywhere",
        ],
    ),
    fault(
        "cluster3/namespaces.yaml",
        &[(
            "topology.istio.io/controlPlaneClusters: cluster1",
            "topology.istio.io/controlPlaneClusters: cluster2",
        )],
        &[
            "cluster3 ISD041: namespace istio-system does not let cluster1 lead: topology.istio.io/controlPlaneClusters is \"cluster2\"",
        ],
    ),
    fault(
        "cluster3/nodes.yaml",
        &[("10.30.1.0/24", "10.10.1.128/25")],
        &[
            "cluster1 ISD042: pods on node node1 have addresses of 10.10.1.0/24, and those on node node3 of cluster3 of \
             10.10.1.128/25, on one network",
            "cluster3 ISD042: pods on node node3 have addresses of 10.10.1.128/25, and mesh.yaml says podCidr 10.30.0.0/16",
            "cluster3 ISD042: pods on node node3 have addresses of 10.10.1.128/25, and those on node node1 of cluster1 of \
             10.10.1.0/24, on one network",
        ],
    ),
    // Gateways.
    fault(
        "cluster2/gateway.yaml",
        &[(
            "labels: {istio: eastwestgateway, topology.istio.io/network: network2}",
            "labels: {istio: eastwestgateway}",
        )],
        &[
            "cluster2 ISD050: no Service with the label topology.istio.io/network and port 15443: other networks do not find the way in",
        ],
    ),
    fault(
        "cluster2/gateway.yaml",
        &[("topology.istio.io/network: network2", "topology.istio.io/network: network1")],
        &[
            "cluster2 ISD050: Service istio-system/istio-eastwestgateway says that it is the way into \"network1\", and mesh.yaml says \
           \"network2\"",
        ],
    ),
    fault(
        "cluster2/gateway.yaml",
        &[("[{ip: 192.0.2.12}]", "[{ip: 192.0.2.99}]")],
        &[
            "cluster2 ISD051: Service istio-system/istio-eastwestgateway has the address 192.0.2.99, and mesh.yaml says 192.0.2.12",
        ],
    ),
    fault(
        "cluster2/gateway.yaml",
        &[("[{ip: 192.0.2.12}]", "[]")],
        &[
            "cluster2 ISD051: Service istio-system/istio-eastwestgateway has no address: other clusters get the addresses of pods \
           that they cannot reach",
        ],
    ),
    fault(
        "cluster2/gateway.yaml",
        &[("conditions: {ready: true}", "conditions: {ready: false}")],
        &["cluster2 ISD052: no pod behind Service istio-system/istio-eastwestgateway is ready"],
    ),
    fault(
        "cluster2/gateway.yaml",
        &[("mode: AUTO_PASSTHROUGH", "mode: PASSTHROUGH")],
        &[
            "cluster2 ISD053: no Gateway passes mTLS through it: every connection from another network is closed",
        ],
    ),
    fault(
        "cluster1/gateway.yaml",
        &[("hosts: [\"*.local\"]", "hosts: [shop/web.shop.svc.cluster.local]")],
        &[
            "cluster1 ISD054: no Gateway has the host ledger.payments.svc.cluster.local, so no other network reaches it here",
        ],
    ),
    // Injection.
    fault(
        "cluster2/istio.yaml",
        &[(
            "service: {name: istiod, namespace: istio-system, path: /inject,",
            "service: {name: istiod-canary, namespace: istio-system, path: /inject,",
        )],
        &[
            "cluster2 ISD060: webhook istio-sidecar-injector leads nowhere: there is no Service istio-system/istiod-canary; no pod of \
           an injected namespace starts",
        ],
    ),
    fault(
        "cluster3/istio.yaml",
        &[(
            "service: {name: istiod, namespace: istio-system, path: /inject, port: 443}",
            "url: https://192.0.2.77:15017/inject",
        )],
        &[
            "cluster3 ISD060: webhook istio-sidecar-injector leads nowhere: it leads to 192.0.2.77, and the gateway of cluster1 is at \
           192.0.2.11; no pod of an injected namespace starts",
        ],
    ),
    fault(
        "cluster1/namespaces.yaml",
        &[("labels: {istio-injection: enabled}", "labels: {}")],
        &[
            "cluster1 ISD061: pods of namespace payments get no sidecar: no policy holds there, and no tag is believed",
        ],
    ),
    fault(
        "cluster2/istio.yaml",
        &[("namespace: istio-system, path: /validate,", "namespace: istio-old, path: /validate,")],
        &[
            "cluster2 ISD062: webhook istio-validator-istio-system leads nowhere: there is no Service istio-old/istiod; the API server \
           refuses every object of Istio",
        ],
    ),
    fault(
        "cluster1/istio.yaml",
        &[
            ("namespace: istio-system, path: /validate,", "namespace: istio-old, path: /validate,"),
            ("failurePolicy: Fail", "failurePolicy: Ignore"),
        ],
        &[],
    ),
    fault(
        "cluster1/istio.yaml",
        &[
            ("metadata: {name: istio-sidecar-injector}", "metadata: {name: istio-revision-tag-default}"),
            ("path: /inject,", "path: /inject/tag,"),
            (
                "service: {name: istiod, namespace: istio-system, path: /inject/",
                "service: {name: gone, namespace: istio-system, path: /inject/",
            ),
        ],
        &[
            "cluster1 ISD060: webhook istio-revision-tag-default leads nowhere: there is no Service istio-system/gone; no pod of an \
           injected namespace starts",
        ],
    ),
    // Services.
    fault(
        "cluster2/services.yaml",
        &[("metadata: {name: ledger, namespace: payments}", "metadata: {name: books, namespace: payments}")],
        &[
            "cluster2 ISD070: no Service payments/ledger: its name does not resolve here, so nobody here can call it",
        ],
    ),
    fault(
        "cluster2/services.yaml",
        &[("port: 8080", "port: 8081")],
        &[
            "cluster1 ISD071: Service payments/ledger has the ports 8080 here and 8081 in cluster2",
            "cluster2 ISD071: Service payments/ledger has no port 8080, which mesh.yaml says",
            "cluster2 ISD071: Service payments/ledger has the ports 8081 here and 8080 in cluster3",
        ],
    ),
    fault(
        "cluster1/services.yaml",
        &[("labels: {kubernetes.io/service-name: ledger}", "labels: {kubernetes.io/service-name: other}")],
        &[
            "cluster1 ISD072: nothing is ready behind Service payments/ledger, and mesh.yaml says that it runs here",
        ],
    ),
    fault(
        "cluster2/services.yaml",
        &[("endpoints: []", "endpoints: [{addresses: [10.20.1.9]}, {addresses: [10.20.1.10]}]")],
        &["cluster2 ISD072: 2 endpoints of payments/ledger run here, and mesh.yaml says that none does"],
    ),
    // Plugins.
    fault(
        "cluster2/plugins/isthmus-gateway.yaml",
        &[("name: isthmus-gateway\n", "name: gone\n")],
        &["cluster2 ISD080: no WasmPlugin istio-system/isthmus-gateway: every network sees every service"],
    ),
    fault(
        "cluster1/plugins/isthmus-inbound-cluster3.yaml",
        &[("name: isthmus-inbound-cluster3\n", "name: gone\n")],
        &[
            "cluster3 ISD080: no WasmPlugin istio-system/isthmus-inbound-cluster3 in cluster1: nothing is refused, and nobody is told the source",
        ],
    ),
];

#[test]
fn nothing_is_wrong_with_a_healthy_mesh() {
    assert_eq!(Mesh::healthy().wrong(), Vec::<String>::new());
}

#[test]
fn plugins_of_the_kind_that_is_not_asked_for_are_told_until_a_rollout_has_brought_the_other() {
    let mut mesh = Mesh::healthy();
    let file = mesh.file("mesh.yaml");
    let text = std::fs::read_to_string(&file).expect("a mesh");
    let asking = text.replace("istio: {", "istio: {trafficExtension: true, ");
    assert_ne!(asking, text);
    std::fs::write(&file, asking).expect("a file");
    mesh.project = Project::read(Some(mesh.dir.path()), mesh.dir.path()).expect("a project");
    assert_eq!(mesh.project.findings, []);
    let told = "ISD080: WasmPlugin istio-system/isthmus-gateway stands there, and mesh.yaml asks for TrafficExtension";
    assert!(mesh.wrong().contains(&format!("cluster2 {told}")), "{:#?}", mesh.wrong());
    assert!(mesh.wrong().iter().all(|line| line.contains("mesh.yaml asks for")), "{:#?}", mesh.wrong());
    let plugin = mesh.file("cluster2/plugins/isthmus-gateway.yaml");
    let left = std::fs::read_to_string(&plugin).expect("a plugin");
    mesh.roll_out();
    assert_eq!(mesh.wrong(), Vec::<String>::new());
    std::fs::write(&plugin, left).expect("a file");
    assert_eq!(mesh.wrong(), [format!("cluster2 {told}")]);
    std::fs::remove_file(plugin).expect("removed");
    std::fs::remove_file(mesh.file("cluster2/plugins/isthmus-gateway.trafficextension.yaml"))
        .expect("removed");
    let none =
        "cluster2 ISD080: no TrafficExtension istio-system/isthmus-gateway: every network sees every service";
    assert_eq!(mesh.wrong(), [none]);
}

#[test]
fn each_fault_is_found_and_nothing_else_is() {
    for Fault { file, edit, wrong } in FAULTS {
        let mesh = Mesh::healthy();
        let path = mesh.file(file);
        let mut text = std::fs::read_to_string(&path).expect("a file");
        for (from, to) in *edit {
            assert!(text.contains(from), "{file} has no {from:?}");
            text = text.replace(from, to);
        }
        std::fs::write(&path, text).expect("a file");
        assert_eq!(mesh.wrong(), *wrong, "{file}: {edit:?}");
    }
}

#[test]
fn a_ca_that_no_other_cluster_trusts_is_told() {
    let mesh = Mesh::healthy();
    std::fs::remove_file(mesh.file("cluster2/cacerts.yaml")).expect("a file");
    let none = "cluster2 ISD020: no Secret istio-system/cacerts: istiod makes a CA of its own, which no other cluster trusts";
    assert_eq!(mesh.wrong(), [none]);
    let mesh = Mesh::healthy();
    mesh.sign_with(&mesh.authority("other"), "cluster2", "cluster2", Form::Files);
    let name = "what it leads to has the name of a trusted CA and another key";
    let lone = |from: &str, to: &str| format!("{to} ISD024: it does not accept workloads of {from}: {name}");
    assert_eq!(mesh.wrong(), [lone("cluster2", "cluster1"), lone("cluster1", "cluster2")]);
}

#[test]
fn a_ca_that_istiod_cannot_use_is_told() {
    let mesh = Mesh::healthy();
    mesh.spoil("cluster1", |data| drop(data.remove("root-cert.pem")));
    mesh.spoil("cluster2", |data| drop(data.remove("tls.key")));
    let lacks = |cluster: &str, key: &str| {
        format!("{cluster} ISD020: Secret istio-system/cacerts has no {key}: istiod does not start with it")
    };
    assert_eq!(mesh.wrong(), [lacks("cluster1", "root-cert.pem"), lacks("cluster2", "tls.key")]);
    let mesh = Mesh::healthy();
    let other = mesh.authority("other").bundle("cluster1").expect("a bundle");
    let other = cert::secret(&other, "istio-system", Form::Files).expect("a Secret");
    let key = other["data"]["ca-key.pem"].clone();
    mesh.spoil("cluster1", |data| drop(data.insert("ca-key.pem".to_owned(), key.clone())));
    let wrong = mesh.wrong();
    let told = wrong
        .iter()
        .find(|wrong| wrong.starts_with("cluster1 ISD021: istiod cannot sign with Secret cacerts: "));
    assert!(told.is_some(), "{wrong:#?}");
    let secret = key.as_str().map(|key| Base64::decode_vec(key).expect("base64")).expect("a key");
    let secret = String::from_utf8(secret).expect("PEM");
    let secret = secret.lines().nth(1).expect("a line");
    assert!(wrong.iter().all(|wrong| !wrong.contains(secret)), "no key is ever told");
}

#[test]
fn a_ca_that_soon_ends_is_told_in_time() {
    let mesh = Mesh::healthy();
    let at = |days: i64| mesh.wrong_at(now() + time::Duration::days(days));
    assert_eq!(at(69), Vec::<String>::new());
    let wrong = at(80);
    let told = |wrong: &String, cluster: &str| {
        wrong.starts_with(&format!("{cluster} ISD022: ")) && wrong.contains(" ends in 20 days, on 2027-03-01")
    };
    assert!(wrong.len() == 2 && told(&wrong[0], "cluster1") && told(&wrong[1], "cluster2"), "{wrong:#?}");
    let over = at(101);
    assert!(
        over.iter()
            .any(|wrong| wrong.starts_with("cluster1 ISD022: ") && wrong.contains("ended on 2027-03-01")),
        "{over:#?}"
    );
    assert!(over.iter().any(|wrong| wrong.starts_with("cluster1 ISD024: ")), "{over:#?}");
}

#[test]
fn a_ca_that_says_another_cluster_is_told() {
    let mesh = Mesh::healthy();
    mesh.sign_with(&Hierarchy::at(mesh.file("ca")), "cluster2", "cluster1", Form::Files);
    let wrong = "cluster2 ISD023: its workloads' certificates are issued by \"L=cluster1,CN=Intermediate CA,O=Istio\", and mesh.yaml \
                 says \"L=cluster2,CN=Intermediate CA,O=Istio\"";
    assert_eq!(mesh.wrong(), [wrong]);
}

#[test]
fn workloads_that_trust_an_old_root_are_told() {
    let mesh = Mesh::healthy();
    let old = mesh.authority("old").bundle("cluster1").expect("a bundle");
    let path = mesh.file("cluster1/roots.yaml");
    let mut roots: Value = serde_json::from_slice(&std::fs::read(&path).expect("a file")).expect("JSON");
    roots["data"]["root-cert.pem"] = old.root().into();
    mesh.write("cluster1/roots.yaml", &roots);
    assert_eq!(
        mesh.wrong(),
        ["cluster1 ISD025: workloads of shop trust other roots than Secret cacerts has"]
    );
}

#[test]
fn a_token_that_has_ended_or_soon_will_is_told() {
    let (hour, lasting) = (3_600, None);
    for (begun, left, wrong) in [
        (lasting, -hour, Some("ended 1 hours ago: cluster1 refuses it")),
        (lasting, 72 * hour, Some("ends in 3 days")),
        (lasting, 720 * hour, None),
        // One that lives a day is renewed in time, unless nobody does.
        (Some(17 * hour), 7 * hour, None),
        (Some(19 * hour), 5 * hour, Some("ends in 5 hours")),
    ] {
        let mesh = Mesh::healthy();
        say(
            &mesh,
            &match begun {
                None => json!({"exp": NOW + left}),
                Some(begun) => json!({"iat": NOW - begun, "exp": NOW + left}),
            },
        );
        let told: Vec<String> = mesh.wrong();
        match wrong {
            Some(wrong) => assert_eq!(
                told,
                [format!("cluster2 ISD034: the token of istio-system/istio-remote-secret-cluster1 {wrong}")]
            ),
            None => assert_eq!(told, Vec::<String>::new()),
        }
    }
}

/// Gives the secret by which cluster2 reads cluster1 a token that says this.
fn say(mesh: &Mesh, claims: &Value) {
    let path = mesh.file("cluster2/secrets.yaml");
    let text = std::fs::read_to_string(&path).expect("a file");
    let claims = Base64UrlUnpadded::encode_string(claims.to_string().as_bytes());
    let old = text.lines().find(|line| line.trim().starts_with("token:")).expect("a token").trim();
    std::fs::write(&path, text.replacen(old, &format!("token: e30.{claims}.c2lnbmVk"), 1)).expect("a file");
}

#[test]
fn a_token_whose_secret_is_gone_is_told_also_where_it_ends_by_itself() {
    let mesh = Mesh::healthy();
    let of = |name: &str| json!({"exp": NOW + 9_000_000, "kubernetes.io": {"namespace": "istio-system", "secret": {"name": name}}});
    say(&mesh, &of("istio-reader-service-account-istio-remote-secret-token"));
    assert_eq!(mesh.wrong(), Vec::<String>::new());
    say(&mesh, &of("istio-remote-token-cluster2-7"));
    let gone = "cluster2 ISD034: the token of istio-system/istio-remote-secret-cluster1 was that of \
                istio-system/istio-remote-token-cluster2-7 in cluster1, which is gone: it is refused";
    assert_eq!(mesh.wrong(), [gone]);
}

#[test]
fn a_ca_that_istiod_has_made_for_itself_is_told() {
    let mesh = Mesh::healthy();
    mesh.spoil("cluster1", |data| drop(data.insert("istio-generated".to_owned(), json!(""))));
    let own = "cluster1 ISD020: Secret istio-system/cacerts was made by istiod itself: no other cluster trusts that CA";
    assert_eq!(mesh.wrong(), [own]);
}

#[test]
fn where_mesh_yaml_says_no_version_control_planes_that_are_far_apart_are_told() {
    let mut mesh = Mesh::healthy();
    let file = mesh.file("mesh.yaml");
    let text = std::fs::read_to_string(&file).expect("a file");
    let silent = text.replace("version: \"1.30\"", "rootNamespace: istio-system");
    assert_ne!(silent, text);
    std::fs::write(&file, silent).expect("a file");
    mesh.project = Project::read(Some(mesh.dir.path()), mesh.dir.path()).expect("a project");
    mesh.roll_out();
    for (version, wrong) in [
        ("1.31.0", None),
        ("1.28.1", Some("cluster1 ISD012: its istiod is Istio 1.30.3, and that of cluster2 is 1.28.1")),
    ] {
        let path = mesh.file("cluster2/istio.yaml");
        let istio =
            std::fs::read_to_string(repository().join("tests/doctor/cluster2/istio.yaml")).expect("a file");
        std::fs::write(&path, istio.replace("pilot:1.30.3", &format!("pilot:{version}"))).expect("a file");
        assert_eq!(mesh.wrong(), wrong.into_iter().collect::<Vec<_>>(), "{version}");
    }
}

#[test]
fn what_files_do_not_have_has_not_passed() {
    let mesh = Mesh::healthy();
    let path = mesh.file("cluster1/namespaces.yaml");
    let text = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, text.replace("name: shop,", "name: other,")).expect("a file");
    let checks = mesh.checks(now());
    let of = |code: Code| {
        let is_it = |check: &&Check| check.code == code && check.cluster.as_str() == "cluster1";
        checks.iter().find(is_it).map(|check| check.outcome.clone()).expect("a check")
    };
    let Outcome::Skipped(isthmus::doctor::Skip::Unseen(why)) = of(Code::Injection) else {
        panic!("{:?}", of(Code::Injection));
    };
    assert_eq!(why, "the directory has no Namespace shop");
    assert!(matches!(of(Code::Reachable), Outcome::Skipped(_)), "no API server was asked");
}

#[test]
fn a_plugin_that_is_stale_or_was_edited_is_told() {
    let mesh = Mesh::healthy();
    let path = mesh.file("cluster1/plugins/isthmus-inbound-cluster1.yaml");
    let text = std::fs::read_to_string(&path).expect("a file");
    let digest =
        text.lines().find_map(|line| line.trim().strip_prefix("digest: ")).expect("a digest").to_owned();
    let other = "f".repeat(digest.len());
    std::fs::write(&path, text.replace(&digest, &other)).expect("a file");
    let wrong = mesh.wrong();
    assert!(
        wrong.len() == 1 && wrong[0].contains("has plan ffffffffffff, and these policies come to"),
        "{wrong:?}"
    );
    std::fs::write(&path, text.replace(&format!("digest: {digest}"), &format!("digest: {other}")))
        .expect("a file");
    let wrong = mesh.wrong();
    assert!(wrong.len() == 1 && wrong[0].contains("was changed by hand"), "{wrong:?}");
}

#[test]
fn every_check_that_files_can_fail_does_so_in_some_test() {
    let shown: BTreeSet<&str> = FAULTS
        .iter()
        .flat_map(|fault| fault.wrong)
        .filter_map(|wrong| wrong.split([' ', ':']).nth(1))
        .chain(super::imports::shown())
        .collect();
    // What only a server can answer, and what is only found out by trying.
    let elsewhere = [
        Code::Reachable,
        Code::Readable,
        Code::Kubernetes,
        Code::Definitions,
        Code::RemoteSecretWorks,
        Code::ServerAnswers,
        Code::ClustersRead,
        Code::PodsReach,
        Code::GatewayAnswers,
        Code::GatewayShows,
        Code::Running,
    ];
    let certificates = |code: &&Code| code.category() == Category::Authority;
    for code in Code::ALL.iter().filter(|code| !elsewhere.contains(code) && !certificates(code)) {
        assert!(shown.contains(code.to_string().as_str()), "{code} ({}) has no fault", code.title());
    }
}

#[test]
fn the_page_says_what_each_check_is() {
    let page = std::fs::read_to_string(repository().join("docs/doctor.md")).expect("a page");
    for code in Code::ALL {
        let row = format!("| {code} | {} |", code.title());
        assert!(page.contains(&row), "docs/doctor.md has no row {row:?}");
    }
}

/// The codes of the page's last table are found by a test each: in a broken world of files, or, where that says it by the
/// code's own name, in one of those that try.
#[test]
fn each_failure_that_the_guides_tell_of_is_found_in_some_broken_world() {
    let page = std::fs::read_to_string(repository().join("docs/doctor.md")).expect("a page");
    let table = page.split("\n## What the guides tell of\n").nth(1).expect("the table");
    let rows: Vec<&str> =
        table.lines().filter(|line| line.starts_with("| ") && line.contains("ISD")).collect();
    assert!(rows.len() > 20, "{rows:#?}");
    let all: BTreeSet<String> = Code::ALL.iter().map(Code::to_string).collect();
    let faults = FAULTS.iter().flat_map(|fault| fault.wrong);
    let mut found: BTreeSet<String> = faults
        .filter_map(|wrong| wrong.split([' ', ':']).nth(1))
        .chain(super::imports::shown())
        .map(str::to_owned)
        .collect();
    for file in ["cli/doctor.rs", "cluster/tries.rs", "cluster/verify.rs"] {
        let text = std::fs::read_to_string(repository().join("tests/tests").join(file))
            .expect("a test")
            .replace(": passed", "");
        // What is expected stands in quotes after the cluster, or in brackets.
        let says = |code: &&String| {
            ["cluster1", "cluster2"].iter().any(|cluster| text.contains(&format!("{cluster} {code}: ")))
                || text.contains(&format!("[{code}]"))
        };
        found.extend(all.iter().filter(says).cloned());
    }
    for row in rows {
        let codes = row.trim_end_matches(" |").rsplit("| ").next().expect("a cell").split(", ");
        for code in codes {
            assert!(all.contains(code), "there is no {code}: {row}");
            assert!(found.contains(code), "no test breaks what {code} finds: {row}");
        }
    }
}

#[test]
fn the_verb_tells_people_and_programs_the_same() {
    let mesh = Mesh::healthy();
    let at = mesh.dir.path().to_str().expect("text").to_owned();
    let healthy = run(&["doctor", "-f", &at, "--from", &at]);
    assert_eq!(healthy.status.code(), Some(0), "{}", stdout(&healthy));
    assert!(
        stdout(&healthy).contains("\n  ok    cluster1, cluster2: the trust domain is that of mesh.yaml\n")
    );
    std::fs::remove_dir_all(mesh.file("cluster3")).expect("a directory");
    let gone = run(&["doctor", "-f", &at, "--from", &at, "-o", "short"]);
    let shown = stdout(&gone);
    assert!(
        shown.starts_with("cluster3: error[ISD001]: nothing was seen of it: there is no directory ")
            && shown.lines().count() == 1,
        "{shown}"
    );
    let text = stdout(&run(&["doctor", "-f", &at, "--from", &at]));
    assert!(text.contains("hint: write there what the cluster has (`kubectl get -A -o yaml`)"), "{text}");
    let nowhere = run(&["doctor", "-f", &at, "--from", "/no/such/directory"]);
    assert_eq!(nowhere.status.code(), Some(3));
    assert!(super::stderr(&nowhere).contains("there is no directory /no/such/directory"));
    let json = run(&["doctor", "-f", &at, "--from", &at, "-o", "json"]);
    assert_eq!((json.status.code(), gone.status.code()), (Some(1), Some(1)));
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&json["kind"], &json["summary"]["errors"]), (&json!("Diagnosis"), &json!(1)));
    let items = json["items"].as_array().expect("items");
    let errors: Vec<&Value> = items.iter().filter(|item| item["result"] == "error").collect();
    assert!(
        errors.len() == 1 && errors[0]["code"] == "ISD001" && errors[0]["cluster"] == "cluster3",
        "{errors:?}"
    );
}

#[test]
fn what_is_no_yaml_is_said_with_its_file() {
    let mesh = Mesh::healthy();
    let at = mesh.dir.path().to_str().expect("text").to_owned();
    std::fs::write(mesh.file("cluster1/nodes.yaml"), "a: [\n").expect("a file");
    let output = run(&["doctor", "-f", &at, "--from", &at]);
    assert_eq!(output.status.code(), Some(3));
    let told = super::stderr(&output);
    assert!(told.contains("cluster1/nodes.yaml is not YAML"), "{told}");
    assert!(Path::new(&at).is_dir());
}

#[test]
fn what_is_no_kubeconfig_is_told_without_its_token_and_moves_no_cursor() {
    let mesh = Mesh::healthy();
    let path = mesh.file("cluster2/secrets.yaml");
    let text = std::fs::read_to_string(&path).expect("a file");
    let token =
        text.lines().find_map(|line| line.trim().strip_prefix("token: ")).expect("a token").to_owned();
    let hostile =
        text.replacen("    apiVersion: v1\n    kind: Config\n", "    apiVersion: [\n    kind: Config\n", 1);
    let hostile = hostile.replacen("  cluster3: |", "  \"c\\e[31m\\n\": |", 1);
    assert_ne!(hostile, text);
    std::fs::write(&path, hostile).expect("a file");
    let wrong = mesh.wrong();
    assert!(
        wrong.iter().any(|wrong| wrong.contains(" has no kubeconfig for cluster1: it is not YAML: ")),
        "{wrong:#?}"
    );
    let quiet = |wrong: &String| !wrong.contains(&token) && !wrong.chars().any(char::is_control);
    assert!(wrong.iter().all(quiet), "{wrong:#?}");
    // The file itself is said in the same way where it is none.
    std::fs::write(&path, format!("token: {token}\na: [\n")).expect("a file");
    let at = mesh.dir.path().to_str().expect("text").to_owned();
    let told = super::stderr(&run(&["doctor", "-f", &at, "--from", &at]));
    assert!(told.contains("cluster2/secrets.yaml is not YAML") && !told.contains(&token), "{told}");
}

#[test]
fn all_objects_of_a_large_cluster_are_read_and_a_text_that_unfolds_without_end_is_not() {
    let mesh = Mesh::healthy();
    let pods: String = (0..30_000)
        .map(|n| format!("---\nkind: Pod\nmetadata: {{name: p{n}, labels: {{a: b, c: d, e: f}}}}\n"))
        .collect();
    std::fs::write(mesh.file("cluster1/pods.yaml"), pods).expect("a file");
    assert_eq!(mesh.wrong(), Vec::<String>::new());
    let mut bomb = "a: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for n in 1..12 {
        let nine = vec![format!("*a{}", n - 1); 9].join(",");
        bomb += &format!("b{n}: &a{n} [{nine}]\n");
    }
    let path = mesh.file("cluster1/bomb.yaml");
    std::fs::write(&path, bomb).expect("a file");
    assert!(Inventory::read(&mesh.file("cluster1")).is_err());
    std::fs::write(path, "[".repeat(100_000)).expect("a file");
    assert!(Inventory::read(&mesh.file("cluster1")).is_err());
}
