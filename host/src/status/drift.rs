//! What others have done to an object of ours, as its own `managedFields` tell it: who wrote a field last owns it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::kube::MANAGER;

/// Fields that somebody else has written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edit {
    /// Who, as the field manager is called.
    pub manager: String,
    /// Which, such as `spec.priority`.
    pub fields: Vec<String>,
    /// When they last did, as the server writes it.
    pub time: Option<String>,
}

/// What others own below `spec` and we do not: we apply the whole of it, so they have changed it or added to it.
pub(super) fn edits(object: &Value) -> Vec<Edit> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let entries = || entries.into_iter().flatten().filter(|entry| entry.get("subresource").is_none());
    let is_ours = |entry: &&Value| {
        let is = |field: &str, wanted: &str| entry.get(field).is_some_and(|found| found == wanted);
        is("manager", MANAGER) && is("operation", "Apply")
    };
    let mut ours = Vec::new();
    for entry in entries().filter(is_ours) {
        ours.extend(fields(entry));
    }
    let mut edits: BTreeMap<String, Edit> = BTreeMap::new();
    for entry in entries().filter(|entry| !is_ours(entry)) {
        let theirs: Vec<String> = fields(entry).into_iter().filter(|field| !ours.contains(field)).collect();
        let text = |field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
        if theirs.is_empty() {
            continue;
        }
        let manager = text("manager").unwrap_or_else(|| "somebody".to_owned());
        let edit = edits.entry(manager.clone()).or_insert(Edit { manager, fields: Vec::new(), time: None });
        edit.fields.extend(theirs);
        edit.time = edit.time.take().max(text("time"));
    }
    edits.into_values().collect()
}

/// The fields below `spec` that an entry owns, each by its path.
fn fields(entry: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(spec) = entry.pointer("/fieldsV1/f:spec").and_then(Value::as_object) {
        walk(spec, "spec", &mut found);
    }
    found
}

fn walk(owned: &Map<String, Value>, path: &str, found: &mut Vec<String>) {
    // `.` says that the thing itself is owned.
    let mut below = owned.iter().filter(|(key, _)| *key != ".").peekable();
    if below.peek().is_none() {
        found.push(path.to_owned());
    }
    for (key, inner) in below {
        let name = key.strip_prefix("f:").unwrap_or(key);
        let path = format!("{path}.{name}");
        match inner.as_object() {
            Some(inner) => walk(inner, &path, found),
            None => found.push(path),
        }
    }
}

/// When we last changed an object, as the server writes it.
pub(super) fn changed(object: &Value) -> Option<&str> {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let ours = entries.into_iter().flatten().filter(|entry| {
        entry.get("manager").is_some_and(|manager| manager == MANAGER)
            && entry.get("operation").is_some_and(|operation| operation == "Apply")
    });
    ours.filter_map(|entry| entry.get("time")?.as_str()).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(others: &[Value]) -> Value {
        let ours = json!({
            "manager": "isthmus", "operation": "Apply", "time": "2026-08-01T10:00:00Z",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:app": {}}},
                "f:spec": {"f:url": {}, "f:pluginConfig": {".": {}, "f:digest": {}, "f:plan": {"f:sections": {}}}},
            },
        });
        let entries: Vec<Value> = [ours].into_iter().chain(others.iter().cloned()).collect();
        json!({"metadata": {"managedFields": entries}})
    }

    #[test]
    fn what_others_own_of_the_spec_is_told_with_its_owner() {
        let edit = |spec: Value, time: &str| json!({"manager": "kubectl-edit", "operation": "Update", "time": time, "fieldsV1": {"f:spec": spec}});
        let object = object(&[
            edit(json!({"f:priority": {}}), "2026-08-02T10:00:00Z"),
            edit(
                json!({"f:pluginConfig": {"f:plan": {"f:home": {".": {}, "f:mesh": {}}}}}),
                "2026-08-03T10:00:00Z",
            ),
        ]);
        let wanted = Edit {
            manager: "kubectl-edit".to_owned(),
            fields: vec!["spec.priority".to_owned(), "spec.pluginConfig.plan.home.mesh".to_owned()],
            time: Some("2026-08-03T10:00:00Z".to_owned()),
        };
        assert_eq!(edits(&object), [wanted]);
        assert_eq!(changed(&object), Some("2026-08-01T10:00:00Z"));
    }

    #[test]
    fn what_is_ours_as_well_and_what_is_not_of_the_spec_is_nobodys_edit() {
        let object = object(&[
            json!({"manager": "helm", "operation": "Apply", "fieldsV1": {"f:spec": {"f:url": {}}}}),
            json!({"manager": "argocd", "operation": "Update", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}}}),
            json!({"manager": "istiod", "operation": "Update", "subresource": "status", "fieldsV1": {"f:spec": {"f:x": {}}}}),
        ]);
        assert_eq!(edits(&object), []);
    }
}
