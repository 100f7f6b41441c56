//! Meshes and policies at random, as the YAML that a person would write, and read through the one door.

use std::collections::BTreeMap;

use policy::compile::{ClusterPlans, Plans};
use policy::finding::has_errors;
use policy::plan::{GatewayPlan, InboundPlan, OutboundPlan, PlanError};
use policy::{Mesh, Policy, compile};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::spec::{PolicyDraft, policy, settle};
use super::yaml::{Dice, Yaml};

pub(crate) const CLUSTERS: [&str; 5] = ["eu-1", "us-1", "eu-2", "asia", "us-2"];
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
        let plans = plans.into_iter().map(|(cluster, plans)| (cluster, read_again(plans)));
        Compiled { mesh, policies, plans: plans.collect() }
    }
}

/// The plans as the filter reads them.
fn read_again(plans: ClusterPlans) -> ClusterPlans {
    fn again<T>(json: Result<String, PlanError>, read: impl Fn(&[u8]) -> Result<T, PlanError>) -> T {
        let json = json.expect("a plan is JSON");
        read(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"))
    }
    let apart = plans.apart.into_iter();
    ClusterPlans {
        outbound: again(plans.outbound.to_json(), OutboundPlan::read),
        inbound: again(plans.inbound.to_json(), InboundPlan::read),
        apart: apart.map(|(namespace, plan)| (namespace, again(plan.to_json(), InboundPlan::read))).collect(),
        gateway: again(plans.gateway.to_json(), GatewayPlan::read),
        locality: plans.locality,
    }
}

/// Where a cluster of a world is.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) network: &'static str,
    pub(crate) region: Option<&'static str>,
    trust: Trust,
    issuers: bool,
}

/// What signs for a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The root of the home mesh, for its trust domain.
    Home,
    /// The same root, for another trust domain.
    Domain,
    /// The root of another mesh.
    Abroad,
}

impl Trust {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![6 => Just(Self::Home), 1 => Just(Self::Domain), 1 => Just(Self::Abroad)]
    }

    fn field(self) -> Option<(&'static str, Yaml)> {
        match self {
            Self::Home => None,
            Self::Domain => Some(("trustDomain", Yaml::text("two.example"))),
            Self::Abroad => Some(("mesh", Yaml::text("abroad"))),
        }
    }
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let site = (select(&NETWORKS[..]), option::of(select(&REGIONS[..])), Trust::any(), any::<bool>())
        .prop_map(|(network, region, trust, issuers)| Site { network, region, trust, issuers });
    let listing = (option::of(vec(any::<Index>(), 1..4)), select(&SELECTORS[..]));
    let listings = vec(option::of(listing), SERVICES.len());
    (vec(site, 1..=CLUSTERS.len()), listings).prop_flat_map(|(sites, listings)| {
        let mesh = mesh(&sites, &listings);
        let hosts: Vec<Vec<&'static str>> = listings.iter().map(|listing| hosts(&sites, listing)).collect();
        let steered = any::<bool>();
        (vec(policy(&sites), 0..=POLICIES.len()), steered).prop_map(move |(drafts, steered)| {
            let mut policies: Vec<PolicyDraft> = drafts
                .into_iter()
                .map(|draft| if steered { draft.unexposed() } else { draft.unsteered() })
                .collect();
            settle(&mut policies, &hosts);
            let named = POLICIES.iter().zip(policies);
            World { mesh: mesh.clone(), policies: named.map(|(name, draft)| draft.document(name)).collect() }
        })
    })
}

/// The clusters that run a service.
fn hosts(sites: &[Site], listing: &Option<Listing>) -> Vec<&'static str> {
    let all = &CLUSTERS[..sites.len()];
    match listing {
        Some((Some(hosts), _)) => hosts.iter().map(|host| *host.get(all)).collect(),
        Some((None, _)) | None => all.to_vec(),
    }
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
        fields.extend(site.trust.field());
        if site.issuers {
            let names = [format!("CN={name}\\, new\\+,O=x"), format!("CN={name}-old,O=x")];
            fields.push(("issuers", Yaml::texts(names)));
            // The same for whoever has several of both, since they change alike.
            let key = |which: &str| {
                let digit = char::from(b'A' + u8::try_from(number).expect("a few clusters"));
                let public = format!("{}{which}A", digit.to_string().repeat(41));
                let fields = [("kid", format!("{name}-{which}")), ("publicKey", public)];
                Yaml::Map(fields.map(|(key, text)| (key, Yaml::text(text))).into())
            };
            fields.push(("tokenKeys", Yaml::List(vec![key("1"), key("2")])));
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
    let mut spec =
        vec![("clusters", Yaml::List(clusters.collect())), ("services", Yaml::Named(services.collect()))];
    if sites.iter().any(|site| site.trust == Trust::Abroad) {
        let abroad = [("name", "abroad"), ("trustDomain", "abroad.example")];
        let abroad = Yaml::Map(abroad.map(|(key, text)| (key, Yaml::text(text))).into());
        spec.push(("meshes", Yaml::List(vec![abroad])));
    }
    if sites.iter().any(|site| site.issuers) {
        spec.push(("tokens", Yaml::Map(vec![("life", Yaml::text("2m"))])));
    }
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
