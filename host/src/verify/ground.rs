//! The namespace that the proof runs in: cleared of what a run before has left, and asked what keeps its pods from starting.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{NAMESPACE, Standing, TICK, VerifyError, objects};
use crate::kube::{Cluster, ClusterError, Kind, MESH_MANAGER, Problem, is_managed_by, many};

/// What pods are kept from starting by that does not pass by itself.
const FINAL: [&str; 3] = ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];

/// What is said of every pod on its way.
const USUAL: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Makes room: a namespace that is going is waited for, and the pods of a run that was killed or kept go, for what they have
/// counted is an answer of then.
pub(super) async fn clear(at: &Cluster, patience: Duration) -> Result<(), VerifyError> {
    let deadline = Instant::now() + patience;
    let is_late = || (Instant::now() >= deadline).then(|| at.context().to_owned());
    loop {
        let Some(namespace) = at.get(&objects::namespace_id()).await? else { return Ok(()) };
        if !is_managed_by(&namespace, MESH_MANAGER) {
            return Err(VerifyError::Foreign { context: at.context().to_owned() });
        }
        let is_going = namespace.pointer("/metadata/deletionTimestamp").is_some();
        if !is_going && take_pods(at).await? {
            return Ok(());
        }
        if let Some(context) = is_late() {
            let what = "what a run before has left has not gone";
            return Err(VerifyError::TimedOut { what, after: patience, context, why: String::new() });
        }
        sleep(TICK.min(patience)).await;
    }
}

/// Deletes the pods that call; whether none is left.
async fn take_pods(at: &Cluster) -> Result<bool, ClusterError> {
    let mut is_clear = true;
    for name in [objects::CALLER, objects::NEIGHBOUR] {
        let Some(pod) = at.get(&objects::id("v1", "Pod", name)).await? else { continue };
        is_clear = false;
        if pod.pointer("/metadata/deletionTimestamp").is_none() {
            delete(at, &pod).await?;
        }
    }
    Ok(is_clear)
}

/// Deletes an object as it was seen. One that has just changed is seen again.
async fn delete(at: &Cluster, seen: &Value) -> Result<(), ClusterError> {
    match at.delete(seen, false).await {
        Err(ClusterError { problem, .. }) if matches!(*problem, Problem::Changed { .. }) => Ok(()),
        done => done.map(drop),
    }
}

/// Deletes the namespace, and with it all that is in it.
pub(super) async fn take_away(at: &Cluster) -> Result<(), ClusterError> {
    while let Some(namespace) = at.get(&objects::namespace_id()).await? {
        let is_going = namespace.pointer("/metadata/deletionTimestamp").is_some();
        if is_going || !is_managed_by(&namespace, MESH_MANAGER) {
            return Ok(());
        }
        delete(at, &namespace).await?;
    }
    Ok(())
}

/// Takes away what runs, wherever it does; what could not be, by context.
pub async fn take_all(standing: &Standing, parallel: usize) -> Vec<ClusterError> {
    let reached: Vec<_> = standing.values().filter_map(|at| at.as_ref().ok().cloned()).collect();
    let taking = reached.into_iter().map(|at| async move { take_away(&at).await.err() });
    many::bounded(taking, parallel).await.into_iter().flatten().collect()
}

/// What keeps pods from starting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// As the cluster says it.
    pub(super) why: String,
    /// It does not pass by itself.
    pub(super) is_final: bool,
}

/// What the cluster says of pods that do not start; nothing where it says nothing.
pub(super) async fn held(at: &Cluster) -> Result<Vec<Held>, ClusterError> {
    let of = |version: &str, kind: &str| {
        let kind = Kind::new(version, kind);
        async move { at.survey(&kind, Some(NAMESPACE), None).await }
    };
    let mut held: Vec<Held> = of("v1", "Pod").await?.iter().flat_map(of_pod).collect();
    held.extend(of("apps/v1", "Deployment").await?.iter().flat_map(of_deployment));
    Ok(held)
}

/// What each container waits for, and whether the pod has found a node.
fn of_pod(pod: &Value) -> Vec<Held> {
    let name = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let list = |path: &str| pod.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let containers =
        ["/status/initContainerStatuses", "/status/containerStatuses"].into_iter().flat_map(list);
    let waiting = containers.filter_map(|container| {
        let waiting = container.pointer("/state/waiting")?;
        let reason = waiting.get("reason")?.as_str().filter(|reason| !USUAL.contains(reason))?;
        let of = container.get("name").and_then(Value::as_str).unwrap_or_default();
        let message = waiting.get("message").and_then(Value::as_str).unwrap_or_default();
        let why = format!("{reason} of container {of} of pod {name}: {message}");
        Some(Held { why: plain(&why), is_final: FINAL.contains(&reason) })
    });
    let unplaced = list("/status/conditions").filter_map(|condition| {
        let is = |field: &str, wanted: &str| condition.get(field).and_then(Value::as_str) == Some(wanted);
        let message = condition.get("message").and_then(Value::as_str)?;
        let why = plain(&format!("pod {name} has no node: {message}"));
        (is("type", "PodScheduled") && is("status", "False")).then_some(Held { why, is_final: false })
    });
    waiting.chain(unplaced).collect()
}

/// Why its pods are not made: a quota, or a webhook of injection that leads nowhere.
fn of_deployment(deployment: &Value) -> Vec<Held> {
    let conditions = deployment.pointer("/status/conditions").and_then(Value::as_array);
    let failed = |condition: &Value| {
        let is = |field: &str, wanted: &str| condition.get(field).and_then(Value::as_str) == Some(wanted);
        let message = condition.get("message").and_then(Value::as_str)?;
        let why = plain(&format!("no pod can be made: {message}"));
        (is("type", "ReplicaFailure") && is("status", "True")).then_some(Held { why, is_final: false })
    };
    conditions.into_iter().flatten().filter_map(failed).collect()
}

fn plain(text: &str) -> String {
    crate::text::plain(text.trim_end_matches([':', ' ']))
}
