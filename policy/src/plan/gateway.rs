//! The plan of the east-west gateway.

use std::net::IpAddr;

use serde::Serialize;

use super::read::reads;
use super::{Home, PlanError, Table};
use crate::cidr::Cidr;
use crate::name::{NetworkName, Port};
use crate::set::Set;

/// Who may see which service through the gateways of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayPlan {
    pub(crate) schema: u32,
    pub(crate) home: Home,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ranges: Vec<Range>,
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(crate) enforced: Table<Vec<Exposure>>,
    /// What would hold if every policy acted, for the services that a policy in shadow speaks of.
    #[serde(skip_serializing_if = "Table::is_empty")]
    pub(crate) shadow: Table<Vec<Exposure>>,
}

/// Addresses of a network. The narrowest come first, so the first that holds an address is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    pub(crate) cidr: Cidr,
    pub(crate) network: NetworkName,
}

/// What one policy shows of a service, and to which networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// Who says so.
    pub policy: String,
    /// The networks that see it; `None`: it is shown wherever a connection comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Set<NetworkName>>,
    /// The ports that they see; empty: all.
    #[serde(skip_serializing_if = "Set::is_empty")]
    pub ports: Set<Port>,
}

reads! {
    GatewayPlan { schema, home, ranges or default, enforced or default, shadow or default }
    Range { cidr, network }
    Exposure { policy, networks or default, ports or default }
}

impl GatewayPlan {
    /// Nothing in it refers to anything else in it.
    #[expect(clippy::unnecessary_wraps, reason = "as the other plans have it")]
    pub(super) fn check(&mut self) -> Result<(), PlanError> {
        Ok(())
    }

    /// Whether connections are judged at all.
    pub fn limits_exposure(&self) -> bool {
        !self.enforced.is_empty() || !self.shadow.is_empty()
    }

    /// Whether it matters which network a connection comes from.
    pub fn limits_networks(&self) -> bool {
        let mut exposures = self.enforced.iter().chain(self.shadow.iter()).flat_map(|(_, said)| said);
        exposures.any(|exposure| exposure.networks.as_ref().is_some_and(|networks| !networks.is_empty()))
    }

    /// The network that an address is of.
    pub fn network_of(&self, address: IpAddr) -> Option<&NetworkName> {
        self.ranges.iter().find(|range| range.cidr.contains(address)).map(|range| &range.network)
    }
}
