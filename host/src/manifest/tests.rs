use policy::compile;
use policy::mesh::ControlPlane;

use super::*;

fn mesh(spec: &str) -> Mesh {
    let text =
        format!("apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: home}}\nspec:\n{spec}");
    let (mesh, findings) = Mesh::read("mesh.yaml", &text);
    mesh.unwrap_or_else(|| panic!("{findings:#?}"))
}

fn rendered(mesh: &Mesh) -> Manifest {
    let plans = compile(mesh, &[]).0.unwrap();
    render(mesh, &plans, &Options::default()).unwrap()
}

const REMOTE: &str = "
  clusters:
  - {name: east, network: lan, gateway: {address: 192.0.2.1}}
  - {name: west, network: wan, gateway: {address: 192.0.2.2}, controlPlane: {remoteOf: east}}
  - {name: north, network: ice, gateway: {address: 192.0.2.3}}
";

const REPLICATED: &str = "
  global: {}
  clusters:
  - {name: east, network: lan, gateway: {address: 192.0.2.1}}
  - {name: west, network: wan, gateway: {address: 192.0.2.2}, controlPlane: {remoteOf: east}}
  - {name: north, network: ice, gateway: {address: 192.0.2.3}}
  services:
    web.shop: {port: 80, clusters: [north]}
    cart.shop: {port: 80, clusters: [west]}
";

#[test]
fn a_remote_comes_after_all_that_its_primary_shows_it_and_its_gateway_after_the_secret() {
    let mesh = mesh(REMOTE);
    let steps = steps(&mesh);
    let at = |phase: Phase, cluster: &str| {
        let has =
            |step: &Step| step.phase == phase && step.clusters.iter().any(|name| name.as_str() == cluster);
        steps.iter().position(has).unwrap()
    };
    for phase in [Phase::ControlPlane, Phase::Gateway, Phase::Exposure] {
        assert!(at(phase, "east") < at(Phase::ControlPlane, "west"), "{phase:?}");
    }
    assert!(at(Phase::ControlPlane, "west") < at(Phase::Secrets, "east"));
    assert!(at(Phase::Secrets, "east") < at(Phase::Gateway, "west"));
    assert!(at(Phase::Gateway, "west") < at(Phase::Names, "west"));
    for (cluster, items) in rendered(&mesh) {
        for item in items {
            at(item.phase, cluster.as_str());
        }
    }
}

#[test]
fn secrets_lead_from_each_control_plane_to_what_it_knows_and_nowhere_else() {
    let read = |spec: &str| -> Vec<(String, String)> {
        let mesh = mesh(spec);
        let of = |primary: &policy::mesh::Cluster| {
            let read = read_by(&mesh, primary).into_iter().map(|read| read.name.to_string());
            read.map(|read| (primary.name.to_string(), read)).collect::<Vec<_>>()
        };
        mesh.clusters().flat_map(of).collect()
    };
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    let native = [("east", "north"), ("east", "west"), ("north", "east"), ("north", "west")];
    assert_eq!(read(REMOTE), native.map(|(one, other)| pair(one, other)));
    assert_eq!(read(REPLICATED), [pair("east", "west")]);
}

#[test]
fn what_istio_reads_stands_in_the_clusters_of_control_planes_alone() {
    for spec in [REMOTE, REPLICATED] {
        let mesh = mesh(spec);
        for (cluster, items) in rendered(&mesh) {
            let primary = mesh.cluster(&cluster).unwrap().control_plane == ControlPlane::Primary;
            for item in items {
                let Content::Object(object) = item.content else { continue };
                let istios = object["apiVersion"].as_str().unwrap().contains("istio.io");
                assert!(primary || !istios, "{cluster} has {object:#}");
            }
        }
    }
}

#[test]
fn the_sni_of_a_global_name_is_what_the_gateway_there_and_the_filter_know() {
    let manifest = rendered(&mesh(REPLICATED));
    let rules: Vec<Value> = manifest
        .into_values()
        .flatten()
        .filter_map(|item| match item.content {
            Content::Object(object) if object["kind"] == "DestinationRule" => Some(object),
            Content::Object(_) | Content::IstioOperator(_) | Content::Helm(_) => None,
        })
        .collect();
    assert_eq!(rules.len(), 2, "{rules:#?}");
    for rule in rules {
        let host = rule["spec"]["host"].as_str().unwrap().strip_suffix(".global").unwrap();
        let sni = rule.pointer("/spec/trafficPolicy/portLevelSettings/0/tls/sni").unwrap().as_str().unwrap();
        let (service, port) = Service::from_sni(sni).unwrap();
        assert_eq!((service.to_string().as_str(), port.number()), (host, 80));
    }
}

#[test]
fn while_a_root_is_changed_every_control_plane_takes_several() {
    let mesh = mesh(REMOTE);
    let plans = compile(&mesh, &[]).0.unwrap();
    let multiroot = |changing_root| {
        let options = Options { changing_root, ..Options::default() };
        let manifest = render(&mesh, &plans, &options).unwrap();
        let operator = |items: &[Item]| {
            items.iter().find_map(|item| match &item.content {
                Content::IstioOperator(file) if item.file == "istio" => {
                    Some(file.pointer("/spec/values/pilot/env/ISTIO_MULTIROOT_MESH").is_some())
                }
                Content::IstioOperator(_) | Content::Object(_) | Content::Helm(_) => None,
            })
        };
        manifest.values().filter(|items| operator(items) == Some(true)).count()
    };
    assert_eq!((multiroot(false), multiroot(true)), (0, 2), "east and north, and no remote");
}

#[test]
fn only_the_clusters_that_are_asked_for_are_rendered() {
    let mesh = mesh(REMOTE);
    let plans = compile(&mesh, &[]).0.unwrap();
    let wanted = ["west".parse().unwrap()];
    let options = Options { clusters: &wanted, ..Options::default() };
    let manifest = render(&mesh, &plans, &options).unwrap();
    assert_eq!(manifest.keys().map(ClusterName::as_str).collect::<Vec<_>>(), ["west"]);
    assert_eq!(manifest[&wanted[0]], rendered(&mesh)[&wanted[0]]);
}

#[test]
fn a_mesh_without_the_certificate_of_another_root_is_refused_with_what_to_do() {
    let mesh = mesh(
        "
  meshes: [{name: partner, trustDomain: partner.example, root: partner-2026}]
  clusters:
  - {name: east, network: lan, gateway: {address: 192.0.2.1}}
  - {name: other, mesh: partner, network: wan, gateway: {address: 192.0.2.2}}
",
    );
    let plans = compile(&mesh, &[]).0.unwrap();
    let error = render(&mesh, &plans, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("partner-2026.pem"), "{error}");
}

#[test]
fn the_order_in_which_a_mesh_is_written_never_shows() {
    let turned = "
  services:
    cart.shop: {clusters: [west], port: 80}
    web.shop: {clusters: [north], port: 80}
  clusters:
  - {name: north, network: ice, gateway: {address: 192.0.2.3}}
  - {name: west, controlPlane: {remoteOf: east}, network: wan, gateway: {address: 192.0.2.2}}
  - {name: east, network: lan, gateway: {address: 192.0.2.1}}
  global: {}
";
    let files = |spec: &str| {
        let mesh = mesh(spec);
        folder::files(&mesh, &rendered(&mesh)).unwrap()
    };
    assert_eq!(files(REPLICATED), files(turned));
}
