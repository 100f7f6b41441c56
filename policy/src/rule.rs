//! What an author may say: one [`Policy`] for each `CrossClusterPolicy` document.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::Located;
use crate::finding::{Finding, Place};
use crate::mesh::{Cluster, Mesh};
use crate::name::{
    ClusterName, CookieName, HeaderName, NameError, Namespace, NetworkName, PolicyName, Port, RuleName,
    Service,
};
use crate::pattern::Pattern;

/// A `CrossClusterPolicy`: who may come in from elsewhere, where requests may go, who may see the service.
///
/// Every part keeps its place, so that [`compile`](crate::compile()) can point at what cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name; the first half of every reason that it gives.
    pub name: Located<PolicyName>,
    /// The namespace that it stands in.
    pub namespace: Namespace,
    /// Whether it acts.
    pub mode: Mode,
    /// The services that it speaks of; never empty.
    pub services: Vec<Located<Scope>>,
    /// Who may come in; judged at the destination's sidecar.
    pub access: Option<Access>,
    /// Where requests go; judged at the source, and its boundary at the destination as well.
    pub routing: Routing,
    /// Who may see the service through the east-west gateway.
    pub exposure: Option<Exposure>,
}

/// Whether a policy acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Mode {
    /// What it says is done.
    #[default]
    Enforce,
    /// What it says is worked out and told, and never done.
    Shadow,
}

/// What part of the mesh a policy speaks of. The narrowest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// One service.
    Service(Service),
    /// All services of a namespace.
    Namespace(Namespace),
    /// All services.
    Mesh,
}

impl Scope {
    /// Whether the scope takes in a service.
    pub fn covers(&self, service: &Service) -> bool {
        match self {
            Self::Service(one) => one == service,
            Self::Namespace(namespace) => *namespace == service.namespace,
            Self::Mesh => true,
        }
    }
}

/// As a key of a plan: a service's host, `*.NAMESPACE.svc.cluster.local`, or `*`.
impl fmt::Display for Scope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => out.write_str(&service.host()),
            Self::Namespace(namespace) => write!(out, "*.{namespace}.svc.cluster.local"),
            Self::Mesh => out.write_str("*"),
        }
    }
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix('*') {
            Some("") => Ok(Self::Mesh),
            Some(rest) => {
                let namespace =
                    rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".svc.cluster.local"));
                namespace.ok_or_else(|| NameError::NotAService(text.to_owned()))?.parse().map(Self::Namespace)
            }
            None => Service::from_host(text).map(Self::Service),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl std::convert::From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

/// Who may come in from another cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// How well the source must be known.
    pub source: Demand,
    /// Whom the section judges.
    pub scope: Judged,
    /// Rules of which any refuses.
    pub deny: Vec<Rule>,
    /// Rules of which one must hold. `None`: everyone not denied; empty: no one.
    pub allow: Option<Vec<Rule>>,
}

/// How well the source of a request must be known before a policy believes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Demand {
    /// The tag of a peer that showed a certificate of the mesh will do.
    Claimed,
    /// Its certificate must prove it.
    #[default]
    Verified,
}

/// Whose requests an access section judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Judged {
    /// Those from other clusters, and from nowhere known.
    #[default]
    Remote,
    /// Those from the same cluster as well.
    All,
}

/// How far a request may go. The narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Boundary {
    /// Stays in the cluster that it starts in.
    Cluster,
    /// Stays on the network that it starts on.
    Network,
    /// Stays in the region that it starts in.
    Region,
    /// Goes anywhere in the mesh.
    Mesh,
}

impl Boundary {
    /// Whether a cluster lies inside this, drawn around another.
    pub fn joins(self, around: &Cluster, other: &Cluster) -> bool {
        match self {
            Self::Cluster => other.name == around.name,
            Self::Network => other.network == around.network,
            Self::Region => {
                other.name == around.name || (other.region.is_some() && other.region == around.region)
            }
            Self::Mesh => true,
        }
    }

    /// The clusters inside this, drawn around one of them.
    pub fn around(self, cluster: &Cluster, mesh: &Mesh) -> BTreeSet<ClusterName> {
        let inside = mesh.clusters().filter(|other| self.joins(cluster, other));
        inside.map(|other| other.name.clone()).collect()
    }
}

/// A field and its `not` twin. Holds when one value of `any` does, if there is one, and no value of `none` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause<T> {
    /// What the field takes in; empty: everything.
    pub any: Vec<Located<T>>,
    /// What its twin leaves out.
    pub none: Vec<Located<T>>,
}

impl<T> Default for Clause<T> {
    fn default() -> Self {
        Self { any: Vec::new(), none: Vec::new() }
    }
}

impl<T> Clause<T> {
    /// Whether neither the field nor its twin is said.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.none.is_empty()
    }

    /// All values, of the field and of its twin.
    pub fn iter(&self) -> impl Iterator<Item = &Located<T>> {
        self.any.iter().chain(&self.none)
    }
}

impl Clause<Pattern> {
    /// Whether the clause takes in a value that is known.
    pub fn holds(&self, value: &str) -> bool {
        let matches = |pattern: &Located<Pattern>| pattern.value.matches(value);
        (self.any.is_empty() || self.any.iter().any(matches)) && !self.none.iter().any(matches)
    }
}

/// A named rule: holds when one of `from` does and, if there are any, one of `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name; the second half of a reason.
    pub name: Located<RuleName>,
    /// Where a request may come from; never empty.
    pub from: Vec<From>,
    /// What a request may ask for.
    pub to: Vec<To>,
}

/// One kind of source: every clause that is said must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct From {
    /// Clusters by name.
    pub clusters: Clause<Pattern>,
    /// Clusters by network.
    pub networks: Clause<Pattern>,
    /// Clusters by region; one without a region is in none.
    pub regions: Clause<Pattern>,
    /// Namespaces of the workload.
    pub namespaces: Clause<Pattern>,
    /// Identities, without `spiffe://`.
    pub principals: Clause<Pattern>,
    /// Trust domains of the identity.
    pub trust_domains: Clause<Pattern>,
}

impl From {
    /// Whether the clauses about clusters take one in.
    pub fn takes_in(&self, cluster: &Cluster) -> bool {
        let region = match &cluster.region {
            Some(region) => self.regions.holds(region.as_str()),
            None => self.regions.any.is_empty(),
        };
        self.clusters.holds(cluster.name.as_str()) && self.networks.holds(cluster.network.as_str()) && region
    }
}

/// One kind of request: every clause that is said must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct To {
    /// Ports of the workload.
    pub ports: Clause<Port>,
    /// HTTP methods.
    pub methods: Clause<Pattern>,
    /// Paths as Envoy normalises them, without the query.
    pub paths: Clause<Pattern>,
    /// Hosts, in lower case and without a port.
    pub hosts: Clause<Pattern>,
}

/// Where requests to a service go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// What no request may leave.
    pub boundary: Option<Located<Boundary>>,
    /// As near as this while something there is healthy: Istio's locality failover does it.
    pub prefer: Option<Located<Boundary>>,
    /// Clusters to turn to, in this order, when nothing near is healthy: Istio does it.
    pub failover: Option<Located<Vec<Located<ClusterName>>>>,
    /// Clusters that a header's value chooses.
    pub pin: Option<Located<Pin>>,
    /// Shares of the requests for each cluster.
    pub split: Option<Located<Split>>,
}

impl Routing {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the filter has something to do with it; Istio alone acts on the rest.
    pub fn steers(&self) -> bool {
        let bounds = self.boundary.as_ref().is_some_and(|boundary| boundary.value != Boundary::Mesh);
        bounds || self.pin.is_some() || self.split.is_some()
    }
}

/// A header whose values choose a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The header.
    pub header: HeaderName,
    /// The cluster of each value; any other value leaves the request unpinned.
    pub to: BTreeMap<String, Located<ClusterName>>,
}

/// Shares of the requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Each cluster's share, in hundredths. They make 100, and no cluster stands twice.
    pub legs: Vec<(Located<ClusterName>, u8)>,
    /// What makes the choice the same for requests alike.
    pub hash_on: Option<HashOn>,
}

/// What of a request makes a split sticky.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashOn {
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(CookieName),
}

/// Who may see a service through the east-west gateway, and what of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Where it is said.
    pub at: Place,
    /// The networks that see it; `None`: no network.
    pub networks: Option<Clause<Pattern>>,
    /// The ports that can be seen; empty: all.
    pub ports: Vec<Located<Port>>,
}

impl Exposure {
    /// Whether nothing is said of networks: only ports are limited.
    pub fn is_for_everyone(&self) -> bool {
        self.networks.as_ref().is_some_and(Clause::is_empty)
    }

    /// Whether a network sees the service.
    pub fn shows(&self, network: &NetworkName) -> bool {
        self.networks.as_ref().is_some_and(|networks| networks.holds(network.as_str()))
    }
}

impl Policy {
    /// Reads all policies of a text; `root` is Istio's root namespace, whose policies name hosts.
    ///
    /// ```
    /// let text = "
    /// apiVersion: isthmus.dev/v1alpha1
    /// kind: CrossClusterPolicy
    /// metadata: {name: ledger, namespace: payments}
    /// spec:
    ///   services: [ledger]
    ///   routing: {boundary: Network}
    /// ";
    /// let (policies, findings) = policy::Policy::read("ledger.yaml", text, &"istio-system".parse().unwrap());
    /// assert!(findings.is_empty());
    /// assert_eq!(policies[0].services[0].value.to_string(), "ledger.payments.svc.cluster.local");
    /// ```
    pub fn read(file: &str, text: &str, root: &Namespace) -> (Vec<Self>, Vec<Finding>) {
        read::policies(file, text, root)
    }
}
