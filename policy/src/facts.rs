//! What is known of a request when rules are asked about it.

use std::borrow::Cow;
use std::fmt;

use crate::name::{Identity, Port, host_of};
use crate::path;
use crate::pattern::Pattern;
use crate::plan::{Clause, From, Rule, To};
use crate::source::Source;

/// What a destination's sidecar knows of a request.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'r> {
    /// The cluster it comes from.
    pub source: Source<'r>,
    /// The identity in the peer's certificate.
    pub identity: Option<&'r Identity>,
    /// The workload's port.
    pub port: Option<u16>,
    /// The HTTP method; empty where it is not known.
    pub method: &'r str,
    /// The path as it came, with or without its query.
    pub path: &'r str,
    /// The `Host` or `:authority` as it came.
    pub host: Option<&'r str>,
}

/// What rules of one kind or another ask about, so that nothing is worked out that no rule asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked or not, whatever the others are")]
pub struct Needs {
    /// The identity of the peer as a principal.
    pub principal: bool,
    /// The workload's port.
    pub port: bool,
    /// The method.
    pub method: bool,
    /// The path.
    pub path: bool,
    /// The host.
    pub host: bool,
}

impl Needs {
    /// All there is.
    pub const ALL: Self = Self { principal: true, port: true, method: true, path: true, host: true };

    pub(crate) fn add(&mut self, rule: &Rule) {
        self.principal |= rule.from.iter().any(|from| !from.principals.is_empty());
        for to in &rule.to {
            self.port |= !to.ports.is_empty();
            self.method |= !to.methods.is_empty();
            self.path |= !to.paths.is_empty();
            self.host |= !to.hosts.is_empty();
        }
    }
}

/// What a rule is for. What is not known never helps the peer: it fails what allows and holds for what denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The rule lets in.
    Allow,
    /// The rule refuses.
    Deny,
}

/// A field of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Which clusters a request comes from: by name, network and region together.
    Clusters,
    /// The namespace of its sender.
    Namespaces,
    /// Its sender.
    Principals,
    /// The trust domain of its sender.
    TrustDomains,
    /// The workload's port.
    Ports,
    /// The method.
    Methods,
    /// The path.
    Paths,
    /// The host.
    Hosts,
}

impl Field {
    pub(crate) const FROM: [Self; 4] =
        [Self::Clusters, Self::Namespaces, Self::Principals, Self::TrustDomains];
    pub(crate) const TO: [Self; 4] = [Self::Ports, Self::Methods, Self::Paths, Self::Hosts];

    /// As a policy writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clusters => "clusters",
            Self::Namespaces => "namespaces",
            Self::Principals => "principals",
            Self::TrustDomains => "trustDomains",
            Self::Ports => "ports",
            Self::Methods => "methods",
            Self::Paths => "paths",
            Self::Hosts => "hosts",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The values that rules are asked with, in the form that patterns are written for.
#[derive(Debug)]
pub(crate) struct Facts<'r> {
    pub(crate) source: Source<'r>,
    pub(crate) namespace: Option<&'r str>,
    pub(crate) principal: Option<String>,
    pub(crate) trust_domain: Option<&'r str>,
    pub(crate) port: Option<Port>,
    pub(crate) method: Option<&'r str>,
    pub(crate) path: Option<Cow<'r, str>>,
    pub(crate) host: Option<Cow<'r, str>>,
    /// Whether all is known that a rule could be looked up by.
    pub(crate) complete: bool,
}

impl<'r> Facts<'r> {
    pub(crate) fn of(arrival: &Arrival<'r>, needs: Needs) -> Self {
        let path = if needs.path { path::normalise(arrival.path) } else { None };
        let host = arrival.host.filter(|_| needs.host).and_then(host_of);
        Self {
            complete: arrival.identity.is_some()
                && path.is_some() == needs.path
                && host.is_some() == needs.host,
            source: arrival.source,
            namespace: arrival.identity.map(|identity| identity.namespace.as_str()),
            principal: arrival.identity.filter(|_| needs.principal).map(Identity::principal),
            trust_domain: arrival.identity.map(|identity| identity.trust_domain.as_str()),
            port: arrival.port.and_then(Port::new),
            method: Some(arrival.method).filter(|method| !method.is_empty()),
            path,
            host,
        }
    }

    /// The value that a field is about, as text.
    pub(crate) fn value(&self, field: Field) -> Option<String> {
        match field {
            Field::Clusters => self.source.named().map(ToString::to_string),
            Field::Namespaces => self.namespace.map(str::to_owned),
            Field::Principals => self.principal.clone(),
            Field::TrustDomains => self.trust_domain.map(str::to_owned),
            Field::Ports => self.port.map(|port| port.to_string()),
            Field::Methods => self.method.map(str::to_owned),
            Field::Paths => self.path.as_deref().map(str::to_owned),
            Field::Hosts => self.host.as_deref().map(str::to_owned),
        }
    }

    fn hold(clause: &Clause<Pattern>, value: Option<&str>, effect: Effect) -> bool {
        clause.is_empty()
            || value.map_or(effect == Effect::Deny, |value| clause.holds(|pattern| pattern.matches(value)))
    }
}

impl From {
    /// The fields that do not hold.
    pub(crate) fn failing(&self, facts: &Facts<'_>, effect: Effect) -> impl Iterator<Item = Field> {
        let clause = move |field: &Field| match field {
            Field::Clusters => {
                facts.source.location().is_some_and(|location| self.clusters.contains(location.number))
            }
            Field::Namespaces => Facts::hold(&self.namespaces, facts.namespace, effect),
            Field::Principals => Facts::hold(&self.principals, facts.principal.as_deref(), effect),
            Field::TrustDomains => Facts::hold(&self.trust_domains, facts.trust_domain, effect),
            Field::Ports | Field::Methods | Field::Paths | Field::Hosts => true,
        };
        Field::FROM.into_iter().filter(move |field| !clause(field))
    }
}

impl From {
    /// Whether another takes in everything that this does.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.clusters.are_within(&other.clusters)
            && self.namespaces.is_within(&other.namespaces)
            && self.principals.is_within(&other.principals)
            && self.trust_domains.is_within(&other.trust_domains)
    }
}

impl To {
    /// Whether another takes in everything that this does.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let ports = |one: &Clause<Port>, other: &Clause<Port>| {
            let within = !one.any.is_empty() && one.any.iter().all(|port| other.any.contains(port));
            let apart =
                |port: &Port| one.none.contains(port) || !one.any.is_empty() && !one.any.contains(port);
            (other.any.is_empty() || within) && other.none.iter().all(apart)
        };
        ports(&self.ports, &other.ports)
            && self.methods.is_within(&other.methods)
            && self.paths.is_within(&other.paths)
            && self.hosts.is_within(&other.hosts)
    }

    /// The fields that do not hold.
    pub(crate) fn failing(&self, facts: &Facts<'_>, effect: Effect) -> impl Iterator<Item = Field> {
        let clause = move |field: &Field| match field {
            Field::Ports => {
                self.ports.is_empty()
                    || facts
                        .port
                        .map_or(effect == Effect::Deny, |port| self.ports.holds(|said| *said == port))
            }
            Field::Methods => Facts::hold(&self.methods, facts.method, effect),
            Field::Paths => Facts::hold(&self.paths, facts.path.as_deref(), effect),
            Field::Hosts => Facts::hold(&self.hosts, facts.host.as_deref(), effect),
            Field::Clusters | Field::Namespaces | Field::Principals | Field::TrustDomains => true,
        };
        Field::TO.into_iter().filter(move |field| !clause(field))
    }
}

impl Rule {
    /// Whether another takes in everything that this does, as far as one entry against one other can tell.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        let from = self.from.iter().all(|from| other.from.iter().any(|outer| from.is_within(outer)));
        let requests = || self.to.iter().all(|to| other.to.iter().any(|outer| to.is_within(outer)));
        from && (other.to.is_empty() || !self.to.is_empty() && requests())
    }

    /// Whether it takes in a request whose source is known as well as its policy demands.
    pub(crate) fn holds(&self, facts: &Facts<'_>, effect: Effect) -> bool {
        self.from.iter().any(|from| from.failing(facts, effect).next().is_none())
            && (self.to.is_empty() || self.to.iter().any(|to| to.failing(facts, effect).next().is_none()))
    }
}
