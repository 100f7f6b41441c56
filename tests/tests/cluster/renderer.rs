//! What Istio's own renderer, and helm's engine with Istio's charts, make of what `isthmus mesh render` writes.

use std::path::{Path, PathBuf};

use isthmus_tests::repository;
use policy::Mesh;
use policy::mesh::{Cluster, ControlPlane, GatewayService};
use serde_json::{Value, json};

use super::apply::Istio;

/// The objects that Istio's tools make of a rendered file.
fn objects(istio: &Istio, file: &Path) -> Vec<Value> {
    let path = file.to_str().expect("text");
    let name = file.file_name().expect("a name").to_str().expect("text");
    let release = |name: &str, chart: &str| istio.says(&["template", name, chart, "istio-system", path]);
    let text = match name {
        "30-istio-base.helm.yaml" => release("istio-base", "base"),
        "30-istiod.helm.yaml" => release("istiod", "istiod"),
        "40-eastwest.helm.yaml" => release("istio-eastwestgateway", "gateway"),
        "40-egress.helm.yaml" => release("istio-egressgateway", "gateway"),
        _ if name.ends_with(".istioctl.yaml") => istio.says(&["manifest", "generate", "-f", path]),
        _ => panic!("{path}: for which tool?"),
    };
    let text = text.unwrap_or_else(|why| panic!("{path}: {why}"));
    let documents = text.split("\n---\n").filter(|document| document.contains("kind: "));
    // The definitions are Istio's own, and large.
    let documents = documents.filter(|document| !document.contains("kind: CustomResourceDefinition"));
    documents
        .map(|document| {
            serde_saphyr::from_str(document).unwrap_or_else(|why| panic!("{path}: {why}\n{document}"))
        })
        .collect()
}

/// The one object of this kind and name.
fn one<'o>(objects: &'o [Value], kind: &str, name: &str) -> Option<&'o Value> {
    let mut found =
        objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let first = found.next();
    assert!(found.next().is_none(), "{kind} {name} twice");
    first
}

fn env<'o>(deployment: &'o Value, name: &str) -> &'o Value {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    let mut env = containers.iter().filter_map(|container| container["env"].as_array()).flatten();
    env.find(|entry| entry["name"] == name).map_or(&Value::Null, |entry| &entry["value"])
}

fn is_led_by(cluster: &Cluster, primary: &Cluster) -> bool {
    cluster.control_plane == ControlPlane::RemoteOf(primary.name.clone())
}

/// What Istio's control plane, or what ties a remote to one, has to know.
fn control_plane(mesh: &Mesh, cluster: &Cluster, objects: &[Value]) {
    let said = |what: &str| format!("{}: {}: {what}", mesh.name(), cluster.name);
    let ControlPlane::RemoteOf(primary) = &cluster.control_plane else {
        let istiod = one(objects, "Deployment", "istiod").expect("an istiod");
        assert_eq!(env(istiod, "CLUSTER_ID"), cluster.name.as_str(), "{}", said("CLUSTER_ID"));
        let leads = mesh.clusters().any(|other| is_led_by(other, cluster));
        let external = if leads { json!("true") } else { Value::Null };
        assert_eq!(*env(istiod, "EXTERNAL_ISTIOD"), external, "{}", said("EXTERNAL_ISTIOD"));
        let config = one(objects, "ConfigMap", "istio").expect("a mesh configuration");
        let config: Value =
            serde_saphyr::from_str(config["data"]["mesh"].as_str().expect("text")).expect("YAML");
        assert_eq!(config["trustDomain"], cluster.trust_domain.as_str(), "{}", said("trustDomain"));
        let injector = one(objects, "ConfigMap", "istio-sidecar-injector").expect("what is injected");
        let values: Value =
            serde_json::from_str(injector["data"]["values"].as_str().expect("text")).expect("JSON");
        let global = &values["global"];
        assert_eq!(global["network"], cluster.network.as_str(), "{}", said("network"));
        assert_eq!(global["meshID"], cluster.mesh.as_str(), "{}", said("meshID"));
        assert_eq!(global["multiCluster"]["clusterName"], cluster.name.as_str(), "{}", said("clusterName"));
        return;
    };
    assert!(one(objects, "Deployment", "istiod").is_none(), "{}", said("a remote has no istiod"));
    let primary = mesh.cluster(primary).expect("a primary");
    let address = primary.whereabouts.istiod.clone();
    let address = address.unwrap_or_else(|| primary.gateway.as_ref().expect("a gateway").address.clone());
    let service = one(objects, "Service", "istiod").expect("the name of istiod");
    if address.parse::<std::net::IpAddr>().is_ok() {
        let slice = one(objects, "EndpointSlice", "istiod").expect("where it is");
        assert_eq!(slice["endpoints"][0]["addresses"], json!([address]), "{}", said("remotePilotAddress"));
    } else {
        assert_eq!(service["spec"]["externalName"], address, "{}", said("remotePilotAddress"));
    }
    let webhook = one(objects, "MutatingWebhookConfiguration", "istio-sidecar-injector").expect("a webhook");
    let path = format!("/inject/cluster/{}/net/{}", cluster.name, cluster.network);
    for hook in webhook["webhooks"].as_array().expect("webhooks") {
        assert_eq!(hook["clientConfig"]["service"]["path"], path, "{}", said("injectionPath"));
    }
}

/// The way into a network.
fn gateway(cluster: &Cluster, objects: &[Value]) {
    let (name, said) = ("istio-eastwestgateway", cluster.gateway.as_ref().expect("a gateway"));
    let network = cluster.network.as_str();
    let service = one(objects, "Service", name).expect("a Service");
    assert_eq!(service["metadata"]["labels"]["topology.istio.io/network"], network, "{}", cluster.name);
    let ports: Vec<u64> = service["spec"]["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .filter_map(|port| port["port"].as_u64())
        .collect();
    let is_reached = |port: &Value| port["port"] == said.port || port["nodePort"] == said.port;
    assert!(
        service["spec"]["ports"].as_array().expect("ports").iter().any(is_reached),
        "{}: {ports:?}",
        cluster.name
    );
    assert!([15021, 15012, 15017].iter().all(|port| ports.contains(port)), "{}: {ports:?}", cluster.name);
    let wanted = match said.service {
        GatewayService::LoadBalancer => "LoadBalancer",
        GatewayService::ExternalIp => "ClusterIP",
        GatewayService::NodePort => "NodePort",
    };
    assert_eq!(service["spec"]["type"], wanted, "{}", cluster.name);
    let external =
        if said.service == GatewayService::ExternalIp { json!([said.address]) } else { Value::Null };
    assert_eq!(service["spec"]["externalIPs"], external, "{}", cluster.name);
    let deployment = one(objects, "Deployment", name).expect("a Deployment");
    assert_eq!(env(deployment, "ISTIO_META_REQUESTED_NETWORK_VIEW"), network, "{}", cluster.name);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["istio"], "eastwestgateway", "{}: what Gateways select", cluster.name);
    for (key, value) in service["spec"]["selector"].as_object().expect("a selector") {
        assert_eq!(labels[key], *value, "{}: the Service finds its pods", cluster.name);
    }
}

#[test]
fn istios_own_renderers_make_of_what_is_rendered_what_is_meant() {
    let Some(istio) = Istio::find() else { return };
    let (mut planes, mut gateways) = (0, 0);
    let entries = std::fs::read_dir(repository().join("examples")).expect("examples");
    let mut examples: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    examples.retain(|example| example.join("rendered").is_dir());
    assert!(examples.len() > 8, "{examples:?}");
    for example in examples {
        let text = std::fs::read_to_string(example.join("mesh.yaml")).expect("a mesh");
        let mesh = Mesh::read("mesh.yaml", &text).0.expect("a mesh");
        for cluster in mesh.clusters() {
            let directory = example.join("rendered").join(cluster.name.as_str());
            let files = std::fs::read_dir(&directory).expect("a directory");
            let files = files.map(|entry| entry.expect("an entry").path());
            let is_for_tools = |file: &PathBuf| {
                let name = file.to_string_lossy();
                name.ends_with(".istioctl.yaml") || name.ends_with(".helm.yaml")
            };
            let (of_gateways, of_planes): (Vec<PathBuf>, Vec<PathBuf>) =
                files.filter(is_for_tools).partition(|file| file.to_string_lossy().contains("/40-"));
            let all: Vec<Value> = of_planes.iter().flat_map(|file| objects(&istio, file)).collect();
            control_plane(&mesh, cluster, &all);
            planes += 1;
            for file in of_gateways {
                let all = objects(&istio, &file);
                if file.to_string_lossy().contains("/40-eastwest") {
                    gateway(cluster, &all);
                    gateways += 1;
                }
            }
        }
    }
    assert!(planes > 20 && gateways > 10, "{planes} control planes, {gateways} gateways");
}
