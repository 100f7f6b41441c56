//! What a policy says, at random: every field of the language, and nothing that would be an error.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::world::{CLUSTERS, SERVICES, Site, document};
use super::yaml::Yaml;

type Fields = Vec<(&'static str, Yaml)>;

/// A policy before it is settled with the others.
#[derive(Debug, Clone)]
pub(crate) struct PolicyDraft {
    namespace: &'static str,
    scopes: Vec<String>,
    spec: Fields,
    routing: Fields,
    pin: Option<(&'static str, Vec<Index>)>,
    split: Option<(Vec<Index>, Vec<u16>, u8)>,
    exposure: Option<Yaml>,
}

/// The headers that pins and splits look at.
pub(crate) const CELL: &str = "x-cell";
pub(crate) const CELLS: [&str; 3] = ["a", "b", "c"];

impl PolicyDraft {
    /// Without what hides services: a pin to where a service is hidden would be an error.
    pub(crate) fn unexposed(mut self) -> Self {
        self.exposure = None;
        self
    }

    /// Without what sends requests to clusters.
    pub(crate) fn unsteered(mut self) -> Self {
        self.pin = None;
        self.split = None;
        self
    }

    /// Its scopes as a policy of the root namespace would name them.
    fn hosts(&self) -> Vec<String> {
        let host = |scope: &String| match (self.namespace, scope.as_str()) {
            ("istio-system", host) => host.to_owned(),
            (namespace, name) => format!("{name}.{namespace}.svc.cluster.local"),
        };
        self.scopes.iter().map(host).collect()
    }

    pub(crate) fn document(self, name: &str) -> Yaml {
        let mut spec = self.spec;
        spec.push(("services", Yaml::texts(self.scopes)));
        if !self.routing.is_empty() {
            spec.push(("routing", Yaml::Map(self.routing)));
        }
        spec.extend(self.exposure.map(|exposure| ("exposure", exposure)));
        document(name, self.namespace, spec)
    }
}

/// Gives each policy the clusters that its pins and splits may name, and takes away what would contradict another's.
pub(crate) fn settle(drafts: &mut [PolicyDraft], hosts: &[Vec<&'static str>]) {
    let mut taken: Vec<(&str, String)> = Vec::new();
    for draft in drafts {
        let scopes = draft.hosts();
        let runs = |cluster: &&&str| {
            SERVICES.iter().zip(hosts).all(|((name, namespace), hosts)| {
                let host = format!("{name}.{namespace}.svc.cluster.local");
                !scopes.contains(&host) || hosts.contains(cluster)
            })
        };
        let everywhere: Vec<&&str> =
            CLUSTERS.iter().filter(|cluster| hosts.iter().flatten().any(|host| host == *cluster)).collect();
        let clusters: Vec<&str> = everywhere.into_iter().filter(runs).copied().collect();
        let mut free = |what: &'static str| {
            let own: Vec<(&str, String)> = scopes.iter().map(|scope| (what, scope.clone())).collect();
            let is_free = !clusters.is_empty() && own.iter().all(|entry| !taken.contains(entry));
            if is_free {
                taken.extend(own);
            }
            is_free
        };
        if let Some((header, to)) = draft.pin.take()
            && free("pin")
        {
            let to =
                CELLS.iter().zip(to).map(|(cell, at)| ((*cell).to_owned(), Yaml::text(*at.get(&clusters))));
            let pin = vec![("header", Yaml::text(header)), ("to", Yaml::Named(to.collect()))];
            draft.routing.push(("pin", Yaml::Map(pin)));
        }
        if let Some((at, cuts, sticky)) = draft.split.take()
            && free("split")
        {
            draft.routing.extend(split(&clusters, &at, cuts, sticky));
        }
    }
}

fn split(clusters: &[&str], at: &[Index], mut cuts: Vec<u16>, sticky: u8) -> Fields {
    let mut legs: Vec<&str> = at.iter().map(|at| *at.get(clusters)).collect();
    legs.sort_unstable();
    legs.dedup();
    legs.reverse();
    cuts.truncate(legs.len() - 1);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.push(100);
    let shares = cuts.iter().scan(0, |before, cut| Some(cut - std::mem::replace(before, *cut)));
    let leg = |(cluster, weight): (&str, u16)| {
        Yaml::Map(vec![("cluster", Yaml::text(cluster)), ("weight", Yaml::Number(weight))])
    };
    let mut fields = vec![("split", Yaml::List(legs.into_iter().zip(shares).map(leg).collect()))];
    match sticky {
        0 => fields.push(("hashOn", Yaml::Map(vec![("header", Yaml::text("x-user"))]))),
        1 => fields.push(("hashOn", Yaml::Map(vec![("cookie", Yaml::text("session"))]))),
        _ => {}
    }
    // Fewer cuts than legs leave legs without a share.
    if let Some((_, Yaml::List(legs))) = fields.first()
        && legs.len() < cuts.len()
    {
        fields.clear();
    }
    fields
}

pub(crate) fn policy(sites: &[Site]) -> impl Strategy<Value = PolicyDraft> + use<> {
    let scopes = select(&["payments", "shop", "istio-system"][..])
        .prop_flat_map(|namespace| (Just(namespace), vec(select(scopes(namespace)), 1..3)));
    let boundary = option::weighted(0.25, select(&["Cluster", "Network", "Region", "Mesh"][..]));
    let pin = option::weighted(0.25, (Just(CELL), vec(any::<Index>(), 2)));
    let split = option::weighted(0.25, (vec(any::<Index>(), 1..4), vec(1..100_u16, 3), 0..4_u8));
    let prefer = option::weighted(0.1, Just("Network"));
    let sections = (option::weighted(0.7, access(sites)), boundary, option::weighted(0.3, exposure(sites)));
    let shadow = prop::bool::weighted(0.25);
    (scopes, sections, (pin, split, prefer), shadow).prop_map(
        |((namespace, scopes), (access, boundary, exposure), (pin, split, prefer), shadow)| {
            let mut spec = Vec::new();
            spec.extend(access.map(|access| ("access", access)));
            if shadow {
                spec.push(("mode", Yaml::text("Shadow")));
            }
            let mut routing: Fields =
                boundary.map(|boundary| ("boundary", Yaml::text(boundary))).into_iter().collect();
            routing.extend(prefer.map(|prefer| ("prefer", Yaml::text(prefer))));
            PolicyDraft { namespace, scopes, spec, routing, pin, split, exposure }
        },
    )
}

fn exposure(sites: &[Site]) -> impl Strategy<Value = Yaml> + use<> {
    let networks: Vec<&'static str> = sites.iter().map(|site| site.network).collect();
    let named = vec(select(networks.clone()).prop_flat_map(pattern_of), 0..3);
    let twin = option::weighted(0.3, select(networks));
    let ports = option::weighted(0.4, vec(select(&[80_u16, 8080][..]), 1..3));
    (named, twin, ports).prop_map(|(networks, twin, ports)| {
        let mut to = vec![("networks", Yaml::texts(networks))];
        to.extend(twin.map(|network| ("notNetworks", Yaml::texts([network]))));
        // Of every second exposure with ports and no twin, only the ports are said.
        let only_ports = ports.as_ref().is_some_and(|ports| ports.len() == 1) && to.len() == 1;
        let mut exposure = if only_ports { Vec::new() } else { vec![("to", Yaml::Map(to))] };
        exposure.extend(ports.map(|ports| ("ports", numbers(ports))));
        Yaml::Map(exposure)
    })
}

fn numbers(numbers: Vec<u16>) -> Yaml {
    Yaml::List(numbers.into_iter().map(Yaml::Number).collect())
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
    // Now and then so many that they are looked up, and not asked one after the other.
    let rules = |few: usize| prop_oneof![8 => vec(rule(sites), 0..few), 1 => vec(rule(sites), 9..40)];
    (source, scope, rules(3), option::of(rules(4))).prop_map(|(source, scope, deny, allow)| {
        // Names fall against the order of the file, and are unique in the policy.
        let name = |prefix: &'static str| {
            move |(number, mut rule): (usize, Fields)| {
                rule.push(("name", Yaml::text(format!("{prefix}-{:02}", 99 - number))));
                Yaml::Map(rule)
            }
        };
        let list = |prefix, rules: Vec<Fields>| {
            Yaml::List(rules.into_iter().enumerate().map(name(prefix)).collect())
        };
        let mut access = vec![("deny", list("no", deny))];
        access.extend(source.map(|source| ("source", Yaml::text(source))));
        access.extend(scope.map(|scope| ("scope", Yaml::text(scope))));
        access.extend(allow.map(|rules| ("allow", list("yes", rules))));
        Yaml::Map(access)
    })
}

fn rule(sites: &[Site]) -> impl Strategy<Value = Fields> + use<> {
    let from = vec(source(sites), 1..3).prop_map(Yaml::List);
    let to = option::weighted(0.6, vec(target(), 1..3).prop_map(Yaml::List));
    (from, to).prop_map(|(from, to)| {
        let mut rule = vec![("from", from)];
        rule.extend(to.map(|to| ("to", to)));
        rule
    })
}

/// Now and then some of these, under a field's name.
fn some(
    field: &'static str,
    often: f64,
    values: &'static [&'static str],
) -> impl Strategy<Value = Option<(&'static str, Yaml)>> {
    option::weighted(often, vec(select(values), 1..3))
        .prop_map(move |said| said.map(|said| (field, Yaml::texts(said))))
}

/// An entry of `from` that takes in one cluster at least.
fn source(sites: &[Site]) -> impl Strategy<Value = Yaml> + use<> {
    let places: Vec<(&'static str, Site)> = CLUSTERS.into_iter().zip(sites.to_vec()).collect();
    let others = places.clone();
    let place = (select(places), any::<Index>()).prop_flat_map(move |((cluster, site), other)| {
        let region = site.region.map(pattern_of);
        let region =
            region.map_or_else(|| Just(None).boxed(), |pattern| vec(pattern, 1..3).prop_map(Some).boxed());
        let other = other.get(&others).clone();
        let twins = (prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
        let named = (vec(pattern_of(cluster), 1..3), vec(pattern_of(site.network), 1..3), region, 0..5_u8);
        (named, twins).prop_map(move |((clusters, networks, regions, which), twins)| {
            let mut from: Fields = Vec::new();
            if which != 1 {
                from.push(("clusters", Yaml::texts(clusters)));
            }
            if which != 0 {
                from.push(("networks", Yaml::texts(networks)));
            }
            if let Some(regions) = regions.filter(|_| which > 2) {
                from.push(("regions", Yaml::texts(regions)));
            }
            // Never one that would leave the entry without a cluster.
            let (other, theirs) = &other;
            if twins.0 && *other != cluster {
                from.push(("notClusters", Yaml::texts([*other])));
            }
            if twins.1 && theirs.network != site.network {
                from.push(("notNetworks", Yaml::texts([theirs.network])));
            }
            if let Some(region) = theirs.region.filter(|region| twins.2 && Some(*region) != site.region) {
                from.push(("notRegions", Yaml::texts([region])));
            }
            from
        })
    });
    let namespaces = some("namespaces", 0.3, &["checkout", "batch", "ch*", "*t", "*"]);
    let principals = some(
        "principals",
        0.25,
        &["cluster.local/ns/checkout/sa/web", "cluster.local/ns/batch/*", "*/sa/web", "cluster.*", "*"],
    );
    let domains = some("trustDomains", 0.15, &["cluster.local", "*.local", "*"]);
    let twins = (
        some("notNamespaces", 0.15, &["batch", "ch*", "none"]),
        some("notPrincipals", 0.15, &["*/sa/job", "cluster.local/ns/batch/*"]),
        some("notTrustDomains", 0.1, &["cluster.local"]),
    );
    (place, namespaces, principals, domains, twins).prop_map(
        |(mut from, namespaces, principals, domains, twins)| {
            from.extend([namespaces, principals, domains, twins.0, twins.1, twins.2].into_iter().flatten());
            Yaml::Map(from)
        },
    )
}

/// An entry of `to`.
fn target() -> impl Strategy<Value = Yaml> {
    let ports = |field| {
        option::weighted(0.4, vec(select(&[80_u16, 8080][..]), 1..3))
            .prop_map(move |ports| ports.map(|ports| (field, numbers(ports))))
    };
    let fields = (
        ports("ports"),
        some("methods", 0.4, &["GET", "POST", "P*", "*"]),
        some("paths", 0.5, &["/v1/*", "/v1/a", "/health", "*.json", "/admin*", "/v1//*", "*"]),
        some("hosts", 0.3, &["ledger.payments", "ledger.*", "*.example", "*"]),
    );
    let twins = (
        ports("notPorts"),
        some("notMethods", 0.2, &["DELETE", "P*"]),
        some("notPaths", 0.2, &["/v1/a", "/admin*", "*.json"]),
        some("notHosts", 0.15, &["web.shop", "*.example"]),
    );
    (fields, twins).prop_map(|(fields, twins)| {
        let mut to: Fields = [fields.0, fields.1, fields.2, fields.3].into_iter().flatten().collect();
        to.extend([twins.1, twins.2, twins.3].into_iter().flatten());
        to.extend(twins.0.filter(|_| to.len() == 1));
        if to.is_empty() {
            to.push(("methods", Yaml::texts(["*"])));
        }
        Yaml::Map(to)
    })
}
