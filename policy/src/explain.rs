//! The walk to a verdict, as data: every rule that was considered, and which clause of it failed on which value.
//!
//! Made by asking the same rules the same questions as [`evaluate`], one after the other and
//! without stopping; the verdict is [`evaluate`]'s own.
//!
//! ```
//! # use policy::{Guard, Mesh, Policy, compile, evaluate::Arrival, explain, source::{Evidence, Source}};
//! # let (mesh, _) = Mesh::read("mesh.yaml", "{apiVersion: isthmus.dev/v1alpha1, kind: Mesh, metadata: {name: m}, spec: {clusters: [
//! #   {name: eu-1, network: n1, gateway: {address: 192.0.2.1}}, {name: us-1, network: n2, gateway: {address: 192.0.2.2}}]}}");
//! # let mesh = mesh.unwrap();
//! let (policies, _) = Policy::read("ledger.yaml", "
//! apiVersion: isthmus.dev/v1alpha1
//! kind: CrossClusterPolicy
//! metadata: {name: ledger, namespace: payments}
//! spec:
//!   services: [ledger]
//!   access: {allow: [{name: from-eu, from: [{clusters: [\"eu-*\"]}], to: [{methods: [GET]}]}]}
//! ", mesh.root_namespace());
//! let plan = &compile(&mesh, &policies).0.unwrap()[&"eu-1".parse()?].inbound;
//! let labels = std::collections::BTreeMap::from([("app".to_owned(), "ledger".to_owned())]);
//! let guard = Guard::new(plan, &"payments".parse()?, &labels);
//! let issuer = Some("L=us-1,CN=Intermediate CA,O=Istio");
//! let source = Source::of(plan, Evidence { peer: true, issuer, ..Evidence::default() });
//! let arrival = Arrival { source, identity: None, port: None, method: "PUT", path: "/", host: None };
//!
//! let walk = explain::inbound(plan, &guard, &arrival);
//! assert_eq!(walk.verdict, "deny");
//! let rule = &walk.sections[0].rules[0];
//! let failed: Vec<_> = rule.failing.iter().map(|failed| (failed.field.as_str(), failed.value.as_deref())).collect();
//! assert_eq!(failed, [("clusters", Some("us-1")), ("methods", Some("PUT"))]);
//! # Ok::<(), policy::name::NameError>(())
//! ```

use serde::Serialize;

use crate::evaluate::{self, Arrival};
use crate::facts::{Effect, Facts, Field, Needs};
use crate::guard::{Guard, Judge};
use crate::plan::{From, InboundPlan, Members, Rule, Section, To};
use crate::rule::Judged;
use crate::source::Source;
use crate::verdict::Verdict;

/// How a request that arrives is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Walk {
    /// `allow` or `deny`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// The same, were every policy in shadow to act; `None` where none speaks of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
    /// The boundaries around the destination.
    pub boundaries: Vec<Boundary>,
    /// The access sections that hold for the workload, in the order in which they give reasons.
    pub sections: Vec<SectionWalk>,
}

/// What would come of a request if the policies in shadow acted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shadow {
    /// `allow` or `deny`.
    pub verdict: String,
    /// Why.
    pub reason: String,
}

/// A boundary, and whether the source is inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boundary {
    /// Who draws it.
    pub policy: String,
    /// The clusters inside.
    pub clusters: Vec<String>,
    /// Whether the request passes: its source is proven to be one of them.
    pub holds: bool,
}

/// How one access section takes a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SectionWalk {
    /// The policy.
    pub policy: String,
    /// What becomes of the request here.
    pub outcome: Outcome,
    /// Its rules, denying ones first, each list by name; empty where no rule was asked.
    pub rules: Vec<RuleWalk>,
}

/// What a section makes of a request, for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It judges requests from elsewhere only, and this one is of its own cluster.
    PassedOver,
    /// The source is not known as well as it demands.
    SourceUnverified,
    /// A rule denies.
    Denied,
    /// A rule allows.
    Allowed,
    /// It lists whom it allows, and not this one.
    NoRuleMatched,
    /// It denies nothing of this, and lists no one.
    NotDenied,
}

/// A rule that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleWalk {
    /// Its name.
    pub rule: String,
    /// `allow` or `deny`.
    pub effect: String,
    /// Whether it takes the request in.
    pub holds: bool,
    /// The clauses that do not hold, of the source and of the request that come nearest.
    pub failing: Vec<Failing>,
}

/// A clause that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The field, as a policy writes it.
    #[serde(serialize_with = "as_text")]
    pub field: Field,
    /// What it takes in, and with `!` what it leaves out.
    pub wanted: Vec<String>,
    /// What the request has; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

fn as_text<S: serde::Serializer>(field: &Field, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(field.as_str())
}

/// Explains how a request is judged where its mTLS ends.
pub fn inbound(plan: &InboundPlan, guard: &Guard, arrival: &Arrival<'_>) -> Walk {
    let judgement = evaluate::inbound(guard, arrival);
    let facts = Facts::of(arrival, Needs::ALL);
    let explaining = Explaining { plan, home: guard.home, facts };
    // Where policies are in shadow, what they say is shown among the rest; the verdict is without them.
    let judge = guard.shadow.as_ref().unwrap_or(&guard.enforced);
    let told = |verdict: Verdict<'_>| Shadow { verdict: verdict.word().to_owned(), reason: verdict.reason() };
    Walk {
        verdict: judgement.verdict.word().to_owned(),
        reason: judgement.verdict.reason(),
        shadow: judgement.shadow.map(told),
        boundaries: explaining.boundaries(judge),
        sections: judge.sections.iter().map(|section| explaining.section(section)).collect(),
    }
}

struct Explaining<'e> {
    plan: &'e InboundPlan,
    home: usize,
    facts: Facts<'e>,
}

impl Explaining<'_> {
    fn names(&self, members: &Members) -> Vec<String> {
        let known = members.iter().filter_map(|number| self.plan.clusters().get(number));
        known.map(|location| location.name.to_string()).collect()
    }

    fn boundaries(&self, judge: &Judge) -> Vec<Boundary> {
        let boundary = |within: &crate::plan::Within| Boundary {
            policy: within.policy.clone(),
            clusters: self.names(&within.clusters),
            holds: match self.facts.source {
                Source::Verified(location, _) => within.clusters.contains(location.number),
                Source::Claimed(_) | Source::Unknown => false,
            },
        };
        judge.within.iter().map(boundary).collect()
    }

    fn section(&self, section: &Section) -> SectionWalk {
        let known = self.facts.source.known(section.source);
        let is_own = known.is_some_and(|location| location.number == self.home);
        let ends = |outcome| SectionWalk { policy: section.policy.clone(), outcome, rules: Vec::new() };
        if section.scope == Judged::Remote && is_own {
            return ends(Outcome::PassedOver);
        }
        if known.is_none() {
            return ends(Outcome::SourceUnverified);
        }
        let deny: Vec<RuleWalk> = section.deny.iter().map(|rule| self.rule(rule, Effect::Deny)).collect();
        let allow = section.allow.iter().flatten();
        let allow: Vec<RuleWalk> = allow.map(|rule| self.rule(rule, Effect::Allow)).collect();
        let outcome = if deny.iter().any(|rule| rule.holds) {
            Outcome::Denied
        } else if allow.iter().any(|rule| rule.holds) {
            Outcome::Allowed
        } else if section.allow.is_some() {
            Outcome::NoRuleMatched
        } else {
            Outcome::NotDenied
        };
        SectionWalk { rules: deny.into_iter().chain(allow).collect(), ..ends(outcome) }
    }

    fn rule(&self, rule: &Rule, effect: Effect) -> RuleWalk {
        let from = rule.from.iter().map(|from| {
            let failing = from.failing(&self.facts, effect);
            failing.map(|field| self.failing(field, self.wanted_of(from, field))).collect::<Vec<_>>()
        });
        let to = rule.to.iter().map(|to| {
            let failing = to.failing(&self.facts, effect);
            failing.map(|field| self.failing(field, wanted_to(to, field))).collect::<Vec<_>>()
        });
        // Of several sources or requests the one that lacks least is the one that was meant.
        let nearest = from.min_by_key(Vec::len).into_iter().chain(to.min_by_key(Vec::len));
        RuleWalk {
            rule: rule.name.clone(),
            effect: if effect == Effect::Deny { "deny" } else { "allow" }.to_owned(),
            holds: rule.holds(&self.facts, effect),
            failing: nearest.flatten().collect(),
        }
    }

    fn failing(&self, field: Field, wanted: Vec<String>) -> Failing {
        Failing { field, wanted, value: self.facts.value(field) }
    }

    fn wanted_of(&self, from: &From, field: Field) -> Vec<String> {
        match field {
            Field::Clusters => self.names(&from.clusters),
            Field::Namespaces => from.namespaces.clone().into(),
            Field::Principals => from.principals.clone().into(),
            Field::TrustDomains => from.trust_domains.clone().into(),
            Field::Ports | Field::Methods | Field::Paths | Field::Hosts => Vec::new(),
        }
    }
}

fn wanted_to(to: &To, field: Field) -> Vec<String> {
    match field {
        Field::Ports => to.ports.clone().into(),
        Field::Methods => to.methods.clone().into(),
        Field::Paths => to.paths.clone().into(),
        Field::Hosts => to.hosts.clone().into(),
        Field::Clusters | Field::Namespaces | Field::Principals | Field::TrustDomains => Vec::new(),
    }
}
