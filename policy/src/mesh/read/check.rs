//! What only shows when all clusters of a mesh are known.

use std::collections::BTreeMap;

use super::Draft;
use crate::finding::{Code, Finding, Place};
use crate::name::NetworkName;

/// Checks clusters against each other.
pub(super) fn clusters(drafts: &[Draft], findings: &mut Vec<Finding>) {
    for (index, draft) in drafts.iter().enumerate() {
        let before = drafts.get(..index).unwrap_or_default();
        if let Some(first) = before.iter().find(|other| other.name.value == draft.name.value) {
            findings.push(Finding {
                at: draft.name.at.clone(),
                code: Code::Duplicate,
                message: format!("cluster {:?} stands twice", draft.name.value.as_str()),
                hint: format!("the first is in line {}; a name is one cluster's", first.name.at.line),
            });
            continue;
        }
        check_addresses(draft, before, findings);
        check_issuers(draft, before, findings);
        check_control_plane(draft, drafts, findings);
    }
    check_ways_in(drafts, findings);
}

fn check_addresses(draft: &Draft, before: &[Draft], findings: &mut Vec<Finding>) {
    let Some(pods) = &draft.pod_cidr else { return };
    let clash = before.iter().find_map(|other| {
        let theirs = other.pod_cidr.as_ref()?;
        (other.network.value == draft.network.value && theirs.value.overlaps(pods.value))
            .then_some((other, theirs))
    });
    if let Some((other, theirs)) = clash {
        findings.push(Finding {
            at: pods.at.clone(),
            code: Code::OverlappingPods,
            message: format!(
                "pods of {} ({}) and of {} ({}) have the same addresses on network {}",
                draft.name.value, pods.value, other.name.value, theirs.value, draft.network.value
            ),
            hint: "on one network every pod has an address of its own: give one cluster another range, or another network".to_owned(),
        });
    }
}

/// X.509 compares names without regard to case, so two issuers must differ by more than that.
fn check_issuers(draft: &Draft, before: &[Draft], findings: &mut Vec<Finding>) {
    for issuer in &draft.issuers {
        let same = |other: &&Draft| {
            other
                .issuers
                .iter()
                .any(|theirs| theirs.value.as_str().eq_ignore_ascii_case(issuer.value.as_str()))
        };
        if let Some(other) = before.iter().find(same) {
            findings.push(Finding {
                at: issuer.at.clone(),
                code: Code::AmbiguousIssuer,
                message: format!(
                    "{} and {} have certificates of one issuer, {:?}",
                    draft.name.value,
                    other.name.value,
                    issuer.value.as_str()
                ),
                hint: "the issuer proves the cluster: give each cluster an intermediate CA of its own name"
                    .to_owned(),
            });
        }
    }
}

fn check_control_plane(draft: &Draft, drafts: &[Draft], findings: &mut Vec<Finding>) {
    let Some(primary) = &draft.remote_of else { return };
    let message = match drafts.iter().find(|other| other.name.value == primary.value) {
        None => format!("{} is a remote of {}, which is not in the mesh", draft.name.value, primary.value),
        Some(other) if other.remote_of.is_some() => {
            format!("{} is a remote of {}, which is a remote itself", draft.name.value, primary.value)
        }
        Some(_) => return,
    };
    findings.push(Finding {
        at: primary.at.clone(),
        code: Code::NoControlPlane,
        message,
        hint: "remoteOf names a cluster that runs its own control plane".to_owned(),
    });
}

fn check_ways_in(drafts: &[Draft], findings: &mut Vec<Finding>) {
    let mut networks: BTreeMap<&NetworkName, (&Place, bool)> = BTreeMap::new();
    for draft in drafts {
        let entry = networks.entry(&draft.network.value).or_insert((&draft.network.at, false));
        entry.1 |= draft.cluster.gateway.is_some();
    }
    if networks.len() < 2 {
        return;
    }
    for (network, (at, _)) in networks.into_iter().filter(|(_, (_, enterable))| !enterable) {
        findings.push(Finding {
            at: at.clone(),
            code: Code::NoWayIn,
            message: format!("no other network can enter {network}: none of its clusters has a gateway"),
            hint: "give a cluster of it gateway: {address: ...}, where its east-west gateway listens"
                .to_owned(),
        });
    }
}
