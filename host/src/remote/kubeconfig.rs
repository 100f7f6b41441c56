//! The kubeconfig of a remote secret, and the secret around it: of the shape that `istioctl create-remote-secret` makes.

use std::fmt;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{LABEL, RemoteError, secret_name};
use crate::manifest::ISTIO_NAMESPACE;

/// A token, where it hangs, and what its server is known by.
pub(super) struct Token {
    pub(super) secret: String,
    pub(super) text: Zeroizing<String>,
    pub(super) authority: String,
}

/// What a remote secret says.
pub(super) struct Kubeconfig {
    pub(super) cluster: String,
    pub(super) server: String,
    pub(super) authority: String,
    pub(super) token: Zeroizing<String>,
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is nobody's business.
        let Self { cluster, server, authority: _, token: _ } = self;
        out.debug_struct("Kubeconfig")
            .field("cluster", cluster)
            .field("server", server)
            .finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// What the secret of a cluster says, if it has a token and is else as we write it.
    pub(super) fn of(secret: &Value, cluster: &str) -> Option<Self> {
        let config: Value = serde_saphyr::from_str(&text_of(secret, cluster)?).ok()?;
        let text = |path: &str| config.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let authority = Base64::decode_vec(&text("/clusters/0/cluster/certificate-authority-data")?).ok()?;
        Some(Self {
            cluster: text("/clusters/0/name")?,
            server: text("/clusters/0/cluster/server")?,
            authority: String::from_utf8(authority).ok()?,
            token: Zeroizing::new(text("/users/0/user/token")?),
        })
    }

    pub(super) fn text(&self) -> Result<Zeroizing<String>, RemoteError> {
        let Self { cluster: name, server, authority, token } = self;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": name,
                "cluster": {"certificate-authority-data": Base64::encode_string(authority.as_bytes()), "server": server},
            }],
            "users": [{"name": name, "user": {"token": token.as_str()}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        });
        let text = serde_saphyr::to_string(&config);
        text.map(Zeroizing::new).map_err(|source| RemoteError::Yaml(Box::new(source)))
    }

    /// The secret for the control plane that is to read the cluster.
    pub(super) fn secret(&self) -> Result<Value, RemoteError> {
        let data = Base64::encode_string(self.text()?.as_bytes());
        Ok(json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": secret_name(&self.cluster),
                "namespace": ISTIO_NAMESPACE,
                "labels": {"app.kubernetes.io/managed-by": "isthmus", LABEL: "true"},
                "annotations": {"networking.istio.io/cluster": self.cluster},
            },
            "data": {&self.cluster: data},
        }))
    }

    /// The namespace and name of the Secret that the token ends with, if it says so.
    pub(super) fn hangs_on(&self) -> Option<(String, String)> {
        hangs_on(&claims(&self.token)?)
    }

    /// Whether less than half of the token's life is over; one that never ends is always fresh.
    pub(super) fn is_fresh(&self, now: OffsetDateTime) -> bool {
        let Some(claims) = claims(&self.token) else { return true };
        let Some(end) = ends(&claims) else { return true };
        let start = claims.get("iat").and_then(Value::as_i64);
        let start = start.and_then(|start| OffsetDateTime::from_unix_timestamp(start).ok());
        start.is_some_and(|start| now - start < end - now)
    }
}

/// The kubeconfig for a cluster that a Secret has.
pub(super) fn text_of(secret: &Value, cluster: &str) -> Option<String> {
    let data = secret.get("data")?.get(cluster)?.as_str()?;
    String::from_utf8(Base64::decode_vec(data).ok()?).ok()
}

/// The claims of a JWT, unchecked: the API server judges it, and here is only asked what it says.
pub(crate) fn claims(token: &str) -> Option<Value> {
    let payload = Base64UrlUnpadded::decode_vec(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// When a token with these claims ends, if it does.
pub(crate) fn ends(claims: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(claims.get("exp")?.as_i64()?).ok()
}

/// The namespace and name of the Secret that a token with these claims ends with, where it is one's: a lasting token says it
/// in one way, and one that ends by itself in another.
pub(crate) fn hangs_on(claims: &Value) -> Option<(String, String)> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let lasting = |name: &str| text(claims.get(format!("kubernetes.io/serviceaccount/{name}")));
    let ending = |path: &str| text(claims.get("kubernetes.io").and_then(|said| said.pointer(path)));
    let namespace = lasting("namespace").or_else(|| ending("/namespace"))?;
    Some((namespace, lasting("secret.name").or_else(|| ending("/secret/name"))?))
}

/// Whether an address of an API server means the one who asks.
pub(crate) fn is_loopback(server: &str) -> bool {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    ["127.", "localhost", "[::1]", "0.0.0.0"].into_iter().any(|loopback| host.starts_with(loopback))
}
