//! What a kind of object is called.

use std::fmt;

use serde_json::Value;

/// A kind of object, as its `apiVersion` and `kind` say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Group and version, such as `networking.istio.io/v1`; of the oldest kinds the version alone.
    pub api_version: String,
    /// Such as `DestinationRule`.
    pub name: String,
}

impl Kind {
    /// A kind of this group and version.
    pub fn new(api_version: &str, name: &str) -> Self {
        Self { api_version: api_version.to_owned(), name: name.to_owned() }
    }

    /// Where the server serves the group and version.
    pub(super) fn base(&self) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}", self.api_version)
    }

    /// The items of a list of built-in objects do not say what they are.
    pub(super) fn named_in(&self, mut item: Value) -> Value {
        if let Some(fields) = item.as_object_mut() {
            fields.insert("apiVersion".to_owned(), self.api_version.clone().into());
            fields.insert("kind".to_owned(), self.name.clone().into());
        }
        item
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {}", self.name, self.api_version)
    }
}
