//! Exposures that a gateway cannot hold.

use super::super::ground::Ground;
use super::Known;
use crate::finding::{Code, Finding, Place};
use crate::mesh::Cluster;
use crate::rule::Policy;

pub(super) fn check(ground: &Ground<'_>, known: &Known, policy: &Policy, findings: &mut Vec<Finding>) {
    let Some(exposure) = &policy.exposure else { return };
    let said = exposure.networks.iter().flat_map(|networks| networks.iter());
    findings.extend(said.filter_map(|pattern| known.networks.unmet(pattern)));
    let shown = |cluster: &Cluster| exposure.shows(&cluster.network);
    if exposure.is_for_everyone() {
        return; // only ports are limited, and those an SNI tells
    }
    findings.extend(indistinct(ground, &exposure.at, shown));
    let nowhere = |cluster: &&&Cluster| shown(cluster) && cluster.pod_cidr.is_none();
    if let Some(cluster) = ground.clusters.iter().find(nowhere) {
        findings.push(Finding {
            at: exposure.at.clone(),
            code: Code::NeverMatches,
            message: format!(
                "a gateway cannot tell that a connection comes from {}: mesh.yaml gives {} no podCidr",
                cluster.network, cluster.name
            ),
            hint: format!("add podCidr to {}: the addresses that its connections arrive from", cluster.name),
        });
    }
}

/// Two clusters of which an exposure shows a service to one alone, and whose connections look the same.
fn indistinct(ground: &Ground<'_>, at: &Place, shown: impl Fn(&Cluster) -> bool) -> Option<Finding> {
    let alike = |one: &Cluster, other: &Cluster| {
        one.pod_cidr.zip(other.pod_cidr).is_some_and(|(pods, theirs)| pods.overlaps(theirs))
    };
    let (one, other) = ground.clusters.iter().filter(|cluster| shown(cluster)).find_map(|one| {
        let hidden = ground.clusters.iter().filter(|cluster| !shown(cluster));
        hidden.map(|other| (one, other)).find(|(one, other)| alike(one, other))
    })?;
    Some(Finding {
        at: at.clone(),
        code: Code::NeverMatches,
        message: format!(
            "a gateway cannot tell connections from {} and {} apart: pods of {} and {} have the same addresses",
            one.network, other.network, one.name, other.name
        ),
        hint: "show the service to both networks or to neither, or give one cluster another podCidr"
            .to_owned(),
    })
}
