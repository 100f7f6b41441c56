//! Who says what of which scope.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cut::length;
use super::ground::Ground;
use crate::document::Located;
use crate::name::{ClusterName, PolicyName, Service};
use crate::plan::{Clause, From, Rule, Section, To};
use crate::rule::{self, Boundary, Mode, Pin, Policy, Scope, Split};

/// Policies in the order in which they give reasons, and what does not depend on a cluster, worked out once.
pub(super) struct Said<'p> {
    /// By namespace and name.
    pub(super) policies: Vec<&'p Policy>,
    /// Their access sections.
    pub(super) sections: Vec<Option<Compiled>>,
    /// Who steers requests where they start.
    pub(super) outbound: Both<'p>,
    /// Who judges requests where they arrive.
    pub(super) inbound: Both<'p>,
    /// Who hides services.
    pub(super) exposure: Both<'p>,
    by_scope: BTreeMap<&'p Scope, BTreeSet<usize>>,
}

/// An access section as it is, and as it judges where the service should not be; each with its length as JSON.
pub(super) struct Compiled {
    pub(super) open: (Arc<Section>, usize),
    pub(super) closed: (Arc<Section>, usize),
}

/// The scopes of the policies that say a certain thing.
#[derive(Default)]
pub(super) struct Both<'p> {
    /// Of those that act.
    pub(super) enforced: Scoped<'p>,
    /// Of all, as far as one in shadow is among them.
    pub(super) shadow: Scoped<'p>,
}

/// The scopes that some policies speak of, each with the numbers of all of them that hold there: its own, and
/// those of the wider scopes around it.
pub(super) type Scoped<'p> = BTreeMap<&'p Scope, Vec<usize>>;

impl<'p> Said<'p> {
    pub(super) fn new(ground: &Ground<'_>, policies: &'p [Policy]) -> Self {
        let mut policies: Vec<&Policy> = policies.iter().collect();
        policies.sort_by_key(|policy| (&policy.namespace, &policy.name.value));
        let mut by_scope: BTreeMap<&Scope, BTreeSet<usize>> = BTreeMap::new();
        for (number, policy) in policies.iter().enumerate() {
            for scope in &policy.services {
                by_scope.entry(&scope.value).or_default().insert(number);
            }
        }
        let sections = policies.iter().map(|policy| section(ground, policy)).collect();
        let [outbound, inbound, exposure] = [Both::default(), Both::default(), Both::default()];
        let mut said = Self { policies, sections, outbound, inbound, exposure, by_scope };
        said.outbound = said.both(|policy| policy.routing.steers());
        said.inbound = said.both(|policy| policy.access.is_some() || policy.routing.boundary.is_some());
        said.exposure = said.both(|policy| policy.exposure.is_some());
        said
    }

    fn both(&self, says: impl Fn(&Policy) -> bool) -> Both<'p> {
        let enforced = self.scoped(|policy| policy.mode == Mode::Enforce && says(policy));
        let mut shadow = self.scoped(says);
        shadow.retain(|_, policies| self.of(policies).any(|policy| policy.mode == Mode::Shadow));
        Both { enforced, shadow }
    }

    /// The scopes of the policies that are wanted, each with all of those that hold there.
    fn scoped(&self, wanted: impl Fn(&Policy) -> bool) -> Scoped<'p> {
        let mut scoped = Scoped::new();
        for (&scope, own) in &self.by_scope {
            let is_wanted = |number: &usize| self.policies.get(*number).is_some_and(|policy| wanted(policy));
            if own.iter().any(is_wanted) {
                scoped.insert(scope, self.holding(scope).into_iter().filter(is_wanted).collect());
            }
        }
        scoped
    }

    /// The policies that hold for all of a scope, in order.
    pub(super) fn holding(&self, scope: &Scope) -> Vec<usize> {
        let wider = match scope {
            Scope::Service(service) => vec![Scope::Namespace(service.namespace.clone()), Scope::Mesh],
            Scope::Namespace(_) => vec![Scope::Mesh],
            Scope::Mesh => Vec::new(),
        };
        let around = wider.iter().chain([scope]).filter_map(|scope| self.by_scope.get(scope));
        around.flatten().copied().collect::<BTreeSet<usize>>().into_iter().collect()
    }

    /// The policies of some numbers.
    pub(super) fn of<'s>(&'s self, numbers: &'s [usize]) -> impl Iterator<Item = &'p Policy> + 's {
        numbers.iter().filter_map(|number| self.policies.get(*number).copied())
    }

    /// The policies that say something of just this scope.
    pub(super) fn own(&self, scope: &Scope) -> impl Iterator<Item = &'p Policy> {
        self.by_scope
            .get(scope)
            .into_iter()
            .flatten()
            .filter_map(|number| self.policies.get(*number).copied())
    }

    /// The scopes that are spoken of.
    pub(super) fn scopes(&self) -> impl Iterator<Item = &'p Scope> {
        self.by_scope.keys().copied()
    }
}

/// The narrowest boundary that any of the policies draws, and whose it is.
pub(super) fn boundary<'p>(policies: impl Iterator<Item = &'p Policy>) -> Option<(Boundary, &'p Policy)> {
    let drawn = policies.filter_map(|policy| Some((policy.routing.boundary.as_ref()?.value, policy)));
    drawn.min_by_key(|(boundary, _)| *boundary).filter(|(boundary, _)| *boundary != Boundary::Mesh)
}

/// What the policy with the narrowest scope around a service says of something, and whose it is.
pub(super) fn nearest<'p, T>(
    policies: impl Iterator<Item = &'p Policy>,
    scope: &Scope,
    says: impl Fn(&'p Policy) -> Option<&'p T>,
) -> Option<(&'p PolicyName, &'p T)> {
    let saying = policies.filter_map(|policy| {
        let around = policy.services.iter().filter(|own| covers(&own.value, scope));
        Some((around.map(|own| &own.value).min()?, &policy.name.value, says(policy)?))
    });
    saying.min_by_key(|(scope, ..)| *scope).map(|(_, policy, said)| (policy, said))
}

/// Whether one scope takes in all of another.
pub(super) fn covers(outer: &Scope, inner: &Scope) -> bool {
    match (outer, inner) {
        (Scope::Mesh, _) => true,
        (
            Scope::Namespace(namespace),
            Scope::Service(Service { namespace: inner, .. }) | Scope::Namespace(inner),
        ) => namespace == inner,
        (Scope::Service(outer), Scope::Service(inner)) => outer == inner,
        (Scope::Namespace(_) | Scope::Service(_), Scope::Mesh) | (Scope::Service(_), Scope::Namespace(_)) => {
            false
        }
    }
}

pub(super) fn pin(policy: &Policy) -> Option<&Pin> {
    policy.routing.pin.as_ref().map(|pin| &pin.value)
}

pub(super) fn split(policy: &Policy) -> Option<&Split> {
    policy.routing.split.as_ref().map(|split| &split.value)
}

/// The clusters that a policy's routing names, where they stand.
pub(super) fn destinations(policy: &Policy) -> impl Iterator<Item = &Located<ClusterName>> {
    let pinned = pin(policy).into_iter().flat_map(|pin| pin.to.values());
    pinned.chain(split(policy).into_iter().flat_map(|split| split.legs.iter().map(|(cluster, _)| cluster)))
}

fn section(ground: &Ground<'_>, policy: &Policy) -> Option<Compiled> {
    let access = policy.access.as_ref()?;
    let section = Section {
        policy: policy.name.value.to_string(),
        source: access.source,
        scope: access.scope,
        deny: rules(ground, &access.deny),
        allow: access.allow.as_ref().map(|allow| rules(ground, allow)),
    };
    let measured = |section: Section| {
        let length = length(&section);
        (Arc::new(section), length)
    };
    Some(Compiled { closed: measured(section.closed()), open: measured(section) })
}

fn rules(ground: &Ground<'_>, rules: &[rule::Rule]) -> Vec<Rule> {
    let mut compiled: Vec<Rule> = rules.iter().map(|rule| self::rule(ground, rule)).collect();
    compiled.sort_by(|left, right| left.name.cmp(&right.name));
    compiled
}

pub(super) fn rule(ground: &Ground<'_>, rule: &rule::Rule) -> Rule {
    Rule {
        name: rule.name.value.to_string(),
        from: rule.from.iter().map(|from| source(ground, from)).collect(),
        to: rule.to.iter().map(request).collect(),
    }
}

fn source(ground: &Ground<'_>, from: &rule::From) -> From {
    From {
        clusters: ground.sources(from),
        namespaces: clause(&from.namespaces),
        principals: clause(&from.principals),
        trust_domains: clause(&from.trust_domains),
    }
}

fn request(to: &rule::To) -> To {
    To {
        ports: clause(&to.ports),
        methods: clause(&to.methods),
        paths: clause(&to.paths),
        hosts: clause(&to.hosts),
    }
}

fn clause<T: Clone + Ord>(said: &rule::Clause<T>) -> Clause<T> {
    let values = |values: &[Located<T>]| values.iter().map(|value| value.value.clone()).collect();
    Clause { any: values(&said.any), none: values(&said.none) }
}
