//! The walk as [`policy::evaluate`] sees it: no module, no proxy.

use std::collections::BTreeMap;

use policy::compile::Plans;
use policy::evaluate::{self, Route};
use policy::name::{ClusterName, Service};
use policy::source::Source;
use policy::verdict::{Judgement, Verdict};
use policy::{Guard, Mesh};

use super::{Journey, NoPath, Outcome, Outcomes, Stop, Tags};
use crate::case::Call;

/// Walks journeys; what judges a workload is made ready once.
#[derive(Debug)]
pub struct Pure<'m> {
    mesh: &'m Mesh,
    plans: &'m Plans,
    guards: BTreeMap<(ClusterName, Service), Guard>,
}

/// What was decided at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Where.
    pub at: Stop,
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// The reason that it would have if the policies in shadow acted.
    pub shadow: Option<String>,
    /// The same with its verdict, where that is another.
    pub dissent: Option<(String, String)>,
    /// The source that the destination knows, and how well.
    pub source: Option<(Option<String>, &'static str)>,
}

impl Decided {
    fn of(at: Stop, judgement: Judgement<'_>) -> Self {
        let verdict = judgement.verdict;
        let shadow = judgement.shadow.as_ref().map(Verdict::reason);
        let told = |verdict: Verdict<'_>| (verdict.word().to_owned(), verdict.reason());
        let dissent = judgement.dissent().map(told);
        Self { at, verdict: verdict.word(), reason: verdict.reason(), shadow, dissent, source: None }
    }
}

/// Walks one journey.
pub fn walk(mesh: &Mesh, plans: &Plans, journey: &Journey<'_>) -> Result<Outcome, NoPath> {
    Pure::new(mesh, plans).walk(journey)
}

impl<'m> Pure<'m> {
    /// For a mesh with its plans.
    pub fn new(mesh: &'m Mesh, plans: &'m Plans) -> Self {
        Self { mesh, plans, guards: BTreeMap::new() }
    }

    /// Walks every way that a call can go.
    pub fn outcomes(&mut self, call: &Call) -> Result<Outcomes, NoPath> {
        let journeys = super::journeys(self.mesh, self.plans, call)?;
        let walked = |journey: &Journey<'_>| Ok((journey.destination.name.clone(), self.walk(journey)?));
        journeys.iter().map(walked).collect()
    }

    /// Walks one journey.
    pub fn walk(&mut self, journey: &Journey<'_>) -> Result<Outcome, NoPath> {
        let decisions = self.decisions(journey)?;
        let shadow = decisions.iter().find_map(|decided| decided.dissent.clone());
        let decided = decisions.into_iter().next_back().ok_or(NoPath::Misfit)?;
        let allowed = decided.verdict == "allow";
        let arrived = decided.at == Stop::Destination;
        let (source, level) = decided.source.map_or((None, None), |(name, level)| (name, Some(level)));
        let proven = level.is_some_and(|level| level.starts_with("verified"));
        let tags = || Tags {
            cluster: source.clone().filter(|_| proven),
            network: proven.then(|| journey.source.network.to_string()),
        };
        Ok(Outcome {
            verdict: decided.verdict.to_owned(),
            reason: decided.reason,
            at: decided.at,
            status: match decided.at {
                _ if allowed => 200,
                Stop::Gateway => 503,
                Stop::Source | Stop::Destination => 403,
            },
            tags: (arrived && allowed).then(tags),
            served_by: arrived.then(|| journey.destination.name.to_string()),
            shadow,
            breach: if arrived { self.breach(journey)? } else { None },
            source,
            level: level.map(str::to_owned),
        })
    }

    /// The cluster that answers, if it is not one that the request was sent to.
    fn breach(&self, journey: &Journey<'_>) -> Result<Option<String>, NoPath> {
        let (here, _) = journey.plans(self.plans).ok_or(NoPath::Misfit)?;
        let to = &journey.destination.name;
        let as_sent = match journey.call.departure(&here.outbound, &journey.service, 0).route {
            // Where it goes of a split is drawn, so that every share of it is right.
            _ if !journey.call.misrouted => true,
            Route::Anywhere => true,
            Route::Within(boundary) => boundary.around(journey.source, self.mesh).contains(to),
            Route::To(cluster) => cluster == to,
        };
        Ok((!as_sent).then(|| to.to_string()))
    }

    /// What is decided on the way, place by place, up to where it ends.
    pub fn decisions(&mut self, journey: &Journey<'_>) -> Result<Vec<Decided>, NoPath> {
        let (here, there) = journey.plans(self.plans).ok_or(NoPath::Misfit)?;
        // Whether it may start hangs on no draw: only where it goes.
        let departure = journey.call.departure(&here.outbound, &journey.service, 0);
        let judgement = Judgement { verdict: departure.verdict, shadow: departure.shadow };
        let mut decided = vec![Decided::of(Stop::Source, judgement)];
        if !judgement.verdict.is_allow() {
            return Ok(decided);
        }
        if journey.crosses_networks() {
            let (port, address) = (Some(journey.port), journey.address());
            let judgement = evaluate::gateway(&there.gateway, &journey.service, port, address);
            decided.push(Decided::of(Stop::Gateway, judgement));
            if !judgement.verdict.is_allow() {
                return Ok(decided);
            }
        }
        let plan = there.inbound_of(&journey.service.namespace);
        let workload = (journey.destination.name.clone(), journey.service.clone());
        let guard = self
            .guards
            .entry(workload)
            .or_insert_with(|| Guard::new(plan, &journey.service.namespace, &journey.labels(self.mesh)));
        let evidence = journey.evidence();
        let (identity, source) = (evidence.identity, Source::of(plan, evidence));
        let judgement = evaluate::inbound(guard, &journey.arrival(source, identity));
        let known = (source.named().map(ToString::to_string), source.level());
        decided.push(Decided { source: Some(known), ..Decided::of(Stop::Destination, judgement) });
        Ok(decided)
    }
}
