//! What the filter does at each of its places.

use policy::evaluate::{self, Arrival};
use policy::name::Service;
use policy::rule::Boundary;
use policy::source::{Evidence, Source};
use policy::verdict::Verdict;
use serde::Serialize;

use crate::host::{Headers, Host, Level, Reply};
use crate::settings::Settings;

/// The tag that names the source cluster.
pub const SOURCE_CLUSTER: &str = "x-source-cluster";
/// The tag that names the source network.
pub const SOURCE_NETWORK: &str = "x-source-network";
/// What an answer says of the cluster that gave it.
pub const DESTINATION_CLUSTER: &str = "x-destination-cluster";
/// What an answer says of the network that it comes from.
pub const DESTINATION_NETWORK: &str = "x-destination-network";
/// What the sidecar's routes match, to keep a request inside a boundary: `cluster`, `network` or `region`.
pub const ROUTE: &str = "x-isthmus-route";
/// Why a request was refused.
pub const REASON: &str = "x-isthmus-reason";

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// To the next filter.
    Continue,
    /// Nowhere: it was answered or closed.
    Stop,
}

/// A request that an application sends through its own sidecar.
pub fn outbound(settings: &Settings, host: &impl Host) -> Next {
    let plan = &settings.plan;
    // Whatever an application says of its source or its route, the sidecar says it anew.
    host.set_header(Headers::Request, SOURCE_CLUSTER, plan.cluster().as_str());
    host.set_header(Headers::Request, SOURCE_NETWORK, settings.network.as_str());
    let authority = host.header(Headers::Request, ":authority").unwrap_or_default();
    let service = std::str::from_utf8(&authority)
        .ok()
        .and_then(|authority| Service::from_authority(authority, &settings.namespace).ok());
    let departure = service.map(|service| evaluate::outbound(plan, &service));
    match departure.map(|departure| departure.within) {
        Some(Boundary::Cluster) => host.set_header(Headers::Request, ROUTE, "cluster"),
        Some(Boundary::Network) => host.set_header(Headers::Request, ROUTE, "network"),
        Some(Boundary::Region) => host.set_header(Headers::Request, ROUTE, "region"),
        Some(Boundary::Mesh) | None => host.remove_header(Headers::Request, ROUTE),
    }
    match departure.map(|departure| departure.verdict) {
        Some(verdict) => act(settings, host, Source::Verified(plan.cluster()), verdict),
        None => Next::Continue,
    }
}

/// A request that arrives at the sidecar of its destination.
pub fn inbound(settings: &Settings, host: &impl Host) -> Next {
    let plan = &settings.plan;
    let peer = settings.peers.of_connection(host);
    let tag = host.header(Headers::Request, SOURCE_CLUSTER).and_then(|tag| String::from_utf8(tag).ok());
    let evidence = Evidence {
        peer: peer.is_some(),
        issuer: peer.as_ref().and_then(|peer| peer.issuer.as_deref()),
        tag: tag.as_deref(),
    };
    let source = Source::of(plan, evidence);
    retag(settings, host, source);
    let text = |name| host.header(Headers::Request, name).and_then(|value| String::from_utf8(value).ok());
    let (method, path) =
        if settings.guard.is_empty() { (None, None) } else { (text(":method"), text(":path")) };
    let arrival = Arrival {
        source,
        identity: peer.as_ref().and_then(|peer| peer.identity.as_ref()),
        port: port(settings, host),
        method: method.as_deref().unwrap_or_default(),
        path: path.as_deref().unwrap_or_default(),
    };
    act(settings, host, source, evaluate::inbound(plan, &settings.guard, &arrival))
}

/// The answer to a request that arrived, on its way back.
pub fn answer(settings: &Settings, host: &impl Host) {
    host.set_header(Headers::Response, DESTINATION_CLUSTER, settings.plan.cluster().as_str());
    host.set_header(Headers::Response, DESTINATION_NETWORK, settings.network.as_str());
}

/// A connection that arrives at an east-west gateway, before anything is dialled for it.
pub fn gateway(settings: &Settings, host: &impl Host) -> Next {
    if !settings.plan.limits_exposure() {
        return Next::Continue;
    }
    let text = |path| host.property(path).and_then(|value| String::from_utf8(value).ok());
    let sni = text("connection\0requested_server_name").unwrap_or_default();
    let Ok(service) = Service::from_sni(&sni) else { return Next::Continue };
    let address = text("source\0address").and_then(|address| address.parse::<std::net::SocketAddr>().ok());
    let verdict = evaluate::gateway(&settings.plan, &service, address.map(|address| address.ip()));
    host.set_state("isthmus.verdict", verdict.word());
    host.set_state("isthmus.reason", &verdict.reason());
    if verdict.is_allow() {
        return Next::Continue;
    }
    let from = address.map_or_else(|| "nowhere known".to_owned(), |address| address.to_string());
    host.log(Level::Info, &format!("closed: {sni} from {from}: {}", verdict.reason()));
    host.close();
    Next::Stop
}

/// Only what is proven reaches the application under the name of a tag.
fn retag(settings: &Settings, host: &impl Host, source: Source<'_>) {
    host.remove_header(Headers::Request, ROUTE);
    let proven = match source {
        Source::Verified(cluster) => settings.plan.location(cluster).map(|location| (cluster, location)),
        Source::Claimed(_) | Source::Unknown => None,
    };
    match proven {
        Some((cluster, location)) => {
            host.set_header(Headers::Request, SOURCE_CLUSTER, cluster.as_str());
            host.set_header(Headers::Request, SOURCE_NETWORK, location.network.as_str());
        }
        None => {
            host.remove_header(Headers::Request, SOURCE_CLUSTER);
            host.remove_header(Headers::Request, SOURCE_NETWORK);
        }
    }
}

/// The workload's port, from the name of the inbound cluster that Istio gives it: `inbound|PORT||`.
fn port(settings: &Settings, host: &impl Host) -> u16 {
    if !settings.guard.judges_ports() {
        return 0;
    }
    let cluster = ["xds\0cluster_name", "cluster_name"].into_iter().find_map(|path| host.property(path));
    let port = cluster.and_then(|name| std::str::from_utf8(&name).ok()?.split('|').nth(1)?.parse().ok());
    port.unwrap_or_default()
}

/// Leaves word of the verdict for the access log, and answers when it is no.
fn act(settings: &Settings, host: &impl Host, source: Source<'_>, verdict: Verdict<'_>) -> Next {
    let reason = verdict.reason();
    host.set_state("isthmus.verdict", verdict.word());
    host.set_state("isthmus.reason", &reason);
    host.set_state("isthmus.source_level", source.level());
    if let Some(cluster) = source.named() {
        host.set_state("isthmus.source_cluster", cluster.as_str());
    }
    if verdict.is_allow() {
        return Next::Continue;
    }
    host.reply(&refusal(settings, source, reason));
    Next::Stop
}

/// The body of a refusal.
#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
    reason: &'a str,
    source: Origin<'a>,
    refused_by: &'a str,
}

#[derive(Serialize)]
struct Origin<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    level: &'a str,
}

fn refusal(settings: &Settings, source: Source<'_>, reason: String) -> Reply {
    let body = Refused {
        error: "forbidden by a cross-cluster policy",
        reason: &reason,
        source: Origin {
            cluster: source.named().map(policy::name::ClusterName::as_str),
            level: source.level(),
        },
        refused_by: settings.plan.cluster().as_str(),
    };
    let body = serde_json::to_string(&body).unwrap_or_default() + "\n";
    Reply {
        status: 403,
        details: format!("isthmus:{reason}"),
        headers: vec![("content-type", "application/json".to_owned()), (REASON, reason)],
        body,
    }
}
