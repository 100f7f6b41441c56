//! A mesh with its clusters numbered, so that sets of them are small and quick.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::map::Map;
use crate::mesh::{Cluster, IssuerName, Mesh};
use crate::name::{ClusterName, Service, TrustDomain};
use crate::plan::{Location, Members, TokenKeys};
use crate::rule::{Boundary, From};

pub(super) struct Ground<'m> {
    pub(super) mesh: &'m Mesh,
    /// By name; a cluster's number is its place here, as it is in plans.
    pub(super) clusters: Vec<&'m Cluster>,
    /// The same for plans.
    pub(super) locations: Arc<Vec<Location>>,
    /// The names that prove a cluster.
    pub(super) issuers: Arc<Map<IssuerName, ClusterName>>,
    /// The trust domains that prove one.
    pub(super) domains: Arc<Map<TrustDomain, ClusterName>>,
    /// The keys whose tokens prove one.
    pub(super) tokens: Option<Arc<TokenKeys>>,
    hosts: BTreeMap<&'m Service, Members>,
    everywhere: Members,
}

fn tokens(mesh: &Mesh) -> Option<TokenKeys> {
    let life = mesh.tokens()?.seconds();
    let signing = mesh.clusters().filter(|cluster| !cluster.token_keys.is_empty());
    let keys =
        signing.map(|cluster| (cluster.name.clone(), cluster.token_keys.clone().into_iter().collect()));
    Some(TokenKeys { life, keys: keys.collect() })
}

impl<'m> Ground<'m> {
    pub(super) fn of(mesh: &'m Mesh) -> Self {
        let clusters: Vec<&Cluster> = mesh.clusters().collect();
        let domains = mesh.trust_domains().len();
        let location = |(number, cluster): (usize, &&Cluster)| Location {
            number,
            name: cluster.name.clone(),
            network: cluster.network.clone(),
            region: cluster.region.clone(),
            trust_domain: (domains > 1).then(|| cluster.trust_domain.clone()),
        };
        let issuers = mesh.proven_by_issuer().into_iter();
        let issuers = issuers.map(|(issuer, cluster)| (issuer.clone(), cluster.name.clone()));
        let domains =
            mesh.proven_by_trust_domain().map(|cluster| (cluster.trust_domain.clone(), cluster.name.clone()));
        let mut ground = Self {
            mesh,
            locations: Arc::new(clusters.iter().enumerate().map(location).collect()),
            issuers: Arc::new(issuers.collect()),
            domains: Arc::new(domains.collect()),
            tokens: tokens(mesh).map(Arc::new),
            hosts: BTreeMap::new(),
            everywhere: (0..clusters.len()).collect(),
            clusters,
        };
        ground.hosts = mesh
            .services()
            .map(|(service, listing)| {
                (service, ground.members(|cluster| listing.clusters.contains(&cluster.name)))
            })
            .collect();
        ground
    }

    /// The clusters of which something holds.
    pub(super) fn members(&self, holds: impl Fn(&Cluster) -> bool) -> Members {
        let numbered = self.clusters.iter().enumerate();
        numbered.filter(|(_, cluster)| holds(cluster)).map(|(number, _)| number).collect()
    }

    /// The clusters that an entry of a rule takes in.
    pub(super) fn sources(&self, from: &From) -> Members {
        self.members(|cluster| from.takes_in(cluster))
    }

    /// The clusters that run a service: every one, unless `mesh.yaml` says which.
    pub(super) fn hosts(&self, service: &Service) -> &Members {
        self.hosts.get(service).unwrap_or(&self.everywhere)
    }

    /// The clusters inside a boundary drawn around one of them.
    pub(super) fn inside(&self, cluster: &Cluster, boundary: Boundary) -> Members {
        self.members(|other| boundary.joins(cluster, other))
    }

    /// A cluster's number.
    pub(super) fn number(&self, name: &ClusterName) -> Option<usize> {
        self.clusters.binary_search_by(|cluster| cluster.name.cmp(name)).ok()
    }

    /// The names of some clusters, as a sentence lists them.
    pub(super) fn names(&self, members: &Members) -> String {
        let names = members.iter().filter_map(|number| self.clusters.get(number));
        names.map(|cluster| cluster.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}
