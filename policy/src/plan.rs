//! What the filter runs: one plan per cluster, canonical JSON, as small as that cluster's proxies need.
//!
//! Only [`compile`](crate::compile()) and [`Plan::read`] make one, and both check every reference in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::mesh::IssuerName;
use crate::name::{ClusterName, Namespace, NetworkName, RegionName, Service};
use crate::pattern::Pattern;
use crate::rule::{Boundary, Demand, Judged, Scope};
use crate::set::Set;

/// The labels that give a workload its canonical service, as Istio takes them: the first that is there.
const CANONICAL_SERVICE: [&str; 3] = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];

/// The version of the plan's form that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// Why bytes are not a plan, or not one for here.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not JSON, or JSON of another shape.
    #[error("this is not a plan")]
    Malformed(#[from] serde_json::Error),
    /// Written by a newer isthmus.
    #[error(
        "this plan has schema {found}, and this filter reads up to {SCHEMA}: update the module first, then the plan"
    )]
    Newer {
        /// The schema that the plan says.
        found: u32,
    },
    /// A cluster is named that the plan does not describe.
    #[error("the plan speaks of cluster {cluster:?} and does not describe it")]
    Unknown {
        /// The cluster.
        cluster: String,
    },
}

/// Everything that the proxies of one cluster need in order to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    pub(crate) schema: u32,
    pub(crate) mesh: String,
    pub(crate) cluster: ClusterName,
    pub(crate) network: NetworkName,
    pub(crate) clusters: BTreeMap<ClusterName, Location>,
    pub(crate) issuers: BTreeMap<IssuerName, ClusterName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ranges: Vec<Range>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) outbound: BTreeMap<Scope, Outbound>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) inbound: BTreeMap<Scope, Inbound>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) exposure: BTreeMap<Scope, Vec<Exposure>>,
}

/// Where a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// The network of its pods.
    pub network: NetworkName,
    /// Its region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
}

/// Addresses of a network. The narrowest come first, so the first that holds an address is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    pub(crate) cidr: Cidr,
    pub(crate) network: NetworkName,
}

/// Where requests to a service may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Outbound {
    pub(crate) policy: String,
    pub(crate) within: Boundary,
    /// Whether some cluster inside the boundary runs the service.
    pub(crate) open: bool,
}

/// Who may come in to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inbound {
    /// The labels of the service's workloads; empty: its canonical service says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) within: Option<Within>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) access: Vec<Arc<Access>>,
}

/// The clusters inside a boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Within {
    pub(crate) policy: String,
    pub(crate) clusters: Set<ClusterName>,
}

/// The access section of one policy, its clusters and networks resolved to names of clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Access {
    pub(crate) policy: String,
    pub(crate) source: Demand,
    pub(crate) scope: Judged,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) deny: Vec<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allow: Option<Vec<Rule>>,
}

impl Access {
    /// The section as it judges a workload that nobody listed: no one comes in.
    pub(crate) fn closed(&self) -> Self {
        Self { policy: self.policy.clone(), deny: Vec::new(), allow: Some(Vec::new()), ..*self }
    }
}

/// A rule: one of `from` holds and, if there are any, one of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) from: Set<From>,
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub(crate) to: Set<To>,
}

/// A source: every field that is said holds, and a field holds when any of its values does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    pub(crate) clusters: Set<ClusterName>,
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub(crate) namespaces: Set<Pattern>,
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub(crate) principals: Set<Pattern>,
}

/// A request: every field that is said holds, and a field holds when any of its values does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct To {
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub(crate) ports: Set<u16>,
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub(crate) methods: Set<Pattern>,
    #[serde(default, skip_serializing_if = "Set::is_empty")]
    pub(crate) paths: Set<Pattern>,
}

/// The networks to which one policy shows a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exposure {
    pub(crate) policy: String,
    pub(crate) networks: Set<NetworkName>,
}

/// The part of a plan that every reader understands.
#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

impl Plan {
    /// Reads a plan and checks its references.
    pub fn read(json: &[u8]) -> Result<Self, PlanError> {
        let Versioned { schema } = serde_json::from_slice(json)?;
        if schema > SCHEMA {
            return Err(PlanError::Newer { found: schema });
        }
        let plan: Self = serde_json::from_slice(json)?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<(), PlanError> {
        let mut named: Vec<&ClusterName> = vec![&self.cluster];
        named.extend(self.issuers.values());
        for inbound in self.inbound.values() {
            named.extend(inbound.within.iter().flat_map(|within| &within.clusters));
            let rules = inbound
                .access
                .iter()
                .flat_map(|access| access.deny.iter().chain(access.allow.iter().flatten()));
            named.extend(rules.flat_map(|rule| &rule.from).flat_map(|from| &from.clusters));
        }
        match named.into_iter().find(|name| !self.clusters.contains_key(*name)) {
            Some(missing) => Err(PlanError::Unknown { cluster: missing.to_string() }),
            None => Ok(()),
        }
    }

    /// The plan as JSON: the same plan, the same bytes.
    pub fn to_json(&self) -> Result<String, PlanError> {
        Ok(serde_json::to_string(self)?)
    }

    /// The cluster whose proxies this is for.
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The mesh that it belongs to.
    pub fn mesh(&self) -> &str {
        &self.mesh
    }

    /// The network of that cluster.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// Where a cluster of the mesh is.
    pub fn location(&self, cluster: &ClusterName) -> Option<&Location> {
        self.clusters.get(cluster)
    }

    /// The labels of a workload that tell which services it is behind.
    pub fn labels(&self) -> BTreeSet<&str> {
        let selectors = self.inbound.values().flat_map(|inbound| inbound.selector.keys().map(String::as_str));
        CANONICAL_SERVICE.into_iter().chain(selectors).collect()
    }

    /// Whether connections are judged at the gateway at all.
    pub fn limits_exposure(&self) -> bool {
        !self.exposure.is_empty()
    }

    /// The cluster whose intermediate CA has this name.
    pub fn issued_in(&self, issuer: &str) -> Option<&ClusterName> {
        let issuer: IssuerName = issuer.parse().ok()?;
        self.issuers.get(&issuer)
    }

    /// The plan's own copy of a cluster's name, if the mesh has such a cluster.
    pub fn known(&self, name: &str) -> Option<&ClusterName> {
        let name: ClusterName = name.parse().ok()?;
        self.clusters.get_key_value(&name).map(|(known, _)| known)
    }
}

/// What all requests to one workload are judged by: everything that the plan says of the services it is behind.
///
/// The workload is told by what the proxy knows of itself, never by what a request says of its destination: a
/// peer that could choose the service could choose the rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    pub(crate) within: Vec<Within>,
    pub(crate) access: Vec<Arc<Access>>,
}

impl Guard {
    /// Gathers what the plan says of a workload, from its namespace and labels.
    pub fn new(plan: &Plan, namespace: &Namespace, labels: &BTreeMap<String, String>) -> Self {
        let mut guard = Self::default();
        let mut served = false;
        for (scope, inbound) in &plan.inbound {
            if let Scope::Service(service) = scope
                && service.namespace == *namespace
                && serves(service, &inbound.selector, labels)
            {
                served = true;
                guard.add(inbound);
            }
        }
        if !served {
            let of_namespace = plan.inbound.get(&Scope::Namespace(namespace.clone()));
            if let Some(inbound) = of_namespace.or_else(|| plan.inbound.get(&Scope::Mesh)) {
                guard.add(inbound);
            }
        }
        guard
    }

    fn add(&mut self, inbound: &Inbound) {
        self.within.extend(inbound.within.clone());
        for access in &inbound.access {
            if !self.access.contains(access) {
                self.access.push(Arc::clone(access));
            }
        }
    }

    /// Whether some rule asks for the port.
    pub fn judges_ports(&self) -> bool {
        let mut rules =
            self.access.iter().flat_map(|access| access.deny.iter().chain(access.allow.iter().flatten()));
        rules.any(|rule| rule.to.iter().any(|to| !to.ports.is_empty()))
    }

    /// Whether nothing is said of the workload.
    pub fn is_empty(&self) -> bool {
        self.within.is_empty() && self.access.is_empty()
    }
}

/// Whether a workload is behind a service: by the service's selector, else by the canonical service that Istio
/// gives the workload.
fn serves(service: &Service, selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    if selector.is_empty() {
        let canonical = CANONICAL_SERVICE.iter().find_map(|label| labels.get(*label));
        return canonical.is_some_and(|name| name == service.name.as_str());
    }
    selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

/// Which of the filter's places a plugin stands at. Directions are plugins of their own, so that a request need
/// not ask which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A sidecar, requests of its own application.
    Outbound,
    /// A sidecar, requests to its own application.
    Inbound,
    /// An east-west gateway, connections by SNI.
    Gateway,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 3] = [Self::Outbound, Self::Inbound, Self::Gateway];

    /// As plugins and files name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Gateway => "gateway",
        }
    }
}

/// What a plugin is configured with: the `pluginConfig` of a `WasmPlugin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Where the plugin stands.
    pub role: Role,
    /// The SHA-256 of the plan's canonical JSON, in hex: what a proxy says it runs.
    pub digest: String,
    /// The plan.
    pub plan: Plan,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Undecided<'a> {
    role: Role,
    digest: String,
    #[serde(borrow)]
    plan: &'a serde_json::value::RawValue,
}

impl Configuration {
    /// Reads what Envoy hands to the plugin.
    pub fn read(json: &[u8]) -> Result<Self, PlanError> {
        let Undecided { role, digest, plan } = serde_json::from_slice(json)?;
        Ok(Self { role, digest, plan: Plan::read(plan.get().as_bytes())? })
    }
}
