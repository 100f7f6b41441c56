//! The ways to weaken a policy, each of them one mistake that a person could make.

use policy::Policy;
use policy::finding::Place;
use policy::pattern::Pattern;
use policy::rule::{Access, Boundary, Clause, Demand, From, Judged, Mode, Rule, To};

use super::Mutant;

/// Every mutant of a policy.
pub(super) fn of(policy: &Policy) -> Vec<Mutant> {
    let mut made = Making { policy, mutants: Vec::new() };
    made.whole();
    made.access();
    made.routing();
    made.exposure();
    made.mutants
}

struct Making<'p> {
    policy: &'p Policy,
    mutants: Vec<Mutant>,
}

impl Making<'_> {
    /// A mutant of the policy, by a change to a copy of it.
    fn make(&mut self, at: &Place, what: &str, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.policy.clone();
        change(&mut policy);
        if policy != *self.policy {
            let what = format!("policy {}{what}", policy.name.value);
            self.mutants.push(Mutant { at: at.clone(), what, policy });
        }
    }

    fn whole(&mut self) {
        self.make(&self.policy.name.at, ": mode Shadow in place of Enforce", |policy| {
            policy.mode = Mode::Shadow;
        });
    }

    fn access(&mut self) {
        let Some(access) = &self.policy.access else { return };
        let at = &self.policy.name.at;
        self.change(at, ": source Claimed in place of Verified", |access| access.source = Demand::Claimed);
        self.change(at, ": scope Remote in place of All", |access| access.scope = Judged::Remote);
        let lists: [(List, &[Rule]); 2] =
            [(deny, &access.deny), (allow, access.allow.as_deref().unwrap_or_default())];
        for (list, rules) in lists {
            for (number, rule) in rules.iter().enumerate() {
                self.rule(list, number, rule);
            }
        }
    }

    fn change(&mut self, at: &Place, what: &str, change: impl FnOnce(&mut Access)) {
        self.make(at, what, |policy| {
            if let Some(access) = &mut policy.access {
                change(access);
            }
        });
    }

    fn rule(&mut self, list: List, number: usize, rule: &Rule) {
        let (at, name) = (&rule.name.at, &rule.name.value);
        self.change(at, &format!(", rule {name}: left out"), |access| {
            if let Some(rules) = list(access).filter(|rules| number < rules.len()) {
                rules.remove(number);
            }
        });
        let each = |count: usize, place: usize| {
            if count > 1 { format!(" (of its {} entry)", ordinal(place)) } else { String::new() }
        };
        for place in 0..rule.from.len() {
            let which = each(rule.from.len(), place);
            for (field, clear) in FROM {
                let what = format!(", rule {name}: without its {field} clause{which}");
                self.change(at, &what, |access| {
                    let rule = list(access).and_then(|rules| rules.get_mut(number));
                    rule.and_then(|rule| rule.from.get_mut(place)).map(clear).unwrap_or_default();
                });
            }
        }
        for place in 0..rule.to.len() {
            let which = each(rule.to.len(), place);
            for (field, clear) in TO {
                let what = format!(", rule {name}: without its {field} clause{which}");
                self.change(at, &what, |access| {
                    let rule = list(access).and_then(|rules| rules.get_mut(number));
                    rule.and_then(|rule| rule.to.get_mut(place)).map(clear).unwrap_or_default();
                });
            }
        }
    }

    fn routing(&mut self) {
        let routing = &self.policy.routing;
        if let Some(boundary) = &routing.boundary {
            let wider = match boundary.value {
                Boundary::Cluster => Boundary::Network,
                Boundary::Network => Boundary::Region,
                Boundary::Region | Boundary::Mesh => Boundary::Mesh,
            };
            let what = format!(": boundary {wider:?} in place of {:?}", boundary.value);
            self.make(&boundary.at, &what, |policy| {
                policy.routing.boundary.iter_mut().for_each(|boundary| boundary.value = wider);
            });
        }
        if let Some(pin) = &routing.pin {
            self.make(&pin.at, ": without its pin", |policy| policy.routing.pin = None);
        }
        if let Some(split) = &routing.split {
            self.make(&split.at, ": without its split", |policy| policy.routing.split = None);
        }
    }

    fn exposure(&mut self) {
        if let Some(exposure) = &self.policy.exposure {
            self.make(&exposure.at, ": exposed to every network", |policy| {
                policy.exposure.iter_mut().for_each(|exposure| exposure.networks = Some(Clause::default()));
            });
            self.make(&exposure.at, ": exposed on every port", |policy| {
                policy.exposure.iter_mut().for_each(|exposure| exposure.ports.clear());
            });
        }
    }
}

/// One of the lists of rules of a section.
type List = fn(&mut Access) -> Option<&mut Vec<Rule>>;

fn deny(access: &mut Access) -> Option<&mut Vec<Rule>> {
    Some(&mut access.deny)
}

fn allow(access: &mut Access) -> Option<&mut Vec<Rule>> {
    access.allow.as_mut()
}

/// What is done to a source or a request.
type Change<T> = fn(&mut T);

/// The clauses of a source, by the keys that a policy writes.
const FROM: [(&str, Change<From>); 12] = [
    ("clusters", |from| widen(&mut from.clusters)),
    ("notClusters", |from| from.clusters.none.clear()),
    ("networks", |from| widen(&mut from.networks)),
    ("notNetworks", |from| from.networks.none.clear()),
    ("regions", |from| widen(&mut from.regions)),
    ("notRegions", |from| from.regions.none.clear()),
    ("namespaces", |from| widen(&mut from.namespaces)),
    ("notNamespaces", |from| from.namespaces.none.clear()),
    ("principals", |from| widen(&mut from.principals)),
    ("notPrincipals", |from| from.principals.none.clear()),
    ("trustDomains", |from| widen(&mut from.trust_domains)),
    ("notTrustDomains", |from| from.trust_domains.none.clear()),
];

/// The clauses of a request.
const TO: [(&str, Change<To>); 8] = [
    ("ports", |to| to.ports.any.clear()),
    ("notPorts", |to| to.ports.none.clear()),
    ("methods", |to| widen(&mut to.methods)),
    ("notMethods", |to| to.methods.none.clear()),
    ("paths", |to| widen(&mut to.paths)),
    ("notPaths", |to| to.paths.none.clear()),
    ("hosts", |to| widen(&mut to.hosts)),
    ("notHosts", |to| to.hosts.none.clear()),
];

/// Takes a clause away, unless it says all already.
fn widen(clause: &mut Clause<Pattern>) {
    if !clause.any.iter().any(|pattern| pattern.value == Pattern::Any) {
        clause.any.clear();
    }
}

fn ordinal(place: usize) -> String {
    match place {
        0 => "first".to_owned(),
        1 => "second".to_owned(),
        2 => "third".to_owned(),
        other => format!("{}th", other + 1),
    }
}
