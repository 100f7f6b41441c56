//! East-west gateways: that they are there, have their address, and let the right things through.

use policy::mesh::{ControlPlane, Listing};
use policy::name::Service;
use serde_json::Value;

use super::networks::NETWORK;
use super::plugins::selects;
use super::services::ready_endpoints;
use super::{Failure, Found, Kind, Object, Skip, Visit};
use crate::manifest::shows;

/// The Service of the cluster's gateway: what istiod takes for the way into its network.
fn gateway<'v>(visit: &Visit<'v>) -> Result<Option<&'v Object>, Skip> {
    if !visit.is_entered() {
        return Err(Skip::idle("all clusters are on one network, of one mesh"));
    }
    let Some(said) = &visit.cluster.gateway else {
        return Err(Skip::idle("mesh.yaml gives it no gateway"));
    };
    let listens = |service: &&Object| {
        !numbers(service, said.port).is_empty() || service.label("networking.istio.io/gatewayPort").is_some()
    };
    let mut services = visit.of(Kind::Service)?.iter().filter(|service| service.label(NETWORK).is_some());
    Ok(services.find(listens))
}

/// By which numbers a `Gateway` can say the port that other clusters reach at a Service: the Service's own, and that of
/// the pods behind it. Others reach a port of the Service, or of the nodes.
fn numbers(service: &Object, reached: u16) -> Vec<u64> {
    let number = |port: &Value, key: &str| port.get(key).and_then(Value::as_u64);
    let is_it =
        |port: &&Value| ["port", "nodePort"].iter().any(|key| number(port, key) == Some(u64::from(reached)));
    let ports = service.list("/spec/ports").iter().filter(is_it);
    ports.flat_map(|port| ["port", "targetPort"].map(|key| number(port, key))).flatten().collect()
}

/// The same where there has to be one: what is missing is told once.
fn there<'v>(visit: &Visit<'v>) -> Result<&'v Object, Skip> {
    gateway(visit)?.ok_or_else(|| Skip::idle("there is no gateway"))
}

pub(super) fn service(visit: &Visit<'_>) -> Found {
    let wanted = visit.cluster.network.as_str();
    let found = gateway(visit)?;
    if found.is_none() {
        visit.inventory.lacks("the Service of the gateway")?;
    }
    let (message, hint) = match found {
        None => (
            format!(
                "no Service with the label {NETWORK} and port {}: other networks do not find the way in",
                visit.cluster.gateway.as_ref().map_or(policy::mesh::GATEWAY_PORT, |gateway| gateway.port)
            ),
            "`isthmus mesh render` writes the gateway".to_owned(),
        ),
        Some(service) if service.label(NETWORK) == Some(wanted) => return Ok(Vec::new()),
        Some(service) => {
            let found = service.label(NETWORK).unwrap_or_default();
            let (namespace, name) = (service.namespace(), service.name());
            (
                format!(
                    "Service {} says that it is the way into {found:?}, and mesh.yaml says {wanted:?}",
                    service.shown()
                ),
                format!("kubectl -n {namespace} label service {name} {NETWORK}={wanted} --overwrite"),
            )
        }
    };
    Ok(vec![Failure::error(message, hint)])
}

pub(super) fn address(visit: &Visit<'_>) -> Found {
    let service = there(visit)?;
    let Some(wanted) = visit.cluster.gateway.as_ref().map(|gateway| gateway.address.as_str()) else {
        return Ok(Vec::new());
    };
    if service.text("/spec/type") == Some("NodePort") {
        return Err(Skip::idle("its address is that of a node"));
    }
    let ingress = service.list("/status/loadBalancer/ingress").iter();
    let given =
        ingress.flat_map(|one| ["ip", "hostname"].map(|key| one.get(key).and_then(Value::as_str))).flatten();
    let found: Vec<&str> =
        service.list("/spec/externalIPs").iter().filter_map(Value::as_str).chain(given).collect();
    if found.is_empty() && visit.inventory.server.is_none() && service.at("/status").is_none() {
        return Err(Skip::unseen("the files do not say the address that the Service gets"));
    }
    if found.contains(&wanted) {
        return Ok(Vec::new());
    }
    let shown = service.shown();
    Ok(vec![if found.is_empty() {
        Failure::error(
            format!(
                "Service {shown} has no address: other clusters get the addresses of pods that they cannot reach"
            ),
            "a load balancer gives it one; where there is none, say `gateway: {service: ExternalIP}` in mesh.yaml",
        )
    } else {
        Failure::error(
            format!("Service {shown} has the address {}, and mesh.yaml says {wanted}", found.join(", ")),
            "other clusters send where the Service says: put that address into mesh.yaml, or give the Service the other",
        )
    }])
}

pub(super) fn ready(visit: &Visit<'_>) -> Found {
    let service = there(visit)?;
    let ready = ready_endpoints(visit, service.namespace(), service.name())?;
    let failure = || {
        Failure::error(
            format!("no pod behind Service {} is ready", service.shown()),
            format!("kubectl -n {} get pods -l istio=eastwestgateway", service.namespace()),
        )
    };
    Ok((ready == 0).then(failure).into_iter().collect())
}

/// What the gateway is told: a control plane reads the `Gateway` objects of its own cluster, for its remotes too.
fn told<'v>(visit: &Visit<'v>) -> Result<&'v [Object], Skip> {
    match &visit.cluster.control_plane {
        ControlPlane::Primary => visit.of(Kind::Gateway),
        ControlPlane::RemoteOf(primary) => {
            let unseen = || Skip::unseen(format!("nothing was seen of {primary}, which tells it"));
            visit.other(primary).ok_or_else(unseen)?.of(Kind::Gateway)
        }
    }
}

/// What is known of the labels of a Service's pods: what it selects; or, where istiod deployed both for a Gateway of the
/// Gateway API, the labels that it gave to both.
fn labels_behind(service: &Object) -> Option<&Value> {
    let selector = service.at("/spec/selector");
    let is_deployed =
        selector.is_some_and(|labels| labels.get("gateway.networking.k8s.io/gateway-name").is_some());
    if is_deployed { service.at("/metadata/labels") } else { selector }
}

/// The hosts that the gateway passes through.
fn hosts<'v>(visit: &Visit<'v>) -> Result<Vec<&'v str>, Skip> {
    let service = there(visit)?;
    let port = visit.cluster.gateway.as_ref().map_or(policy::mesh::GATEWAY_PORT, |gateway| gateway.port);
    let numbers = numbers(service, port);
    let passes = |server: &&Value| {
        let number = server.pointer("/port/number").and_then(Value::as_u64);
        server.pointer("/tls/mode").and_then(Value::as_str) == Some("AUTO_PASSTHROUGH")
            && number.is_some_and(|number| numbers.contains(&number))
    };
    let gateways = told(visit)?.iter();
    let own = gateways.filter(|gateway| selects(gateway.at("/spec/selector"), labels_behind(service)));
    let servers = own.flat_map(|gateway| gateway.list("/spec/servers")).filter(passes);
    let hosts = servers.filter_map(|server| server.get("hosts")?.as_array()).flatten();
    Ok(hosts.filter_map(Value::as_str).collect())
}

pub(super) fn open(visit: &Visit<'_>) -> Found {
    let failure = || {
        Failure::error(
            "no Gateway passes mTLS through it: every connection from another network is closed",
            "`isthmus mesh render` writes the Gateway `cross-network-gateway`, with tls.mode AUTO_PASSTHROUGH",
        )
    };
    Ok(hosts(visit)?.is_empty().then(failure).into_iter().collect())
}

pub(super) fn exposure(visit: &Visit<'_>) -> Found {
    let hosts = hosts(visit)?;
    if hosts.is_empty() {
        return Err(Skip::idle("nothing is passed through at all"));
    }
    let here = &visit.cluster.name;
    let plans = visit.all.plans.get(here);
    // What policies hide from everyone is not meant to have a host.
    let is_shown = |service: &Service, listing: &Listing| {
        plans.is_none_or(|plans| visit.others().any(|other| shows(plans, service, listing, other)))
    };
    let listed = visit.mesh().services().filter(|(_, listing)| listing.clusters.contains(here));
    let listed = listed.filter(|(service, listing)| is_shown(service, listing));
    let missing = listed.filter(|(service, _)| !hosts.iter().any(|host| takes(host, &service.host())));
    let failure = |host: String| {
        Failure::warning(
            format!("no Gateway has the host {host}, so no other network reaches it here"),
            "add the host to the Gateway; or hide the service by an `exposure` of a policy, so that it is meant",
        )
    };
    Ok(missing.map(|(service, _)| failure(service.host())).collect())
}

/// Whether a host of a Gateway, such as `*.local`, `payments/ledger.payments.svc.cluster.local` or `*`, takes in another.
fn takes(pattern: &str, host: &str) -> bool {
    let (namespace, pattern) = pattern.split_once('/').unwrap_or(("*", pattern));
    let in_namespace = matches!(namespace, "*" | ".") || host.split('.').nth(1) == Some(namespace);
    let named = match pattern.strip_prefix('*') {
        Some(rest) => host.ends_with(rest),
        None => host == pattern,
    };
    in_namespace && named
}
