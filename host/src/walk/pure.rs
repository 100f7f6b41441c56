//! The walk as [`policy::evaluate`] sees it: no module, no proxy.

use policy::Mesh;
use policy::compile::Plans;
use policy::evaluate::{self, Arrival};
use policy::plan::Guard;
use policy::source::{Evidence, Source};
use policy::verdict::Verdict;

use super::{Journey, NoPath, Outcome, Stop};

/// Walks one journey.
pub fn walk(mesh: &Mesh, plans: &Plans, journey: &Journey<'_>) -> Result<Outcome, NoPath> {
    let (here, there) = journey.plans(plans).ok_or(NoPath::Misfit)?;
    let departure = evaluate::outbound(here, &journey.service);
    if !departure.verdict.is_allow() {
        return Ok(stopped(departure.verdict, Stop::Source, 403));
    }
    if journey.crosses_networks() {
        let verdict = evaluate::gateway(there, &journey.service, journey.address());
        if !verdict.is_allow() {
            return Ok(stopped(verdict, Stop::Gateway, 503));
        }
    }
    let guard = Guard::new(there, &journey.service.namespace, &journey.labels(mesh));
    let issuer = journey.source.issuers.first().map(policy::mesh::IssuerName::as_str);
    let source = Source::of(there, Evidence { peer: true, issuer, tag: None });
    let request = &journey.case.request;
    let arrival = Arrival {
        source,
        identity: Some(&journey.identity),
        port: journey.port,
        method: &request.method,
        path: &request.path,
    };
    let verdict = evaluate::inbound(there, &guard, &arrival);
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
