//! What the filter does at each of its places.

use policy::Guard;
use policy::evaluate::{self, Arrival, Leaving, Route};
use policy::name::Service;
use policy::plan::{InboundPlan, OutboundPlan};
use policy::rule::Boundary;
use policy::source::{Evidence, Source};
use policy::verdict::Judgement;
use serde::Serialize;

use crate::facts::Peers;
use crate::host::{Headers, Host, Level, Reply};
use crate::settings::{Draws, Place, Settings};

/// The tag that names the source cluster.
pub const SOURCE_CLUSTER: &str = "x-source-cluster";
/// The tag that names the source network.
pub const SOURCE_NETWORK: &str = "x-source-network";
/// What an answer says of the cluster that gave it.
pub const DESTINATION_CLUSTER: &str = "x-destination-cluster";
/// What an answer says of the network that it comes from.
pub const DESTINATION_NETWORK: &str = "x-destination-network";
/// What the sidecar's routes match: `cluster`, `network` or `region` to keep a request inside a boundary,
/// `cluster=NAME` to send it to one cluster.
pub const ROUTE: &str = "x-isthmus-route";
/// Why a request was refused.
pub const REASON: &str = "x-isthmus-reason";

/// How well a sidecar knows the source of what its own application sends.
const OWN: &str = "own";

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Next {
    /// To the next filter.
    Continue,
    /// Nowhere: it was answered or closed.
    Stop,
}

/// A request, at whichever place this is.
pub fn request(settings: &Settings, host: &impl Host) -> Next {
    match &settings.place {
        Place::Outbound { plan, draws } => outbound(settings, plan, draws, host),
        Place::Inbound { plan, guard, peers } => inbound(settings, plan, guard, peers, host),
        Place::Gateway { .. } | Place::Elsewhere => Next::Continue,
    }
}

/// A request that an application sends through its own sidecar.
fn outbound(settings: &Settings, plan: &OutboundPlan, draws: &Draws, host: &impl Host) -> Next {
    // Whatever an application says of its source or its route, the sidecar says it anew.
    host.set_header(Headers::Request, SOURCE_CLUSTER, settings.home.cluster.as_str());
    host.set_header(Headers::Request, SOURCE_NETWORK, settings.home.network.as_str());
    let service = text(host, ":authority")
        .and_then(|authority| Service::from_authority(&authority, &settings.namespace).ok());
    let Some(service) = service else {
        host.remove_header(Headers::Request, ROUTE);
        return Next::Continue;
    };
    let leaving = Leaving { header: &|name| text(host, name), draw: draws.next() };
    let departure = evaluate::outbound(plan, &service, &leaving);
    match departure.route {
        Route::Within(Boundary::Cluster) => host.set_header(Headers::Request, ROUTE, "cluster"),
        Route::Within(Boundary::Network) => host.set_header(Headers::Request, ROUTE, "network"),
        Route::Within(Boundary::Region) => host.set_header(Headers::Request, ROUTE, "region"),
        Route::Within(Boundary::Mesh) | Route::Anywhere => host.remove_header(Headers::Request, ROUTE),
        Route::To(cluster) => host.set_header(Headers::Request, ROUTE, &format!("cluster={cluster}")),
    }
    let origin = Origin { cluster: Some(settings.home.cluster.as_str()), level: OWN };
    let judgement = Judgement { verdict: departure.verdict, shadow: departure.shadow };
    act(settings, host, &origin, &judgement)
}

/// A request that arrives at the sidecar of its destination.
fn inbound(settings: &Settings, plan: &InboundPlan, guard: &Guard, peers: &Peers, host: &impl Host) -> Next {
    let peer = peers.of_connection(host);
    let identity = peer.as_ref().and_then(|peer| peer.identity.as_ref());
    let tag = text(host, SOURCE_CLUSTER);
    let evidence = Evidence {
        peer: peer.is_some(),
        issuer: peer.as_ref().and_then(|peer| peer.issuer.as_deref()),
        identity,
        tag: tag.as_deref(),
    };
    let source = Source::of(plan, evidence);
    retag(host, source);
    let needs = guard.needs();
    let asked = |asked: bool, name: &str| if asked { text(host, name) } else { None };
    let method = asked(needs.method, ":method");
    let path = asked(needs.path, ":path");
    let authority = asked(needs.host, ":authority");
    let arrival = Arrival {
        source,
        identity,
        port: if needs.port { port(host) } else { None },
        method: method.as_deref().unwrap_or_default(),
        path: path.as_deref().unwrap_or_default(),
        host: authority.as_deref(),
    };
    let origin =
        Origin { cluster: source.named().map(policy::name::ClusterName::as_str), level: source.level() };
    act(settings, host, &origin, &evaluate::inbound(guard, &arrival))
}

fn text(host: &impl Host, name: &str) -> Option<String> {
    host.header(Headers::Request, name).and_then(|value| String::from_utf8(value).ok())
}

/// The answer to a request that arrived, on its way back.
pub fn answer(settings: &Settings, host: &impl Host) {
    if let Place::Inbound { .. } = settings.place {
        host.set_header(Headers::Response, DESTINATION_CLUSTER, settings.home.cluster.as_str());
        host.set_header(Headers::Response, DESTINATION_NETWORK, settings.home.network.as_str());
    }
}

/// A connection that arrives at an east-west gateway, before anything is dialled for it.
pub fn connection(settings: &Settings, host: &impl Host) -> Next {
    let Place::Gateway { plan } = &settings.place else { return Next::Continue };
    if !plan.limits_exposure() {
        return Next::Continue;
    }
    let text = |path| host.property(path).and_then(|value| String::from_utf8(value).ok());
    let sni = text("connection\0requested_server_name").unwrap_or_default();
    let Ok((service, port)) = Service::from_sni(&sni) else { return Next::Continue };
    let address = text("source\0address").and_then(|address| address.parse::<std::net::SocketAddr>().ok());
    let judgement =
        evaluate::gateway(plan, &service, Some(port.number()), address.map(|address| address.ip()));
    tell(host, &judgement);
    if judgement.verdict.is_allow() {
        return Next::Continue;
    }
    let from = address.map_or_else(|| "nowhere known".to_owned(), |address| address.to_string());
    host.log(Level::Info, &format!("closed: {sni} from {from}: {}", judgement.verdict.reason()));
    host.close();
    Next::Stop
}

/// Only what is proven reaches the application under the name of a tag.
fn retag(host: &impl Host, source: Source<'_>) {
    host.remove_header(Headers::Request, ROUTE);
    match source {
        Source::Verified(location) => {
            host.set_header(Headers::Request, SOURCE_CLUSTER, location.name.as_str());
            host.set_header(Headers::Request, SOURCE_NETWORK, location.network.as_str());
        }
        Source::Claimed(_) | Source::Unknown => {
            host.remove_header(Headers::Request, SOURCE_CLUSTER);
            host.remove_header(Headers::Request, SOURCE_NETWORK);
        }
    }
}

/// The workload's port, from the name of the inbound cluster that Istio gives it: `inbound|PORT||`.
fn port(host: &impl Host) -> Option<u16> {
    let cluster = ["xds\0cluster_name", "cluster_name"].into_iter().find_map(|path| host.property(path));
    cluster.and_then(|name| std::str::from_utf8(&name).ok()?.split('|').nth(1)?.parse().ok())
}

/// Leaves word of a judgement for the access log; of the policies in shadow where they would have it otherwise.
fn tell(host: &impl Host, judgement: &Judgement<'_>) {
    host.set_state("isthmus.verdict", judgement.verdict.word());
    host.set_state("isthmus.reason", &judgement.verdict.reason());
    if let Some(dissent) = judgement.dissent() {
        host.set_state("isthmus.shadow_verdict", dissent.word());
        host.set_state("isthmus.shadow_reason", &dissent.reason());
        host.log(Level::Info, &format!("in shadow: {} by {}", dissent.word(), dissent.reason()));
    }
}

/// Leaves word of the judgement, and answers when it is no.
fn act(settings: &Settings, host: &impl Host, origin: &Origin<'_>, judgement: &Judgement<'_>) -> Next {
    tell(host, judgement);
    host.set_state("isthmus.source_level", origin.level);
    if let Some(cluster) = origin.cluster {
        host.set_state("isthmus.source_cluster", cluster);
    }
    if judgement.verdict.is_allow() {
        return Next::Continue;
    }
    host.reply(&refusal(settings, origin, judgement.verdict.reason()));
    Next::Stop
}

/// The body of a refusal.
#[derive(Serialize)]
struct Refused<'a> {
    error: &'a str,
    reason: &'a str,
    source: &'a Origin<'a>,
    refused_by: &'a str,
}

#[derive(Serialize)]
struct Origin<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    level: &'a str,
}

fn refusal(settings: &Settings, origin: &Origin<'_>, reason: String) -> Reply {
    let body = Refused {
        error: "forbidden by a cross-cluster policy",
        reason: &reason,
        source: origin,
        refused_by: settings.home.cluster.as_str(),
    };
    let body = serde_json::to_string(&body).unwrap_or_default() + "\n";
    Reply {
        status: 403,
        details: format!("isthmus:{reason}"),
        headers: vec![("content-type", "application/json".to_owned()), (REASON, reason)],
        body,
    }
}
