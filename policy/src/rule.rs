//! What an author may say: one [`Policy`] for each `CrossClusterPolicy` document.

mod read;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::document::Located;
use crate::finding::Finding;
use crate::name::{NameError, Namespace, PolicyName, RuleName, Service};
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
    /// The services that it speaks of; never empty.
    pub services: Vec<Located<Scope>>,
    /// Who may come in; judged at the destination's sidecar.
    pub access: Option<Access>,
    /// What no request to the service may leave; judged at the source and at the destination.
    pub boundary: Option<Located<Boundary>>,
    /// The networks that may see the service through the east-west gateway; an empty list hides it.
    pub exposure: Option<Located<Vec<Located<Pattern>>>>,
}

/// What part of the mesh a policy speaks of. The narrowest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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

/// One kind of source: every field that is said must hold, and a field holds when any of its values does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// Clusters by name.
    pub clusters: Vec<Located<Pattern>>,
    /// Clusters by network.
    pub networks: Vec<Located<Pattern>>,
    /// Namespaces of the workload.
    pub namespaces: Vec<Located<Pattern>>,
    /// Identities, without `spiffe://`.
    pub principals: Vec<Located<Pattern>>,
}

/// One kind of request: every field that is said must hold, and a field holds when any of its values does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct To {
    /// Ports of the service.
    pub ports: Vec<u16>,
    /// HTTP methods.
    pub methods: Vec<Pattern>,
    /// Paths, without the query.
    pub paths: Vec<Pattern>,
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
