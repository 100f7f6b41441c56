//! Remote secrets: how the control plane of one cluster reads the API server of another.
//!
//! ```text
//! mesh ── pairs ──> (reader, read)
//!   in read:    account, its rights, a Secret that the token hangs on ──> token
//!   here:       kubeconfig ── check: connect, authenticate, list ──> works | why not
//!   in reader:  the Secret `istio-remote-secret-READ`, then the tokens before it go
//! ```
//!
//! Each reader has a token of its own, so that one can be taken away without the others. A token is a Secret's: it ends
//! with that Secret, whether it lasts otherwise or not.

mod account;
mod check;
mod error;
mod kubeconfig;
mod token;

use std::time::Duration;

use policy::Mesh;
use policy::mesh::Cluster;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

pub use check::check;
pub use error::RemoteError;
use kubeconfig::{Kubeconfig, Token};
pub(crate) use kubeconfig::{claims, ends, hangs_on, is_loopback};

use crate::kube::{self, Apply, Id, Kind, MESH_MANAGER, is_managed_by};
use crate::manifest::{ISTIO_NAMESPACE, read_by};

/// The account that other control planes read a cluster as.
pub const READER: &str = "istio-reader-service-account";

/// The label of remote secrets; istiod takes every key of such a Secret for a cluster's name.
const LABEL: &str = "istio/multiCluster";

/// A control plane, and a cluster that it reads.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'m> {
    /// Where the control plane runs: it gets the secret.
    pub reader: &'m Cluster,
    /// Whose API server it reads: it has the account.
    pub read: &'m Cluster,
}

/// Every pair that needs a secret.
pub fn pairs(mesh: &Mesh) -> Vec<Pair<'_>> {
    let of = |reader| read_by(mesh, reader).into_iter().map(move |read| Pair { reader, read });
    mesh.clusters().flat_map(of).collect()
}

/// How secrets are made.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Tokens end after this time, unless they are renewed; `None`: they last until they are taken away.
    pub lifetime: Option<Duration>,
    /// New tokens, whatever there is.
    pub rotate: bool,
    /// Fields that others own are taken from them.
    pub force: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// How long a token is waited for.
    pub patience: Duration,
    /// Now.
    pub now: OffsetDateTime,
}

/// What became of the secret of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was there and works.
    Kept,
    /// There was none.
    Made,
    /// It was there and did not do any more, or not for long.
    Renewed,
}

impl Change {
    /// As people and programs call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Made => "made",
            Self::Renewed => "renewed",
        }
    }
}

/// The two clusters of a pair, as they are reached from here.
#[derive(Debug, Clone, Copy)]
pub struct Reached<'r> {
    /// Where the control plane runs.
    pub reader: &'r kube::Cluster,
    /// Whose API server it reads.
    pub read: &'r kube::Cluster,
}

/// How often a secret is made while others make it too.
const TRIES: usize = 4;

/// Sees to it that a control plane can read a cluster. Another run at the same time may have taken away the token that this
/// one has just written, so it is looked at again.
pub async fn ensure(pair: Pair<'_>, at: Reached<'_>, how: How) -> Result<Change, RemoteError> {
    let began = Instant::now();
    for _ in 0..TRIES {
        let how = How { now: how.now + began.elapsed(), ..how };
        match once(pair, at, how).await {
            Err(RemoteError::Raced { .. }) => {}
            Ok(change) if change != Change::Kept && !how.dry_run && !stands(pair, at).await? => {}
            done => return done,
        }
    }
    Err(raced(pair))
}

fn raced(pair: Pair<'_>) -> RemoteError {
    RemoteError::Raced { cluster: pair.read.name.clone() }
}

/// Whether the Secret that the token of a pair hangs on is there: who asks the API server itself may be let in by what it
/// remembers. A token that does not say where it hangs is believed.
async fn stands(pair: Pair<'_>, at: Reached<'_>) -> Result<bool, RemoteError> {
    let secret = at.reader.get(&secret_id(pair)).await?;
    let given = secret.as_ref().and_then(|secret| Kubeconfig::of(secret, pair.read.name.as_str()));
    let Some((namespace, name)) = given.and_then(|given| given.hangs_on()) else { return Ok(true) };
    let id = Id { kind: Kind::new("v1", "Secret"), namespace: Some(namespace), name };
    Ok(at.read.get(&id).await?.is_some())
}

async fn once(pair: Pair<'_>, at: Reached<'_>, how: How) -> Result<Change, RemoteError> {
    let there = at.reader.get(&secret_id(pair)).await?;
    let kept = there.as_ref().and_then(|secret| Kubeconfig::of(secret, pair.read.name.as_str()));
    let server = server(pair, at)?;
    if !how.rotate && !how.force && there.as_ref().is_some_and(|secret| is_of_others(pair, secret)) {
        return Ok(Change::Kept);
    }
    if let Some(kept) = &kept
        && !how.rotate
        && kept.server == server
        && kept.is_fresh(how.now)
        && check(&kept.text()?, at.read.timeout()).await.is_ok()
        && stands(pair, at).await?
    {
        // A run that was killed may have left a token that nobody uses.
        if let Some((_, used)) = kept.hangs_on().filter(|_| !how.dry_run) {
            token::revoke(pair, at.read, |name| name >= used.as_str()).await?;
        }
        return Ok(Change::Kept);
    }
    let change = if there.is_some() { Change::Renewed } else { Change::Made };
    if how.dry_run {
        return Ok(change);
    }
    account::ensure(at.read, how.force).await?;
    let Token { secret, text, authority } = token::make(pair, at, how).await?;
    let kubeconfig = Kubeconfig { cluster: pair.read.name.to_string(), server, authority, token: text };
    let works = check(&kubeconfig.text()?, at.read.timeout()).await;
    let written = match works {
        Ok(()) => {
            let wanted = kubeconfig.secret()?;
            at.reader.apply(&wanted, Apply { dry_run: false, force: how.force }).await.map_err(Into::into)
        }
        // Another run has taken the token away before this one has used it.
        Err(_refused) if !token::is_there(at.read, &secret).await? => return Err(raced(pair)),
        Err(why) => Err(why),
    };
    // A token that nobody uses is taken away again, and one that is used takes the place of those before.
    // What is later is another run's, which looks after it.
    let stays = |name: &str| if written.is_ok() { name >= secret.as_str() } else { name != secret };
    token::revoke(pair, at.read, stays).await?;
    written.map(|_| change)
}

/// Whether others have made a secret by which the control plane logs in otherwise than with a token: that is theirs to try and
/// to renew.
fn is_of_others(pair: Pair<'_>, secret: &Value) -> bool {
    let text = kubeconfig::text_of(secret, pair.read.name.as_str());
    !is_managed_by(secret, MESH_MANAGER) && text.is_some_and(|text| check::foreign(&text).is_some())
}

/// Secrets of ours for clusters that a control plane has not to read any more, taken away; their clusters' names.
pub async fn prune(
    mesh: &Mesh,
    (reader, at): (&Cluster, &kube::Cluster),
    dry_run: bool,
) -> Result<Vec<String>, RemoteError> {
    let wanted: Vec<String> =
        read_by(mesh, reader).into_iter().map(|read| secret_name(read.name.as_str())).collect();
    let mut gone = Vec::new();
    for secret in at.list(&Kind::new("v1", "Secret")).await? {
        let name = secret.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let is_remote = secret.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL)).is_some();
        if !is_remote || !is_managed_by(&secret, MESH_MANAGER) || wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        at.delete(&secret, dry_run).await?;
        gone.push(name.to_owned());
    }
    Ok(gone)
}

/// The kubeconfig that a control plane has for a cluster, if it has one.
pub async fn given(pair: Pair<'_>, reader: &kube::Cluster) -> Result<Option<String>, RemoteError> {
    let secret = reader.get(&secret_id(pair)).await?;
    Ok(secret.and_then(|secret| kubeconfig::text_of(&secret, pair.read.name.as_str())))
}

/// Where other clusters reach the API server that is read: where `mesh.yaml` says, else where we reach it.
fn server(pair: Pair<'_>, at: Reached<'_>) -> Result<String, RemoteError> {
    let said = pair.read.api_server.clone().or_else(|| at.read.server().map(str::to_owned));
    said.ok_or_else(|| RemoteError::NoServer { cluster: pair.read.name.clone() })
}

fn secret_name(cluster: &str) -> String {
    format!("istio-remote-secret-{cluster}")
}

fn secret_id(pair: Pair<'_>) -> Id {
    Id {
        kind: Kind::new("v1", "Secret"),
        namespace: Some(ISTIO_NAMESPACE.to_owned()),
        name: secret_name(pair.read.name.as_str()),
    }
}

#[cfg(test)]
mod tests;
