//! Who signs for whom.

use std::collections::{BTreeMap, BTreeSet};

use super::{Cluster, ControlPlane, IssuerName, Mesh};
use crate::name::ClusterName;

impl Mesh {
    /// The cluster whose control plane signs for a cluster: its own, or that which leads it, unless `mesh.yaml` says that
    /// other CAs do.
    pub fn signer<'m>(&'m self, cluster: &'m Cluster) -> &'m Cluster {
        let ControlPlane::RemoteOf(primary) = &cluster.control_plane else { return cluster };
        match self.clusters.get(primary) {
            Some(primary) if primary.issuers == cluster.issuers => primary,
            Some(_) | None => cluster,
        }
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
