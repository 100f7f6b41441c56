//! What an object is called, and whose it is.

use std::fmt;

use serde_json::Value;

use super::{Kind, MANAGER, Problem};

/// Which object of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, if its kind has them.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Id {
    /// What an object calls itself.
    pub fn of(object: &Value) -> Result<Self, Problem> {
        let field = |path: &str| object.pointer(path).and_then(Value::as_str);
        let wanted = |path: &str| {
            let shown = || path.trim_start_matches('/').replace('/', ".");
            field(path).ok_or_else(|| Problem::malformed(&shown(), "is missing"))
        };
        let (api_version, kind) = (wanted("/apiVersion")?, wanted("/kind")?);
        let (name, namespace) = (wanted("/metadata/name")?, field("/metadata/namespace"));
        // They become parts of a URL.
        if !api_version.split('/').all(is_plain) {
            return Err(Problem::malformed("apiVersion", "is no version of a group"));
        }
        for (path, text) in [("metadata.name", Some(name)), ("metadata.namespace", namespace)] {
            if text.is_some_and(|text| !is_plain(text)) {
                return Err(Problem::malformed(path, "is no name that an object can have"));
            }
        }
        Ok(Self {
            kind: Kind::new(api_version, kind),
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        })
    }
}

/// Whether a text can stand in the path of a URL as it is. Names of RBAC objects have colons.
pub(super) fn is_plain(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(is_known)
}

impl fmt::Display for Id {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = &self.kind.name;
        match &self.namespace {
            Some(namespace) => write!(out, "{kind} {namespace}/{}", self.name),
            None => write!(out, "{kind} {}", self.name),
        }
    }
}

/// Whether an object is one that a rollout applied: the label alone anybody can set.
pub fn is_ours(object: &Value) -> bool {
    is_managed_by(object, MANAGER)
}

/// Whether an object is one that this field manager applied.
pub fn is_managed_by(object: &Value, manager: &str) -> bool {
    let managers = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let is = |entry: &Value, field: &str, wanted: &str| {
        entry.get(field).is_some_and(|found| found.as_str() == Some(wanted))
    };
    managers
        .into_iter()
        .flatten()
        .any(|entry| is(entry, "manager", manager) && is(entry, "operation", "Apply"))
}

/// Whether something that was said to be empty is kept as null.
pub(super) fn is_nulled(said: &Value, kept: &Value) -> bool {
    match (said, kept) {
        (Value::Object(said), Value::Null) => said.is_empty(),
        (Value::Array(said), Value::Null) => said.is_empty(),
        (Value::Object(said), Value::Object(kept)) => {
            said.iter().any(|(name, said)| kept.get(name).is_some_and(|kept| is_nulled(said, kept)))
        }
        (Value::Array(said), Value::Array(kept)) => {
            said.iter().zip(kept).any(|(said, kept)| is_nulled(said, kept))
        }
        _ => false,
    }
}

/// Whether two states of an object say the same, whoever wrote it and when.
pub fn same(one: &Value, other: &Value) -> bool {
    let bare = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["managedFields", "resourceVersion", "generation"] {
                metadata.remove(field);
            }
        }
        object
    };
    bare(one) == bare(other)
}
