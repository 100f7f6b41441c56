//! Whether the CAs that are about to be put into clusters leave those that are there accepted: workloads go on with what they
//! have until it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::Mesh;
use policy::mesh::Cluster;
use policy::name::ClusterName;
use serde_json::Value;
use time::OffsetDateTime;

use super::{How, Standing, Trouble, Wanted, Works};
use crate::cert::{Bundle, Side, from_secret};
use crate::doctor::Object;
use crate::kube::{self, ClusterError, Id, Kind, many};
use crate::manifest::ISTIO_NAMESPACE;

/// The CA that a cluster has, if it has one that can be read.
pub async fn authority_at(at: &kube::Cluster) -> Result<Option<Bundle>, ClusterError> {
    let namespace = Some(ISTIO_NAMESPACE.to_owned());
    let id = Id { kind: Kind::new("v1", "Secret"), namespace, name: "cacerts".to_owned() };
    Ok(at.get(&id).await?.and_then(bundle))
}

fn bundle(secret: Value) -> Option<Bundle> {
    let secret = Object::of(secret)?;
    from_secret(|key| secret.data(key))
}

/// Keeps clusters from a CA by which workloads that accept each other now would not any more.
pub(super) async fn keep(wanted: &Wanted<'_>, standing: &Standing, how: &How, all: &mut Works) {
    let (mesh, now) = (wanted.mesh, how.secrets.now);
    if wanted.authorities.is_empty() || how.replace_authority {
        return;
    }
    let there = there(mesh, standing, how).await;
    for cluster in mesh.signers() {
        let new = wanted.authorities.get(&cluster.name).cloned().and_then(bundle);
        let Some(new) = new.and_then(|bundle| side(cluster, &bundle, now)) else { continue };
        let Some(Ok(work)) = all.get_mut(&cluster.name) else { continue };
        let broken = broken(&cluster.name, &there, &new, now);
        if !broken.is_empty() {
            work.trouble.get_or_insert(Trouble::Distrust { broken });
        }
    }
}

/// How the clusters look now.
async fn there(mesh: &Mesh, standing: &Standing, how: &How) -> BTreeMap<ClusterName, Side> {
    let now = how.secrets.now;
    let reached = mesh.signers().filter_map(|cluster| {
        let at = Arc::clone(standing.get(&cluster.name)?.as_ref().ok()?);
        let cluster = cluster.clone();
        // One that does not answer is told of when it is worked on.
        Some(async move {
            let bundle = authority_at(&at).await.ok().flatten()?;
            Some((cluster.name.clone(), side(&cluster, &bundle, now)?))
        })
    });
    many::bounded(reached.collect::<Vec<_>>(), how.parallel).await.into_iter().flatten().collect()
}

fn side(cluster: &Cluster, bundle: &Bundle, now: OffsetDateTime) -> Option<Side> {
    Side::of(cluster.name.as_str(), cluster.trust_domain.as_str(), bundle, now).ok()
}

/// Who accepts whom now and would not with another CA of a cluster. Its own workloads are among them: they get new certificates
/// one by one.
fn broken(
    name: &ClusterName,
    there: &BTreeMap<ClusterName, Side>,
    new: &Side,
    now: OffsetDateTime,
) -> Vec<String> {
    let Some(old) = there.get(name) else { return Vec::new() };
    let mut broken = Vec::new();
    for (other, side) in there {
        let does = |judge: &Side, shown: &Side| judge.accepts(shown, now).is_ok();
        if does(side, old) && !does(side, new) {
            broken.push(format!("workloads of {other} would refuse new ones of {name}"));
        }
        if does(old, side) && !does(new, side) {
            broken.push(format!("new workloads of {name} would refuse those of {other}"));
        }
    }
    broken
}
