//! What the sidecars of clients decide otherwise.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Decision, Kind, Leaving, Meaning, Running, Witness};
use crate::evaluate::{self, Route};
use crate::name::{ClusterName, Service};
use crate::plan::{Outbound, OutboundPlan};
use crate::rule::{Boundary, HashOn, Scope};

/// Splits that fall together again only after more draws than this are not compared draw by draw.
const LONGEST_PERIOD: u64 = 10_000;
/// No more values of headers than this are tried together.
const MOST_PINS: usize = 5_000;
/// The header that cookies come in.
const COOKIE: &str = "cookie";

type Headers = BTreeMap<String, String>;

pub(super) fn compare(before: &Running, after: &Running, meaning: &mut Meaning) {
    let plans = [before.outbound.as_ref(), after.outbound.as_ref()];
    let both = || plans.into_iter().flatten();
    let scopes =
        both().flat_map(|plan| plan.enforced.iter().chain(plan.shadow.iter()).map(|(scope, _)| scope));
    for (service, subject) in services(&scopes.cloned().collect()) {
        if !is_same(plans, &service) {
            Bench::new(plans, &service).compare(&subject, meaning);
        }
    }
}

/// A service of each scope that no narrower one takes in, with what it is called.
pub(super) fn services(scopes: &BTreeSet<Scope>) -> Vec<(Service, String)> {
    let named = |service: &Service| scopes.contains(&Scope::Service(service.clone()));
    let other = |namespace: &str| {
        let names = ["other", "another-service", "a-service-of-which-nothing-is-said"];
        let services = names.iter().filter_map(|name| format!("{name}.{namespace}").parse::<Service>().ok());
        services.into_iter().find(|service| {
            !named(service)
                && (!namespace.is_empty() && scopes.contains(&Scope::Namespace(service.namespace.clone()))
                    || namespace_is_free(scopes, service))
        })
    };
    let of = |scope: &Scope| match scope {
        Scope::Service(service) => Some((service.clone(), service.to_string())),
        Scope::Namespace(namespace) => {
            Some((other(namespace.as_str())?, format!("all other services of {namespace}")))
        }
        Scope::Mesh => {
            let service = ["other", "another-namespace", "a-namespace-of-which-nothing-is-said"];
            Some((service.into_iter().find_map(other)?, "all other services".to_owned()))
        }
    };
    scopes.iter().filter_map(of).collect()
}

fn namespace_is_free(scopes: &BTreeSet<Scope>, service: &Service) -> bool {
    !scopes.contains(&Scope::Namespace(service.namespace.clone()))
}

/// Whether both say the same of a service beyond all doubt.
fn is_same([before, after]: [Option<&OutboundPlan>; 2], service: &Service) -> bool {
    let said = |plan: Option<&OutboundPlan>| {
        let plan = plan?;
        let tables = [plan.enforced.narrowest(service), plan.shadow.narrowest(service)];
        tables.iter().any(Option::is_some).then(|| tables.map(Option::<&Outbound>::cloned))
    };
    let inside = |plan: Option<&OutboundPlan>| plan.map(|plan| (plan.clusters.clone(), plan.inside.clone()));
    said(before) == said(after) && (said(before).is_none() || inside(before) == inside(after))
}

/// Everything about a request that makes its share of a split: headers that are hashed, and the draw.
struct Choice {
    hashed: Option<(String, String)>,
    draw: u64,
}

/// A service with all kinds of requests for it.
struct Bench<'b> {
    plans: [Option<&'b OutboundPlan>; 2],
    service: &'b Service,
    /// After so many draws all splits are where they were.
    period: u64,
    is_cut: bool,
}

impl<'b> Bench<'b> {
    fn new(plans: [Option<&'b OutboundPlan>; 2], service: &'b Service) -> Self {
        let mut bench = Self { plans, service, period: 1, is_cut: false };
        let wholes = bench
            .said()
            .filter_map(|said| said.split.as_ref())
            .map(|split| split.legs.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1));
        let period = wholes.fold(1_u64, |all, whole| all / common(all, whole) * whole);
        (bench.period, bench.is_cut) = (period.min(LONGEST_PERIOD), period > LONGEST_PERIOD);
        bench
    }

    fn said(&self) -> impl Iterator<Item = &'b Outbound> + use<'b> {
        let service = self.service;
        let both = self.plans.into_iter().flatten();
        both.flat_map(|plan| [plan.enforced.narrowest(service), plan.shadow.narrowest(service)]).flatten()
    }

    fn compare(&self, subject: &str, meaning: &mut Meaning) {
        let (pins, choices) = (self.pins(), self.choices());
        if self.is_cut || pins.len() > MOST_PINS {
            meaning.untold.push(format!("some shares and pins of requests for {subject}"));
        }
        let mut found: BTreeMap<(Decision, Decision), (Vec<String>, Leaving)> = BTreeMap::new();
        let all = pins.len();
        for (pin, words) in pins.into_iter().take(MOST_PINS) {
            let requests: Vec<Leaving> = choices.iter().map(|choice| self.request(&pin, choice)).collect();
            let decided = self
                .plans
                .map(|plan| requests.iter().map(|request| decide(plan, request)).collect::<Vec<_>>());
            let [before, after] = &decided;
            let Some(witness) = before.iter().zip(after).position(|(before, after)| before != after) else {
                continue;
            };
            let Some(witness) = requests.get(witness) else { continue };
            let [before, mut after] = [(before, self.plans[0]), (after, self.plans[1])]
                .map(|(decided, plan)| self.together(decided, plan));
            if before == after {
                after.route = after.route.map(|route| format!("{route}, other requests than before"));
            }
            found.entry((before, after)).or_insert_with(|| (Vec::new(), witness.clone())).0.push(words);
        }
        for ((before, after), (pins, witness)) in found {
            let what = if pins.len() == all { Vec::new() } else { pins };
            let kind = Kind::of(&before, &after);
            let (subject, witness) = (subject.to_owned(), Witness::Outbound(witness));
            meaning.changes.push(Change { kind, subject, who: Vec::new(), what, before, after, witness });
        }
    }

    /// The values of the headers that pin, in every combination, with what they are called.
    fn pins(&self) -> Vec<(Headers, String)> {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for pin in self.said().filter_map(|said| said.pin.as_ref()) {
            values.entry(pin.header.as_str()).or_default().extend(pin.to.keys().map(String::as_str));
        }
        let mut pins: Vec<(Headers, Vec<String>)> = vec![(Headers::new(), Vec::new())];
        for (header, values) in values {
            let free =
                (0..).map(|number| format!("value-{number}")).find(|value| !values.contains(value.as_str()));
            let with = |(headers, words): &(Headers, Vec<String>)| {
                let mut all =
                    vec![(headers.clone(), [words.as_slice(), &[format!("without {header}")]].concat())];
                for (value, told) in values
                    .iter()
                    .map(|value| (*value, *value))
                    .chain(free.as_deref().map(|free| (free, "any other value")))
                {
                    let mut headers = headers.clone();
                    headers.insert(header.to_owned(), value.to_owned());
                    all.push((headers, [words.as_slice(), &[format!("{header}: {told}")]].concat()));
                }
                all
            };
            pins = pins.iter().take(MOST_PINS + 1).flat_map(with).collect();
        }
        pins.into_iter().map(|(headers, words)| (headers, words.join(", "))).collect()
    }

    /// Every draw, and for each header that is hashed a value for every point.
    fn choices(&self) -> Vec<Choice> {
        let drawn = (0..self.period).map(|draw| Choice { hashed: None, draw });
        let hashed: BTreeSet<&HashOn> =
            self.said().filter_map(|said| said.split.as_ref()?.hash_on.as_ref()).collect();
        let mut choices: Vec<Choice> = drawn.collect();
        for hash_on in hashed {
            let mut points = BTreeSet::new();
            let values = (0_u64..).take(usize::try_from(self.period * 40).unwrap_or(usize::MAX));
            for value in values.map(|number| format!("h{number}")) {
                if points.insert(evaluate::point(&value) % self.period.max(1)) {
                    let hashed = match hash_on {
                        HashOn::Header(name) => (name.to_string(), value),
                        HashOn::Cookie(name) => (COOKIE.to_owned(), format!("{name}={value}")),
                    };
                    choices.push(Choice { hashed: Some(hashed), draw: 0 });
                }
            }
        }
        choices
    }

    fn request(&self, pin: &Headers, choice: &Choice) -> Leaving {
        let mut headers = pin.clone();
        if let Some((name, value)) = &choice.hashed {
            headers.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Leaving { service: self.service.clone(), headers, draw: choice.draw }
    }

    /// What is decided of requests that are alike but for their draw.
    fn together(&self, decided: &[Decision], plan: Option<&OutboundPlan>) -> Decision {
        let first = decided.first().cloned().unwrap_or_else(decide_none);
        if decided.iter().all(|one| *one == first) {
            return first;
        }
        let mut shares: BTreeMap<&str, u64> = BTreeMap::new();
        let drawn = decided.iter().take(usize::try_from(self.period).unwrap_or(usize::MAX));
        for decision in drawn {
            *shares.entry(decision.route.as_deref().unwrap_or("nowhere")).or_default() += 1;
        }
        let share = |(route, count): (&str, u64)| {
            let percent = count as f64 * 100.0 / self.period as f64;
            format!("{} % {route}", (percent * 10.0).round() / 10.0)
        };
        let mut route = shares.into_iter().map(share).collect::<Vec<_>>().join(" and ");
        let split = plan.and_then(|plan| plan.of(self.service)).and_then(|said| said.split.as_ref());
        match split.and_then(|split| split.hash_on.as_ref()) {
            Some(HashOn::Header(name)) => route = format!("{route}, by header {name}"),
            Some(HashOn::Cookie(name)) => route = format!("{route}, by cookie {name}"),
            None => {}
        }
        Decision { route: Some(route), ..first }
    }
}

fn decide_none() -> Decision {
    Decision { allow: true, reason: "no-policy".to_owned(), route: Some("anywhere".to_owned()), shadow: None }
}

fn decide(plan: Option<&OutboundPlan>, request: &Leaving) -> Decision {
    let Some(plan) = plan else { return decide_none() };
    let header = |name: &str| request.headers.get(name).cloned();
    let departure = evaluate::outbound(
        plan,
        &request.service,
        &evaluate::Leaving { header: &header, draw: request.draw },
    );
    let dissent = departure.shadow.filter(|shadow| shadow.is_allow() != departure.verdict.is_allow());
    let decision = Decision::by(&departure.verdict, dissent);
    let route = decision.allow.then(|| match departure.route {
        Route::Anywhere | Route::Within(Boundary::Mesh) => "anywhere".to_owned(),
        Route::Within(boundary) => within(plan, boundary),
        Route::To(cluster) => format!("to {cluster}"),
    });
    Decision { route, ..decision }
}

/// A boundary in words, with what lies inside it.
fn within(plan: &OutboundPlan, boundary: Boundary) -> String {
    let inside = plan.clusters.iter().filter(|cluster| plan.has_inside(boundary, cluster));
    let inside = inside.map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
    match boundary {
        Boundary::Cluster => format!("within its cluster ({inside})"),
        Boundary::Network => format!("within its network ({inside})"),
        Boundary::Region => format!("within its region ({inside})"),
        Boundary::Mesh => "anywhere".to_owned(),
    }
}

/// The greatest number that divides both.
fn common(mut one: u64, mut other: u64) -> u64 {
    while let Some(rest) = one.checked_rem(other) {
        (one, other) = (other, rest);
    }
    one.max(1)
}
