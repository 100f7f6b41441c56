//! Who leads and who signs for whom.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cluster, ControlPlane, IssuerName, Mesh};
use crate::name::ClusterName;

impl Mesh {
    /// The cluster whose control plane leads a cluster: istiod reads objects on that one's API server and on no other.
    pub fn primary<'m>(&'m self, cluster: &'m Cluster) -> &'m Cluster {
        let ControlPlane::RemoteOf(primary) = &cluster.control_plane else { return cluster };
        self.clusters.get(primary).unwrap_or(cluster)
    }

    /// The clusters that have a control plane, each with all that it leads: itself and its remotes, by name.
    pub fn control_planes(&self) -> Vec<(&Cluster, Vec<&Cluster>)> {
        let mut led: BTreeMap<&ClusterName, (&Cluster, Vec<&Cluster>)> = BTreeMap::new();
        for cluster in self.clusters() {
            let primary = self.primary(cluster);
            led.entry(&primary.name).or_insert_with(|| (primary, Vec::new())).1.push(cluster);
        }
        led.into_values().collect()
    }

    /// Whether the control plane of a cluster knows the endpoints of another: it leads it too, or reads its API server. Those of
    /// another mesh it does not, nor, where names are `.global`, those of any other control plane.
    pub fn knows(&self, cluster: &Cluster, other: &Cluster) -> bool {
        let (own, far) = (self.primary(cluster), self.primary(other));
        own.name == far.name || own.mesh == other.mesh && self.global.is_none()
    }

    /// Whether the control plane of a cluster leads others too, so that an object has to say whose it is.
    pub fn shares_control_plane(&self, cluster: &Cluster) -> bool {
        let primary = &self.primary(cluster).name;
        self.clusters().any(|other| other.name != cluster.name && self.primary(other).name == *primary)
    }

    /// The cluster whose control plane signs for a cluster: its own, or that which leads it, unless `mesh.yaml` says that
    /// other CAs do.
    pub fn signer<'m>(&'m self, cluster: &'m Cluster) -> &'m Cluster {
        let primary = self.primary(cluster);
        if primary.issuers == cluster.issuers { primary } else { cluster }
    }

    /// The clusters whose control planes sign for them.
    pub fn signers(&self) -> impl Iterator<Item = &Cluster> {
        self.clusters().filter(|cluster| self.signer(cluster).name == cluster.name)
    }

    /// The issuers that prove a cluster, with that cluster: those that sign for it alone. One that signs for a primary and
    /// its remotes says that a workload is of one of them, and not of which.
    pub fn proven_by_issuer(&self) -> BTreeMap<&IssuerName, &Cluster> {
        let mut clusters: BTreeMap<&IssuerName, Vec<&Cluster>> = BTreeMap::new();
        for cluster in self.clusters() {
            for issuer in &cluster.issuers {
                clusters.entry(issuer).or_default().push(cluster);
            }
        }
        let alone =
            |(issuer, clusters): (_, Vec<_>)| Some((issuer, *<&[_; 1]>::try_from(&*clusters).ok()?.first()?));
        clusters.into_iter().filter_map(alone).collect()
    }

    /// The same mesh with the CA that `isthmus mesh certs` makes: how sandbox and lab play it, which have no key of
    /// any other.
    #[must_use]
    pub fn with_own_ca(mut self) -> Self {
        let signers = self.clusters().map(|cluster| self.signer(cluster).name.clone());
        let signers: Vec<ClusterName> = signers.collect();
        for (cluster, signer) in self.clusters.values_mut().zip(signers) {
            cluster.issuers = BTreeSet::from([IssuerName::of_intermediate(&signer)]);
        }
        self
    }
}
