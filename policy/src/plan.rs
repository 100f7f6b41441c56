//! What the filter runs: a plan for each place of a cluster, canonical JSON, no larger than that place needs.
//!
//! Only [`compile`](crate::compile()) and [`Plan::read`] make one, and both check every reference in it.

mod clause;
mod gateway;
mod inbound;
mod json;
mod members;
mod outbound;
mod read;
mod table;
mod tokens;

use serde::Serialize;

pub use clause::Clause;
pub use gateway::{Exposure, GatewayPlan, Range};
pub(crate) use inbound::CANONICAL_SERVICE;
pub use inbound::{From, Inbound, InboundPlan, Location, Rule, Section, To, Within};
pub use members::{Members, MembersError};
pub use outbound::{Bound, Outbound, OutboundPlan, Pin, Split};
pub use table::Table;
pub use tokens::{TokenKeys, Tokens};

use crate::map::Map;
use crate::name::{ClusterName, NetworkName};
use crate::set::Set;
use json::{Fields, Json};
use read::{FromPlan, Reader, reads};

/// The version of the plan's form that this code writes and reads.
pub const SCHEMA: u32 = 1;

/// Why bytes are not a plan, or not one for here.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not JSON.
    #[error("this is not a plan")]
    Malformed(#[from] serde_json::Error),
    /// Not even text.
    #[error("this is not a plan")]
    Garbled(#[from] std::str::Utf8Error),
    /// JSON of another shape.
    #[error("this is not a plan: {path}: {why}")]
    Misfit {
        /// Where in it, such as `sections[3].allow[0].from`.
        path: String,
        /// What is wrong there.
        why: String,
    },
    /// Written by a newer isthmus.
    #[error(
        "this plan has schema {found}, and this filter reads up to {SCHEMA}: update the module first, then the plan"
    )]
    Newer {
        /// The schema that the plan says.
        found: u64,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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

reads! {
    Home { mesh, cluster, network }
}

/// Reads the types of a plan that stands under a key, once its version is known to be one of ours.
fn read<T: FromPlan>(json: Json<'_>, key: &'static str) -> Result<T, PlanError> {
    let schema = member(json, "schema").and_then(Json::number);
    if let Some(found) = schema.filter(|found| *found > u64::from(SCHEMA)) {
        return Err(PlanError::Newer { found });
    }
    let mut reader = Reader::within(key);
    let mut plan = T::blank();
    plan.fill(json, &mut reader);
    reader.end().map(|()| plan)
}

fn field<'j>(fields: Fields<'j>, key: &str) -> Option<Json<'j>> {
    fields.into_iter().find(|(found, _)| found == key).map(|(_, value)| value)
}

macro_rules! plans {
    ($($plan:ident),*) => {$(
        impl $plan {
            /// Reads a plan and checks its references.
            pub fn read(json: &[u8]) -> Result<Self, PlanError> {
                Self::of_json(Json::read(json)?, PLAN)
            }

            fn of_json(json: Json<'_>, key: &'static str) -> Result<Self, PlanError> {
                let mut plan: Self = read(json, key)?;
                plan.check().map(|()| plan)
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

/// Where a plan stands in a configuration.
const PLAN: &str = "plan";
/// Where one that is tried stands.
const TRIED: &str = "trial.plan";

impl Plan {
    /// Reads the plan of a role and checks its references.
    pub fn read(role: Role, json: &[u8]) -> Result<Self, PlanError> {
        Self::of_json(role, Json::read(json)?, PLAN)
    }

    fn of_json(role: Role, json: Json<'_>, key: &'static str) -> Result<Self, PlanError> {
        match role {
            Role::Outbound | Role::Upstream => OutboundPlan::of_json(json, key).map(Self::Outbound),
            Role::Inbound => InboundPlan::of_json(json, key).map(Self::Inbound),
            Role::Gateway => GatewayPlan::of_json(json, key).map(Self::Gateway),
        }
    }

    /// A plan of the same home by which nothing is decided, nothing believed that only tokens prove, and nothing signed: as
    /// if nobody had written a policy.
    #[must_use]
    pub fn without_policies(&self) -> Self {
        match self.clone() {
            Self::Outbound(plan) => Self::Outbound(OutboundPlan {
                clusters: Vec::new(),
                inside: Map::default(),
                tokens: None,
                enforced: Table::default(),
                shadow: Table::default(),
                ..plan
            }),
            Self::Inbound(plan) => Self::Inbound(InboundPlan {
                sections: Vec::new(),
                enforced: Table::default(),
                shadow: Table::default(),
                tokens: None,
                apart: Set::default(),
                ..plan
            }),
            Self::Gateway(plan) => Self::Gateway(GatewayPlan {
                ranges: Vec::new(),
                enforced: Table::default(),
                shadow: Table::default(),
                ..plan
            }),
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
    /// A plan that judges the same requests beside it, and that nothing is done by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// A plan that is tried before it is enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// Its digest, as [`Configuration::digest`] is.
    pub digest: String,
    /// The plan.
    pub plan: Plan,
}

impl Configuration {
    /// Reads what Envoy hands to the plugin.
    pub fn read(json: &[u8]) -> Result<Self, PlanError> {
        let json = Json::read(json)?;
        let (mut role, mut digest, mut reader) = (Role::Outbound, String::new(), Reader::default());
        let keys = &[("role", true), ("digest", true), ("plan", true), ("trial", false)];
        reader.object(json, keys, &mut [&mut role, &mut digest, &mut Later, &mut Later]);
        reader.end()?;
        let plan = member(json, "plan").unwrap_or(json);
        let trial = member(json, "trial").map(|trial| Trial::of_json(role, trial)).transpose()?;
        Ok(Self { role, digest, plan: Plan::of_json(role, plan, PLAN)?, trial })
    }
}

impl Trial {
    fn of_json(role: Role, json: Json<'_>) -> Result<Self, PlanError> {
        let (mut digest, mut reader) = (String::new(), Reader::within("trial"));
        reader.object(json, &[("digest", true), ("plan", true)], &mut [&mut digest, &mut Later]);
        reader.end()?;
        Ok(Self { digest, plan: Plan::of_json(role, member(json, "plan").unwrap_or(json), TRIED)? })
    }
}

/// What stands under a key of an object.
fn member<'j>(json: Json<'j>, key: &str) -> Option<Json<'j>> {
    json.fields().and_then(|fields| field(fields, key))
}

/// A part that is read once it is known what it is.
struct Later;

impl FromPlan for Later {
    fn blank() -> Self {
        Self
    }

    fn fill<'j>(&mut self, _json: Json<'j>, _reader: &mut Reader<'j>) {}
}
