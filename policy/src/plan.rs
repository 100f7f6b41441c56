//! What the filter runs: a plan for each place of a cluster, canonical JSON, no larger than that place needs.
//!
//! Only [`compile`](crate::compile()) and [`Plan::read`] make one, and both check every reference in it.

mod clause;
mod gateway;
mod inbound;
mod members;
mod outbound;
mod table;
mod tokens;

use serde::{Deserialize, Serialize};

pub use clause::Clause;
pub use gateway::{Exposure, GatewayPlan, Range};
pub(crate) use inbound::CANONICAL_SERVICE;
pub use inbound::{From, Inbound, InboundPlan, Location, Rule, Section, To, Within};
pub use members::{Members, MembersError};
pub use outbound::{Bound, Outbound, OutboundPlan, Pin, Split};
pub use table::Table;
pub use tokens::{TokenKeys, Tokens};

use crate::name::{ClusterName, NetworkName};

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
    /// Something is spoken of that the plan does not describe.
    #[error("the plan speaks of {what} and does not describe it")]
    Unknown {
        /// What.
        what: String,
    },
    /// Clusters that are out of order, so that their numbers mean nothing.
    #[error("the plan's clusters are not in the order of their names")]
    Unordered,
}

/// Whose plan it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The mesh.
    pub mesh: String,
    /// The cluster whose proxies run it.
    pub cluster: ClusterName,
    /// The network of that cluster.
    pub network: NetworkName,
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
    /// Behind the load balancer of a proxy that requests leave by, once the endpoint is chosen.
    Upstream,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 4] = [Self::Outbound, Self::Inbound, Self::Gateway, Self::Upstream];

    /// As plugins and files name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

/// Everything that the proxies of one cluster need at one place in order to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Plan {
    /// At the proxy that a request leaves by, before its load balancer and behind it.
    Outbound(OutboundPlan),
    /// At the sidecar that a request arrives at.
    Inbound(InboundPlan),
    /// At the east-west gateway.
    Gateway(GatewayPlan),
}

/// The part of a plan that every reader understands.
#[derive(Deserialize)]
struct Versioned {
    schema: u32,
}

fn read<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, PlanError> {
    let Versioned { schema } = serde_json::from_slice(json)?;
    if schema > SCHEMA {
        return Err(PlanError::Newer { found: schema });
    }
    Ok(serde_json::from_slice(json)?)
}

macro_rules! plans {
    ($($plan:ident),*) => {$(
        impl $plan {
            /// Reads a plan and checks its references.
            pub fn read(json: &[u8]) -> Result<Self, PlanError> {
                read::<Self>(json)?.checked()
            }

            /// The plan as JSON: the same plan, the same bytes.
            pub fn to_json(&self) -> Result<String, PlanError> {
                Ok(serde_json::to_string(self)?)
            }

            /// Whose plan it is.
            pub fn home(&self) -> &Home {
                &self.home
            }
        }
    )*};
}

plans!(OutboundPlan, InboundPlan, GatewayPlan);

impl Plan {
    /// Reads the plan of a role and checks its references.
    pub fn read(role: Role, json: &[u8]) -> Result<Self, PlanError> {
        match role {
            Role::Outbound | Role::Upstream => OutboundPlan::read(json).map(Self::Outbound),
            Role::Inbound => InboundPlan::read(json).map(Self::Inbound),
            Role::Gateway => GatewayPlan::read(json).map(Self::Gateway),
        }
    }

    /// The plan as JSON: the same plan, the same bytes.
    pub fn to_json(&self) -> Result<String, PlanError> {
        Ok(serde_json::to_string(self)?)
    }

    /// Whose plan it is.
    pub fn home(&self) -> &Home {
        match self {
            Self::Outbound(plan) => &plan.home,
            Self::Inbound(plan) => &plan.home,
            Self::Gateway(plan) => &plan.home,
        }
    }
}

/// What a plugin is configured with: the `pluginConfig` of a `WasmPlugin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        Ok(Self { role, digest, plan: Plan::read(role, plan.get().as_bytes())? })
    }
}
