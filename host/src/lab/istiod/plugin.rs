//! A WasmPlugin or a TrafficExtension, and the Envoy filter istiod makes of it.

use std::collections::BTreeMap;
use std::path::Path;

use policy::mesh::Extension;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::lab::error::PluginError;
use crate::lab::proxy::ProxyKind;
use crate::plugin::extension;

const API_VERSION: &str = "extensions.istio.io/v1alpha1";

/// What istiod calls the filter of a `WasmPlugin` behind its name, since 1.30: so that one of a `TrafficExtension` of the same
/// name is another.
const TRANSLATED: &str = "~istio-translated-wasmplugin";

/// A plugin of either kind, as far as istiod looks at it.
#[derive(Debug)]
pub(super) struct Plugin {
    extension: Extension,
    metadata: Metadata,
    selector: Selector,
    matches: Vec<Match>,
    wasm: Wasm,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: Metadata,
    spec: Map<String, Value>,
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

/// Where a plugin stands: what both kinds have at the top.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Placement<P> {
    #[serde(default)]
    selector: Selector,
    #[serde(rename = "phase")]
    _phase: Option<P>,
    #[serde(rename = "priority")]
    _priority: Option<i32>,
    #[serde(default)]
    r#match: Vec<Match>,
}

const PLACEMENT: [&str; 4] = ["selector", "phase", "priority", "match"];

/// What a `WasmPlugin` has beside that, and a `TrafficExtension` under `wasm`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "fields that change nothing here are read so that a misspelt one is still noticed"
)]
struct Wasm {
    url: String,
    #[serde(default)]
    sha256: String,
    image_pull_policy: Option<String>,
    image_pull_secret: Option<String>,
    plugin_config: Option<Map<String, Value>>,
    #[serde(default)]
    plugin_name: String,
    #[serde(default)]
    fail_strategy: FailStrategy,
    vm_config: Option<Value>,
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
enum PluginPhase {
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
    Authn,
    Authz,
    Stats,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ExecutionPhase {
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

/// The plugins of one file; other kinds of resource are none of our business.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Plugin>, PluginError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| PluginError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    let is_of = |document: &Value| document.get("apiVersion").is_some_and(|version| version == API_VERSION);
    let plugin = |document: Value| {
        let extension = extension(&document)?;
        let object = || format!("a {} of {}", extension.as_str(), path.display());
        Some(read(extension, document).map_err(|source| PluginError::Shape { object: object(), source }))
    };
    documents.into_iter().filter(is_of).filter_map(plugin).collect()
}

fn read(extension: Extension, document: Value) -> Result<Plugin, serde_json::Error> {
    let Object { metadata, mut spec } = Object::deserialize(document)?;
    let (selector, matches, wasm) = match extension {
        Extension::WasmPlugin => {
            let (placement, wasm): (Map<_, _>, Map<_, _>) =
                spec.into_iter().partition(|(field, _)| PLACEMENT.contains(&field.as_str()));
            let placement = Placement::<PluginPhase>::deserialize(Value::Object(placement))?;
            (placement.selector, placement.r#match, Value::Object(wasm))
        }
        Extension::TrafficExtension => {
            let wasm = spec.remove("wasm").unwrap_or_default();
            let placement = Placement::<ExecutionPhase>::deserialize(Value::Object(spec))?;
            (placement.selector, placement.r#match, wasm)
        }
    };
    Ok(Plugin { extension, metadata, selector, matches, wasm: Wasm::deserialize(wasm)? })
}

impl Plugin {
    /// As Envoy calls it.
    pub(super) fn name(&self) -> String {
        let mark = match self.extension {
            Extension::WasmPlugin => TRANSLATED,
            Extension::TrafficExtension => "",
        };
        format!("{}.{}{mark}", self.metadata.namespace, self.metadata.name)
    }

    pub(super) fn extension(&self) -> Extension {
        self.extension
    }

    pub(super) fn namespace(&self) -> &str {
        &self.metadata.namespace
    }

    pub(super) fn selector(&self) -> &BTreeMap<String, String> {
        &self.selector.match_labels
    }

    pub(super) fn kind(&self) -> Kind {
        self.wasm.r#type
    }

    /// No match is every direction; a gateway counts as a client, as in istiod.
    pub(super) fn has_direction(&self, kind: ProxyKind) -> bool {
        let matches = &self.matches;
        matches.is_empty()
            || matches.iter().any(|m| match m.mode {
                Mode::ClientAndServer => true,
                Mode::Client => kind != ProxyKind::Server,
                Mode::Server => kind == ProxyKind::Server,
            })
    }

    /// The Envoy filter, field by field as istiod writes it.
    pub(super) fn filter(&self) -> Result<Value, PluginError> {
        let spec = &self.wasm;
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
