//! The DestinationRules, VirtualServices and EnvoyFilters of a cluster, as far as the lab plays them: a field that it does not play
//! is refused, so that nothing is thought to be tried that is not.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::PluginError;
use crate::native;

const KINDS: [(&str, &str); 3] = [
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
];

/// Objects as they were written, by kind, namespace and name.
pub(super) type Objects = BTreeMap<(String, String, String), Value>;

/// What a cluster's istiod knows of routes and subsets, by host.
#[derive(Debug, Default)]
pub(super) struct Config {
    rules: BTreeMap<String, DestinationRule>,
    services: BTreeMap<String, VirtualService>,
    filters: Vec<EnvoyFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DestinationRule {
    host: String,
    #[serde(default, rename = "exportTo")]
    _export_to: Everyone,
    #[serde(default)]
    traffic_policy: TrafficPolicy,
    #[serde(default)]
    subsets: Vec<Subset>,
}

/// A subset of a host's endpoints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subset {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
}

/// How the endpoints of a host are chosen from.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TrafficPolicy {
    #[serde(default)]
    load_balancer: LoadBalancer,
    pub(super) outlier_detection: Option<OutlierDetection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoadBalancer {
    locality_lb_setting: Option<LocalityLbSetting>,
}

/// Which endpoints come first.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LocalityLbSetting {
    enabled: Option<bool>,
    #[serde(default)]
    pub(super) failover: Vec<Failover>,
    #[serde(default)]
    pub(super) failover_priority: Vec<String>,
}

/// Where the requests of a region go once nothing of it is healthy.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Failover {
    pub(super) from: String,
    pub(super) to: String,
}

/// When an endpoint counts as failed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OutlierDetection {
    #[serde(rename = "consecutive5xxErrors")]
    pub(super) consecutive_5xx_errors: u32,
    pub(super) consecutive_gateway_errors: u32,
    pub(super) interval: String,
    pub(super) base_ejection_time: String,
    pub(super) max_ejection_percent: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VirtualService {
    hosts: Vec<String>,
    #[serde(default, rename = "exportTo")]
    _export_to: Everyone,
    http: Vec<HttpRoute>,
}

/// A route: where requests go of which one of the matches holds, or all if there is none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpRoute {
    pub(super) name: String,
    #[serde(default, rename = "match")]
    pub(super) matches: Vec<HttpMatch>,
    route: [Weighted; 1],
}

/// Holds for clients that have these labels, when every header has its value.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HttpMatch {
    pub(super) headers: BTreeMap<String, Exact>,
    #[serde(default)]
    source_labels: BTreeMap<String, String>,
}

impl HttpMatch {
    /// Whether a client with these labels has it among its routes.
    pub(super) fn is_for(&self, labels: &Labels) -> bool {
        selects(&self.source_labels, labels)
    }
}

/// The labels of a workload, with those that istiod adds.
pub(super) type Labels = BTreeMap<String, String>;

/// Whether a workload has every label of a selector.
pub(super) fn selects(selector: &BTreeMap<String, String>, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// A value as it stands.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exact {
    pub(super) exact: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    destination: Destination,
}

/// Where a route leads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Destination {
    pub(super) host: String,
    #[serde(default)]
    pub(super) subset: String,
}

impl HttpRoute {
    pub(super) fn destination(&self) -> &Destination {
        let [Weighted { destination }] = &self.route;
        destination
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvoyFilter {
    #[serde(default)]
    workload_selector: WorkloadSelector,
    config_patches: Vec<ConfigPatch>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadSelector {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigPatch {
    #[serde(rename = "applyTo")]
    _apply_to: Clusters,
    r#match: ClusterMatch,
    patch: Patch,
}

#[derive(Debug, Deserialize)]
enum Clusters {
    #[serde(rename = "CLUSTER")]
    Clusters,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClusterMatch {
    #[serde(rename = "context")]
    _context: Context,
    cluster: OfService,
}

#[derive(Debug, Deserialize)]
enum Context {
    #[serde(rename = "SIDECAR_OUTBOUND")]
    SidecarOutbound,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfService {
    service: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    #[serde(rename = "operation")]
    _operation: Operation,
    value: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
enum Operation {
    #[serde(rename = "MERGE")]
    Merge,
}

/// All namespaces, which is what nothing said means as well.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Everyone;

impl TryFrom<Vec<String>> for Everyone {
    type Error = &'static str;

    fn try_from(namespaces: Vec<String>) -> Result<Self, Self::Error> {
        if namespaces == ["*"] { Ok(Self) } else { Err("the lab exports to all namespaces, or not at all") }
    }
}

impl Config {
    /// What objects say; each must be of a shape that the lab plays, and a host has one of each kind.
    pub(super) fn read(objects: &Objects) -> Result<Self, PluginError> {
        let mut config = Self::default();
        for ((kind, namespace, name), object) in objects {
            let what = format!("{kind} {namespace}/{name}");
            let twice = |host: &str| PluginError::TwoForHost { object: what.clone(), host: host.to_owned() };
            if kind == "EnvoyFilter" {
                config.filters.push(spec(object, &what)?);
            } else if kind == "DestinationRule" {
                let rule: DestinationRule = spec(object, &what)?;
                let host = rule.host.clone();
                if config.rules.insert(host.clone(), rule).is_some() {
                    return Err(twice(&host));
                }
            } else {
                let service: VirtualService = spec(object, &what)?;
                let [host] = service.hosts.as_slice() else {
                    return Err(PluginError::Hosts { object: what });
                };
                let host = host.clone();
                if config.services.insert(host.clone(), service).is_some() {
                    return Err(twice(&host));
                }
            }
        }
        Ok(config)
    }

    pub(super) fn subsets(&self, host: &str) -> &[Subset] {
        self.rules.get(host).map_or(&[], |rule| &rule.subsets)
    }

    /// What is said of a host's endpoints, as far as it acts: without outlier detection istiod leaves all of them
    /// alike.
    pub(super) fn order(&self, host: &str) -> Option<(&LocalityLbSetting, &OutlierDetection)> {
        let policy = &self.rules.get(host)?.traffic_policy;
        let setting = policy.load_balancer.locality_lb_setting.as_ref()?;
        Some((setting, policy.outlier_detection.as_ref()?)).filter(|_| setting.enabled != Some(false))
    }

    /// What is merged into the Envoy clusters that a client has of a host, field by field.
    pub(super) fn merged<'c>(
        &'c self,
        host: &'c str,
        labels: &'c Labels,
    ) -> impl Iterator<Item = (&'c String, &'c Value)> {
        let reaching = self.filters.iter().filter(|filter| selects(&filter.workload_selector.labels, labels));
        let patches = reaching.flat_map(|filter| &filter.config_patches);
        patches
            .filter(move |patch| patch.r#match.cluster.service == host)
            .flat_map(|patch| &patch.patch.value)
    }

    /// The routes of a host; none where no VirtualService speaks of it.
    pub(super) fn routes(&self, host: &str) -> &[HttpRoute] {
        self.services.get(host).map_or(&[], |service| &service.http)
    }
}

fn spec<T: DeserializeOwned>(object: &Value, what: &str) -> Result<T, PluginError> {
    T::deserialize(object.get("spec").unwrap_or(&Value::Null))
        .map_err(|source| PluginError::Shape { object: what.to_owned(), source })
}

/// Takes the objects of one file that are of these kinds.
pub(super) fn take(path: &Path, text: &str, objects: &mut Objects) -> Result<(), PluginError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|source| PluginError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    for document in documents {
        let field =
            |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = field("/kind");
        if KINDS.contains(&(field("/apiVersion").as_str(), kind.as_str())) {
            let key = (kind, field("/metadata/namespace"), field("/metadata/name"));
            objects.insert(key, document);
        }
    }
    Ok(())
}

/// What is there and what is to come beside each other, so that a proxy can go from one to the other.
pub(super) fn widened(old: &Objects, new: &Objects) -> Objects {
    let mut wide = old.clone();
    for (key, object) in new {
        let object = old.get(key).map_or_else(|| object.clone(), |old| native::widened(old, object));
        wide.insert(key.clone(), object);
    }
    wide
}
