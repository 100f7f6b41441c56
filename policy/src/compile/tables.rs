//! What a cluster's proxies run, place by place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::ClusterPlans;
use super::ground::Ground;
use super::scopes::{Both, Said, Scoped, boundary, nearest, pin, split};
use crate::document::Located;
use crate::mesh::Cluster;
use crate::name::{ClusterName, NetworkName, PolicyName};
use crate::plan::{
    Bound, Exposure, GatewayPlan, Home, Inbound, InboundPlan, Outbound, OutboundPlan, Pin, Range, SCHEMA,
    Section, Split, Table, Tokens, Within,
};
use crate::rule::{self, Policy, Scope};

/// The plans of a cluster, before any is cut, with the lengths of the sections of what judges arrivals.
pub(super) fn plans(
    ground: &Ground<'_>,
    number: usize,
    cluster: &Cluster,
    said: &Said<'_>,
) -> (ClusterPlans, Vec<usize>) {
    let here = Here { ground, number, cluster, said };
    let home = Home {
        mesh: ground.mesh.name().to_owned(),
        cluster: cluster.name.clone(),
        network: cluster.network.clone(),
    };
    let (enforced, shadow) = both(&said.outbound, |scoped| here.outbound(scoped));
    let outbound = here.outbound_plan(home.clone(), enforced, shadow);
    let mut sections = Sections::default();
    let (enforced, shadow) = both(&said.inbound, |scoped| here.inbound(scoped, &mut sections));
    let lengths = sections.values().map(|(_, length)| *length).collect();
    let inbound = here.inbound_plan(home.clone(), sections, enforced, shadow);
    let (enforced, shadow) = both(&said.exposure, |scoped| here.exposure(scoped));
    let ranges = if enforced.is_empty() && shadow.is_empty() { Vec::new() } else { ranges(&ground.clusters) };
    let gateway = GatewayPlan { schema: SCHEMA, home, ranges, enforced, shadow };
    (ClusterPlans { outbound, inbound, apart: BTreeMap::new(), gateway, locality: BTreeMap::new() }, lengths)
}

fn ranges(clusters: &[&Cluster]) -> Vec<Range> {
    let mut ranges: Vec<Range> = clusters
        .iter()
        .filter_map(|cluster| Some(Range { cidr: cluster.pod_cidr?, network: cluster.network.clone() }))
        .collect();
    ranges.sort_by_key(|range| (std::cmp::Reverse(range.cidr.prefix()), range.cidr));
    ranges
}

/// The sections that a plan needs, by policy and by whether they are closed, which is the order in which they give
/// reasons; each with its length.
type Sections = BTreeMap<(usize, bool), (Arc<Section>, usize)>;

/// A table of what acts, and one of what would hold if every policy did, as far as that differs.
fn both<T>(
    scopes: &Both<'_>,
    mut table: impl FnMut(&Scoped<'_>) -> BTreeMap<Scope, T>,
) -> (Table<T>, Table<T>) {
    let enforced = table(&scopes.enforced).into_iter().collect();
    (enforced, table(&scopes.shadow).into_iter().collect())
}

struct Here<'w> {
    ground: &'w Ground<'w>,
    number: usize,
    cluster: &'w Cluster,
    said: &'w Said<'w>,
}

impl Here<'_> {
    fn outbound(&self, scoped: &Scoped<'_>) -> BTreeMap<Scope, Outbound> {
        let mut entries: BTreeMap<Scope, Outbound> = BTreeMap::new();
        for (&scope, policies) in scoped {
            entries.insert(scope.clone(), self.departing(scope, policies));
        }
        // A listed service may run in some clusters only, so what a wide scope says of it can be another thing.
        for (service, _) in self.ground.mesh.services() {
            let scope = Scope::Service(service.clone());
            let around = [Scope::Namespace(service.namespace.clone()), Scope::Mesh];
            if let (None, Some((wide, policies))) =
                (scoped.get(&scope), around.iter().find_map(|wide| scoped.get_key_value(wide)))
            {
                let said = self.departing(&scope, policies);
                if entries.get(*wide) != Some(&said) {
                    entries.insert(scope, said);
                }
            }
        }
        entries
    }

    fn outbound_plan(&self, home: Home, enforced: Table<Outbound>, shadow: Table<Outbound>) -> OutboundPlan {
        let entries = || enforced.iter().chain(shadow.iter()).map(|(_, entry)| entry);
        let drawn = entries().filter_map(|entry| entry.bound.as_ref().map(|bound| bound.within));
        let inside = drawn.map(|within| (within, self.ground.inside(self.cluster, within))).collect();
        let names = self.ground.clusters.iter().map(|cluster| cluster.name.clone());
        let clusters = if entries().next().is_some() { names.collect() } else { Vec::new() };
        let tokens = self
            .ground
            .mesh
            .tokens()
            .map(|life| Tokens { life: life.seconds(), trust_domain: self.cluster.trust_domain.clone() });
        OutboundPlan { schema: SCHEMA, home, clusters, inside, tokens, enforced, shadow }
    }

    /// What is said of requests to the services of a scope.
    fn departing(&self, scope: &Scope, policies: &[usize]) -> Outbound {
        let drawn = boundary(self.said.of(policies));
        let near = drawn.map(|(boundary, _)| self.ground.inside(self.cluster, boundary));
        let hosts = match scope {
            Scope::Service(service) => Some(self.ground.hosts(service)),
            Scope::Namespace(_) | Scope::Mesh => None,
        };
        let reachable = |number: usize| {
            near.as_ref().is_none_or(|near| near.contains(number))
                && hosts.is_none_or(|hosts| hosts.contains(number))
        };
        let bound = drawn.map(|(within, policy)| Bound {
            policy: policy.name.value.to_string(),
            within,
            open: (0..self.ground.clusters.len()).any(reachable),
        });
        let reaches = &|name: &ClusterName| self.ground.number(name).is_some_and(reachable);
        let pin =
            nearest(self.said.of(policies), scope, pin).map(|(policy, said)| pinned(policy, said, reaches));
        let split =
            nearest(self.said.of(policies), scope, split).map(|(policy, said)| shared(policy, said, reaches));
        Outbound { bound, pin, split }
    }

    fn inbound(&self, scoped: &Scoped<'_>, sections: &mut Sections) -> BTreeMap<Scope, Inbound> {
        let mut entries = BTreeMap::new();
        for (&scope, policies) in scoped {
            let drawn = boundary(self.said.of(policies));
            let within = drawn.map(|(boundary, policy)| Within {
                policy: policy.name.value.to_string(),
                clusters: self.ground.inside(self.cluster, boundary),
            });
            let mut judging = Vec::new();
            for number in policies {
                if let Some(Some(section)) = self.said.sections.get(*number) {
                    let closed = !self.runs(scope) && self.names(*number, scope);
                    let section = if closed { &section.closed } else { &section.open };
                    sections.entry((*number, closed)).or_insert_with(|| section.clone());
                    judging.push(key(*number, closed));
                }
            }
            let selector = match scope {
                Scope::Service(service) => self
                    .ground
                    .mesh
                    .service(service)
                    .map(|listing| listing.selector.clone().into_iter().collect()),
                Scope::Namespace(_) | Scope::Mesh => None,
            };
            let sections = judging.into_iter().collect();
            entries
                .insert(scope.clone(), Inbound { selector: selector.unwrap_or_default(), within, sections });
        }
        entries
    }

    /// Whether the cluster runs anything that the scope takes in, as far as `mesh.yaml` knows.
    ///
    /// A listing may be out of date, and a workload that nobody listed must not be the one that anybody may call. So
    /// where a service is not known to run, what names it is still there, as short as can be: no one comes in.
    fn runs(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Service(service) => self.ground.hosts(service).contains(self.number),
            Scope::Namespace(_) | Scope::Mesh => true,
        }
    }

    fn names(&self, policy: usize, scope: &Scope) -> bool {
        let named = |policy: &&Policy| policy.services.iter().any(|named| named.value == *scope);
        self.said.policies.get(policy).is_some_and(named)
    }

    fn inbound_plan(
        &self,
        home: Home,
        sections: Sections,
        enforced: Table<Inbound>,
        shadow: Table<Inbound>,
    ) -> InboundPlan {
        let keys: Vec<u32> = sections.keys().map(|(policy, closed)| key(*policy, *closed)).collect();
        let place = |key: &u32| keys.binary_search(key).ok().and_then(|place| u32::try_from(place).ok());
        let renumbered = |table: Table<Inbound>| {
            table.map(|inbound| Inbound {
                sections: inbound.sections.iter().filter_map(place).collect(),
                ..inbound
            })
        };
        InboundPlan {
            schema: SCHEMA,
            home,
            clusters: Arc::clone(&self.ground.locations),
            issuers: Arc::clone(&self.ground.issuers),
            domains: Arc::clone(&self.ground.domains),
            enforced: renumbered(enforced),
            shadow: renumbered(shadow),
            sections: sections.into_values().map(|(section, _)| section).collect(),
            tokens: self.ground.tokens.clone(),
            apart: crate::set::Set::default(),
        }
    }

    fn exposure(&self, scoped: &Scoped<'_>) -> BTreeMap<Scope, Vec<Exposure>> {
        let networks: BTreeSet<&NetworkName> =
            self.ground.clusters.iter().map(|cluster| &cluster.network).collect();
        let shown = |policy: &Policy| {
            let said = policy.exposure.as_ref()?;
            let seeing = networks.iter().filter(|network| said.shows(network));
            Some(Exposure {
                policy: policy.name.value.to_string(),
                networks: (!said.is_for_everyone())
                    .then(|| seeing.map(|network| (*network).clone()).collect()),
                ports: said.ports.iter().map(|port| port.value).collect(),
            })
        };
        let entry = |(scope, policies): (&&Scope, &Vec<usize>)| {
            ((*scope).clone(), self.said.of(policies).filter_map(shown).collect())
        };
        scoped.iter().map(entry).collect()
    }
}

/// A section's number before a plan numbers those that it has.
fn key(policy: usize, closed: bool) -> u32 {
    u32::try_from(policy * 2 + usize::from(closed)).unwrap_or(u32::MAX)
}

fn pinned(policy: &PolicyName, said: &rule::Pin, reaches: impl Fn(&ClusterName) -> bool) -> Pin {
    let cluster = |(value, to): (&String, &Located<ClusterName>)| {
        (value.clone(), Some(to.value.clone()).filter(|name| reaches(name)))
    };
    Pin { policy: policy.to_string(), header: said.header.clone(), to: said.to.iter().map(cluster).collect() }
}

fn shared(policy: &PolicyName, said: &rule::Split, reaches: impl Fn(&ClusterName) -> bool) -> Split {
    let mut legs: Vec<_> = said
        .legs
        .iter()
        .filter(|(cluster, _)| reaches(&cluster.value))
        .map(|(cluster, weight)| (cluster.value.clone(), *weight))
        .collect();
    legs.sort();
    Split { policy: policy.to_string(), legs, hash_on: said.hash_on.clone() }
}
