//! An object as it is and as it would be.

use serde_json::Value;

/// What a server adds to an object, which nobody said.
const ADDED: [&str; 5] = ["creationTimestamp", "generation", "managedFields", "resourceVersion", "uid"];

/// An object before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Its file, or its kind, namespace and name.
    pub name: String,
    /// What is there, without what a server adds.
    pub before: Option<Value>,
    /// What would be there.
    pub after: Option<Value>,
}

/// An object without what a server adds to it.
pub(super) fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ADDED {
            metadata.remove(field);
        }
    }
    object
}
