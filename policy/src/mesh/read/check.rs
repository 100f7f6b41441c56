//! What only shows when all clusters of a mesh are known.

use std::collections::{BTreeMap, BTreeSet};

use super::{Draft, addresses};
use crate::document::Located;
use crate::finding::{Code, Finding, Place};
use crate::mesh::IssuerName;
use crate::name::NetworkName;

/// Checks clusters against each other; `whole`: all of them could be read, so that what is missing is missing;
/// `global`: they call each other through gateways, whatever their networks.
pub(super) fn clusters(drafts: &[Draft], whole: bool, global: bool, findings: &mut Vec<Finding>) {
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
        check_control_plane(draft, drafts, whole, findings);
        addresses::check(draft, drafts, before, findings);
    }
    if whole {
        check_ways_in(drafts, global, findings);
        if !global {
            check_idle_gateways(drafts, findings);
        }
    }
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
    for (index, issuer) in draft.issuers.iter().enumerate() {
        let is_it =
            |other: &Located<IssuerName>| other.value.as_str().eq_ignore_ascii_case(issuer.value.as_str());
        if draft.issuers.iter().take(index).any(is_it) {
            findings.push(Finding {
                at: issuer.at.clone(),
                code: Code::Duplicate,
                message: format!("issuer {:?} stands twice", issuer.value.as_str()),
                hint: "keep one of them: names of CAs differ by more than case".to_owned(),
            });
        }
        let same = |other: &&Draft| !are_led_together(draft, other) && other.issuers.iter().any(is_it);
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

/// Whether one istiod leads both, and so signs for both.
fn are_led_together(one: &Draft, other: &Draft) -> bool {
    let leader = |draft: &Draft| {
        draft.remote_of.as_ref().map_or_else(|| draft.name.value.clone(), |primary| primary.value.clone())
    };
    leader(one) == leader(other)
}

fn check_control_plane(draft: &Draft, drafts: &[Draft], whole: bool, findings: &mut Vec<Finding>) {
    let Some(primary) = &draft.remote_of else { return };
    let (name, theirs) = (&draft.name.value, &primary.value);
    let (code, message, hint) = match drafts.iter().find(|other| other.name.value == *theirs) {
        _ if name == theirs => (Code::NoControlPlane, format!("{name} is a remote of itself"), PRIMARY),
        None if !whole => return,
        None => (
            Code::NoControlPlane,
            format!("{name} is a remote of {theirs}, which is not in the mesh"),
            PRIMARY,
        ),
        Some(other) if other.remote_of.is_some() => (
            Code::NoControlPlane,
            format!("{name} is a remote of {theirs}, which is a remote itself"),
            PRIMARY,
        ),
        Some(other) if other.cluster.mesh != draft.cluster.mesh => (
            Code::NoControlPlane,
            format!(
                "{name} of mesh {} is a remote of {theirs} of mesh {}",
                draft.cluster.mesh, other.cluster.mesh
            ),
            "a control plane is one mesh's: name a primary of the same mesh",
        ),
        Some(other) if other.gateway.is_some() || other.istiod.is_some() => return,
        Some(other) if other.network.value != draft.network.value => (
            Code::NoWayIn,
            format!("{name} is on another network than its control plane {theirs}, which has no gateway"),
            "a remote reaches istiod through the east-west gateway of its primary: give that one gateway: {address: ...}",
        ),
        Some(_) => (
            Code::UnreachableAddress,
            format!("nothing says where {name} finds the istiod of {theirs}"),
            "pods change their addresses: give the primary gateway: {address: ...}, or controlPlane: {primary: true, address: ...} where its istiod has an address of its own",
        ),
    };
    findings.push(Finding { at: primary.at.clone(), code, message, hint: hint.to_owned() });
}

const PRIMARY: &str = "remoteOf names a cluster that runs its own control plane";

/// Gateways that nothing would pass: on one network pods reach each other, and every istiod is at home.
fn check_idle_gateways(drafts: &[Draft], findings: &mut Vec<Finding>) {
    let networks: BTreeSet<&NetworkName> = drafts.iter().map(|draft| &draft.network.value).collect();
    let meshes: BTreeSet<_> = drafts.iter().map(|draft| &draft.cluster.mesh).collect();
    let remotes = drafts.iter().any(|draft| draft.remote_of.is_some());
    if drafts.len() < 2 || networks.len() > 1 || meshes.len() > 1 || remotes {
        return;
    }
    for (draft, gateway) in drafts.iter().filter_map(|draft| Some((draft, draft.gateway.as_ref()?))) {
        findings.push(Finding {
            at: gateway.at.clone(),
            code: Code::IdleGateway,
            message: format!("nothing passes the gateway of {}: all clusters are on network {}", draft.name.value, draft.network.value),
            hint: "leave gateway out; or, where pods of one cluster do not reach those of another, give them networks of their own".to_owned(),
        });
    }
}

/// Every network needs a gateway where there are several; and every control plane one of its own, where none knows
/// what the others run.
fn check_ways_in(drafts: &[Draft], global: bool, findings: &mut Vec<Finding>) {
    let owner = |draft: &Draft| {
        let primary = draft.remote_of.as_ref().map_or(&draft.name.value, |primary| &primary.value);
        global.then(|| primary.clone())
    };
    let mut places: BTreeMap<_, (&Place, bool)> = BTreeMap::new();
    for draft in drafts {
        let place = (&draft.network.value, owner(draft));
        let entry = places.entry(place).or_insert((&draft.network.at, false));
        entry.1 |= draft.cluster.gateway.is_some();
    }
    if places.len() < 2 && !global {
        return;
    }
    for ((network, owner), (at, _)) in places.into_iter().filter(|(_, (_, enterable))| !enterable) {
        let message = match owner {
            None => format!("no other network can enter {network}: none of its clusters has a gateway"),
            Some(owner) => {
                format!("no .global name leads to services of {owner} on {network}: there is no gateway")
            }
        };
        findings.push(Finding {
            at: at.clone(),
            code: Code::NoWayIn,
            message,
            hint: "give a cluster of it gateway: {address: ...}, where its east-west gateway listens"
                .to_owned(),
        });
    }
}
