//! Meshes and policies of any size, and what is compiled from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::compile::ClusterPlans;
use policy::{Mesh, Policy};

use super::Outcome;

/// The services of a world are spread over so many namespaces.
const NAMESPACES: usize = 20;

/// A mesh of so many clusters and so many rules, ten to a service.
pub(super) fn world(clusters: usize, rules: usize) -> Outcome<(Mesh, Vec<Policy>)> {
    let mut mesh =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec:\n  clusters:\n".to_owned();
    for n in 0..clusters {
        let gateway = format!("10.0.{}.{}", n / 250, n % 250 + 1);
        writeln!(mesh, "  - {{name: c{n}, network: n{n}, gateway: {{address: {gateway}}}}}")?;
    }
    let mut text = String::new();
    for service in 0..rules / 10 {
        write!(
            text,
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p{service}, namespace: shop{}}}\nspec:\n  services: [s{service}]\n  access:\n    allow:\n",
            service % NAMESPACES
        )?;
        for rule in 0..10 {
            writeln!(
                text,
                "    - {{name: r{rule}, from: [{{clusters: [c1], namespaces: [ns{rule}]}}], to: [{{methods: [GET], paths: [/v{rule}/*]}}]}}"
            )?;
        }
    }
    let (mesh, findings) = Mesh::read("mesh.yaml", &mesh);
    let mesh = mesh.ok_or_else(|| format!("{findings:?}"))?;
    let (policies, findings) = Policy::read("p.yaml", &text, mesh.root_namespace());
    if !findings.is_empty() {
        return Err(format!("{findings:?}").into());
    }
    Ok((mesh, policies))
}

/// A mesh of two clusters and so many rules, all of the service s0: no two for the same namespace and path.
pub(super) fn own_rules(rules: usize) -> Outcome<(Mesh, Vec<Policy>)> {
    let (mesh, _) = world(2, 10)?;
    let mut text = "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {name: own, namespace: shop0}\nspec:\n  services: [s0]\n  access:\n    allow:\n".to_owned();
    for rule in 0..rules {
        writeln!(
            text,
            "    - {{name: r{rule}, from: [{{clusters: [c1], namespaces: [ns{rule}]}}], to: [{{paths: [/v{rule}/*]}}]}}"
        )?;
    }
    let (policies, findings) = Policy::read("own.yaml", &text, mesh.root_namespace());
    if findings.is_empty() { Ok((mesh, policies)) } else { Err(format!("{findings:?}").into()) }
}

/// The plans of the first cluster.
pub(super) fn compiled(mesh: &Mesh, policies: &[Policy]) -> Outcome<ClusterPlans> {
    let (plans, findings) = policy::compile(mesh, policies);
    let mut plans = plans.ok_or_else(|| format!("{findings:?}"))?;
    Ok(plans.remove(&"c0".parse()?).ok_or("no plans for c0")?)
}

/// The plans of the first of so many clusters under so many rules of everyone's.
pub(super) fn plans_of(clusters: usize, rules: usize) -> Outcome<ClusterPlans> {
    let (mesh, policies) = world(clusters, rules)?;
    compiled(&mesh, &policies)
}

/// Two clusters on two networks.
const TWO: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec:\n  clusters:\n  \
    - {name: c0, network: n0, gateway: {address: 192.0.2.1}, podCidr: 10.0.0.0/16}\n  \
    - {name: c1, network: n1, gateway: {address: 192.0.2.2}, podCidr: 10.1.0.0/16}\n  \
    services: {s0.shop0: {port: 80}, s1.shop0: {port: 80}}\n";

/// Plans of the first of two clusters, under policies for the services s0 and s1.
fn two(specs: &[(&str, &str)]) -> Outcome<ClusterPlans> {
    let (mesh, findings) = Mesh::read("mesh.yaml", TWO);
    let mesh = mesh.ok_or_else(|| format!("{findings:?}"))?;
    // A client on loopback is of the second cluster.
    let place =
        |pods: &str, gateway: &str| Ok::<_, Box<dyn std::error::Error>>((pods.parse()?, gateway.parse()?));
    let mesh = mesh.relocated(&BTreeMap::from([("c1".parse()?, place("127.0.0.0/8", "192.0.2.2")?)]));
    let text: String = specs
        .iter()
        .map(|(service, spec)| {
            format!(
                "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: {service}, namespace: shop0}}\nspec: {{services: [{service}], {spec}}}\n"
            )
        })
        .collect();
    let (policies, findings) = Policy::read("p.yaml", &text, mesh.root_namespace());
    if findings.is_empty() { compiled(&mesh, &policies) } else { Err(format!("{findings:?}").into()) }
}

/// s0 is kept inside its network; nothing is said of s1.
pub(super) fn routed() -> Outcome<ClusterPlans> {
    two(&[("s0", "routing: {boundary: Network}")])
}

/// Nothing is said of any service.
pub(super) fn unruled() -> Outcome<ClusterPlans> {
    two(&[])
}

/// s0 is shown to the network of the second cluster, s1 to none.
pub(super) fn exposed() -> Outcome<ClusterPlans> {
    two(&[("s0", "exposure: {to: {networks: [n1]}}"), ("s1", "exposure: {to: {networks: []}}")])
}
