//! The proxy that a request leaves by: the sidecar of its application, or a gateway at the edge of the mesh.

use std::rc::Rc;

use policy::evaluate::{self, Departure, Leaving, Route};
use policy::name::{ClusterName, Service};
use policy::plan::OutboundPlan;
use policy::rule::Boundary;
use policy::verdict::{AllowedBy, DeniedBy, Judgement, Verdict};

use super::act::{Next, act, is_judged};
use super::trying;
use crate::host::{Headers, Host, Level, SECOND};
use crate::refusal::Origin;
use crate::seen::{Seen, text};
use crate::settings::{Door, Outward, Settings};
use crate::tags::{DESTINATION_CLUSTER, DESTINATION_NETWORK, ROUTE, SOURCE_CLUSTER, SOURCE_NETWORK};
use crate::tell::{Count, Ends};
use crate::token;

/// What the answer to a request is looked at for.
#[derive(Debug, Default)]
pub enum Awaited {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether it comes from where its request was sent.
    From {
        /// The service asked.
        service: Rc<Service>,
        /// Where it was sent.
        sent: Sent,
    },
}

/// Where a request was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Not out of this.
    Within(Boundary),
    /// To this cluster.
    To(ClusterName),
}

pub(super) fn request(settings: &Settings, out: &Outward, awaited: &mut Awaited, host: &impl Host) -> Next {
    let home = &settings.home;
    if out.reads_nothing() {
        if settings.trial.is_some() {
            let seen = Seen::of(host);
            if let Some(service) = out.service(seen.authority, host) {
                tried(settings, out, (&service, &seen), host);
            }
        }
        // What hands data back costs as much as three hostcalls that do not, and there is nothing to learn here.
        host.set_header(Headers::Request, SOURCE_CLUSTER, home.cluster.as_str());
        host.set_header(Headers::Request, SOURCE_NETWORK, home.network.as_str());
        host.remove_header(Headers::Request, ROUTE);
        return Next::Continue;
    }
    let seen = Seen::of(host);
    if out.door != Door::Egress || !shows_certificate(host) {
        // Whatever an application, or anyone outside, says of the source, the proxy says it anew.
        seen.cluster.replace(host, SOURCE_CLUSTER, Some(home.cluster.as_str()));
        seen.network.replace(host, SOURCE_NETWORK, Some(home.network.as_str()));
    }
    let asked = !out.plan.is_empty() || out.signer.is_some() || settings.trial.is_some();
    let service = if asked { out.service(seen.authority, host) } else { None };
    let token = service.as_ref().and_then(|service| {
        out.signer.as_ref().map(|signer| signer.token(&service.namespace, host.now() / SECOND))
    });
    seen.token.replace(host, token::HEADER, token.as_deref());
    if let Some(service) = service.as_ref().filter(|_| out.plan.is_empty()) {
        tried(settings, out, (service, &seen), host);
    }
    let Some(service) = service.filter(|_| !out.plan.is_empty()) else {
        seen.route.replace(host, ROUTE, None);
        return Next::Continue;
    };
    let leaving = Leaving { header: &|name| seen.text(name).map(str::to_owned), draw: out.draws.next() };
    let Departure { verdict, route, shadow } = evaluate::outbound(&out.plan, &service, &leaving);
    trying::leaving(settings, (&service, &leaving), &verdict, host);
    // Two plugins with one plan stand here while one kind of object takes the place of another. Both come to the same but where
    // chance decides: there the first one has chosen, and looks whether the answer comes from there.
    if matches!(verdict, Verdict::Allow(AllowedBy::Split { .. })) && is_judged(host) {
        return Next::Continue;
    }
    seen.route.replace(host, ROUTE, route.header().as_deref());
    *awaited = match route {
        Route::Within(Boundary::Mesh) | Route::Anywhere => Awaited::Nothing,
        Route::Within(boundary) => Awaited::From { service, sent: Sent::Within(boundary) },
        Route::To(cluster) => Awaited::From { service, sent: Sent::To(cluster.clone()) },
    };
    let own = home.cluster.as_str();
    let origin = Origin::own(own);
    let ends = Ends { source: Some(own), destination: None };
    act(settings, host, (ends, origin), &Judgement { verdict, shadow })
}

/// Tries what leaves by a plan that says nothing of anything.
fn tried(settings: &Settings, out: &Outward, (service, seen): (&Service, &Seen<'_>), host: &impl Host) {
    let leaving = Leaving { header: &|name| seen.text(name).map(str::to_owned), draw: out.draws.next() };
    trying::leaving(settings, (service, &leaving), &Verdict::Allow(AllowedBy::NoPolicy), host);
}

/// Whether the peer is of the mesh: an egress gateway keeps what such a peer says of the source.
fn shows_certificate(host: &impl Host) -> bool {
    host.property("connection\0sha256_peer_certificate_digest").is_some()
}

pub(super) fn answer(settings: &Settings, out: &Outward, awaited: &Awaited, host: &impl Host) {
    if let Awaited::From { service, sent } = awaited
        && let Some(cluster) = served_by(&out.plan, service, host)
    {
        look(settings, out, (service, sent), cluster, host);
    }
    if out.door == Door::Ingress {
        // Outside, nobody need know how the mesh is made.
        host.remove_header(Headers::Response, DESTINATION_CLUSTER);
        host.remove_header(Headers::Response, DESTINATION_NETWORK);
    }
}

/// Notices an answer from where its request should never have come.
fn look(
    settings: &Settings,
    out: &Outward,
    (service, sent): (&Service, &Sent),
    cluster: &ClusterName,
    host: &impl Host,
) {
    let Some(said) = out.plan.of(service) else { return };
    let (as_sent, policy) = match sent {
        Sent::Within(boundary) => {
            (out.plan.has_inside(*boundary, cluster), said.bound.as_ref().map(|bound| &bound.policy))
        }
        Sent::To(to) => {
            let pin = said.pin.as_ref().map(|pin| &pin.policy);
            (to == cluster, pin.or(said.split.as_ref().map(|split| &split.policy)))
        }
    };
    let Some(policy) = policy.filter(|_| !as_sent) else { return };
    let ends = Ends { source: Some(settings.home.cluster.as_str()), destination: Some(cluster.as_str()) };
    let verdict = Verdict::Deny(DeniedBy::Boundary { policy });
    let told = settings.teller.count(host, Count::Breaches, ends, &verdict);
    host.set_state("isthmus.breach", cluster.as_str());
    settings.teller.line(host, Level::Warn, || {
        format!("breach: {service} was answered by {cluster}, against {}", told.reason)
    });
}

/// The cluster of the endpoint that was chosen, as istiod describes it; else the one that the answer names. Pods of another
/// namespace than the service's are none of its own: such an endpoint is an egress gateway, and another answers behind it.
fn served_by<'p>(plan: &'p OutboundPlan, service: &Service, host: &impl Host) -> Option<&'p ClusterName> {
    let is_own = |workload: &&str| {
        let namespace = workload.split(';').nth(1).unwrap_or_default();
        namespace.is_empty() || namespace == service.namespace.as_str()
    };
    let chosen = workload(host).filter(is_own).and_then(|workload| cluster_of(plan, workload));
    chosen.or_else(|| plan.cluster(host.header(Headers::Response, DESTINATION_CLUSTER).and_then(text)?))
}

/// The cluster of the endpoint that was chosen, if istiod says it.
pub(super) fn chosen<'p>(plan: &'p OutboundPlan, host: &impl Host) -> Option<&'p ClusterName> {
    cluster_of(plan, workload(host)?)
}

/// What istiod calls the workload of the endpoint that was chosen: `NAME;NAMESPACE;SERVICE;VERSION;CLUSTER`, or the
/// cluster alone behind semicolons for one that lies behind an east-west gateway.
fn workload(host: &impl Host) -> Option<&str> {
    const WORKLOAD: [&str; 2] = [
        "xds\0upstream_host_metadata\0filter_metadata\0istio\0workload",
        "upstream_host_metadata\0filter_metadata\0istio\0workload",
    ];
    WORKLOAD.into_iter().find_map(|path| host.property(path)).and_then(text)
}

fn cluster_of<'p>(plan: &'p OutboundPlan, workload: &str) -> Option<&'p ClusterName> {
    plan.cluster(workload.rsplit(';').next()?)
}
