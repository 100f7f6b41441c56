//! One object of a cluster: applied, looked at, and told apart from what others have made.

use serde_json::{Value, json};

use super::{Change, DryRun, Trouble, Work};
use crate::kube::{Apply, Cluster, ClusterError, Id, Kind, MESH_MANAGER, Problem, same};
use crate::manifest::{ISTIO_NAMESPACE, Phase};

impl Work {
    /// Applies an object, and notes whether that has changed anything.
    pub(super) async fn object(&mut self, phase: Phase, object: &Value) -> Result<(), Trouble> {
        let id = Id::of(object).map_err(|problem| Trouble::Unreached { why: problem.to_string() })?;
        let change = self.applied(&id, object).await?;
        self.note(phase, id.to_string(), change);
        Ok(())
    }

    async fn applied(&self, id: &Id, object: &Value) -> Result<Change, Trouble> {
        let dry_run = self.how.dry_run;
        let before = match self.at.get(id).await {
            Ok(before) => before,
            // What brings the kind comes before, and has not come.
            Err(error) if dry_run != DryRun::No && is_to_come(&error) => None,
            Err(error) if is_to_come(&error) => {
                self.served(id).await?;
                self.at.get(id).await?
            }
            Err(error) => return Err(error.into()),
        };
        if dry_run == DryRun::Client {
            return Ok(match before {
                None => Change::Made,
                Some(before) if holds(&before, object) => Change::Unchanged,
                Some(_) => Change::Changed,
            });
        }
        let how = Apply { dry_run: dry_run == DryRun::Server, force: self.how.force };
        let after = match self.at.apply(object, how).await {
            Ok(after) => after,
            Err(error) if how.dry_run && is_to_come(&error) => return Ok(Change::Made),
            Err(error) => return Err(error.into()),
        };
        Ok(match before {
            None => Change::Made,
            Some(before) if same(&before, &after) => Change::Unchanged,
            Some(_) => Change::Changed,
        })
    }
}

/// Whether something is missing that an earlier step brings: the kind, or the namespace.
fn is_to_come(error: &ClusterError) -> bool {
    matches!(*error.problem, Problem::NoSuchKind { .. } | Problem::NotFound { .. })
}

/// Whether all that is said is so.
fn holds(there: &Value, said: &Value) -> bool {
    match (there, said) {
        (Value::Object(there), Value::Object(said)) => {
            said.iter().all(|(name, said)| there.get(name).is_some_and(|there| holds(there, said)))
        }
        (Value::Array(there), Value::Array(said)) => {
            there.len() == said.len() && there.iter().zip(said).all(|(there, said)| holds(there, said))
        }
        (there, said) => there == said,
    }
}

/// Whether an object of Istio's namespace is there, whoever made it.
pub(super) async fn is_there(
    cluster: &Cluster,
    version: &str,
    kind: &str,
    name: &str,
) -> Result<bool, ClusterError> {
    let namespace = Some(ISTIO_NAMESPACE.to_owned());
    let id = Id { kind: Kind::new(version, kind), namespace, name: name.to_owned() };
    Ok(cluster.get(&id).await?.is_some())
}

/// An object of which we say nothing any more.
pub(super) fn nothing_of(object: &Value) -> Value {
    let field = |path: &str| object.pointer(path).cloned();
    let mut metadata = json!({"name": field("/metadata/name")});
    if let (Some(namespace), Some(fields)) = (field("/metadata/namespace"), metadata.as_object_mut()) {
        fields.insert("namespace".to_owned(), namespace);
    }
    json!({"apiVersion": field("/apiVersion"), "kind": field("/kind"), "metadata": metadata})
}

/// Whether others have put something of theirs into an object: into a map of settings. What controllers write into other
/// objects goes with these.
pub(super) fn is_shared(object: &Value) -> bool {
    if object.get("kind").and_then(Value::as_str) != Some("ConfigMap") {
        return false;
    }
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    managers.into_iter().flatten().any(|entry| {
        entry.get("manager").and_then(Value::as_str) != Some(MESH_MANAGER)
            && entry.get("subresource").is_none()
            && entry.pointer("/fieldsV1/f:data").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_holds_where_more_is_there_and_not_where_it_is_otherwise() {
        let there = json!({"a": 1, "b": {"c": [1, {"d": 2, "e": 3}]}});
        for (said, wanted) in [
            (json!({"b": {"c": [1, {"d": 2}]}}), true),
            (json!({"b": {"c": [1]}}), false),
            (json!({"a": 2}), false),
            (json!({"z": null}), false),
        ] {
            assert_eq!(holds(&there, &said), wanted, "{said}");
        }
    }

    #[test]
    fn a_map_that_others_write_into_is_shared_and_one_whose_labels_they_touch_is_not() {
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "fieldsV1": fields});
        let ours = entry(MESH_MANAGER, json!({"f:data": {"f:a": {}}}));
        let with = |other: Value| {
            is_shared(&json!({"kind": "ConfigMap", "metadata": {"managedFields": [ours, other]}}))
        };
        assert!(with(entry("kubectl", json!({"f:data": {"f:b": {}}}))));
        assert!(!with(entry("kubectl", json!({"f:metadata": {"f:labels": {}}}))));
    }
}
