//! Tokens of the account that control planes read as: each hangs on a Secret, and ends with it.

use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use policy::name::ClusterName;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::kubeconfig::Token;
use super::{How, Pair, READER, Reached, RemoteError};
use crate::kube::{Apply, Cluster, ClusterError, Id, Kind, MESH_MANAGER, Problem, is_managed_by};
use crate::manifest::ISTIO_NAMESPACE;

/// The label that says whose token it is.
const OF: &str = "isthmus.dev/token-of";

/// How often it is looked whether a token is there.
const TICK: Duration = Duration::from_millis(100);

/// Makes a token for a pair, beside those that there are.
pub(super) async fn make(pair: Pair<'_>, at: Reached<'_>, how: How) -> Result<Token, RemoteError> {
    let reader = &pair.reader.name;
    let name = format!("istio-remote-token-{reader}-{}", how.now.unix_timestamp_nanos() / 1_000_000);
    let mut secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": ISTIO_NAMESPACE,
            "labels": {"app.kubernetes.io/managed-by": "isthmus", OF: reader.as_str()},
        },
    });
    if let (None, Some(fields)) = (how.lifetime, secret.as_object_mut()) {
        let annotations = json!({"kubernetes.io/service-account.name": READER});
        fields.insert("type".to_owned(), json!("kubernetes.io/service-account-token"));
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("annotations".to_owned(), annotations);
        }
    }
    at.read.apply(&secret, Apply { dry_run: false, force: how.force }).await?;
    let made = match how.lifetime {
        Some(lifetime) => {
            let account = (ISTIO_NAMESPACE, READER);
            let text = at.read.token(account, lifetime.as_secs(), &name).await;
            text.map(|text| (Zeroizing::new(text), None)).map_err(RemoteError::from)
        }
        None => wait(&pair.read.name, at.read, &name, how.patience).await,
    };
    let token = match made {
        Ok((text, authority)) => authority_of(pair, at, authority).await.map(|authority| (text, authority)),
        Err(why) => Err(why),
    };
    match token {
        Ok((text, authority)) => Ok(Token { secret: name, text, authority }),
        Err(why) => {
            // Nobody will ever use it. What went wrong first is what is told.
            let _left_behind = revoke(pair, at.read, |other| other != name).await.is_err();
            Err(why)
        }
    }
}

/// A token and the CA beside it.
type Put = (Zeroizing<String>, Option<String>);

/// Waits until the controller of tokens has put one into a Secret.
async fn wait(
    cluster: &ClusterName,
    at: &Cluster,
    name: &str,
    patience: Duration,
) -> Result<Put, RemoteError> {
    let deadline = Instant::now() + patience;
    let id = id("Secret", name);
    loop {
        let raced = || RemoteError::Raced { cluster: cluster.clone() };
        let secret = at.get(&id).await?.ok_or_else(raced)?;
        let data = |key: &str| {
            let text = secret.get("data")?.get(key)?.as_str()?;
            String::from_utf8(Base64::decode_vec(text).ok()?).ok()
        };
        if let Some(token) = data("token").filter(|token| !token.is_empty()) {
            return Ok((Zeroizing::new(token), data("ca.crt")));
        }
        if Instant::now() >= deadline {
            let (cluster, secret) = (cluster.clone(), name.to_owned());
            return Err(RemoteError::NoToken { cluster, secret, after: patience });
        }
        sleep(TICK).await;
    }
}

/// What the API server is known by: as the token's Secret says it, else as every namespace is told, else as we know it.
async fn authority_of(pair: Pair<'_>, at: Reached<'_>, given: Option<String>) -> Result<String, RemoteError> {
    if let Some(given) = given {
        return Ok(given);
    }
    let told = at.read.get(&id("ConfigMap", "kube-root-ca.crt")).await?.unwrap_or_default();
    let told = told.get("data").and_then(|data| data.get("ca.crt")).and_then(Value::as_str);
    let known = told.map(str::to_owned).or_else(|| at.read.authority().map(str::to_owned));
    known.ok_or_else(|| RemoteError::NoAuthority { cluster: pair.read.name.clone() })
}

/// Takes away the tokens of a pair, but those whose Secrets are to stay.
pub(super) async fn revoke(
    pair: Pair<'_>,
    at: &Cluster,
    stays: impl Fn(&str) -> bool,
) -> Result<(), RemoteError> {
    for secret in at.list(&Kind::new("v1", "Secret")).await? {
        let labels = secret.pointer("/metadata/labels").and_then(Value::as_object);
        let of = |labels: &Map<String, Value>| labels.get(OF)?.as_str().map(str::to_owned);
        let name = secret.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let is_of_pair = labels.and_then(of).as_deref() == Some(pair.reader.name.as_str());
        if is_of_pair && is_managed_by(&secret, MESH_MANAGER) && !stays(name) {
            match at.delete(&secret, false).await {
                // Somebody has just written to it: whoever comes next takes it away.
                Err(ClusterError { problem, .. }) if matches!(*problem, Problem::Changed { .. }) => {}
                deleted => drop(deleted?),
            }
        }
    }
    Ok(())
}

/// Whether the Secret of a token is there.
pub(super) async fn is_there(at: &Cluster, name: &str) -> Result<bool, RemoteError> {
    Ok(at.get(&id("Secret", name)).await?.is_some())
}

fn id(kind: &str, name: &str) -> Id {
    Id { kind: Kind::new("v1", kind), namespace: Some(ISTIO_NAMESPACE.to_owned()), name: name.to_owned() }
}
