//! The endpoints that a client's proxy has of a service, near ones first where a rule says so; and what it shows them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{address, certificate, inbound_address, is_of, tls_context};
use crate::lab::blueprint::{Application, EGRESS_PORT, GATEWAY_PORT, LabService};
use crate::lab::client::{Client, Heading, Shows};
use crate::lab::config::{LocalityLbSetting, Subset};
use crate::lab::proxy::{Role, Side, Workload};
use crate::lab::site::Site;

/// The endpoints of a service, or of a subset of it, as far as this client's requests go there.
pub(super) fn endpoints(
    side: Side<'_>,
    all: &[Workload<'_>],
    (service, subset): (&LabService, Option<&Subset>),
    order: Option<&LocalityLbSetting>,
) -> Vec<Value> {
    let (own, heading) = (side.own, &side.client.manner.heading);
    if let Heading::Through(gateway) = heading {
        return all.iter().find_map(|other| other.side(gateway)).map(egress).into_iter().collect();
    }
    let is_endpoint = |server: &&Workload<'_>| match heading {
        Heading::Astray(to) => server.cluster.name == *to,
        Heading::Routed | Heading::Failover(_) | Heading::Through(_) => {
            service.clusters.contains(&server.cluster.name) && is_of(server, subset)
        }
    };
    let runs = |other: &&Workload<'_>| matches!(other.role, Role::Server { service: theirs, .. } if theirs == service);
    let servers: Vec<&Workload<'_>> = all.iter().filter(runs).filter(is_endpoint).collect();
    let tiers = order.map(|setting| tiers(own, &servers, setting)).unwrap_or_default();
    let one = |server: &&Workload<'_>| {
        let tier = tiers.get(&server.name()).copied().unwrap_or_default();
        let has_failed = matches!(heading, Heading::Failover(to) if server.cluster.name != *to);
        endpoint(side, server, all, (tier, has_failed))
    };
    servers.iter().map(one).collect()
}

/// The priority of each server, by its name: from 0 without a gap, as Envoy wants it and istiod makes it.
fn tiers(
    own: &Workload<'_>,
    servers: &[&Workload<'_>],
    setting: &LocalityLbSetting,
) -> BTreeMap<String, usize> {
    let rank = |server: &Workload<'_>| {
        if setting.failover_priority.is_empty() {
            by_region(own, server, setting)
        } else {
            let shared = setting.failover_priority.iter().take_while(|label| shares(own, server, label));
            setting.failover_priority.len() - shared.count()
        }
    };
    let mut ranks: Vec<usize> = servers.iter().map(|server| rank(server)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let place = |server: &&Workload<'_>| {
        let rank = rank(server);
        (server.name(), ranks.iter().position(|other| *other == rank).unwrap_or_default())
    };
    servers.iter().map(place).collect()
}

/// Whether client and endpoint have one value of a label. Of what lies behind a gateway istiod compares the gateway,
/// of which it knows cluster and network alone.
fn shares(own: &Workload<'_>, server: &Workload<'_>, label: &str) -> bool {
    let known = ["topology.istio.io/cluster", "topology.istio.io/network"].contains(&label);
    let theirs = if own.cluster.network == server.cluster.network || known {
        server.labels().remove(label)
    } else {
        None
    };
    own.labels().remove(label) == theirs
}

fn by_region(own: &Workload<'_>, server: &Workload<'_>, setting: &LocalityLbSetting) -> usize {
    let (here, there) = (own.cluster.region.as_deref(), server.cluster.region.as_deref());
    if here == there {
        return 0;
    }
    let turned_to = setting.failover.iter().find(|said| Some(said.from.as_str()) == here);
    if turned_to.is_some_and(|said| Some(said.to.as_str()) == there) { 1 } else { 2 }
}

/// On our network the sidecar itself, elsewhere the gateway of its cluster; metadata as istiod gives each.
fn endpoint(
    side: Side<'_>,
    server: &Workload<'_>,
    all: &[Workload<'_>],
    (priority, has_failed): (usize, bool),
) -> Value {
    let cluster = &server.cluster.name;
    let gateway = all.iter().find(|w| matches!(w.role, Role::Gateway) && w.cluster.name == *cluster);
    let gateway = gateway.filter(|_| side.own.cluster.network != server.cluster.network);
    let (reached, workload) = match gateway {
        Some(gateway) => (address(gateway.address, GATEWAY_PORT), format!(";;;;{cluster}")),
        None => (inbound_address(server), described(server)),
    };
    let plain = gateway.is_none() && side.client.manner.shows == Shows::Nothing;
    json!({
        "priority": priority,
        "locality": {"region": server.cluster.region.as_deref().unwrap_or_default()},
        "lb_endpoints": [{
            "health_status": if has_failed { "UNHEALTHY" } else { "UNKNOWN" },
            "endpoint": {"address": reached},
            "metadata": {"filter_metadata": {
                "envoy.transport_socket_match": {"tlsMode": if plain { "disabled" } else { "istio" }},
                "istio": {"workload": workload},
            }},
        }],
    })
}

/// An egress gateway in the place of whatever lies behind it.
fn egress(gateway: Side<'_>) -> Value {
    json!({"lb_endpoints": [{
        "endpoint": {"address": address(gateway.own.address, gateway.port(EGRESS_PORT))},
        "metadata": {"filter_metadata": {
            "envoy.transport_socket_match": {"tlsMode": "istio"},
            "istio": {"workload": described(gateway.own)},
        }},
    }]})
}

/// As istiod describes a workload: `NAME;NAMESPACE;SERVICE;VERSION;CLUSTER`.
fn described(workload: &Workload<'_>) -> String {
    let version = match workload.role {
        Role::Server { version, .. } => format!("v{version}"),
        Role::Client(_) | Role::Gateway => String::new(),
    };
    let (name, namespace, app) = (workload.workload_name(), workload.namespace(), workload.service_account());
    format!("{name};{namespace};{app};{version};{}", workload.cluster.name)
}

/// Mutual TLS, to the workloads of the service or to the egress gateway; to endpoints that say so, plain text.
pub(super) fn transport_socket(
    site: &Site,
    side: Side<'_>,
    (service, subset): (&LabService, Option<&Subset>),
) -> Value {
    let own = side.own;
    let subset = subset.map_or("", |subset| &subset.name);
    let (sni, peers) = match &side.client.manner.heading {
        Heading::Through(gateway) => (sni_of(gateway), vec![identity(&own.cluster.trust_domain, gateway)]),
        // Its gateway knows of no subset that it is not in.
        Heading::Astray(_) => (service.sni(""), workloads(site, service)),
        Heading::Routed | Heading::Failover(_) => (service.sni(subset), workloads(site, service)),
    };
    let peer = |peer: &String| json!({"san_type": "URI", "matcher": {"exact": peer}});
    let peers: Vec<Value> = peers.iter().map(peer).collect();
    let alpn = match service.application {
        Application::Hello => ["istio-http/1.1", "istio", "http/1.1"],
        Application::Grpc => ["istio-h2", "istio", "h2"],
    };
    let mut context = tls_context(own, &alpn, json!({"match_typed_subject_alt_names": peers}));
    if let Some(fields) = context.as_object_mut() {
        match side.client.manner.shows {
            Shows::Certificate => None,
            Shows::Token | Shows::Tag => {
                let unmarked = certificate(own, "unmarked-chain.pem", "unmarked-key.pem");
                fields.insert("tls_certificates".to_owned(), unmarked)
            }
            Shows::Nothing => fields.remove("tls_certificates"),
        };
    }
    json!([{
        "name": "tlsMode-istio",
        "match": {"tlsMode": "istio"},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": sni,
                "common_tls_context": context,
            },
        },
    }])
}

/// The identities of a service, one for each trust domain that it runs in.
fn workloads(site: &Site, service: &LabService) -> Vec<String> {
    let hosting = |name: &String| service.clusters.contains(name) || service.strays.contains(name);
    let hosting = site.blueprint().clusters.iter().filter(|cluster| hosting(&cluster.name));
    let domains: BTreeSet<&str> = hosting.map(|cluster| cluster.trust_domain.as_str()).collect();
    let of = |domain| format!("spiffe://{domain}/ns/{}/sa/{}", service.namespace, service.name);
    domains.into_iter().map(of).collect()
}

fn identity(trust_domain: &str, client: &Client) -> String {
    format!("spiffe://{trust_domain}/ns/{}/sa/{}", client.namespace, client.service_account)
}

fn sni_of(gateway: &Client) -> String {
    format!("outbound_.{EGRESS_PORT}_._.{}.{}.svc.cluster.local", gateway.service_account, gateway.namespace)
}
