//! A Kubernetes object as it was seen.

use base64ct::{Base64, Encoding as _};
use serde_json::Value;
use serde_saphyr::{Budget, Options};

pub(super) use crate::text::plain;

/// The documents of a text in YAML. All objects of a cluster may stand in one, so there may be many; aliases stay
/// bounded. An error says where, and shows nothing of the text: it may be a Secret's.
pub(super) fn documents(text: &str) -> Result<Vec<Value>, serde_saphyr::Error> {
    const MANY: usize = 50_000_000;
    let mut budget = Budget::default();
    (budget.max_events, budget.max_nodes, budget.max_documents) = (MANY, MANY, MANY);
    budget.max_total_scalar_bytes = 1 << 30;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.with_snippet = false;
    serde_saphyr::from_multiple_with_options(text, options)
}

/// An object of a cluster: what it is called, and whatever it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    value: Value,
}

impl Object {
    /// An object, if a value is one: it has a kind and a name.
    pub fn of(value: Value) -> Option<Self> {
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        (text("/kind").is_some() && text("/metadata/name").is_some()).then_some(Self { value })
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.text("/kind").unwrap_or_default()
    }

    /// The group of its API: empty for the core's.
    pub fn group(&self) -> &str {
        let version = self.text("/apiVersion").unwrap_or_default();
        version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// Its namespace; empty where it has none.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace").unwrap_or_default()
    }

    /// How people call it: `namespace/name`.
    pub fn shown(&self) -> String {
        match self.namespace() {
            "" => self.name().to_owned(),
            namespace => format!("{namespace}/{}", self.name()),
        }
    }

    /// One of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value.get("metadata")?.get("labels")?.get(key)?.as_str()
    }

    /// One of its annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }

    /// What stands at a JSON pointer (RFC 6901).
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        self.value.pointer(pointer)
    }

    /// The text at a JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer).and_then(Value::as_str)
    }

    /// The list at a JSON pointer; empty where there is none.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.at(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The keys of a Secret or ConfigMap.
    pub fn keys(&self) -> Vec<&str> {
        let of = |field: &str| self.value.get(field).and_then(Value::as_object);
        ["data", "stringData"].into_iter().filter_map(of).flatten().map(|(key, _)| key.as_str()).collect()
    }

    /// What a Secret or ConfigMap has under a key, if it is text. A Secret that was read has it in base64.
    pub fn data(&self, key: &str) -> Option<String> {
        let plain = |field: &str| self.value.get(field)?.get(key)?.as_str();
        if let Some(text) = plain("stringData") {
            return Some(text.to_owned());
        }
        let text = plain("data")?;
        if self.kind() != "Secret" {
            return Some(text.to_owned());
        }
        String::from_utf8(Base64::decode_vec(text.trim()).ok()?).ok()
    }
}
