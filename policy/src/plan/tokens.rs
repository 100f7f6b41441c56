//! What proxies need in order to sign tokens, and to believe them.

use serde::Serialize;

use super::read::reads;
use crate::key::PublicKey;
use crate::map::Map;
use crate::name::{ClusterName, KeyId, TrustDomain};

/// How the proxies of a cluster sign. The key itself never stands in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// For how many seconds a token holds.
    pub life: u32,
    /// The trust domain of the cluster's identities: a token names the identity of its sender.
    pub trust_domain: TrustDomain,
}

/// Whose tokens are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenKeys {
    /// For how many seconds after it was issued a token holds at most, whatever it says itself.
    pub life: u32,
    /// The keys of each cluster; more than one while they change.
    pub keys: Map<ClusterName, Map<KeyId, PublicKey>>,
}

reads! {
    Tokens { life, trust_domain as "trustDomain" }
    TokenKeys { life, keys }
}

impl TokenKeys {
    /// A key by its name, with the cluster that it is of.
    pub fn of(&self, cluster: &str, id: &str) -> Option<(&ClusterName, &PublicKey)> {
        let named = |(name, _): &(&ClusterName, _)| name.as_str() == cluster;
        let (cluster, keys) = self.keys.iter().find(named)?;
        Some((cluster, keys.get(&id.parse::<KeyId>().ok()?)?))
    }
}
