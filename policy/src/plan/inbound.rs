//! The plan of the sidecar that a request arrives at.

use std::sync::Arc;

use serde::Serialize;

use super::read::reads;
use super::{Clause, Home, Members, PlanError, Table, TokenKeys};
use crate::map::Map;
use crate::mesh::IssuerName;
use crate::name::{ClusterName, Namespace, NetworkName, Port, RegionName, TrustDomain};
use crate::pattern::Pattern;
use crate::rule::{Demand, Judged};
use crate::set::Set;

/// The labels that give a workload its canonical service, as Istio takes them: the first that is there.
pub(crate) const CANONICAL_SERVICE: [&str; 3] =
    ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];

/// Who may come in to the workloads of a cluster, or of some of its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboundPlan {
    pub(crate) schema: u32,
    pub(crate) home: Home,
    /// The clusters of the mesh by name; [`Members`] are numbers of this list.
    pub(crate) clusters: Arc<Vec<Location>>,
    pub(crate) issuers: Arc<Map<IssuerName, ClusterName>>,
    /// The trust domains that prove a cluster: see [`Mesh::proven_by_trust_domain`](crate::Mesh::proven_by_trust_domain).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) domains: Arc<Map<TrustDomain, ClusterName>>,
    /// The access sections in the order in which they give reasons; entries name them by number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sections: Vec<Arc<Section>>,
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(crate) enforced: Table<Inbound>,
    /// What would hold if every policy acted, for the services that a policy in shadow speaks of.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(crate) shadow: Table<Inbound>,
    /// The keys whose tokens are believed; `None` where the mesh has no tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<Arc<TokenKeys>>,
    /// Namespaces whose workloads have a plan of their own, so that this one says nothing there.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub(crate) apart: Set<Namespace>,
}

/// Where a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Its number in the plan.
    #[serde(skip)]
    pub(crate) number: usize,
    /// Its name.
    pub name: ClusterName,
    /// The network of its pods.
    pub network: NetworkName,
    /// Its region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// The trust domain of its identities, where the plan knows of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_domain: Option<TrustDomain>,
}

/// Who may come in to a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Inbound {
    /// The labels of the service's workloads; empty: its canonical service says it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub selector: Map<String, String>,
    /// The clusters inside a boundary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
    /// The access sections, by number.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub sections: Set<u32>,
}

/// The clusters inside a boundary around this one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Within {
    /// Who draws it.
    pub policy: String,
    /// What it holds.
    pub clusters: Members,
}

/// The access section of one policy, its clusters, networks and regions resolved to clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The policy.
    pub policy: String,
    /// How well the source must be known.
    pub source: Demand,
    /// Whom it judges.
    pub scope: Judged,
    /// Rules of which any refuses, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Rule>,
    /// Rules of which one must hold, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Rule>>,
}

impl Location {
    /// Its place in [`InboundPlan::clusters`].
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Section {
    /// The section as it judges a workload that nobody listed: no one comes in.
    pub(crate) fn closed(&self) -> Self {
        Self { policy: self.policy.clone(), deny: Vec::new(), allow: Some(Vec::new()), ..*self }
    }

    /// All its rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.deny.iter().chain(self.allow.iter().flatten())
    }
}

/// A rule: one of `from` holds and, if there are any, one of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Where a request may come from.
    pub from: Set<From>,
    /// What it may ask for; empty: anything.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub to: Set<To>,
}

/// A source: every clause that is said holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct From {
    /// The clusters.
    pub clusters: Members,
    /// The namespaces of the identity.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub namespaces: Clause<Pattern>,
    /// The identity, without its scheme.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub principals: Clause<Pattern>,
    /// The trust domain of the identity.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub trust_domains: Clause<Pattern>,
}

/// A request: every clause that is said holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct To {
    /// The ports of the workload.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub ports: Clause<Port>,
    /// The methods.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub methods: Clause<Pattern>,
    /// The paths, normalised.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub paths: Clause<Pattern>,
    /// The hosts.
    #[serde(skip_serializing_if = "Clause::is_empty")]
    pub hosts: Clause<Pattern>,
}

reads! {
    InboundPlan {
        schema, home, clusters, issuers, domains or default, sections or default, enforced or default, shadow or default, tokens or default, apart or default
    }
    Location { name, network, region or default, trust_domain as "trustDomain" or default; number = 0 }
    Inbound { selector or default, within or default, sections or default }
    Within { policy, clusters }
    Section { policy, source, scope, deny or default, allow or default }
    Rule { name, from, to or default }
    From {
        clusters, namespaces or default, principals or default, trust_domains as "trustDomains" or default
    }
    To { ports or default, methods or default, paths or default, hosts or default }
}

impl InboundPlan {
    /// Numbers the clusters and checks that everything spoken of is there.
    pub(super) fn check(&mut self) -> Result<(), PlanError> {
        if !self.clusters.is_sorted_by(|one, two| one.name < two.name) {
            return Err(PlanError::Unordered);
        }
        for (number, location) in Arc::make_mut(&mut self.clusters).iter_mut().enumerate() {
            location.number = number;
        }
        match self.missing() {
            Some(what) => Err(PlanError::Unknown { what }),
            None => Ok(()),
        }
    }

    /// Something that is spoken of and not described.
    fn missing(&self) -> Option<String> {
        let signing = self.tokens.iter().flat_map(|tokens| tokens.keys.keys());
        let mut named =
            self.issuers.values().chain(self.domains.values()).chain([&self.home.cluster]).chain(signing);
        if let Some(missing) = named.find(|name| self.location(name).is_none()) {
            return Some(format!("cluster {missing}"));
        }
        let entries = || self.enforced.iter().chain(self.shadow.iter()).map(|(_, entry)| entry);
        let rules = self.sections.iter().flat_map(|section| section.rules());
        let members = rules.flat_map(|rule| rule.from.iter().map(|from| &from.clusters));
        let inside = entries().filter_map(|entry| entry.within.as_ref().map(|within| &within.clusters));
        if let Some(last) = members.chain(inside).filter_map(Members::last).max()
            && last >= self.clusters.len()
        {
            return Some(format!("cluster number {last}"));
        }
        let mut sections = entries().flat_map(|entry| entry.sections.iter());
        let missing = sections.find(|section| self.section(**section).is_none())?;
        Some(format!("section number {missing}"))
    }

    pub(crate) fn section(&self, number: u32) -> Option<&Arc<Section>> {
        self.sections.get(usize::try_from(number).ok()?)
    }

    /// The clusters that it knows, by name.
    pub fn clusters(&self) -> &[Location] {
        &self.clusters
    }

    /// Where a cluster of the mesh is.
    pub fn location(&self, cluster: &ClusterName) -> Option<&Location> {
        self.named(cluster.as_str())
    }

    /// The cluster of this name, if the mesh has one.
    pub fn named(&self, name: &str) -> Option<&Location> {
        let at = self.clusters.binary_search_by(|location| location.name.as_str().cmp(name)).ok()?;
        self.clusters.get(at)
    }

    /// The cluster whose intermediate CA has this name.
    pub fn issued_in(&self, issuer: &str) -> Option<&Location> {
        self.location(self.issuers.find(|name| name.as_str().cmp(issuer))?)
    }

    /// Whether a source is told by this plan as by another.
    pub fn knows_sources_as(&self, other: &Self) -> bool {
        self.clusters == other.clusters && self.issuers == other.issuers && self.domains == other.domains
    }

    /// The cluster that this trust domain proves.
    pub fn proven_by(&self, domain: &TrustDomain) -> Option<&Location> {
        self.location(self.domains.get(domain)?)
    }

    /// The keys whose tokens are believed; `None` where the mesh has no tokens.
    pub fn tokens(&self) -> Option<&TokenKeys> {
        self.tokens.as_deref()
    }

    /// Whether the workloads of a namespace have a plan of their own.
    pub fn leaves(&self, namespace: &Namespace) -> bool {
        self.apart.contains(namespace)
    }

    /// The labels of a workload that tell which services it is behind.
    pub fn labels(&self) -> Set<&str> {
        let mut labels = Set::default();
        CANONICAL_SERVICE.into_iter().for_each(|label| labels.insert(label));
        for (_, entry) in self.enforced.iter().chain(self.shadow.iter()) {
            entry.selector.keys().for_each(|label| labels.insert(label.as_str()));
        }
        labels
    }
}
