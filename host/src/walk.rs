//! One request over its whole path: source's sidecar, the gateway between networks, destination's sidecar.
//!
//! Three engines walk it and must agree: [`pure`] asks [`policy::evaluate`], [`Offline`] runs the real module in
//! wasmtime, [`envoy`] sends it through the lab's Envoys and reads what they logged.

mod cast;
mod compare;
pub mod envoy;
pub mod explain;
mod offline;
pub mod pure;

pub use cast::blueprint;
pub use compare::{Compared, Row, judge};
pub use offline::{Ground, Offline, OfflineError};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use policy::Mesh;
use policy::compile::{ClusterPlans, Plans};
use policy::evaluate::{Arrival, Route};
use policy::mesh::{Cluster, IssuerName};
use policy::name::{ClusterName, Identity, Service};
use policy::source::{Evidence, Source};

use crate::case::{Call, Level};

/// A call on the way to one destination.
#[derive(Debug, Clone)]
pub struct Journey<'m> {
    /// The call.
    pub call: &'m Call,
    /// The service that the request is for.
    pub service: Service,
    /// Its port.
    pub port: u16,
    /// Who sends it.
    pub identity: Identity,
    /// Where it starts.
    pub source: &'m Cluster,
    /// Where it ends.
    pub destination: &'m Cluster,
    /// Whether Istio goes by an order of clusters, so that it may end there only while others have failed.
    pub fails_over: bool,
}

/// Why a case cannot be walked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPath {
    /// The mesh has no such cluster or service; `check` has said so.
    #[error("the case does not fit the mesh")]
    Misfit,
    /// The cluster that should answer is not one that the source's sidecar may choose.
    #[error("{service} is not reached in {cluster} from here: it is outside the boundary")]
    OutOfReach {
        /// The service.
        service: Service,
        /// The cluster.
        cluster: ClusterName,
    },
}

/// Where a request was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// At the sidecar of its source.
    Source,
    /// At the east-west gateway of its destination.
    Gateway,
    /// At the sidecar of its destination.
    Destination,
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Source => "source",
            Self::Gateway => "gateway",
            Self::Destination => "destination",
        })
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `allow` or `deny`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Where it was decided.
    pub at: Stop,
    /// The status that the client gets.
    pub status: u16,
    /// The source cluster that the destination knows.
    pub source: Option<String>,
    /// How well the destination knows it.
    pub level: Option<String>,
    /// The tags that the application sees, if it sees the request.
    pub tags: Option<Tags>,
    /// The cluster that the answer says it is from.
    pub served_by: Option<String>,
    /// What the policies in shadow would change, at the first place where they would: verdict and reason.
    pub shadow: Option<(String, String)>,
    /// The cluster that answered and should not have, as the source's proxy noticed.
    pub breach: Option<String>,
}

/// What an application can read of where a request is from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags {
    /// The source cluster.
    pub cluster: Option<String>,
    /// The source network.
    pub network: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} by {} at the {} with {}", self.verdict, self.reason, self.at, self.status)?;
        match (&self.source, &self.level) {
            (Some(source), Some(level)) => write!(out, ", source {source}, {level}"),
            (None, Some(level)) => write!(out, ", source {level}"),
            (_, None) => Ok(()),
        }
    }
}

/// The ways that a request can go: one for each cluster that may answer it.
pub fn journeys<'m>(mesh: &'m Mesh, plans: &Plans, call: &'m Call) -> Result<Vec<Journey<'m>>, NoPath> {
    let source = mesh.cluster(&call.from.cluster.value).ok_or(NoPath::Misfit)?;
    let service = call.service().ok_or(NoPath::Misfit)?;
    let plan = &plans.get(&source.name).ok_or(NoPath::Misfit)?.outbound;
    let hosts = mesh.hosts(&service);
    // A split that is not sticky may send it to any of its clusters; a hundred draws are all its points.
    let departures: BTreeSet<(bool, Route<'_>)> = (0..100)
        .map(|draw| call.departure(plan, &service, draw))
        .map(|departure| (departure.verdict.is_allow(), departure.route))
        .collect();
    let mut destinations = BTreeSet::new();
    for (starts, route) in departures {
        let within = match route {
            // Refused, it ends at the source, wherever it was to go.
            _ if !starts => hosts.clone(),
            Route::Anywhere => hosts.clone(),
            Route::Within(boundary) => boundary.around(source, mesh),
            Route::To(cluster) => BTreeSet::from([cluster.clone()]),
        };
        destinations.extend(hosts.intersection(&within).cloned());
    }
    if let Some(to) = &call.to {
        if !call.misrouted && !destinations.contains(&to.value) {
            return Err(NoPath::OutOfReach { service, cluster: to.value.clone() });
        }
        destinations = BTreeSet::from([to.value.clone()]);
    }
    let ordered = plans.get(&source.name).is_some_and(|own| own.locality.contains_key(&service));
    let fails_over = ordered && hosts.len() > 1 && !call.misrouted;
    let journey = |name: &ClusterName| {
        Ok(Journey {
            call,
            service: service.clone(),
            port: mesh.service(&service).map_or(80, |listing| listing.port),
            identity: call.identity(mesh),
            source,
            destination: mesh.cluster(name).ok_or(NoPath::Misfit)?,
            fails_over,
        })
    };
    destinations.iter().map(journey).collect()
}

/// What came of a request at the place where it ended, from what the filter left in the filter state: see
/// docs/operations.md.
fn outcome(state: impl Fn(&str) -> Option<String>, at: Stop, status: u16) -> Outcome {
    let claimed = state("claimed_cluster");
    let level = if claimed.is_some() { Some("claimed".to_owned()) } else { state("source_level") };
    let judged = at == Stop::Destination;
    Outcome {
        verdict: state("verdict").unwrap_or_else(|| "allow".to_owned()),
        reason: state("reason").unwrap_or_default(),
        at,
        status,
        shadow: dissent(&state),
        source: claimed.or_else(|| state("source_cluster")).filter(|_| judged),
        level: level.filter(|_| judged),
        tags: None,
        served_by: None,
        breach: None,
    }
}

/// What the policies in shadow would have made of a request, where that is another thing.
fn dissent(state: impl Fn(&str) -> Option<String>) -> Option<(String, String)> {
    state("shadow_verdict").zip(state("shadow_reason"))
}

impl Journey<'_> {
    /// Whether it passes an east-west gateway.
    pub fn crosses_networks(&self) -> bool {
        self.source.network != self.destination.network
    }

    /// The SNI that Istio's sidecars send for the service.
    pub fn sni(&self) -> String {
        format!("outbound_.{}_._.{}", self.port, self.service.host())
    }

    /// The labels of the workload that answers.
    fn labels(&self, mesh: &Mesh) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for label in ["app", "service.istio.io/canonical-name"] {
            labels.insert(label.to_owned(), self.service.name.to_string());
        }
        labels
            .extend(mesh.service(&self.service).map(|listing| listing.selector.clone()).unwrap_or_default());
        labels
    }

    /// What the destination's sidecar knows of the request.
    fn arrival<'a>(&'a self, source: Source<'a>, identity: Option<&'a Identity>) -> Arrival<'a> {
        let request = &self.call.request;
        Arrival {
            source,
            identity,
            port: Some(self.port),
            method: &request.method,
            path: &request.path,
            host: Some(&request.host.value),
        }
    }

    /// What the destination's proxy has to know the source by.
    fn evidence(&self) -> Evidence<'_> {
        let level = self.call.level;
        let peer = level != Level::Unknown;
        let own = self.source.name.as_str();
        let issuer = self.source.issuers.first().map(IssuerName::as_str);
        Evidence {
            peer,
            issuer: issuer.filter(|_| level == Level::Verified),
            identity: Some(&self.identity).filter(|_| peer),
            token: self.is_signed().then_some(own),
            tag: Some(own),
        }
    }

    /// Whether the request carries a token. A sidecar that has a key signs whatever it sends; what is known by less carries
    /// none.
    fn is_signed(&self) -> bool {
        matches!(self.call.level, Level::Verified | Level::Token) && !self.source.token_keys.is_empty()
    }

    /// An address that the request may come from, where the mesh says its cluster's.
    fn address(&self) -> Option<std::net::IpAddr> {
        self.source.pod_cidr.map(|pods| pods.address(10))
    }

    fn plans<'p>(&self, plans: &'p Plans) -> Option<(&'p ClusterPlans, &'p ClusterPlans)> {
        Some((plans.get(&self.source.name)?, plans.get(&self.destination.name)?))
    }
}

/// What each cluster that may answer made of a case.
pub type Outcomes = Vec<(ClusterName, Outcome)>;
