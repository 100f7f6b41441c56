//! Meshes and policies at random, as the YAML that a person would write, and read through the one door.

use std::collections::BTreeMap;

use policy::compile::Plans;
use policy::finding::has_errors;
use policy::{Mesh, Plan, Policy, compile};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::yaml::{Dice, Yaml};

const CLUSTERS: [&str; 5] = ["eu-1", "us-1", "eu-2", "asia", "us-2"];
pub(crate) const NETWORKS: [&str; 4] = ["net-eu", "lan", "net-us", "far"];
const REGIONS: [&str; 3] = ["eu", "us", "asia"];
/// Not in order of name, so that the order of files is not that of names.
const POLICIES: [&str; 6] = ["delta", "alpha", "foxtrot", "charlie", "bravo", "echo"];
pub(crate) const SERVICES: [(&str, &str); 4] =
    [("ledger", "payments"), ("web", "shop"), ("cart", "shop"), ("audit", "payments")];
const SELECTORS: [&[(&str, &str)]; 3] = [&[], &[("tier", "front")], &[("app", "ledger"), ("tier", "back")]];

/// A mesh and policies for it, as documents.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) mesh: Yaml,
    pub(crate) policies: Vec<Yaml>,
}

/// A world as isthmus has it.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) mesh: Mesh,
    pub(crate) policies: Vec<Policy>,
    pub(crate) plans: Plans,
}

impl World {
    /// Writes the documents in some order, reads them, compiles them, and reads the plans as the filter would.
    pub(crate) fn compiled(&self, mut dice: Dice) -> Compiled {
        let text = self.mesh.document(&mut dice);
        let (mesh, findings) = Mesh::read("mesh.yaml", &text);
        let mesh = mesh.unwrap_or_else(|| panic!("{findings:?} in\n{text}"));
        let mut documents: Vec<String> =
            self.policies.iter().map(|policy| policy.document(&mut dice)).collect();
        dice.shuffle(&mut documents);
        let (half, rest) = documents.split_at(documents.len() / 2);
        let mut policies = Vec::new();
        for (file, text) in [("a.yaml", half.join("---\n")), ("b.yaml", rest.join("---\n"))] {
            let (read, findings) = Policy::read(file, &text, mesh.root_namespace());
            assert!(!has_errors(&findings), "{findings:?} in\n{text}");
            policies.extend(read);
        }
        assert_eq!(policies.len(), self.policies.len());
        let (plans, findings) = compile(&mesh, &policies);
        let plans = plans.unwrap_or_else(|| panic!("{findings:?} in\n{documents:?}\nfor\n{text}"));
        let plans = plans.into_iter().map(|(cluster, plan)| {
            let json = plan.to_json().expect("a plan is JSON");
            (cluster, Plan::read(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}")))
        });
        Compiled { mesh, policies, plans: plans.collect() }
    }
}

/// Where a cluster of a world is.
#[derive(Debug, Clone)]
struct Site {
    network: &'static str,
    region: Option<&'static str>,
    issuers: bool,
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let site = (select(&NETWORKS[..]), option::of(select(&REGIONS[..])), any::<bool>())
        .prop_map(|(network, region, issuers)| Site { network, region, issuers });
    let listing = (option::of(vec(any::<Index>(), 1..4)), select(&SELECTORS[..]));
    let listings = vec(option::of(listing), SERVICES.len());
    (vec(site, 1..=CLUSTERS.len()), listings).prop_flat_map(|(sites, listings)| {
        let mesh = mesh(&sites, &listings);
        vec(policy(&sites), 0..=POLICIES.len()).prop_map(move |specs| {
            let named = POLICIES.iter().zip(specs);
            World {
                mesh: mesh.clone(),
                policies: named.map(|(name, (namespace, spec))| document(name, namespace, spec)).collect(),
            }
        })
    })
}

type Listing = (Option<Vec<Index>>, &'static [(&'static str, &'static str)]);

fn mesh(sites: &[Site], listings: &[Option<Listing>]) -> Yaml {
    let cluster = |(number, (name, site)): (usize, (&&str, &Site))| {
        let mut fields = vec![
            ("name", Yaml::text(*name)),
            ("network", Yaml::text(site.network)),
            ("podCidr", Yaml::text(format!("10.{number}.0.0/16"))),
            ("gateway", Yaml::Map(vec![("address", Yaml::text(format!("192.0.2.{number}")))])),
        ];
        fields.extend(site.region.map(|region| ("region", Yaml::text(region))));
        if site.issuers {
            let names = [format!("CN={name}\\, new\\+,O=x"), format!("CN={name}-old,O=x")];
            fields.push(("issuers", Yaml::texts(names)));
        }
        Yaml::Map(fields)
    };
    let clusters = CLUSTERS.iter().zip(sites).enumerate().map(cluster);
    let services = SERVICES.iter().zip(listings).filter_map(|((name, namespace), listing)| {
        let (hosts, selector) = listing.as_ref()?;
        let mut fields = vec![("port", Yaml::Number(8080))];
        if let Some(hosts) = hosts {
            let hosts: Vec<&str> = hosts.iter().map(|host| *host.get(&CLUSTERS[..sites.len()])).collect();
            fields.push(("clusters", Yaml::texts(hosts)));
        }
        let labels = selector.iter().map(|(label, value)| ((*label).to_owned(), Yaml::text(*value)));
        fields.push(("selector", Yaml::Named(labels.collect())));
        Some((format!("{name}.{namespace}"), Yaml::Map(fields)))
    });
    let spec =
        vec![("clusters", Yaml::List(clusters.collect())), ("services", Yaml::Named(services.collect()))];
    Yaml::Map(vec![
        ("apiVersion", Yaml::text(policy::API_VERSION)),
        ("kind", Yaml::text("Mesh")),
        ("metadata", Yaml::Map(vec![("name", Yaml::text("mesh1"))])),
        ("spec", Yaml::Map(spec)),
    ])
}

pub(crate) fn document(name: &str, namespace: &str, spec: Vec<(&'static str, Yaml)>) -> Yaml {
    Yaml::Map(vec![
        ("apiVersion", Yaml::text(policy::API_VERSION)),
        ("kind", Yaml::text("CrossClusterPolicy")),
        ("metadata", Yaml::Map(vec![("name", Yaml::text(name)), ("namespace", Yaml::text(namespace))])),
        ("spec", Yaml::Map(spec)),
    ])
}

type Spec = (&'static str, Vec<(&'static str, Yaml)>);

fn policy(sites: &[Site]) -> impl Strategy<Value = Spec> + use<> {
    let scopes = select(&["payments", "shop", "istio-system"][..])
        .prop_flat_map(|namespace| (Just(namespace), vec(select(scopes(namespace)), 1..3)));
    let boundary = select(&["Cluster", "Network", "Region", "Mesh"][..]);
    let networks: Vec<&'static str> = sites.iter().map(|site| site.network).collect();
    let exposure = vec(select(networks).prop_flat_map(pattern_of), 0..3);
    let sections = (
        option::weighted(0.7, access(sites)),
        option::weighted(0.3, boundary),
        option::weighted(0.3, exposure),
    );
    (scopes, sections).prop_map(|((namespace, scopes), (access, boundary, exposure))| {
        let mut spec = vec![("services", Yaml::texts(scopes))];
        spec.extend(access.map(|access| ("access", access)));
        let routing = |boundary: &str| ("routing", Yaml::Map(vec![("boundary", Yaml::text(boundary))]));
        spec.extend(boundary.map(routing));
        let shown = |networks: Vec<String>| {
            let to = Yaml::Map(vec![("networks", Yaml::texts(networks))]);
            ("exposure", Yaml::Map(vec![("to", to)]))
        };
        spec.extend(exposure.map(shown));
        (namespace, spec)
    })
}

/// What a policy of a namespace can speak of.
fn scopes(namespace: &str) -> Vec<String> {
    if namespace == "istio-system" {
        let hosts = SERVICES.iter().map(|(name, namespace)| format!("{name}.{namespace}.svc.cluster.local"));
        return hosts.chain(["*".to_owned(), "*.shop.svc.cluster.local".to_owned()]).collect();
    }
    let own = SERVICES.iter().filter(|(_, of)| *of == namespace).map(|(name, _)| (*name).to_owned());
    own.chain(["*".to_owned()]).collect()
}

/// A pattern that holds of a name.
fn pattern_of(name: &'static str) -> impl Strategy<Value = String> {
    let end = name.len() - 1;
    select(vec![
        "*".to_owned(),
        name.to_owned(),
        name.to_owned(),
        format!("{}*", &name[..2]),
        format!("*{}", &name[end..]),
    ])
}

fn access(sites: &[Site]) -> impl Strategy<Value = Yaml> + use<> {
    let source = option::of(select(&["Verified", "Claimed"][..]));
    let scope = option::of(select(&["Remote", "All"][..]));
    let deny = vec(rule(sites), 0..3);
    let allow = option::of(vec(rule(sites), 0..4));
    (source, scope, deny, allow).prop_map(|(source, scope, deny, allow)| {
        // Names fall against the order of the file, and are unique in the policy.
        let name = |prefix: &'static str| {
            move |(number, mut rule): (usize, Vec<(&'static str, Yaml)>)| {
                rule.push(("name", Yaml::text(format!("{prefix}-{}", 9 - number))));
                Yaml::Map(rule)
            }
        };
        let mut access = vec![("deny", Yaml::List(deny.into_iter().enumerate().map(name("no")).collect()))];
        access.extend(source.map(|source| ("source", Yaml::text(source))));
        access.extend(scope.map(|scope| ("scope", Yaml::text(scope))));
        access
            .extend(allow.map(|rules| {
                ("allow", Yaml::List(rules.into_iter().enumerate().map(name("yes")).collect()))
            }));
        Yaml::Map(access)
    })
}

fn rule(sites: &[Site]) -> impl Strategy<Value = Vec<(&'static str, Yaml)>> + use<> {
    let from = vec(source(sites), 1..3).prop_map(Yaml::List);
    let to = option::weighted(0.4, vec(target(), 1..3).prop_map(Yaml::List));
    (from, to).prop_map(|(from, to)| {
        let mut rule = vec![("from", from)];
        rule.extend(to.map(|to| ("to", to)));
        rule
    })
}

/// An entry of `from` that takes in one cluster at least.
fn source(sites: &[Site]) -> impl Strategy<Value = Yaml> + use<> {
    const NAMESPACES: [&str; 4] = ["checkout", "batch", "ch*", "*t"];
    const PRINCIPALS: [&str; 5] =
        ["cluster.local/ns/checkout/sa/web", "cluster.local/ns/batch/*", "*/sa/web", "cluster.*", "*"];
    let places: Vec<(&'static str, &'static str)> =
        CLUSTERS.into_iter().zip(sites).map(|(name, site)| (name, site.network)).collect();
    let place = select(places).prop_flat_map(|(cluster, network)| {
        (vec(pattern_of(cluster), 1..3), vec(pattern_of(network), 1..3), 0..3_u8)
    });
    let namespaces = option::weighted(0.3, vec(select(&NAMESPACES[..]), 1..3));
    let principals = option::weighted(0.3, vec(select(&PRINCIPALS[..]), 1..3));
    (place, namespaces, principals).prop_map(|((clusters, networks, which), namespaces, principals)| {
        let mut from = Vec::new();
        if which != 1 {
            from.push(("clusters", Yaml::texts(clusters)));
        }
        if which != 0 {
            from.push(("networks", Yaml::texts(networks)));
        }
        from.extend(namespaces.map(|patterns| ("namespaces", Yaml::texts(patterns))));
        from.extend(principals.map(|patterns| ("principals", Yaml::texts(patterns))));
        Yaml::Map(from)
    })
}

/// An entry of `to`.
fn target() -> impl Strategy<Value = Yaml> {
    let ports = vec(select(&[80_u16, 8080][..]), 1..3)
        .prop_map(|ports| ("ports", Yaml::List(ports.into_iter().map(Yaml::Number).collect())));
    let methods =
        vec(select(&["GET", "POST", "P*", "*"][..]), 1..3).prop_map(|m| ("methods", Yaml::texts(m)));
    let paths =
        vec(select(&["/v1/*", "/health", "*.json", "*"][..]), 1..3).prop_map(|p| ("paths", Yaml::texts(p)));
    (ports, option::of(methods), option::of(paths), any::<bool>()).prop_map(
        |(ports, methods, paths, any_port)| {
            let mut to: Vec<_> = methods.into_iter().chain(paths).collect();
            if to.is_empty() || !any_port {
                to.push(ports);
            }
            Yaml::Map(to)
        },
    )
}

/// The labels of a workload.
pub(crate) fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let app = select(&["ledger", "web", "cart", "audit", "other"][..]).prop_map(|app| ("app", app));
    let tier = select(&["front", "back"][..]).prop_map(|tier| ("tier", tier));
    let canonical = select(&["ledger", "web"][..]).prop_map(|name| ("service.istio.io/canonical-name", name));
    let owned = |(label, value): (&str, &str)| (label.to_owned(), value.to_owned());
    (option::weighted(0.8, app), option::of(tier), option::weighted(0.2, canonical)).prop_map(
        move |(app, tier, canonical)| app.into_iter().chain(tier).chain(canonical).map(owned).collect(),
    )
}
