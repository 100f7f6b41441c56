//! Who may roll out to a cluster: one at a time, by a `Lease` in the cluster, or by a lock on its directory.
//!
//! Whether the holder of a lease lives is judged as client-go does: by when *we* saw the lease change last, on our own
//! steady clock. What clocks say in the lease itself is told to people, and decides nothing.

mod hold;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::name::ClusterName;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::record::timestamp;
use super::{RolloutError, Target, Trouble};
use crate::kube::{Cluster, ClusterError, Id, Kind, MANAGER, Problem};
pub(super) use hold::{Guard, Hold};

/// No program of ours holds a cluster for longer than this without being heard of.
const LONGEST: Duration = Duration::from_secs(3600);

/// The name of the lease in the root namespace.
const NAME: &str = "isthmus-rollout";
/// What somebody else asks of the holder.
const REQUEST: &str = "isthmus.dev/request";
/// That it stops where it is.
const PAUSE: &str = "pause";
/// In a directory: the same wish, as a file.
const PAUSE_FILE: &str = ".isthmus-rollout.pause";

/// Who wants a lease, and for how long it holds unless it is renewed.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Who, and one of a kind.
    pub name: String,
    /// How long after its last renewal others may take it.
    pub time: Duration,
    /// What time it is, for people.
    pub clock: fn() -> OffsetDateTime,
}

/// What a lease is to somebody who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// It can be had.
    Free,
    /// It is theirs already.
    Ours,
    /// Somebody has it, and it cannot be known yet whether they live.
    Unclear,
    /// Somebody has it who lives.
    Taken,
}

/// Who has the lease of a cluster, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who, as they call themselves.
    pub by: String,
    /// When they renewed it last, by their own clock.
    pub renewed: Option<OffsetDateTime>,
    /// For how long it holds from then on.
    pub time: Duration,
    /// When it was seen so.
    pub seen: Instant,
}

/// Whether anybody has a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Holding {
    /// A directory does not say, unless one locks it oneself.
    #[default]
    Unknown,
    /// Nobody has it.
    Nobody,
    /// Somebody has it, dead or alive.
    Somebody(Held),
}

/// Whether anybody has the lease of a cluster.
pub(super) async fn holding(target: &Target, root: &str) -> Result<Holding, Trouble> {
    let Target::Cluster(server) = target else { return Ok(Holding::Unknown) };
    let Some(lease) = server.get(&id(root)).await? else { return Ok(Holding::Nobody) };
    let text = |field: &str| lease.get("spec")?.get(field)?.as_str();
    let Some(by) = text("holderIdentity").filter(|by| !by.is_empty()) else { return Ok(Holding::Nobody) };
    let renewed = text("renewTime").and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
    let time = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64).unwrap_or_default();
    let (by, time) = (crate::text::plain(by), Duration::from_secs(time));
    Ok(Holding::Somebody(Held { by, renewed, time, seen: Instant::now() }))
}

/// Watches a lease that somebody else has.
#[derive(Debug, Default)]
pub(super) struct Watcher(Option<(Value, Instant)>);

impl Watcher {
    /// What a lease is now. One that was seen to change has a holder that lives; one that did not for its own time
    /// has none.
    pub(super) fn judge(&mut self, lease: &Value, who: &str, now: Instant) -> Claim {
        let holder = lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default();
        if holder.is_empty() {
            return Claim::Free;
        }
        if holder == who {
            return Claim::Ours;
        }
        let spec = lease.get("spec").cloned().unwrap_or_default();
        match &self.0 {
            None => {
                self.0 = Some((spec, now));
                Claim::Unclear
            }
            Some((seen, _)) if *seen != spec => Claim::Taken,
            Some((_, since)) => {
                let time = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64);
                let time = Duration::from_secs(time.unwrap_or_default());
                match now.duration_since(*since) >= time {
                    true => Claim::Free,
                    // Nobody waits for ever, and without a word, for what whoever rules the cluster has written there.
                    false if time > LONGEST => Claim::Taken,
                    false => Claim::Unclear,
                }
            }
        }
    }
}

/// Takes the lease of a cluster, or the lock of a directory. It is renewed as long as it is held.
pub(super) async fn take(
    name: &ClusterName,
    target: &Target,
    root: &str,
    holder: &Holder,
) -> Result<Hold, Trouble> {
    match target {
        Target::Directory(path) => Ok(Hold::of_directory(lock(path)?, path.join(PAUSE_FILE))),
        Target::Cluster(server) => {
            let lease = acquire(name, server, root, holder).await?;
            Ok(Hold::of_lease(Arc::clone(server), lease, holder.clone()))
        }
    }
}

fn lock(path: &Path) -> Result<File, Trouble> {
    let fail = |source| RolloutError::Write { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(fail)?;
    // The directory itself is locked: GitOps would take a file of ours for one of its own.
    let directory = File::open(path).map_err(fail)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::WouldBlock) => Err(Trouble::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(fail(source).into()),
    }
}

async fn acquire(
    name: &ClusterName,
    server: &Cluster,
    root: &str,
    holder: &Holder,
) -> Result<Value, Trouble> {
    let mut watcher = Watcher::default();
    loop {
        let Some(lease) = server.get(&id(root)).await? else {
            match server.create(&fresh(root, holder)).await {
                Err(error) if has_changed(&error) => continue,
                created => return Ok(created?),
            }
        };
        match watcher.judge(&lease, &holder.name, Instant::now()) {
            // A call that was cut, and had arrived.
            Claim::Ours => return Ok(lease),
            Claim::Taken => return Err(held(name, &lease)),
            Claim::Free => match server.replace(&taken(lease, holder)).await {
                Err(error) if has_changed(&error) => {}
                replaced => return Ok(replaced?),
            },
            Claim::Unclear => tokio::time::sleep(holder.time / 10).await,
        }
    }
}

/// Asks whoever has the lease of a cluster to stop where it is, or one of them alone; false if nobody has it.
pub(super) async fn ask_to_pause(target: &Target, root: &str, one: Option<&str>) -> Result<bool, Trouble> {
    let server = match target {
        Target::Directory(path) => {
            return match lock(path) {
                Err(Trouble::Locked { .. }) => {
                    let path = path.join(PAUSE_FILE);
                    std::fs::write(&path, PAUSE).map_err(|source| RolloutError::Write { path, source })?;
                    Ok(true)
                }
                locked => locked.map(|_| false),
            };
        }
        Target::Cluster(server) => server,
    };
    loop {
        let Some(mut lease) = server.get(&id(root)).await? else { return Ok(false) };
        let holder = lease.pointer("/spec/holderIdentity").and_then(Value::as_str);
        if !holder.is_some_and(|holder| !holder.is_empty() && one.is_none_or(|one| one == holder)) {
            return Ok(false);
        }
        set(&mut lease, "metadata", "annotations", json!({REQUEST: PAUSE}));
        match server.replace(&lease).await {
            Err(error) if has_changed(&error) => {}
            replaced => return Ok(replaced.map(|_| true)?),
        }
    }
}

/// Whether the object was no more as it was seen.
fn has_changed(error: &ClusterError) -> bool {
    matches!(*error.problem, Problem::Changed { .. })
}

fn is_to_pause(lease: &Value) -> bool {
    let asked = lease.pointer("/metadata/annotations").and_then(|all| all.get(REQUEST));
    asked.and_then(Value::as_str) == Some(PAUSE)
}

fn held(name: &ClusterName, lease: &Value) -> Trouble {
    let text = |field: &str| {
        let value = lease.pointer(&format!("/spec/{field}")).and_then(Value::as_str);
        crate::text::plain(value.unwrap_or("nobody knows"))
    };
    Trouble::Held { cluster: name.clone(), by: text("holderIdentity"), since: text("acquireTime") }
}

fn id(root: &str) -> Id {
    Id {
        kind: Kind::new("coordination.k8s.io/v1", "Lease"),
        namespace: Some(root.to_owned()),
        name: NAME.to_owned(),
    }
}

fn fresh(root: &str, holder: &Holder) -> Value {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "namespace": root, "labels": {"app.kubernetes.io/managed-by": MANAGER}},
        "spec": {"leaseTransitions": -1},
    });
    taken(lease, holder)
}

/// The lease in the hands of a holder. It counts how often it went from hand to hand.
fn taken(mut lease: Value, holder: &Holder) -> Value {
    let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or_default();
    let now = timestamp((holder.clock)());
    let spec = json!({
        "holderIdentity": holder.name,
        "leaseDurationSeconds": holder.time.as_secs().max(1),
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": transitions + 1,
    });
    if let Some(fields) = lease.as_object_mut() {
        fields.insert("spec".to_owned(), spec);
    }
    set(&mut lease, "metadata", "annotations", json!({}));
    lease
}

fn set(object: &mut Value, part: &str, field: &str, value: Value) {
    if let Some(fields) = object.get_mut(part).and_then(Value::as_object_mut) {
        fields.insert(field.to_owned(), value);
    }
}

#[cfg(test)]
mod tests;
