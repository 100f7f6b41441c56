//! `isthmus doctor` on services of other control planes: `.global` names in each of the three ways of DNS, and meshes with
//! roots of their own. The mesh in which nothing is wrong is what `isthmus mesh render` writes, with what istiod makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use isthmus::doctor::{Check, Examined, Inventory, Outcome, Seen, examine};
use isthmus::read::Project;
use isthmus_tests::repository;
use serde_json::{Value, json};

use super::{run, stderr};

/// An example as it was rendered, and what of it is in each cluster.
struct World {
    dir: tempfile::TempDir,
    project: Project,
}

impl World {
    /// An example whose mesh.yaml says each text by the other.
    fn of(example: &str, edit: &[(&str, &str)]) -> Self {
        let (from, dir) =
            (repository().join("examples").join(example), tempfile::tempdir().expect("a directory"));
        let mut mesh = std::fs::read_to_string(from.join("mesh.yaml")).expect("a mesh");
        for (old, new) in edit {
            assert!(mesh.contains(old), "{example} has no {old:?}");
            mesh = mesh.replace(old, new);
        }
        std::fs::write(dir.path().join("mesh.yaml"), &mesh).expect("a file");
        let project = Project::read(Some(dir.path()), dir.path()).expect("a project");
        assert_eq!(project.findings, []);
        let world = Self { dir, project };
        world.sign();
        world.isthmus(&["mesh", "render", "--output-dir", world.file("seen").to_str().expect("text")]);
        world.run_istiod();
        world
    }

    /// The CA of every mesh: as all are made in one place, each is given the roots of the others from there.
    fn sign(&self) {
        for (number, federated) in self.project.mesh.as_ref().expect("a mesh").meshes().enumerate() {
            let name = federated.name.as_str();
            let more: &[&str] = if number == 0 { &[] } else { &["--mesh", name] };
            self.isthmus(&[&["mesh", "certs", "--key", "p256", "--secrets"], more].concat());
        }
    }

    /// What istiod's chart and istiod make of the rendered file, as far as a diagnosis looks at it.
    fn run_istiod(&self) {
        for cluster in self.project.mesh.as_ref().expect("a mesh").clusters() {
            let at = self.file("seen").join(cluster.name.as_str());
            let text = std::fs::read_to_string(at.join("30-istio.istioctl.yaml")).expect("a file");
            let operator: Value = serde_saphyr::from_str(&text).expect("YAML");
            let of = |key: &str| operator.pointer(&format!("/spec/{key}")).cloned().unwrap_or_default();
            let (config, values) = (of("meshConfig"), of("values"));
            let map = |name: &str, key: &str, text: String| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "istio-system"}, "data": {key: text}});
            let variable = |(name, value): (&String, &Value)| json!({"name": name, "value": value});
            let env =
                values.pointer("/pilot/env").and_then(Value::as_object).into_iter().flatten().map(variable);
            let env: Vec<Value> =
                env.chain([json!({"name": "CLUSTER_ID", "value": cluster.name.as_str()})]).collect();
            let istiod = json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod"}},
                "spec": {"template": {"spec": {"containers": [{"name": "discovery", "env": env}]}}},
            });
            let objects = [
                map("istio", "mesh", config.to_string()),
                map("istio-sidecar-injector", "values", values.to_string()),
                istiod,
            ];
            let list = json!({"kind": "List", "items": objects});
            std::fs::write(at.join("istiod.json.yaml"), list.to_string()).expect("a file");
            let secret = self.file("certs/cacerts.secrets").join(format!("{}.yaml", cluster.name));
            std::fs::copy(secret, at.join("cacerts.yaml")).expect("a Secret");
        }
    }

    fn isthmus(&self, arguments: &[&str]) {
        let at = self.dir.path().to_str().expect("text");
        let ran = run(&[arguments, &["-f", at]].concat());
        assert!(ran.status.success(), "{arguments:?}: {}", stderr(&ran));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the checks of this page say, as `cluster code: message`.
    fn wrong(&self) -> BTreeSet<String> {
        let (mesh, plans) = (self.project.mesh.as_ref(), self.project.plans.as_ref());
        let (mesh, plans) = (mesh.expect("a mesh"), plans.expect("plans"));
        let seen: BTreeMap<_, _> = mesh
            .clusters()
            .map(|cluster| {
                let at = self.file("seen").join(cluster.name.as_str());
                (cluster.name.clone(), Seen::Objects(Inventory::read(&at).expect("an inventory")))
            })
            .collect();
        let mut wrong = BTreeSet::new();
        for Check { code, cluster, outcome } in
            examine(Examined { mesh, plans, seen: &seen, now: time::OffsetDateTime::now_utc() })
        {
            let Outcome::Failed(failures) = outcome else { continue };
            wrong.extend(failures.into_iter().map(|one| format!("{cluster} {code}: {}", one.message)));
        }
        wrong
    }
}

/// One thing to spoil, and what is wrong then that was not before.
struct Fault {
    file: &'static str,
    edit: (&'static str, &'static str),
    wrong: &'static [&'static str],
}

const fn fault(
    file: &'static str,
    edit: (&'static str, &'static str),
    wrong: &'static [&'static str],
) -> Fault {
    Fault { file, edit, wrong }
}

/// Names in .global, which the cluster's own CoreDNS answers for.
const NAMES: &[Fault] = &[
    fault(
        "east/70-imports.yaml",
        ("  - httpbin.bar.global\n  - httpbin", "  - httpbin"),
        &["east ISD090: no ServiceEntry has the host httpbin.bar.global: nobody here can call it"],
    ),
    fault(
        "east/70-imports.yaml",
        ("  - reports.payments.global\n", "  - reports.payments.global\n  - old.payments.global\n"),
        &[
            "east ISD090: ServiceEntry istio-system/isthmus-reports.payments has the host old.payments.global, and no other control \
             plane shows such a service here",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("location: MESH_INTERNAL\n  ports:\n  - name: http-8000", "ports:\n  - name: http-8000"),
        &[
            "east ISD091: ServiceEntry istio-system/isthmus-httpbin.bar is not MESH_INTERNAL: requests leave without mTLS",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("address: gateway.north.example", "address: gateway.old.example"),
        &[
            "east ISD091: ServiceEntry istio-system/isthmus-httpbin.bar does not lead to gateway.north.example, where the service is \
             reached too",
            "east ISD091: ServiceEntry istio-system/isthmus-httpbin.bar leads to gateway.old.example, where mesh.yaml knows no \
             gateway to the service",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("http-8000: 8443", "http-8000: 443"),
        &[
            "east ISD091: ServiceEntry istio-system/isthmus-httpbin.bar leads to 443, 8443 of gateway.north.example, and the gateway \
             listens on 8443",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("      security.istio.io/tlsMode: istio\n      version: stable\n", "      version: stable\n"),
        &[
            "east ISD091: the endpoint gateway.north.example of ServiceEntry istio-system/isthmus-httpbin.bar does not say that it \
             takes mTLS",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("host: reports.payments.global", "host: reports.payments.other"),
        &["east ISD092: no DestinationRule is for reports.payments.global: gateways are asked for \
             outbound_.8080_._.reports.payments.global, and know outbound_.8080_._.reports.payments.svc.cluster.local"],
    ),
    fault(
        "east/70-imports.yaml",
        ("sni: outbound_.9999_._.httpbin.bar.svc", "sni: outbound_.9998_._.httpbin.bar.svc"),
        &["east ISD092: DestinationRule istio-system/isthmus-httpbin.bar asks gateways for \
             outbound_.9998_._.httpbin.bar.svc.cluster.local, and they know outbound_.9999_._.httpbin.bar.svc.cluster.local"],
    ),
    fault(
        "east/70-addresses.yaml",
        ("name: isthmus-global-addresses", "name: elsewhere"),
        &[
            "east ISD093: there is no ConfigMap istio-system/isthmus-global-addresses: nobody remembers which address is whose",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("- \"240.0.110.227\"\n  endpoints", "- \"127.255.0.2\"\n  endpoints"),
        &[
            "east ISD093: ServiceEntry istio-system/isthmus-httpbin.bar has the address 127.255.0.2: what goes to loopback never \
             reaches a sidecar",
            "east ISD093: httpbin.bar has the address 240.0.110.227 in the book, and ServiceEntry istio-system/isthmus-httpbin.bar \
             has 127.255.0.2",
        ],
    ),
    fault(
        "east/70-imports.yaml",
        ("- \"240.0.225.241\"\n", "- \"240.0.225.241\"\n  - \"240.0.110.227\"\n"),
        &[
            "east ISD093: ServiceEntries istio-system/isthmus-httpbin.bar and istio-system/isthmus-reports.payments both have the \
             address 240.0.110.227",
        ],
    ),
    fault(
        "north/70-addresses.yaml",
        ("reports.payments: \"240.0.225.241\"", "reports.payments: \"240.0.110.227\""),
        &[
            "north ISD093: httpbin.bar and reports.payments both have address 240.0.110.227: delete the entry of one of them",
        ],
    ),
    fault(
        "east/70-dns.yaml",
        ("name: coredns-custom", "name: coredns-other"),
        &["east ISD094: no ConfigMap kube-system/coredns-custom: nobody answers for names in .global"],
    ),
    fault(
        "east/70-dns.yaml",
        ("240.0.110.227 httpbin.bar.global", "240.0.110.228 httpbin.bar.global"),
        &[
            "east ISD094: ConfigMap kube-system/coredns-custom does not say that httpbin.bar.global is 240.0.110.227: it does not \
             resolve, or to another's address",
        ],
    ),
    fault(
        "east/70-dns.yaml",
        (
            "apiVersion: v1\n",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\ndata:\n  Corefile: |\n    .:53 {\n    \
             }\n---\napiVersion: v1\n",
        ),
        &[
            "east ISD094: the Corefile of CoreDNS does not import coredns-custom: nobody answers for names in .global",
        ],
    ),
    fault(
        "east/istiod.json.yaml",
        (r#"\"podDNSSearchNamespaces\":[\"global\"]"#, r#"\"podDNSSearchNamespaces\":[]"#),
        &[
            "east ISD094: istio-system/istio-sidecar-injector gives pods no search domain `global`: names resolve only when they \
             end in .global",
        ],
    ),
    fault(
        "west/70-imports.yaml",
        (
            "  - ledger.payments.global\n",
            "  - ledger.payments.global\n  - reports.payments.svc.cluster.local\n",
        ),
        &[
            "west ISD095: ServiceEntry istio-system/isthmus-ledger.payments has the host reports.payments.svc.cluster.local, which \
             west runs: requests go to either, by turns",
        ],
    ),
];

/// The same, where sidecars answer.
const BY_PROXY: &[Fault] = &[fault(
    "east/istiod.json.yaml",
    (r#"\"ISTIO_META_DNS_CAPTURE\":\"true\""#, r#"\"ISTIO_META_DNS_CAPTURE\":\"false\""#),
    &[
        "east ISD094: istio-system/istio does not let sidecars answer for names: httpbin.bar.global does not resolve",
    ],
)];

/// The same, where kube-dns asks a CoreDNS of ours.
const BY_KUBE_DNS: &[Fault] = &[
    fault(
        "east/70-dns.yaml",
        (r#"[\"10.96.0.99\"]"#, r#"[\"10.96.0.98\"]"#),
        &[
            "east ISD094: ConfigMap kube-system/kube-dns does not send the domain global to 10.96.0.99: its names do not resolve",
        ],
    ),
    fault(
        "east/70-dns.yaml",
        ("clusterIP: \"10.96.0.99\"", "clusterIP: \"10.96.0.98\""),
        &[
            "east ISD094: Service istio-system/isthmus-dns is at 10.96.0.98, and mesh.yaml says dnsServer 10.96.0.99",
        ],
    ),
    fault(
        "east/70-dns.yaml",
        ("240.0.225.241 reports.payments.global", "240.0.225.241 ledger.payments.global"),
        &[
            "east ISD094: ConfigMap istio-system/isthmus-dns does not say that reports.payments.global is 240.0.225.241: it does \
             not resolve, or to another's address",
        ],
    ),
    fault(
        "east/70-dns.yaml",
        (
            "apiVersion: apps/v1\n",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: isthmus-dns-1, namespace: istio-system, labels: \
             {kubernetes.io/service-name: isthmus-dns}}\nendpoints: [{conditions: {ready: false}}]\n---\napiVersion: apps/v1\n",
        ),
        &[
            "east ISD072: nothing is ready behind Service payments/ledger, and mesh.yaml says that it runs here",
            "east ISD072: nothing is ready behind Service payments/reports, and mesh.yaml says that it runs here",
            "east ISD094: no pod behind Service istio-system/isthmus-dns is ready: names in .global do not resolve",
        ],
    ),
];

/// Meshes that trust each other.
const MESHES: &[Fault] = &[
    fault(
        "eu/istiod.json.yaml",
        ("caCertificates", "others"),
        &[
            "eu ISD026: istio-system/istio has no caCertificates for partner.example: sidecars refuse every workload of mesh partner",
        ],
    ),
    fault(
        "eu/istiod.json.yaml",
        (r#"\"trustDomains\":[\"partner.example\"]"#, r#"\"trustDomains\":[\"other.example\"]"#),
        &[
            "eu ISD026: istio-system/istio has no caCertificates for partner.example: sidecars refuse every workload of mesh partner",
        ],
    ),
    fault(
        "eu/istiod.json.yaml",
        (r#"\"PROXY_CONFIG_XDS_AGENT\":\"true\""#, r#"\"OTHER\":\"true\""#),
        &[
            "eu ISD026: istio-system/istio does not let agents ask for roots: those of other meshes reach no sidecar",
        ],
    ),
    fault(
        "partner/istiod.json.yaml",
        ("ISTIO_MULTIROOT_MESH", "OTHER"),
        &[
            "partner ISD026: istio-system/istiod does not have ISTIO_MULTIROOT_MESH=true: sidecars get no root but their own",
        ],
    ),
    fault(
        "us/istiod.json.yaml",
        (r#"{"name":"PILOT_SKIP_VALIDATE_TRUST_DOMAIN""#, r#"{"name":"OTHER""#),
        &[
            "us ISD026: istio-system/istiod does not have PILOT_SKIP_VALIDATE_TRUST_DOMAIN=true: sidecars refuse identities of other \
             trust domains",
        ],
    ),
    fault(
        "us/istiod.json.yaml",
        (
            r#"\"trustDomain\":\"shop.example\""#,
            r#"\"trustDomain\":\"shop.example\",\"trustDomainAliases\":[\"partner.example\"]"#,
        ),
        &[
            "us ISD026: istio-system/istio has partner.example among trustDomainAliases: what an AuthorizationPolicy lets through of \
             this mesh it lets through of partner too",
        ],
    ),
    fault(
        "eu/70-imports.yaml",
        ("- rates.bank.svc.cluster.local", "- rates.banks.svc.cluster.local"),
        &["eu ISD090: no ServiceEntry has the host rates.bank.svc.cluster.local: nobody here can call it"],
    ),
    fault(
        "us/70-imports.yaml",
        (
            "- rates.bank.svc.cluster.local",
            "- rates.bank.svc.cluster.local\n  - help.shared.svc.cluster.local",
        ),
        &[
            "us ISD095: ServiceEntry istio-system/isthmus-rates.bank has the host help.shared.svc.cluster.local, which us runs: \
             requests go to either, by turns",
        ],
    ),
    fault(
        "us/70-imports.yaml",
        ("address: \"192.0.2.13\"", "address: \"192.0.2.99\""),
        &[
            "us ISD091: ServiceEntry istio-system/isthmus-rates.bank does not lead to 192.0.2.13, where the service is reached too",
            "us ISD091: ServiceEntry istio-system/isthmus-rates.bank leads to 192.0.2.99, where mesh.yaml knows no gateway to the \
             service",
        ],
    ),
];

/// The codes that some fault of this page gives.
pub(super) fn shown() -> BTreeSet<&'static str> {
    let faults = NAMES.iter().chain(BY_PROXY).chain(BY_KUBE_DNS).chain(MESHES);
    let wrong = faults.flat_map(|fault| fault.wrong);
    wrong.filter_map(|wrong| wrong.split([' ', ':']).nth(1)).collect()
}

fn each_is_found(world: &World, faults: &[Fault]) {
    let before = world.wrong();
    let told: Vec<&String> =
        before.iter().filter(|wrong| wrong.contains(" ISD09") || wrong.contains(" ISD02")).collect();
    assert_eq!(told, Vec::<&String>::new(), "nothing is wrong with what is rendered");
    for Fault { file, edit: (old, new), wrong } in faults {
        let path = world.file("seen").join(file);
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains(old), "{file} has no {old:?}: {text}");
        std::fs::write(&path, text.replace(old, new)).expect("a file");
        let after = world.wrong();
        let told: Vec<&String> = after.difference(&before).collect();
        let wrong: Vec<String> = wrong.iter().map(|one| (*one).to_owned()).collect();
        assert_eq!(told, wrong.iter().collect::<Vec<_>>(), "{file}: {old:?} becomes {new:?}");
        std::fs::write(&path, text).expect("a file");
    }
}

#[test]
fn what_is_wrong_with_global_names_is_found() {
    each_is_found(&World::of("replicated", &[]), NAMES);
}

#[test]
fn global_names_that_sidecars_do_not_answer_for_are_found() {
    each_is_found(&World::of("replicated", &[("dns: CoreDns", "dns: Proxy")]), BY_PROXY);
}

#[test]
fn global_names_that_kube_dns_does_not_ask_for_are_found() {
    let with_server = |region: &str| format!("{region}\n    dnsServer: 10.96.0.99");
    let edits = [
        ("dns: CoreDns".to_owned(), "dns: KubeDns".to_owned()),
        ("network: east".to_owned(), with_server("network: east")),
        ("network: west".to_owned(), with_server("network: west")),
        ("network: north".to_owned(), with_server("network: north")),
    ];
    let edits: Vec<(&str, &str)> = edits.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
    each_is_found(&World::of("replicated", &edits), BY_KUBE_DNS);
}

#[test]
fn what_is_wrong_between_federated_meshes_is_found() {
    let world = World::of("partners", &[]);
    each_is_found(&world, MESHES);
    // A root of the same name that somebody else made is the root of nobody here.
    let other = World::of("partners", &[]);
    let path = world.file("seen/eu/istiod.json.yaml");
    std::fs::copy(other.file("seen/eu/istiod.json.yaml"), path).expect("a file");
    let refused = "eu ISD026: the caCertificates of istio-system/istio do not let in workloads of partner: ";
    let wrong = world.wrong();
    assert!(wrong.iter().any(|wrong| wrong.starts_with(refused)), "{wrong:#?}");
}
