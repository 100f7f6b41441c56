use crate::mesh::*;

const GOOD: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: cluster1, network: network1, podCidr: 10.42.0.0/16, gateway: {address: 192.0.2.1}}
  - {name: cluster2, network: network2, podCidr: 10.42.0.0/16, gateway: {address: 192.0.2.2, port: 443}}
  services:
    ledger.payments: {port: 8080, clusters: [cluster1]}
";

fn check(text: &str, expected: &[&str]) {
    let (mesh, findings) = Mesh::read("mesh.yaml", text);
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected);
    assert_eq!(mesh.is_some(), expected.is_empty());
}

#[test]
fn a_sound_mesh_is_read_with_its_defaults() {
    let (mesh, findings) = Mesh::read("mesh.yaml", GOOD);
    assert_eq!(findings, []);
    let mesh = mesh.unwrap();
    assert_eq!(mesh.trust_domain().as_str(), "cluster.local");
    let cluster1 = mesh.cluster(&"cluster1".parse().unwrap()).unwrap();
    assert_eq!(cluster1.issuers.first().unwrap().as_str(), "L=cluster1,CN=Intermediate CA,O=Istio");
    assert_eq!(cluster1.gateway.as_ref().unwrap().port, GATEWAY_PORT);
    assert_eq!(mesh.hosts(&"other.sample".parse().unwrap()).len(), 2);
    assert_eq!(mesh.hosts(&"ledger.payments".parse().unwrap()).len(), 1);
}

#[test]
fn a_name_is_one_clusters() {
    check(
        &GOOD.replace("name: cluster2", "name: cluster1"),
        &["mesh.yaml:7:12: error[ISM007]: cluster \"cluster1\" stands twice"],
    );
}

#[test]
fn pods_of_one_network_do_not_share_addresses() {
    check(
        &GOOD.replace("network: network2", "network: network1").replace(", port: 443", ""),
        &[
            "mesh.yaml:6:83: warning[ISM026]: nothing passes the gateway of cluster1: all clusters are on network network1",
            "mesh.yaml:7:50: error[ISM008]: pods of cluster2 (10.42.0.0/16) and of cluster1 (10.42.0.0/16) have the same addresses on network network1",
            "mesh.yaml:7:83: warning[ISM026]: nothing passes the gateway of cluster2: all clusters are on network network1",
        ],
    );
}

#[test]
fn a_network_without_a_gateway_cannot_be_entered() {
    check(
        &GOOD.replace(", gateway: {address: 192.0.2.1}", ""),
        &[
            "mesh.yaml:6:31: error[ISM010]: no other network can enter network1: none of its clusters has a gateway",
        ],
    );
}

#[test]
fn a_remote_needs_a_primary() {
    let remotes = GOOD
        .replace("name: cluster1,", "name: cluster1, controlPlane: {remoteOf: cluster2},")
        .replace("name: cluster2,", "name: cluster2, controlPlane: {remoteOf: cluster9},");
    check(
        &remotes,
        &[
            "mesh.yaml:6:47: error[ISM009]: cluster1 is a remote of cluster2, which is a remote itself",
            "mesh.yaml:7:47: error[ISM009]: cluster2 is a remote of cluster9, which is not in the mesh",
        ],
    );
}

#[test]
fn a_control_plane_is_primary_or_remote() {
    let with =
        |said: &str| GOOD.replace("name: cluster2,", &format!("name: cluster2, controlPlane: {{{said}}},"));
    for fine in ["primary: true", "remoteOf: cluster1", "primary: false, remoteOf: cluster1"] {
        check(&with(fine), &[]);
    }
    check(
        &with("primary: true, remoteOf: cluster1"),
        &["mesh.yaml:7:46: error[ISM009]: a control plane is primary or remote, not both"],
    );
    check(&with("primary: false"), &["mesh.yaml:7:46: error[ISM009]: this cluster has no control plane"]);
}

#[test]
fn an_issuer_proves_one_cluster_only_whatever_its_case() {
    check(
        &GOOD
            .replace("name: cluster1,", "name: cluster1, issuers: [\"CN=ca,O=x\"],")
            .replace("name: cluster2,", "name: cluster2, issuers: [\"CN=CA,O=x\"],"),
        &[
            "mesh.yaml:7:32: error[ISM011]: cluster2 and cluster1 have certificates of one issuer, \"CN=CA,O=x\"",
        ],
    );
}

#[test]
fn many_mistakes_are_found_in_one_run() {
    check(
        &GOOD
            .replace("kind: Mesh", "kind: Mush")
            .replace("clusters: [cluster1]", "clusters: [cluster3]")
            .replace("port: 443", "prot: 443"),
        &[
            "mesh.yaml:2:7: error[ISM006]: kind must be Mesh, and this is \"Mush\"",
            "mesh.yaml:7:94: error[ISM002]: gateway has no key \"prot\"",
            "mesh.yaml:9:46: error[ISM012]: cluster \"cluster3\" is not in the mesh",
        ],
    );
}

#[test]
fn a_file_with_nothing_or_too_much_in_it_is_no_mesh() {
    check("# empty\n", &["mesh.yaml:1:1: error[ISM003]: this file holds no document"]);
    check(
        &format!("{GOOD}---\na: b\n"),
        &["mesh.yaml:11:1: error[ISM007]: a second document in a mesh.yaml"],
    );
}

/// Clusters as `NAME NETWORK MESH [PRIMARY]`.
fn mesh_of(clusters: &[(&str, &str, &str, Option<&str>)]) -> Mesh {
    let mut text = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: home}\nspec:\n".to_owned();
    if clusters.iter().any(|(_, _, mesh, _)| *mesh == "partner") {
        text += "  meshes: [{name: partner, trustDomain: partner.example}]\n";
    }
    text += "  clusters:\n";
    for (number, (name, network, mesh, primary)) in clusters.iter().enumerate() {
        let plane =
            primary.map_or("{primary: true}".to_owned(), |primary| format!("{{remoteOf: {primary}}}"));
        text += &format!(
            "  - {{name: {name}, network: {network}, mesh: {mesh}, controlPlane: {plane}, gateway: {{address: 192.0.2.{number}}}}}\n"
        );
    }
    let (mesh, findings) = Mesh::read("mesh.yaml", &text);
    mesh.unwrap_or_else(|| panic!("{findings:?}"))
}

#[test]
fn an_istiod_signs_for_the_clusters_that_it_leads_and_its_issuer_proves_none_of_them() {
    let mesh = mesh_of(&[("a", "n", "home", None), ("b", "n", "home", Some("a")), ("c", "n", "home", None)]);
    let signer = |name: &str| mesh.signer(mesh.cluster(&name.parse().unwrap()).unwrap()).name.to_string();
    assert_eq!(["a", "b", "c"].map(signer), ["a", "a", "c"]);
    let proven: Vec<String> = mesh.proven_by_issuer().values().map(|one| one.name.to_string()).collect();
    assert_eq!(proven, ["c"]);
    assert_eq!(mesh.with_own_ca().proven_by_issuer().len(), 1);
}

#[test]
fn the_eight_models_are_told_apart() {
    let remote = Some("a");
    for (clusters, model) in [
        (&[("a", "n", "home", None), ("b", "n", "home", remote)][..], "primary-remote on one network"),
        (&[("a", "n", "home", None), ("b", "n", "home", None)], "multi-primary on one network"),
        (&[("a", "n", "home", None), ("b", "m", "home", remote)], "primary-remote on different networks"),
        (&[("a", "n", "home", None), ("b", "m", "home", None)], "multi-primary on different networks"),
        (
            &[("a", "n", "home", None), ("b", "n", "home", remote), ("p", "n", "partner", None)],
            "primary-remote on one network, federated with other meshes",
        ),
        (
            &[("a", "n", "home", None), ("b", "n", "home", None), ("p", "n", "partner", None)],
            "multi-primary on one network, federated with other meshes",
        ),
        (
            &[("a", "n", "home", None), ("b", "m", "home", remote), ("p", "m", "partner", None)],
            "primary-remote on different networks, federated with other meshes",
        ),
        (
            &[("a", "n", "home", None), ("b", "m", "home", None), ("p", "m", "partner", None)],
            "multi-primary on different networks, federated with other meshes",
        ),
    ] {
        assert_eq!(mesh_of(clusters).model().to_string(), model);
    }
}

#[test]
fn a_cluster_has_the_trust_domain_of_its_mesh_unless_it_says_another() {
    let mesh = mesh_of(&[("a", "n", "home", None), ("p", "n", "partner", None)]);
    let domains: Vec<&str> = mesh.clusters().map(|cluster| cluster.trust_domain.as_str()).collect();
    assert_eq!(domains, ["cluster.local", "partner.example"]);
    let text = GOOD.replace("name: cluster2,", "name: cluster2, trustDomain: two.example,");
    let mesh = Mesh::read("mesh.yaml", &text).0.unwrap();
    assert_eq!(mesh.trust_domains().len(), 2);
}

#[test]
fn a_remote_has_the_trust_domain_of_its_primary() {
    let text = GOOD
        .replace("name: cluster1,", "name: cluster1, trustDomain: one.example,")
        .replace("name: cluster2,", "name: cluster2, controlPlane: {remoteOf: cluster1},");
    let mesh = Mesh::read("mesh.yaml", &text).0.unwrap();
    let remote = mesh.cluster(&"cluster2".parse().unwrap()).unwrap();
    assert_eq!(remote.trust_domain.as_str(), "one.example");
    check(
        &text.replace("name: cluster2,", "name: cluster2, trustDomain: two.example,"),
        &[
            "mesh.yaml:7:35: error[ISM005]: trustDomain: cluster2 is a remote of cluster1, which gives identities of one.example",
        ],
    );
}

#[test]
fn what_could_not_be_read_is_not_missed_too() {
    let remote = GOOD.replace("name: cluster2,", "name: cluster2, controlPlane: {remoteOf: cluster1},");
    check(
        &remote.replace("name: cluster1, network: network1", "name: cluster1, network: Network1"),
        &["mesh.yaml:6:31: error[ISM005]: network: \"Network1\" is not a DNS label"],
    );
}

#[test]
fn the_version_of_istio_says_whether_proxies_show_certificates() {
    for (version, gives) in [("\"1.29.6\"", Some(false)), ("\"1.30\"", Some(true)), ("\"2.0\"", Some(true))] {
        let text = GOOD.replace("spec:\n", &format!("spec:\n  istio: {{version: {version}}}\n"));
        assert_eq!(Mesh::read("mesh.yaml", &text).0.unwrap().gives_certificates(), gives);
    }
    assert_eq!(Mesh::read("mesh.yaml", GOOD).0.unwrap().gives_certificates(), None);
}
