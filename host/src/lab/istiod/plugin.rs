//! A WasmPlugin, and the Envoy filter istiod makes of it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::PluginError;
use crate::lab::proxy::ProxyKind;

const API_VERSION: &str = "extensions.istio.io/v1alpha1";

/// A WasmPlugin as written.
#[derive(Debug, Deserialize)]
pub(super) struct Plugin {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default = "default_namespace")]
    namespace: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "fields that change nothing here are read so that a misspelt one is still noticed"
)]
struct Spec {
    #[serde(default)]
    selector: Selector,
    url: String,
    #[serde(default)]
    sha256: String,
    image_pull_policy: Option<String>,
    image_pull_secret: Option<String>,
    plugin_config: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    plugin_name: String,
    phase: Option<Phase>,
    priority: Option<i32>,
    #[serde(default)]
    fail_strategy: FailStrategy,
    vm_config: Option<Value>,
    #[serde(default)]
    r#match: Vec<Match>,
    #[serde(default)]
    r#type: Kind,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    #[serde(default)]
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Phase {
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
    Authn,
    Authz,
    Stats,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
enum FailStrategy {
    #[default]
    #[serde(rename = "FAIL_CLOSE")]
    Close,
    #[serde(rename = "FAIL_OPEN")]
    Open,
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Kind {
    #[default]
    #[serde(alias = "UNSPECIFIED_PLUGIN_TYPE")]
    Http,
    Network,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    #[serde(default)]
    mode: Mode,
    #[serde(default, rename = "ports")]
    _ports: Vec<Value>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Mode {
    #[default]
    #[serde(alias = "UNDEFINED")]
    ClientAndServer,
    Client,
    Server,
}

/// The WasmPlugins of one file; other kinds of resource are none of our business.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Plugin>, PluginError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| PluginError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    documents
        .into_iter()
        .filter(|d| {
            let field = |name| d.get(name).and_then(Value::as_str);
            field("apiVersion") == Some(API_VERSION) && field("kind") == Some("WasmPlugin")
        })
        .map(|document| {
            serde_json::from_value(document).map_err(|source| PluginError::Shape {
                object: format!("a WasmPlugin of {}", path.display()),
                source,
            })
        })
        .collect()
}

impl Plugin {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.metadata.namespace, self.metadata.name)
    }

    pub(super) fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    pub(super) fn selector(&self) -> &BTreeMap<String, String> {
        &self.spec.selector.match_labels
    }

    pub(super) fn kind(&self) -> Kind {
        self.spec.r#type
    }

    /// No match is every direction; a gateway counts as a client, as in istiod.
    pub(super) fn has_direction(&self, kind: ProxyKind) -> bool {
        let matches = &self.spec.r#match;
        matches.is_empty()
            || matches.iter().any(|m| match m.mode {
                Mode::ClientAndServer => true,
                Mode::Client => kind != ProxyKind::Server,
                Mode::Server => kind == ProxyKind::Server,
            })
    }

    /// The Envoy filter, field by field as istiod writes it.
    pub(super) fn filter(&self) -> Result<Value, PluginError> {
        let spec = &self.spec;
        let Some(path) = spec.url.strip_prefix("file://") else {
            return Err(PluginError::Url { plugin: self.name(), url: spec.url.clone() });
        };
        let layer = match spec.r#type {
            Kind::Http => "http",
            Kind::Network => "network",
        };
        let mut config = json!({
            "name": self.name(),
            "root_id": spec.plugin_name,
            "failure_policy": match spec.fail_strategy {
                FailStrategy::Close => "FAIL_CLOSED",
                FailStrategy::Open => "FAIL_OPEN",
                FailStrategy::Reload => "FAIL_RELOAD",
            },
            "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": path}}},
        });
        if let (Some(fields), Some(plugin)) = (config.as_object_mut(), &spec.plugin_config) {
            let value = Value::Object(plugin.clone()).to_string();
            fields.insert(
                "configuration".to_owned(),
                json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value}),
            );
        }
        Ok(json!({
            "@type": format!("type.googleapis.com/envoy.extensions.filters.{layer}.wasm.v3.Wasm"),
            "config": config,
        }))
    }
}
