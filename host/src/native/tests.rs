use policy::{Policy, compile};

use super::*;

const CLUSTERS: &str = "
  - {name: eu-1, network: frankfurt, region: eu, gateway: {address: 192.0.2.1}}
  - {name: eu-2, network: dublin, region: eu, gateway: {address: 192.0.2.2}}
  - {name: us-1, network: ohio, region: us, gateway: {address: 192.0.2.3}}
  - {name: us-2, network: ohio, region: us, gateway: {address: 192.0.2.4}}
  - {name: moon, network: crater, gateway: {address: 192.0.2.5}}";

/// What a policy with this routing gives each cluster.
fn generated(routing: &str) -> BTreeMap<ClusterName, Objects> {
    generated_in(CLUSTERS, routing)
}

fn generated_in(clusters: &str, routing: &str) -> BTreeMap<ClusterName, Objects> {
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: bank}}\nspec:\n  clusters:{clusters}\n  services: {{web.shop: {{port: 80}}}}\n"
    );
    let mesh = Mesh::read("mesh.yaml", &text).0.unwrap();
    let text = format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: web, namespace: shop}}\nspec: {{services: [\"*\"], routing: {routing}}}\n"
    );
    let (policies, findings) = Policy::read("web.yaml", &text, mesh.root_namespace());
    assert_eq!(findings, []);
    objects(&mesh, &compile(&mesh, &policies).0.unwrap())
}

/// The one object of a kind that a cluster has.
fn one<'o>(generated: &'o BTreeMap<ClusterName, Objects>, cluster: &str, kind: Kind) -> Option<&'o Value> {
    let objects = &generated[&cluster.parse().unwrap()];
    objects.iter().find(|((found, _), _)| *found == kind).map(|(_, object)| object)
}

fn subsets(generated: &BTreeMap<ClusterName, Objects>, cluster: &str) -> Vec<String> {
    let rule = one(generated, cluster, Kind::DestinationRule);
    let subsets = rule.and_then(|rule| rule["spec"]["subsets"].as_array().cloned()).unwrap_or_default();
    subsets.iter().map(|subset| subset["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_route_leads_to_a_subset_of_its_own_cluster_by_a_label_that_istiod_sets() {
    let generated = generated("{boundary: Region}");
    let route = one(&generated, "eu-1", Kind::VirtualService).unwrap();
    assert_eq!(
        route["spec"]["http"][0]["match"],
        json!([{"headers": {"x-isthmus-route": {"exact": "region"}}}])
    );
    assert_eq!(route["spec"]["http"][0]["route"][0]["destination"]["subset"], "isthmus-region-eu");
    assert_eq!(route["spec"]["http"][1].get("match"), None, "the last takes the rest");
    let rule = one(&generated, "eu-1", Kind::DestinationRule).unwrap();
    let labels = json!({"topology.kubernetes.io/region": "eu"});
    assert_eq!(rule["spec"]["subsets"], json!([{"name": "isthmus-region-eu", "labels": labels}]));
    // In no region, the moon is alone.
    assert_eq!(subsets(&generated, "moon"), ["isthmus-cluster-moon"]);
}

#[test]
fn a_subset_is_there_wherever_a_gateway_must_know_it_by_its_sni_and_nowhere_else() {
    // The boundary leaves the pin to the clusters of the other region nothing to do.
    let generated = generated("{boundary: Region, pin: {header: x-cell, to: {e: eu-2, u: us-2}}}");
    assert_eq!(subsets(&generated, "eu-1"), ["isthmus-cluster-eu-2", "isthmus-region-eu"]);
    assert_eq!(subsets(&generated, "eu-2"), ["isthmus-cluster-eu-2", "isthmus-region-eu"]);
    assert_eq!(subsets(&generated, "us-1"), ["isthmus-cluster-us-2", "isthmus-region-us"]);
    // Everyone's way to eu-2 ends at its gateway; the two of Ohio reach each other without one.
    let pinned = self::generated("{pin: {header: x-cell, to: {e: eu-2}}}");
    assert!(CLUSTERS.matches("name: ").count() == pinned.len());
    assert!(pinned.keys().all(|cluster| subsets(&pinned, cluster.as_str()) == ["isthmus-cluster-eu-2"]));
    let near = self::generated("{boundary: Network}");
    assert_eq!(subsets(&near, "us-1"), ["isthmus-network-ohio"]);
    assert_eq!(subsets(&near, "eu-1"), ["isthmus-network-frankfurt"]);
}

#[test]
fn a_split_needs_no_route_for_the_boundary_around_it() {
    let generated =
        generated("{boundary: Network, split: [{cluster: us-1, weight: 50}, {cluster: us-2, weight: 50}]}");
    assert_eq!(subsets(&generated, "us-1"), ["isthmus-cluster-us-1", "isthmus-cluster-us-2"]);
    // Where no request may start none needs a route.
    assert_eq!(one(&generated, "eu-1", Kind::VirtualService), None);
    assert_eq!(one(&generated, "eu-1", Kind::DestinationRule), None);
}

#[test]
fn locality_comes_with_the_outlier_detection_that_makes_it_act() {
    let policy = |routing: &str| {
        let generated = generated(routing);
        assert_eq!(one(&generated, "us-1", Kind::VirtualService), None, "nothing is routed by the header");
        let rule = one(&generated, "us-1", Kind::DestinationRule).unwrap();
        assert!(rule["spec"]["trafficPolicy"]["outlierDetection"].is_object());
        rule["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"].clone()
    };
    let (network, cluster) = ("topology.istio.io/network", "topology.istio.io/cluster");
    assert_eq!(policy("{prefer: Cluster}"), json!({"enabled": true, "failoverPriority": [network, cluster]}));
    assert_eq!(policy("{prefer: Network}"), json!({"enabled": true, "failoverPriority": [network]}));
    assert_eq!(policy("{prefer: Region}"), json!({"enabled": true}));
    assert_eq!(
        policy("{failover: [us-2]}"),
        json!({"enabled": true, "failoverPriority": [network, cluster]})
    );
    assert_eq!(
        policy("{prefer: Region, failover: [eu-1, eu-2]}")["failover"],
        json!(null),
        "which of the two comes first no setting can say"
    );
}

#[test]
fn a_subsets_name_is_a_dns_label_however_long_the_clusters_is() {
    let named = |value: String| Subset { area: Area::Cluster, value }.name();
    assert_eq!(named("eu-1".to_owned()), "isthmus-cluster-eu-1");
    let (one, other) = (named("a".repeat(63)), named(format!("{}b", "a".repeat(62))));
    assert_ne!(one, other);
    assert!(one.len() == 63 && one.ends_with(|last: char| last.is_ascii_hexdigit()), "{one}");
}

#[test]
fn an_object_that_is_widened_has_what_was_and_what_is_to_come() {
    let (before, after) = (
        generated("{pin: {header: x-cell, to: {e: eu-1}}}"),
        generated("{pin: {header: x-cell, to: {e: eu-2}}}"),
    );
    let wide = |kind| {
        widened(one(&before, "us-1", kind).unwrap(), one(&after, "us-1", kind).unwrap())["spec"].clone()
    };
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&wide(Kind::DestinationRule)["subsets"]),
        ["isthmus-cluster-eu-2", "isthmus-cluster-eu-1"]
    );
    assert_eq!(
        names(&wide(Kind::VirtualService)["http"]),
        ["isthmus-cluster-eu-2", "isthmus-cluster-eu-1", "isthmus-anywhere"]
    );
    let none = generated("{prefer: Cluster}");
    let bare = one(&none, "us-1", Kind::DestinationRule).unwrap();
    let wide = widened(one(&before, "us-1", Kind::DestinationRule).unwrap(), bare);
    assert_eq!(names(&wide["spec"]["subsets"]), ["isthmus-cluster-eu-1"]);
    assert_eq!(widened(bare, bare), *bare);
}

#[test]
fn clusters_of_one_control_plane_share_the_objects_of_its_cluster() {
    let led = CLUSTERS.replace("name: us-1,", "name: us-1, controlPlane: {remoteOf: eu-1},");
    let generated = generated_in(&led, "{boundary: Region, pin: {header: x-cell, to: {e: eu-2, u: us-2}}}");
    assert_eq!(generated.len(), 4, "a remote has none of its own");
    let route = one(&generated, "eu-1", Kind::VirtualService).unwrap();
    let value = |value: &str| json!({"x-isthmus-route": {"exact": value}});
    let of = |cluster: &str| json!({"topology.istio.io/cluster": cluster});
    let ways: Vec<(&str, Value, Value)> = route["spec"]["http"]
        .as_array()
        .unwrap()
        .iter()
        .map(|way| {
            let subset = way["route"][0]["destination"]["subset"].clone();
            (way["name"].as_str().unwrap(), way["match"].clone(), subset)
        })
        .collect();
    let region = |from: &str| json!([{"headers": value("region"), "sourceLabels": of(from)}]);
    assert_eq!(
        ways,
        [
            ("isthmus-region-eu", region("eu-1"), json!("isthmus-region-eu")),
            ("isthmus-region-us", region("us-1"), json!("isthmus-region-us")),
            // A cluster that is named is the same from everywhere.
            (
                "isthmus-cluster-eu-2",
                json!([{"headers": value("cluster=eu-2")}]),
                json!("isthmus-cluster-eu-2")
            ),
            (
                "isthmus-cluster-us-2",
                json!([{"headers": value("cluster=us-2")}]),
                json!("isthmus-cluster-us-2")
            ),
            ("isthmus-anywhere", Value::Null, Value::Null),
        ]
    );
    assert_eq!(
        subsets(&generated, "eu-1"),
        ["isthmus-cluster-eu-2", "isthmus-cluster-us-2", "isthmus-region-eu", "isthmus-region-us"]
    );
}
