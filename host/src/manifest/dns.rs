//! The book of addresses in each cluster, and who answers for its names.

use std::fmt::Write as _;

use policy::mesh::{Cluster, Dns};
use serde_json::{Value, json};

use super::ground::{Ground, global_host};
use super::{ISTIO_NAMESPACE, Item, Phase, metadata, object};
use crate::digest::sha256;

/// The CoreDNS that answers where kube-dns cannot.
const IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.12.1";

const NAME: &str = "isthmus-dns";

/// The port that it listens on: one that takes no privilege.
const PORT: u16 = 5353;

/// The book, where anything has an address of it, and what answers by it.
pub(super) fn items(ground: &Ground<'_>, cluster: &Cluster) -> Vec<Item> {
    if ground.book.iter().next().is_none() {
        return Vec::new();
    }
    let mut items = vec![Item::object(Phase::Names, "addresses", ground.book.config_map())];
    let zone = zone(ground, cluster);
    let Some(zone) = zone.filter(|_| ground.mesh.global_names().is_some()) else { return items };
    let objects = match ground.names().dns {
        // Its own sidecar tells each pod.
        Dns::Proxy => Vec::new(),
        Dns::CoreDns => vec![custom(&zone)],
        Dns::KubeDns => kube_dns(cluster, &zone),
    };
    items.extend(objects.into_iter().map(|object| Item::object(Phase::Names, "dns", object)));
    items
}

/// What CoreDNS says of the names that the cluster calls.
fn zone(ground: &Ground<'_>, cluster: &Cluster) -> Option<String> {
    let mut lines = String::new();
    for import in ground.imports(ground.primary(cluster)) {
        let address = ground.book.get(import.service)?;
        writeln!(lines, "        {address} {}", global_host(import.service)).ok()?;
    }
    (!lines.is_empty())
        .then(|| format!("    errors\n    cache 30\n    hosts {{\n{lines}        ttl 60\n    }}\n"))
}

/// A server block beside those of the cluster's CoreDNS, which imports `custom/*.server`.
fn custom(zone: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata("coredns-custom", "kube-system"),
        "data": {"isthmus.server": format!("global:53 {{\n{zone}}}\n")},
    })
}

/// kube-dns hands a zone on to an address and to nothing else: so here is a CoreDNS that has one.
fn kube_dns(cluster: &Cluster, zone: &str) -> Vec<Value> {
    let Some(server) = cluster.whereabouts.dns_server else { return Vec::new() };
    let corefile = format!("global:{PORT} {{\n{zone}}}\n");
    let stubs = json!({"global": [server.to_string()]});
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(NAME, ISTIO_NAMESPACE),
            "data": {"Corefile": corefile},
        }),
        deployment(&corefile),
        object(
            "v1",
            "Service",
            NAME,
            ISTIO_NAMESPACE,
            &json!({
                "clusterIP": server.to_string(),
                "selector": {"app": NAME},
                "ports": [
                    {"name": "dns", "port": 53, "targetPort": PORT, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "targetPort": PORT, "protocol": "TCP"},
                ],
            }),
        ),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata("kube-dns", "kube-system"),
            "data": {"stubDomains": stubs.to_string()},
        }),
    ]
}

fn deployment(corefile: &str) -> Value {
    let port =
        |name: &str, protocol: &str| json!({"name": name, "containerPort": PORT, "protocol": protocol});
    let container = json!({
        "name": "coredns",
        "image": IMAGE,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "runAsNonRoot": true,
            "runAsUser": 65532,
        },
        "volumeMounts": [{"name": "corefile", "mountPath": "/etc/coredns", "readOnly": true}],
    });
    let template = json!({
        "metadata": {
            // The names are read when it starts: others are others' pods.
            "annotations": {"isthmus.dev/corefile": sha256(corefile)},
            "labels": {"app": NAME, "sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "containers": [container],
            "volumes": [{"name": "corefile", "configMap": {"name": NAME}}],
        },
    });
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": NAME}}, "template": template});
    object("apps/v1", "Deployment", NAME, ISTIO_NAMESPACE, &spec)
}
