//! A cluster that is an API server.

use std::collections::BTreeMap;

use policy::mesh::Extension;
use serde_json::Value;

use super::packed::Packed;
use super::rendered::{KINDS, Part, extension_of, file_of};
use super::steps::Step;
use crate::kube::{Apply, Cluster, ClusterError, Id, Kind, Problem, is_ours};
use crate::plugin;

/// The objects that are wanted or were made by an earlier rollout, by file. What only bears our label and is not wanted
/// belongs to whoever made it.
pub(super) async fn there(
    cluster: &Cluster,
    root: &str,
    wanted: &[Part],
) -> Result<BTreeMap<String, Value>, ClusterError> {
    let mut there = BTreeMap::new();
    for (api_version, name) in KINDS {
        let objects = match cluster.list(&Kind::new(api_version, name)).await {
            // What cannot be there is not; what is wanted of it will say what is missing.
            Err(ClusterError { problem, .. }) if matches!(*problem, Problem::NoSuchKind { .. }) => continue,
            objects => objects?,
        };
        for object in objects {
            let Some(file) = file_of(&object, root) else { continue };
            if is_ours(&object) || wanted.iter().any(|part| part.file == file) {
                there.insert(file, object);
            }
        }
    }
    Ok(there)
}

/// An error where a cluster is to have a `TrafficExtension` and knows none: its Istio is older than `mesh.yaml` says. Were
/// that found only when one is written, routes would have changed already.
pub(super) async fn reads(
    cluster: &Cluster,
    there: &BTreeMap<String, Value>,
    wanted: &[Part],
) -> Result<(), ClusterError> {
    let is_one = |file: &str| extension_of(file) == Some(Extension::TrafficExtension);
    if !wanted.iter().any(|part| is_one(&part.file)) || there.keys().any(|file| is_one(file)) {
        return Ok(());
    }
    let kind = Kind::new(plugin::API_VERSION, Extension::TrafficExtension.as_str());
    cluster.list(&kind).await.map(drop)
}

/// Whether an object of a cluster says what is wanted, and says it for us.
pub(super) fn holds(there: &Value, wanted: &Value) -> bool {
    let fields = |object: &Value, path: &str| {
        object.pointer(path).and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let has_all = |path: &str| {
        let has = fields(there, path);
        fields(wanted, path).iter().all(|(name, value)| has.get(name) == Some(value))
    };
    is_ours(there)
        && there.get("spec") == wanted.get("spec")
        && has_all("/metadata/labels")
        && has_all("/metadata/annotations")
}

/// Takes a step: false if the server found that nothing changes by it, and what it has from now on.
pub(super) async fn take(
    cluster: &Cluster,
    there: &BTreeMap<String, Packed>,
    step: &Step,
    how: Apply,
) -> Result<(bool, Option<Value>), ClusterError> {
    match step {
        Step::Write(file, object) => {
            let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
            let applied = cluster.apply(&object.open(), how).await?;
            // A dry run has the version of before.
            let changed =
                how.dry_run || there.get(file).and_then(|seen| version(&seen.open())) != version(&applied);
            Ok((changed, Some(applied).filter(|_| !how.dry_run)))
        }
        Step::Remove(file) => match there.get(file) {
            Some(seen) => Ok((cluster.delete(&seen.open(), how.dry_run).await?, None)),
            None => Ok((false, None)),
        },
    }
}

/// What an object is called that a step is about.
pub(super) fn name(there: &BTreeMap<String, Packed>, step: &Step) -> String {
    let object = match step {
        Step::Write(_, object) => Some(object),
        Step::Remove(file) => there.get(file),
    };
    object
        .and_then(|object| Id::of(&object.open()).ok())
        .map_or_else(|| step.file().to_owned(), |id| id.to_string())
}
