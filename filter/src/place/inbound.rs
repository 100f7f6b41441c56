//! The sidecar that a request arrives at.

use policy::evaluate::{self, Arrival};
use policy::name::ClusterName;
use policy::source::Source;

use super::{Next, ROUTE, SOURCE_CLUSTER, SOURCE_NETWORK, act};
use crate::host::Host;
use crate::refusal::Origin;
use crate::seen::{Seen, text};
use crate::settings::{Inward, Settings};
use crate::tell::Ends;

pub(super) fn request(settings: &Settings, inward: &Inward, host: &impl Host) -> Next {
    let seen = Seen::of(host);
    let needs = inward.guard.needs();
    let caller = inward.peers.caller(&inward.plan, seen.xfcc, needs.port, host);
    let source = caller.source(&inward.plan, seen.cluster.text());
    retag(host, &seen, source);
    if let Source::Claimed(location) = source {
        host.set_state("isthmus.claimed_cluster", location.name.as_str());
    }
    let arrival = Arrival {
        source,
        identity: caller.peer.as_ref().and_then(|peer| peer.identity.as_ref()),
        port: caller.port,
        method: seen.method.filter(|_| needs.method).and_then(text).unwrap_or_default(),
        path: seen.path.filter(|_| needs.path).and_then(text).unwrap_or_default(),
        host: seen.authority.filter(|_| needs.host).and_then(text),
    };
    let cluster = source.named().map(ClusterName::as_str);
    let ends = Ends { source: cluster, destination: Some(settings.home.cluster.as_str()) };
    let origin = Origin { cluster, level: source.level() };
    act(settings, host, (ends, origin), &evaluate::inbound(&inward.guard, &arrival))
}

/// Only what is proven reaches the application under the name of a tag.
fn retag(host: &impl Host, seen: &Seen<'_>, source: Source<'_>) {
    let proven = match source {
        Source::Verified(location) => Some(location),
        Source::Claimed(_) | Source::Unknown => None,
    };
    seen.cluster.replace(host, SOURCE_CLUSTER, proven.map(|location| location.name.as_str()));
    seen.network.replace(host, SOURCE_NETWORK, proven.map(|location| location.network.as_str()));
    seen.route.replace(host, ROUTE, None);
}
