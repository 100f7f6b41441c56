//! In which order a mesh comes to be.

use policy::Mesh;
use policy::mesh::{Cluster, ControlPlane};
use policy::name::ClusterName;

use super::Phase;

/// A phase in some clusters, which can have it in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What comes.
    pub phase: Phase,
    /// Where.
    pub clusters: Vec<ClusterName>,
}

/// The steps in which a mesh comes to be, first to last; those that no cluster is in are left out.
///
/// A remote comes after all that its primary shows it: its proxies, the gateway among them, start only where that
/// istiod answers, and it answers only once it has been given the remote's secret.
pub fn steps(mesh: &Mesh) -> Vec<Step> {
    let (remotes, primaries): (Vec<&Cluster>, Vec<&Cluster>) =
        mesh.clusters().partition(|cluster| cluster.control_plane != ControlPlane::Primary);
    let all: Vec<&Cluster> = mesh.clusters().collect();
    let steps = [
        (Phase::Namespace, &all),
        (Phase::Trust, &primaries),
        (Phase::ControlPlane, &primaries),
        (Phase::Gateway, &primaries),
        (Phase::Exposure, &primaries),
        (Phase::ControlPlane, &remotes),
        (Phase::Secrets, &primaries),
        (Phase::Gateway, &remotes),
        (Phase::Names, &all),
    ];
    let step = |(phase, clusters): (Phase, &Vec<&Cluster>)| Step {
        phase,
        clusters: clusters.iter().map(|cluster| cluster.name.clone()).collect(),
    };
    steps.into_iter().map(step).filter(|step| !step.clusters.is_empty()).collect()
}

/// The clusters whose API servers a control plane reads: those that it knows services of, but for its own. It needs a
/// remote secret for each.
pub fn read_by<'m>(mesh: &'m Mesh, primary: &Cluster) -> Vec<&'m Cluster> {
    if primary.control_plane != ControlPlane::Primary {
        return Vec::new();
    }
    let is_read = |other: &&Cluster| other.name != primary.name && mesh.knows(primary, other);
    mesh.clusters().filter(is_read).collect()
}
