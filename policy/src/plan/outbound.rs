//! The plan of the sidecar that a request leaves by.

use serde::Serialize;

use super::read::reads;
use super::{Home, Members, PlanError, Table, Tokens};
use crate::map::Map;
use crate::name::{ClusterName, HeaderName, Service};
use crate::rule::{Boundary, HashOn, Scope};

/// Where requests of a cluster's applications may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboundPlan {
    pub(crate) schema: u32,
    pub(crate) home: Home,
    /// The clusters of the mesh by name, where anything is said; [`Members`] are numbers of this list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) clusters: Vec<ClusterName>,
    /// What lies inside the boundaries that are drawn.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) inside: Map<Boundary, Members>,
    /// How requests are signed; `None` where the mesh has no tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(crate) enforced: Table<Outbound>,
    /// What would hold if every policy acted, for the services that a policy in shadow speaks of.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(crate) shadow: Table<Outbound>,
}

/// Where requests to a service may go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Outbound {
    /// What they may not leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// The clusters that a header chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// The clusters that share the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
}

/// A boundary around this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// Who draws it.
    pub policy: String,
    /// How far it lies.
    pub within: Boundary,
    /// Whether some cluster inside it runs the service.
    pub open: bool,
}

/// A header whose value chooses a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pin {
    /// Who says so.
    pub policy: String,
    /// The header.
    pub header: HeaderName,
    /// The cluster of each value; `None` where no request from here may reach it.
    pub to: Map<String, Option<ClusterName>>,
}

/// Shares of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Split {
    /// Who says so.
    pub policy: String,
    /// The share of each cluster that requests from here may reach, by name.
    pub legs: Vec<(ClusterName, u8)>,
    /// What makes the choice the same for requests alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
}

reads! {
    OutboundPlan { schema, home, clusters or default, inside or default, tokens or default, enforced or default, shadow or default }
    Outbound { bound or default, pin or default, split or default }
    Bound { policy, within, open }
    Pin { policy, header, to }
    Split { policy, legs, hash_on as "hashOn" or default }
}

impl OutboundPlan {
    /// How requests are signed; `None` where the mesh has no tokens.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// The scopes that policies which act speak of, in no order.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.enforced.iter().map(|(scope, _)| scope)
    }

    /// Checks that every cluster and boundary spoken of is there.
    pub(super) fn check(&mut self) -> Result<(), PlanError> {
        if !self.clusters.is_sorted_by(|one, two| one < two) {
            return Err(PlanError::Unordered);
        }
        let last = self.inside.values().filter_map(Members::last).max();
        if let Some(last) = last.filter(|last| *last >= self.clusters.len()) {
            return Err(PlanError::Unknown { what: format!("cluster number {last}") });
        }
        let bounds =
            || self.enforced.iter().chain(self.shadow.iter()).filter_map(|(_, entry)| entry.bound.as_ref());
        let missing = bounds().map(|bound| bound.within).find(|within| self.inside.get(within).is_none());
        match missing {
            Some(within) => Err(PlanError::Unknown { what: format!("boundary {within:?}") }),
            None => Ok(()),
        }
    }

    /// The same of one service alone, and without what policies in shadow would have.
    #[must_use]
    pub fn only(&self, service: &Service) -> Self {
        let said = self.of(service).map(|said| (Scope::Service(service.clone()), said.clone()));
        Self { enforced: said.into_iter().collect(), shadow: Table::default(), ..self.clone() }
    }

    /// Whether nothing is said of any service.
    pub fn is_empty(&self) -> bool {
        self.enforced.is_empty() && self.shadow.is_empty()
    }

    /// What holds for requests to a service.
    pub fn of(&self, service: &Service) -> Option<&Outbound> {
        self.enforced.narrowest(service)
    }

    /// The cluster of this name, if the mesh has one.
    pub fn cluster(&self, name: &str) -> Option<&ClusterName> {
        self.number(name).and_then(|number| self.clusters.get(number))
    }

    /// Whether a cluster lies inside a boundary around this one.
    pub fn has_inside(&self, boundary: Boundary, cluster: &ClusterName) -> bool {
        let number = self.number(cluster.as_str());
        number.is_some_and(|number| self.inside.get(&boundary).is_some_and(|inside| inside.contains(number)))
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.clusters.binary_search_by(|cluster| cluster.as_str().cmp(name)).ok()
    }
}
