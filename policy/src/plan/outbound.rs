//! The plan of the sidecar that a request leaves by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Home, PlanError, Table};
use crate::name::{ClusterName, HeaderName};
use crate::rule::{Boundary, HashOn};

/// Where requests of a cluster's applications may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundPlan {
    pub(crate) schema: u32,
    pub(crate) home: Home,
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub(crate) enforced: Table<Outbound>,
    /// What would hold if every policy acted, for the services that a policy in shadow speaks of.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub(crate) shadow: Table<Outbound>,
}

/// Where requests to a service may go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// What they may not leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// The clusters that a header chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// The clusters that share the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
}

/// A boundary around this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Who draws it.
    pub policy: String,
    /// How far it lies.
    pub within: Boundary,
    /// Whether some cluster inside it runs the service.
    pub open: bool,
}

/// A header whose value chooses a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Who says so.
    pub policy: String,
    /// The header.
    pub header: HeaderName,
    /// The cluster of each value; `None` where no request from here may reach it.
    pub to: BTreeMap<String, Option<ClusterName>>,
}

/// Shares of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Split {
    /// Who says so.
    pub policy: String,
    /// The share of each cluster that requests from here may reach, by name.
    pub legs: Vec<(ClusterName, u8)>,
    /// What makes the choice the same for requests alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<HashOn>,
}

impl OutboundPlan {
    /// Nothing in it refers to anything else in it.
    #[expect(clippy::unnecessary_wraps, reason = "as the other plans have it")]
    pub(super) fn checked(self) -> Result<Self, PlanError> {
        Ok(self)
    }
}
