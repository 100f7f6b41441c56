//! A plugin's configuration, checked against the proxy that it arrived in.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use policy::name::{Namespace, NetworkName};
use policy::plan::{Configuration, Guard, Plan, PlanError, Role};

use crate::facts::Peers;
use crate::host::Host;

/// What a plugin runs on until the next configuration is taken.
#[derive(Debug)]
pub struct Settings {
    /// Where the plugin stands.
    pub role: Role,
    /// What it decides by.
    pub plan: Plan,
    /// What requests to this proxy's own workload are judged by.
    pub guard: Guard,
    /// The namespace of this proxy's workload.
    pub namespace: Namespace,
    /// The network of this proxy.
    pub network: NetworkName,
    /// The peers whose certificates were read.
    pub peers: Peers,
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
        let Configuration { role, digest: _, plan } =
            Configuration::read(json).map_err(Refusal::Unreadable)?;
        let cluster = metadata(host, "CLUSTER_ID").ok_or(Refusal::Silent { key: "CLUSTER_ID" })?;
        if cluster != plan.cluster().as_str() {
            let plan = plan.cluster().to_string();
            return Err(Refusal::Elsewhere { key: "CLUSTER_ID", plan, proxy: cluster });
        }
        let network = plan.network().clone();
        if let Some(proxy) = metadata(host, "NETWORK").filter(|proxy| proxy != network.as_str()) {
            return Err(Refusal::Elsewhere { key: "NETWORK", plan: network.to_string(), proxy });
        }
        let namespace: Namespace = metadata(host, "NAMESPACE")
            .and_then(|namespace| namespace.parse().ok())
            .ok_or(Refusal::Silent { key: "NAMESPACE" })?;
        let labels: BTreeMap<String, String> = plan
            .labels()
            .into_iter()
            .filter_map(|label| Some((label.to_owned(), metadata(host, &format!("LABELS\0{label}"))?)))
            .collect();
        let guard = Guard::new(&plan, &namespace, &labels);
        Ok(Self { role, plan, guard, namespace, network, peers: Peers::default() })
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
