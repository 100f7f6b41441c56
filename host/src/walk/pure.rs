//! The walk as [`policy::evaluate`] sees it: no module, no proxy.

use policy::compile::Plans;
use policy::evaluate;
use policy::source::{Evidence, Source};
use policy::verdict::Verdict;
use policy::{Guard, Mesh};

use super::{Journey, NoPath, Outcome, Stop};

/// Walks one journey.
pub fn walk(mesh: &Mesh, plans: &Plans, journey: &Journey<'_>) -> Result<Outcome, NoPath> {
    let (here, there) = journey.plans(plans).ok_or(NoPath::Misfit)?;
    // Whether it may start hangs on no draw: only where it goes.
    let departure = journey.call.departure(&here.outbound, &journey.service, 0);
    if !departure.verdict.is_allow() {
        return Ok(stopped(departure.verdict, Stop::Source, 403));
    }
    if journey.crosses_networks() {
        let judgement =
            evaluate::gateway(&there.gateway, &journey.service, Some(journey.port), journey.address());
        if !judgement.verdict.is_allow() {
            return Ok(stopped(judgement.verdict, Stop::Gateway, 503));
        }
    }
    let plan = there.inbound_of(&journey.service.namespace);
    let guard = Guard::new(plan, &journey.service.namespace, &journey.labels(mesh));
    let issuer = journey.source.issuers.first().map(policy::mesh::IssuerName::as_str);
    let identity = Some(&journey.identity);
    let source = Source::of(plan, Evidence { peer: true, issuer, identity, ..Evidence::default() });
    let arrival = journey.arrival(source, identity);
    let verdict = evaluate::inbound(&guard, &arrival).verdict;
    Ok(Outcome {
        source: source.named().map(ToString::to_string),
        level: Some(source.level().to_owned()),
        ..stopped(verdict, Stop::Destination, if verdict.is_allow() { 200 } else { 403 })
    })
}

fn stopped(verdict: Verdict<'_>, at: Stop, status: u16) -> Outcome {
    Outcome {
        verdict: verdict.word().to_owned(),
        reason: verdict.reason(),
        at,
        status,
        source: None,
        level: None,
    }
}
