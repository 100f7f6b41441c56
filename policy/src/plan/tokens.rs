//! What proxies need in order to sign tokens, and to believe them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::key::PublicKey;
use crate::name::{ClusterName, KeyId, TrustDomain};

/// How the proxies of a cluster sign. The key itself never stands in a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tokens {
    /// For how many seconds a token holds.
    pub life: u32,
    /// The trust domain of the cluster's identities: a token names the identity of its sender.
    pub trust_domain: TrustDomain,
}

/// Whose tokens are believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeys {
    /// For how many seconds after it was issued a token holds at most, whatever it says itself.
    pub life: u32,
    /// The keys of each cluster; more than one while they change.
    pub keys: BTreeMap<ClusterName, BTreeMap<KeyId, PublicKey>>,
}

impl TokenKeys {
    /// A key by its name, with the cluster that it is of.
    pub fn of(&self, cluster: &str, id: &str) -> Option<(&ClusterName, &PublicKey)> {
        let (cluster, keys) = self.keys.get_key_value(&cluster.parse().ok()?)?;
        Some((cluster, keys.get(&id.parse().ok()?)?))
    }
}
