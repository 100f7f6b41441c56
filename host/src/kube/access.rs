//! Who may do what, and the tokens by which a server knows them.

use std::fmt;

use serde_json::{Value, json};

use super::call::Call;
use super::{Cluster, ClusterError, Deed, Problem};

/// Something that a user may or may not do, everywhere in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// Such as `list`.
    pub verb: &'static str,
    /// The group of the API; empty for the oldest kinds.
    pub group: &'static str,
    /// Such as `services`.
    pub resource: &'static str,
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, group, resource } = self;
        let dot = if group.is_empty() { "" } else { "." };
        write!(out, "{verb} {resource}{dot}{group}")
    }
}

impl Cluster {
    /// Whether we may do something in every namespace.
    pub async fn may(&self, right: Right) -> Result<bool, ClusterError> {
        let Right { verb, group, resource } = right;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "group": group, "resource": resource}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned();
        let answer = self.call(&Call::create(path, &review)).await;
        let answer = answer.map_err(|problem| self.error(Deed::review(&right.to_string()), problem))?;
        Ok(answer.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or_default())
    }

    /// A token of a service account that ends after so many seconds, or with the Secret that it is bound to.
    pub async fn token(
        &self,
        (namespace, account): (&str, &str),
        seconds: u64,
        secret: &str,
    ) -> Result<String, ClusterError> {
        let wish = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": secret},
            },
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.call(&Call::create(path, &wish)).await.and_then(|answer| {
            let token = answer.pointer("/status/token").and_then(Value::as_str).map(str::to_owned);
            token.ok_or_else(|| Problem::Unreadable { why: "no token in the answer".to_owned() })
        });
        answer.map_err(|problem| self.error(Deed::token(&format!("{namespace}/{account}")), problem))
    }
}
