//! `evaluate`: the time of a verdict.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use policy::Guard;
use policy::compile::ClusterPlans;
use policy::evaluate::{self, Arrival};
use policy::name::{Identity, Namespace};
use policy::source::{By, Source};

use super::Outcome;
use super::figure::{Report, median};
use super::world::{compiled, own_rules, plans_of};

/// The time of a verdict, where the rules belong to other services and where all are the service's own. Rounds of
/// all worlds in alternation, so that what slows the machine slows each alike.
pub(super) fn verdicts(report: &mut Report) -> Outcome<()> {
    let sizes = [10, 1_000, 10_000];
    let mut judged = Vec::new();
    for rules in sizes {
        judged.push(Judged::new(plans_of(2, rules)?, "s0", "p0/r9", 9)?);
    }
    for rules in sizes {
        let (mesh, policies) = own_rules(rules)?;
        let plans = compiled(&mesh, &policies)?;
        judged.push(Judged::new(plans, "s0", &format!("own/r{}", rules - 1), rules - 1)?);
    }
    let mut rounds = vec![Vec::new(); judged.len()];
    for _ in 0..21 {
        for (judged, rounds) in judged.iter().zip(&mut rounds) {
            rounds.push(judged.round());
        }
    }
    let medians: Vec<f64> = rounds.into_iter().map(median).collect();
    let [other10, other1000, other10000, own10, own1000, own10000] = medians[..] else {
        return Err("a world is missing".into());
    };
    report.put("evaluate.rules10_ns", other10, "ns");
    report.put("evaluate.rules1000_ns", other1000, "ns");
    report.put("evaluate.rules10000_ns", other10000, "ns");
    report.at_most("evaluate.rules1000_over_rules10", other1000 / other10, "ratio", 1.1);
    report.at_most("evaluate.rules10000_over_rules10", other10000 / other10, "ratio", 1.1);
    report.put("evaluate.own10_ns", own10, "ns");
    report.put("evaluate.own1000_ns", own1000, "ns");
    report.put("evaluate.own10000_ns", own10000, "ns");
    report.at_most("evaluate.own10000_over_own10", own10000 / own10, "ratio", 1_000.0);
    Ok(())
}

/// A workload and a request for it.
struct Judged {
    plans: ClusterPlans,
    namespace: Namespace,
    guard: Guard,
    identity: Identity,
    path: String,
}

impl Judged {
    /// The workload of a service in the first cluster, and a request that its rule number `rule` decides.
    fn new(plans: ClusterPlans, service: &str, reason: &str, rule: usize) -> Outcome<Self> {
        let namespace: Namespace = "shop0".parse()?;
        let plan = plans.inbound_of(&namespace);
        let guard = Guard::new(plan, &namespace, &BTreeMap::from([("app".to_owned(), service.to_owned())]));
        let identity = format!("spiffe://cluster.local/ns/ns{rule}/sa/web").parse()?;
        let judged = Self { guard, identity, path: format!("/v{rule}/x"), plans, namespace };
        if judged.reason() != reason {
            return Err(format!("{service} is judged by {}, not by {reason}", judged.reason()).into());
        }
        Ok(judged)
    }

    fn arrival(&self) -> Option<Arrival<'_>> {
        let plan = self.plans.inbound_of(&self.namespace);
        Some(Arrival {
            source: Source::Verified(plan.named("c1")?, By::Certificate),
            identity: Some(&self.identity),
            port: None,
            method: "GET",
            path: &self.path,
            host: None,
        })
    }

    fn reason(&self) -> String {
        let judge = |arrival| evaluate::inbound(&self.guard, &arrival).verdict.reason();
        self.arrival().map(judge).unwrap_or_default()
    }

    /// Nanoseconds of one verdict, over many.
    fn round(&self) -> f64 {
        const VERDICTS: u32 = 20_000;
        let arrival = self.arrival().expect("a cluster");
        let begun = Instant::now();
        for _ in 0..VERDICTS {
            black_box(evaluate::inbound(&self.guard, black_box(&arrival)));
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(VERDICTS)
    }
}
