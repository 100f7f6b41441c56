//! The sidecar that a request arrives at.

use std::rc::Rc;

use policy::evaluate::{self, Arrival};
use policy::name::ClusterName;
use policy::source::{By, Source};

use super::{Next, ROUTE, SOURCE_CLUSTER, SOURCE_NETWORK, STATE_REASON, act};
use crate::host::{Host, Level, SECOND};
use crate::peer::Caller;
use crate::refusal::{Origin, unready};
use crate::seen::{Seen, text};
use crate::settings::{Apart, Inward, Place, Settings};
use crate::tell::Ends;
use crate::token::{self, Verified};

pub(super) fn request(settings: &Settings, inward: &Inward, host: &impl Host) -> Next {
    let seen = Seen::of(host);
    let needs = inward.guard.needs();
    let caller = inward.peers.caller(&inward.plan, seen.xfcc, needs.port, host);
    let token = verified(settings, inward, &caller, &seen, host);
    let token = token.as_ref().map(|token| token.cluster.as_str());
    let source = caller.source(&inward.plan, token, seen.cluster.text());
    // Another plugin that judged it before this one has taken away by what a source without a certificate is known.
    if matches!(source, Source::Unknown) && is_judged(host) {
        return Next::Continue;
    }
    retag(host, &seen, source);
    if let Source::Claimed(location) = source {
        host.set_state("isthmus.claimed_cluster", location.name.as_str());
    } else if let Source::Verified(_, By::Token) = source {
        inward.peers.tell(source, host);
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

/// A request that another plugin judges, which stands before this one; while that one is not there, the plan before
/// this one judges.
pub(super) fn apart(settings: &Settings, apart: &Apart, host: &impl Host) -> Next {
    if is_judged(host) {
        apart.hand_over();
        return Next::Continue;
    }
    if let Some(before) = apart.before()
        && let Place::Inbound(inward) = &before.place
    {
        return request(&before, inward, host);
    }
    settings.teller.line(host, Level::Error, || {
        "refused: this plan leaves the namespace to a plugin of its own, and no such plugin has judged the request"
            .to_owned()
    });
    unready(host, "isthmus:plan-missing");
    Next::Stop
}

/// Whether another plugin has judged this request: each leaves its reason, and no peer can.
fn is_judged(host: &impl Host) -> bool {
    host.property(STATE_REASON).is_some()
}

/// What a token proves, where nothing else does. It is looked at only then: it is for proxies that cannot read certificates.
fn verified(
    settings: &Settings,
    inward: &Inward,
    caller: &Caller,
    seen: &Seen<'_>,
    host: &impl Host,
) -> Option<Rc<Verified>> {
    let (token, verifier) = (seen.token.first()?, inward.verifier.as_ref()?);
    match verifier.verify(token, caller.unproven()?, host.now() / SECOND) {
        Ok(verified) => Some(verified),
        Err(why) => {
            settings.teller.line(host, Level::Warn, || format!("a token proves nothing: {why}"));
            None
        }
    }
}

/// Only what is proven reaches the application under the name of a tag.
fn retag(host: &impl Host, seen: &Seen<'_>, source: Source<'_>) {
    let proven = match source {
        Source::Verified(location, _) => Some(location),
        Source::Claimed(_) | Source::Unknown => None,
    };
    seen.cluster.replace(host, SOURCE_CLUSTER, proven.map(|location| location.name.as_str()));
    seen.network.replace(host, SOURCE_NETWORK, proven.map(|location| location.network.as_str()));
    seen.route.replace(host, ROUTE, None);
    seen.token.replace(host, token::HEADER, None);
}
