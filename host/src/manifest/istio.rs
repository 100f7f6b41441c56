//! Istio itself, as `istioctl` or helm takes it.
//!
//! What differs between the versions that are rendered for: charts are at another address from 1.31 on
//! ([`charts`]), and the routes of a gateway of the Gateway API have another version from 1.30 on (`gateway.rs`). The
//! values of 1.29 to 1.32 that stand here are the same.

use policy::mesh::{Cluster, Dns, Installation, Installer};
use serde_json::{Map, Value, json};

use super::ground::{Ground, is_primary};
use super::{Content, ISTIO_NAMESPACE, Item, ManifestError, Phase, Release};

/// Where the charts of a version are.
pub(crate) fn charts(installation: &Installation) -> &'static str {
    if installation.is_at_least(31) {
        "https://blob.istio.io/istio-release/charts"
    } else {
        "https://istio-release.storage.googleapis.com/charts"
    }
}

/// Istio's namespace. istiod takes the network of pods and gateways from its label, and leads a remote only where the
/// annotation names it.
pub(super) fn namespace(ground: &Ground<'_>, cluster: &Cluster) -> Item {
    let mut metadata = json!({
        "name": ISTIO_NAMESPACE,
        "labels": {"topology.istio.io/network": cluster.network.as_str()},
    });
    let primary = ground.primary(cluster);
    if primary.name != cluster.name
        && let Some(fields) = metadata.as_object_mut()
    {
        let annotations = json!({"topology.istio.io/controlPlaneClusters": primary.name.as_str()});
        fields.insert("annotations".to_owned(), annotations);
    }
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    Item::object(Phase::Namespace, "namespace", namespace)
}

/// The control plane of a cluster, or what ties it to that of another.
pub(super) fn control_plane(ground: &Ground<'_>, cluster: &Cluster) -> Result<Vec<Item>, ManifestError> {
    let values = if is_primary(cluster) { primary(ground, cluster)? } else { remote(ground, cluster)? };
    Ok(match ground.mesh.installation().installer {
        Installer::Istioctl => vec![operator(cluster, values)],
        Installer::Helm => charts_of(ground, cluster, values),
    })
}

fn operator(cluster: &Cluster, mut values: Map<String, Value>) -> Item {
    let profile = if is_primary(cluster) { "default" } else { "remote" };
    let mut spec = json!({"profile": profile});
    if let Some(fields) = spec.as_object_mut() {
        fields.extend(values.remove("meshConfig").map(|config| ("meshConfig".to_owned(), config)));
        fields.insert("values".to_owned(), Value::Object(values));
    }
    Item {
        phase: Phase::ControlPlane,
        file: "istio",
        content: Content::IstioOperator(istio_operator("istio", &spec)),
    }
}

/// A file for `istioctl install -f`: the shape of an object, and not one.
pub(super) fn istio_operator(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": name, "namespace": ISTIO_NAMESPACE},
        "spec": spec,
    })
}

fn charts_of(ground: &Ground<'_>, cluster: &Cluster, mut values: Map<String, Value>) -> Vec<Item> {
    let mut base = json!({"global": {"istioNamespace": ISTIO_NAMESPACE}});
    if !is_primary(cluster) {
        base = json!({"profile": "remote", "global": {"istioNamespace": ISTIO_NAMESPACE}});
        values.insert("profile".to_owned(), json!("remote"));
    } else if ground.plane(cluster).count() > 1 {
        base = json!({"global": {"istioNamespace": ISTIO_NAMESPACE, "externalIstiod": true}});
    }
    let istiod = Value::Object(values);
    vec![
        release(ground, ("istio-base", "istio-base", "istio/base"), base, Phase::ControlPlane),
        release(ground, ("istiod", "istiod", "istio/istiod"), istiod, Phase::ControlPlane),
    ]
}

/// A release, from its file, its name and its chart.
pub(super) fn release(
    ground: &Ground<'_>,
    (file, name, chart): (&'static str, &'static str, &'static str),
    values: Value,
    phase: Phase,
) -> Item {
    let version = ground.mesh.installation().version.map(|version| format!("~{version}.0"));
    let namespace = ISTIO_NAMESPACE;
    Item { phase, file, content: Content::Helm(Release { name, chart, namespace, version, values }) }
}

/// What every part of Istio in a cluster is told of where it is.
fn global(cluster: &Cluster) -> Map<String, Value> {
    let values = json!({
        "meshID": cluster.mesh.as_str(),
        "multiCluster": {"clusterName": cluster.name.as_str()},
        "network": cluster.network.as_str(),
    });
    values.as_object().cloned().unwrap_or_default()
}

fn primary(ground: &Ground<'_>, cluster: &Cluster) -> Result<Map<String, Value>, ManifestError> {
    let mut global = global(cluster);
    if ground.plane(cluster).count() > 1 {
        // istiod then leads the remotes whose namespace names its cluster, and patches their webhooks.
        global.insert("externalIstiod".to_owned(), json!(true));
    }
    if ground.mesh.global_names().is_some() {
        // `bar.ns2` becomes `bar.ns2.global` where the cluster's own DNS knows no bar.ns2.
        global.insert("podDNSSearchNamespaces".to_owned(), json!(["global"]));
    }
    let mut values = Map::from_iter([("global".to_owned(), Value::Object(global))]);
    values.insert("meshConfig".to_owned(), mesh_config(ground, cluster)?);
    let mut env = Map::new();
    if trusts_several_roots(ground, cluster) {
        env.insert("ISTIO_MULTIROOT_MESH".to_owned(), json!("true"));
    }
    if !ground.under_other_roots(cluster).is_empty() {
        // An alias would let the other mesh's identities through here too, and also make each of them equal to the one
        // of the same name here in every AuthorizationPolicy. So they are let through, and stay what they are.
        env.insert("PILOT_SKIP_VALIDATE_TRUST_DOMAIN".to_owned(), json!("true"));
    }
    if !env.is_empty() {
        values.insert("pilot".to_owned(), json!({"env": env}));
    }
    if ground.mesh.tokens().is_some() {
        values.insert("sidecarInjectorWebhook".to_owned(), token_template());
    }
    Ok(values)
}

/// Whether certificates that lead to different roots are about.
fn trusts_several_roots(ground: &Ground<'_>, cluster: &Cluster) -> bool {
    ground.options.changing_root || !ground.under_other_roots(cluster).is_empty()
}

fn mesh_config(ground: &Ground<'_>, cluster: &Cluster) -> Result<Value, ManifestError> {
    let mut config = Map::from_iter([("trustDomain".to_owned(), json!(cluster.trust_domain.as_str()))]);
    let aliases: Vec<&str> = ground.aliases(cluster).into_iter().map(|domain| domain.as_str()).collect();
    if !aliases.is_empty() {
        // Endpoints that istiod discovers are expected to have identities of its own trust domain or an alias of it.
        config.insert("trustDomainAliases".to_owned(), json!(aliases));
    }
    let root = ground.mesh.root_namespace().as_str();
    if root != ISTIO_NAMESPACE {
        config.insert("rootNamespace".to_owned(), json!(root));
    }
    let local = &ground.mesh.installation().cluster_local;
    if !local.is_empty() {
        let settings = json!([{"settings": {"clusterLocal": true}, "hosts": local}]);
        config.insert("serviceSettings".to_owned(), settings);
    }
    let mut metadata = Map::new();
    if answers_for_names(ground, cluster) {
        metadata.insert("ISTIO_META_DNS_CAPTURE".to_owned(), json!("true"));
    }
    if trusts_several_roots(ground, cluster) {
        // Roots beside that of the CA reach a proxy with its configuration only where its agent asks for them.
        metadata.insert("PROXY_CONFIG_XDS_AGENT".to_owned(), json!("true"));
    }
    if !metadata.is_empty() {
        config.insert("defaultConfig".to_owned(), json!({"proxyMetadata": metadata}));
    }
    let mut roots = Vec::new();
    for mesh in ground.under_other_roots(cluster) {
        let pem = ground
            .options
            .roots
            .get(&mesh.root)
            .ok_or_else(|| ManifestError::NoRoot { mesh: mesh.name.clone(), root: mesh.root.clone() })?;
        roots.push(json!({"pem": pem, "trustDomains": [mesh.trust_domain.as_str()]}));
    }
    if !roots.is_empty() {
        config.insert("caCertificates".to_owned(), Value::Array(roots));
    }
    Ok(Value::Object(config))
}

/// Whether sidecars answer for names: because it is said, or because no one else knows those of imports.
fn answers_for_names(ground: &Ground<'_>, cluster: &Cluster) -> bool {
    let imports = ground.imports(cluster);
    let by_proxy = ground.names().dns == Dns::Proxy && !imports.is_empty();
    ground.mesh.installation().dns_proxy || by_proxy
}

/// The injected sidecar takes the key that it signs tokens with from a Secret of its own namespace.
fn token_template() -> Value {
    let template = "spec:\n  containers:\n  - name: istio-proxy\n    env:\n    - name: ISTIO_META_ISTHMUS_TOKEN_KEY\n      \
                    valueFrom:\n        secretKeyRef: {name: isthmus-token-key, key: key, optional: true}\n";
    json!({"defaultTemplates": ["sidecar", "isthmus-token"], "templates": {"isthmus-token": template}})
}

fn remote(ground: &Ground<'_>, cluster: &Cluster) -> Result<Map<String, Value>, ManifestError> {
    let primary = ground.primary(cluster);
    let gateway = || primary.gateway.as_ref().map(|gateway| gateway.address.clone());
    let address = primary.whereabouts.istiod.clone().or_else(gateway).ok_or_else(|| {
        ManifestError::NoIstiod { remote: cluster.name.clone(), primary: primary.name.clone() }
    })?;
    let mut global = global(cluster);
    // An address becomes a Service istiod with an EndpointSlice, a name a Service of type ExternalName: the name by
    // which the certificate of istiod is verified is the same as in the primary.
    global.insert("remotePilotAddress".to_owned(), json!(address));
    let path = format!("/inject/cluster/{}/net/{}", cluster.name, cluster.network);
    Ok(Map::from_iter([
        ("global".to_owned(), Value::Object(global)),
        // The webhook is the primary's, which would else take pods for its own.
        ("istiodRemote".to_owned(), json!({"injectionPath": path})),
    ]))
}
