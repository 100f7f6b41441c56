//! What rendering needs to know of a mesh beyond what it says in so many words.

use std::collections::{BTreeMap, BTreeSet};

use policy::Mesh;
use policy::compile::{ClusterPlans, Plans};
use policy::evaluate;
use policy::mesh::{
    Cluster, ControlPlane, Dns, Federated, Gateway, GlobalNames, Listing, Protocol, ServicePort,
};
use policy::name::{ClusterName, Service, TrustDomain};
use serde_json::{Map, Value, json};

use super::addresses::Book;
use super::{ManifestError, Options};

/// A mesh, its plans, and what follows from them.
pub(super) struct Ground<'m> {
    pub(super) mesh: &'m Mesh,
    plans: &'m Plans,
    pub(super) options: &'m Options<'m>,
    pub(super) book: Book,
    imports: BTreeMap<&'m ClusterName, Vec<Import<'m>>>,
}

/// A service that a control plane does not know and that its clusters can call all the same.
pub(super) struct Import<'m> {
    pub(super) service: &'m Service,
    pub(super) listing: &'m Listing,
    /// It is called by its own name too, since no cluster of the control plane runs it.
    pub(super) own_name: bool,
    /// The gateways that lead to it, each with the cluster behind it.
    pub(super) ways: Vec<(&'m Cluster, &'m Gateway)>,
}

impl<'m> Ground<'m> {
    pub(super) fn new(
        mesh: &'m Mesh,
        plans: &'m Plans,
        options: &'m Options<'m>,
    ) -> Result<Self, ManifestError> {
        let mut ground = Self { mesh, plans, options, book: Book::default(), imports: BTreeMap::new() };
        for primary in mesh.clusters().filter(|cluster| is_primary(cluster)) {
            let imports = ground.find_imports(primary)?;
            ground.imports.insert(&primary.name, imports);
        }
        let imported = ground.imports.values().flatten().map(|import| import.service.clone()).collect();
        ground.book = options.book.clone().place(&ground.names(), &imported)?;
        Ok(ground)
    }

    /// The services that the clusters of a control plane call through gateways which no control plane tells them.
    pub(super) fn imports(&self, primary: &Cluster) -> &[Import<'m>] {
        self.imports.get(&primary.name).map_or(&[], Vec::as_slice)
    }

    /// By which names, and at which addresses, services are called that no control plane of the caller knows.
    pub(super) fn names(&self) -> GlobalNames {
        let default = || GlobalNames { range: GlobalNames::RANGE, dns: Dns::Proxy, egress: false };
        self.mesh.global_names().cloned().unwrap_or_else(default)
    }

    /// The cluster whose control plane a cluster uses.
    pub(super) fn primary(&self, cluster: &'m Cluster) -> &'m Cluster {
        match &cluster.control_plane {
            ControlPlane::Primary => cluster,
            ControlPlane::RemoteOf(primary) => self.mesh.cluster(primary).unwrap_or(cluster),
        }
    }

    /// The clusters that use the control plane of one, itself among them.
    pub(super) fn plane(&self, primary: &Cluster) -> impl Iterator<Item = &'m Cluster> {
        self.mesh.clusters().filter(move |cluster| match &cluster.control_plane {
            ControlPlane::Primary => cluster.name == primary.name,
            ControlPlane::RemoteOf(name) => *name == primary.name,
        })
    }

    /// The mesh that a cluster is of.
    pub(super) fn federated(&self, cluster: &Cluster) -> Option<&'m Federated> {
        self.mesh.meshes().find(|mesh| mesh.name == cluster.mesh)
    }

    /// The meshes whose certificates another root signs.
    pub(super) fn under_other_roots(&self, cluster: &Cluster) -> Vec<&'m Federated> {
        let own = self.federated(cluster).map(|mesh| &mesh.root);
        self.mesh.meshes().filter(|mesh| own.is_some_and(|own| mesh.root != *own)).collect()
    }

    /// The other trust domains that the root of a cluster's mesh signs for.
    pub(super) fn aliases(&self, cluster: &Cluster) -> BTreeSet<&'m TrustDomain> {
        let root = |cluster: &Cluster| self.federated(cluster).map(|mesh| &mesh.root);
        let same_root = self.mesh.clusters().filter(|other| root(other) == root(cluster));
        same_root.map(|other| &other.trust_domain).filter(|domain| **domain != cluster.trust_domain).collect()
    }

    /// Whether anything reaches the clusters of a control plane through a gateway.
    pub(super) fn is_entered(&self, primary: &Cluster) -> bool {
        let inside: BTreeSet<_> = self.plane(primary).map(|cluster| &cluster.network).collect();
        self.mesh.global_names().is_some()
            || self.mesh.meshes().count() > 1
            || self.mesh.clusters().any(|cluster| !inside.contains(&cluster.network))
            || inside.len() > 1
    }

    /// Whether endpoints of one cluster are known to the control plane of another without anything being written:
    /// remote secrets let each read the other's API server.
    pub(super) fn discovers(&self, one: &'m Cluster, other: &'m Cluster) -> bool {
        if self.mesh.global_names().is_some() {
            self.primary(one).name == self.primary(other).name
        } else {
            one.mesh == other.mesh
        }
    }

    /// Whether the gateways that lead to a cluster show a service of it to another.
    pub(super) fn shows(&self, behind: &Cluster, service: &Service, listing: &Listing, to: &Cluster) -> bool {
        self.plans.get(&behind.name).is_none_or(|plans| shows(plans, service, listing, to))
    }

    fn find_imports(&self, primary: &'m Cluster) -> Result<Vec<Import<'m>>, ManifestError> {
        let mut imports = Vec::new();
        for (service, listing) in self.mesh.services() {
            let running = self.mesh.clusters().filter(|cluster| listing.clusters.contains(&cluster.name));
            let (known, foreign): (Vec<_>, Vec<_>) =
                running.partition(|cluster| self.discovers(primary, cluster));
            let own_name = known.is_empty();
            let shown = |cluster: &&Cluster| {
                self.plane(primary).any(|member| self.shows(cluster, service, listing, member))
            };
            let foreign: Vec<_> = foreign.into_iter().filter(shown).collect();
            if foreign.is_empty() || !own_name && self.mesh.global_names().is_none() {
                continue;
            }
            let mut ways = Vec::new();
            for cluster in foreign {
                let found = self.ways_into(cluster);
                if found.is_empty() {
                    let (cluster, network) = (cluster.name.clone(), cluster.network.clone());
                    return Err(ManifestError::NoGateway { service: service.clone(), cluster, network });
                }
                ways.extend(found);
            }
            imports.push(Import { service, listing, own_name, ways });
        }
        Ok(imports)
    }

    /// The gateways of a cluster: its own, or those of the clusters that share its network and its control plane.
    fn ways_into(&self, cluster: &'m Cluster) -> Vec<(&'m Cluster, &'m Gateway)> {
        if let Some(gateway) = &cluster.gateway {
            return vec![(cluster, gateway)];
        }
        let near = |other: &&Cluster| other.network == cluster.network && self.discovers(cluster, other);
        let gateways = self.mesh.clusters().filter(near).filter_map(|other| other.gateway.as_ref());
        gateways.map(|gateway| (cluster, gateway)).collect()
    }
}

impl Import<'_> {
    /// What the endpoints of each cluster carry, so that one can be chosen by it.
    pub(super) fn labels(&self, cluster: &Cluster) -> BTreeMap<String, String> {
        let mut labels = self.listing.labels.get(&cluster.name).cloned().unwrap_or_default();
        labels.insert("isthmus.dev/cluster".to_owned(), cluster.name.to_string());
        labels
    }
}

/// Whether a cluster runs a control plane.
pub(super) fn is_primary(cluster: &Cluster) -> bool {
    cluster.control_plane == ControlPlane::Primary
}

/// Whether the gateways that have these plans show a service to the proxies of a cluster, at any of its ports.
pub(crate) fn shows(plans: &ClusterPlans, service: &Service, listing: &Listing, to: &Cluster) -> bool {
    let source = to.pod_cidr.map(|pods| pods.address(1));
    listing
        .ports()
        .any(|port| evaluate::gateway(&plans.gateway, service, Some(port.number), source).verdict.is_allow())
}

/// The name of the objects of a service.
pub(super) fn name(service: &Service) -> String {
    format!("isthmus-{service}")
}

/// The name of a service for callers who share no control plane with it.
pub(super) fn global_host(service: &Service) -> String {
    format!("{service}.global")
}

/// The name of a port: by its beginning Istio knows what is spoken there.
pub(super) fn port_name(port: ServicePort) -> String {
    format!("{}-{}", port.protocol.map_or("port", Protocol::as_str), port.number)
}

/// All ports of a service, led to one.
pub(super) fn ports_at(import: &Import<'_>, target: u16) -> Map<String, Value> {
    import.listing.ports().map(|port| (port_name(port), json!(target))).collect()
}
