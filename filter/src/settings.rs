//! A plugin's configuration, checked against the proxy that it arrived in.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use policy::Guard;
use policy::name::Namespace;
use policy::plan::{Configuration, GatewayPlan, Home, InboundPlan, OutboundPlan, Plan, PlanError};

use crate::facts::Peers;
use crate::host::Host;

/// What a plugin runs on until the next configuration is taken.
#[derive(Debug)]
pub struct Settings {
    /// Where the plugin stands, and what it decides by.
    pub place: Place,
    /// The proxy that it stands in.
    pub home: Home,
    /// The namespace of this proxy's workload.
    pub namespace: Namespace,
}

/// One of the filter's places, with all that it needs there.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them for each configuration")]
pub enum Place {
    /// The sidecar that a request leaves by.
    Outbound {
        /// Where requests may go.
        plan: OutboundPlan,
        /// For splits that are not sticky.
        draws: Draws,
    },
    /// The sidecar that a request arrives at.
    Inbound {
        /// What a source is told by.
        plan: InboundPlan,
        /// What requests to this proxy's own workload are judged by.
        guard: Guard,
        /// The peers whose certificates were read.
        peers: Peers,
    },
    /// The east-west gateway.
    Gateway {
        /// Who may see what.
        plan: GatewayPlan,
    },
    /// A sidecar whose namespace has a plan of its own, in a plugin of its own: this one leaves it all to that.
    Elsewhere,
}

impl Place {
    /// Whether connections pass it, and not requests.
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway { .. })
    }
}

/// Numbers drawn one after the other (splitmix64): even enough for shares, and no secret.
#[derive(Debug)]
pub struct Draws(Cell<u64>);

impl Draws {
    /// Draws that begin somewhere.
    pub fn from(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Why a configuration is refused. Envoy then keeps the one before.
#[derive(Debug)]
pub enum Refusal {
    /// It is not a configuration, or its plan is not one.
    Unreadable(PlanError),
    /// The proxy does not say what it must.
    Silent {
        /// The key of the node's metadata.
        key: &'static str,
    },
    /// The plan is for somewhere else.
    Elsewhere {
        /// The key of the node's metadata.
        key: &'static str,
        /// What the plan says.
        plan: String,
        /// What the proxy says of itself.
        proxy: String,
    },
}

impl Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(PlanError::Malformed(why)) => write!(out, "this is not a plan: {why}"),
            Self::Unreadable(error) => write!(out, "{error}"),
            Self::Silent { key } => write!(out, "this proxy's node metadata has no usable {key}"),
            Self::Elsewhere { key, plan, proxy } => {
                write!(out, "the plan is for {key} {plan:?}, and this proxy is of {proxy:?}")
            }
        }
    }
}

impl Settings {
    /// Reads a configuration and checks it against the proxy's own metadata.
    pub fn read(json: &[u8], host: &impl Host) -> Result<Self, Refusal> {
        let Configuration { role: _, digest: _, plan } =
            Configuration::read(json).map_err(Refusal::Unreadable)?;
        let home = plan.home().clone();
        let cluster = metadata(host, "CLUSTER_ID").ok_or(Refusal::Silent { key: "CLUSTER_ID" })?;
        if cluster != home.cluster.as_str() {
            let plan = home.cluster.to_string();
            return Err(Refusal::Elsewhere { key: "CLUSTER_ID", plan, proxy: cluster });
        }
        if let Some(proxy) = metadata(host, "NETWORK").filter(|proxy| proxy != home.network.as_str()) {
            return Err(Refusal::Elsewhere { key: "NETWORK", plan: home.network.to_string(), proxy });
        }
        let namespace: Namespace = metadata(host, "NAMESPACE")
            .and_then(|namespace| namespace.parse().ok())
            .ok_or(Refusal::Silent { key: "NAMESPACE" })?;
        let place = match plan {
            Plan::Outbound(plan) => Place::Outbound { plan, draws: Draws::from(host.now()) },
            Plan::Inbound(plan) if plan.leaves(&namespace) => Place::Elsewhere,
            Plan::Inbound(plan) => {
                let label =
                    |label: &str| Some((label.to_owned(), metadata(host, &format!("LABELS\0{label}"))?));
                let labels: BTreeMap<String, String> = plan.labels().into_iter().filter_map(label).collect();
                let guard = Guard::new(&plan, &namespace, &labels);
                Place::Inbound { plan, guard, peers: Peers::default() }
            }
            Plan::Gateway(plan) => Place::Gateway { plan },
        };
        Ok(Self { place, home, namespace })
    }
}

/// A text of the node's metadata. Envoy 1.33 and later have it under `xds` only, those before under `node` only.
fn metadata(host: &impl Host, key: &str) -> Option<String> {
    let mut path = String::with_capacity(64);
    ["xds\0node", "node"].into_iter().find_map(|root| {
        path.clear();
        let _infallible = write!(path, "{root}\0metadata\0{key}");
        String::from_utf8(host.property(&path)?).ok()
    })
}
