//! The sidecar that a request arrives at.

use std::rc::Rc;

use policy::evaluate;
use policy::name::ClusterName;
use policy::source::{By, Source};

use super::act::{Next, act, is_judged};
use super::trying;
use crate::caller::Caller;
use crate::host::{Host, Level, SECOND};
use crate::refusal::{Origin, unready};
use crate::seen::Seen;
use crate::settings::{Apart, Inward, Place, Settings};
use crate::tags::{ROUTE, SOURCE_CLUSTER, SOURCE_NETWORK};
use crate::tell::Ends;
use crate::token::{self, Verified};

pub(super) fn request(settings: &Settings, inward: &Inward, host: &impl Host) -> Next {
    let seen = Seen::of(host);
    let needs = inward.guard.needs();
    let caller = inward.peers.caller(&inward.plan, seen.xfcc, inward.asks_port, host);
    let token = verified(settings, inward, &caller, &seen, host);
    let token = token.as_ref().map(|token| token.cluster.as_str());
    let source = caller.source(&inward.plan, token, seen.cluster.text());
    // Another plugin that judged it before this one has taken away by what a source without a certificate is known, or has
    // written what it proved into the tags.
    if !matches!(source, Source::Verified(..)) && is_judged(host) {
        return Next::Continue;
    }
    retag(host, &seen, source);
    if let Source::Claimed(location) = source {
        host.set_state("isthmus.claimed_cluster", location.name.as_str());
    } else if let Source::Verified(_, By::Token) = source {
        inward.peers.tell(source, host);
    }
    let arrival = seen.arrival(&caller, source, needs);
    let cluster = source.named().map(ClusterName::as_str);
    let ends = Ends { source: cluster, destination: Some(settings.home.cluster.as_str()) };
    let origin = Origin { cluster, level: source.level() };
    let judgement = evaluate::inbound(&inward.guard, &arrival);
    trying::arriving(settings, (&caller, &seen), &judgement.verdict, host);
    act(settings, host, (ends, origin), &judgement)
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
