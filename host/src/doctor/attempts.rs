//! What was tried of a cluster, and what came of it, before anybody judges.

use std::collections::BTreeMap;

use crate::proxies::{Istiod, Proxy};

/// What was tried of one cluster. What is `None` there was nothing to try.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// Its API server, where the other clusters are told that it is.
    pub server: Option<Result<(), String>>,
    /// What its remote secrets lead to, by the names of the clusters.
    pub secrets: BTreeMap<String, Result<(), String>>,
    /// The remote secrets that were not tried, by the names of the clusters, and why.
    pub untried: BTreeMap<String, String>,
    /// Its gateway, where the other clusters are told that it is: a connection.
    pub gateway: Option<Result<(), String>>,
    /// What answers there to the name of a service.
    pub service: Option<Answer>,
    /// What its proxies say that they run.
    pub proxies: Option<Result<Vec<Proxy>, String>>,
    /// What its istiods say of the clusters that they read.
    pub istiods: Option<Result<Vec<Istiod>, String>>,
}

/// What answers to the name of a service.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The name, as sidecars ask for it.
    pub sni: String,
    /// The certificates that are shown in DER, the leaf first; or what happened instead.
    pub shown: Result<Vec<Vec<u8>>, String>,
}
