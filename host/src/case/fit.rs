//! Whether cases fit the mesh that they are about.

use policy::Mesh;
use policy::finding::{Code, Finding, Place};

use super::{Call, Level, Suite};

pub(super) fn check(suite: &Suite, mesh: &Mesh) -> Vec<Finding> {
    let mut findings: Vec<Finding> = suite.cases.iter().flat_map(|case| misfits(&case.call, mesh)).collect();
    findings.sort();
    findings.dedup();
    findings
}

fn misfits(call: &Call, mesh: &Mesh) -> Vec<Finding> {
    let names: Vec<&str> = mesh.clusters().map(|cluster| cluster.name.as_str()).collect();
    let known = format!("the mesh has {}", names.join(", "));
    let mut findings = Vec::new();
    for cluster in std::iter::once(&call.from.cluster).chain(&call.to) {
        if mesh.cluster(&cluster.value).is_none() {
            let message = format!("cluster {:?} is not in the mesh", cluster.value.as_str());
            findings.push(finding(&cluster.at, Code::NotInMesh, message, &known));
        }
    }
    match (call.service(), &call.to) {
        (None, _) => {
            let named = call.request.service.as_ref().unwrap_or(&call.request.host);
            let message = format!("{:?} is not a service of the mesh", named.value);
            findings.push(finding(
                &named.at,
                Code::BadValue,
                message,
                "write NAME.NAMESPACE, with a port or without",
            ));
        }
        (Some(service), Some(to)) if !call.misrouted && !mesh.hosts(&service).contains(&to.value) => {
            let message = format!("{} does not run {service}", to.value);
            findings.push(finding(&to.at, Code::NotInMesh, message, &known));
        }
        (Some(_), _) => {}
    }
    findings.extend(unreachable_level(call, mesh));
    findings
}

/// A level that no request of this source can have.
fn unreachable_level(call: &Call, mesh: &Mesh) -> Option<Finding> {
    let (at, source) = (call.level_at.as_ref()?, mesh.cluster(&call.from.cluster.value)?);
    let proven = || mesh.proven_by_trust_domain().any(|cluster| cluster.name == source.name);
    let (why, hint) = match call.level {
        Level::Token if mesh.tokens().is_none() || source.token_keys.is_empty() => (
            format!("{} signs no tokens", source.name),
            "give it tokenKeys in mesh.yaml, and the mesh tokens",
        ),
        Level::TrustDomain if !proven() => (
            format!("the trust domain of {} does not prove it", source.name),
            "only a cluster whose root signs for no other cluster is known by its trust domain",
        ),
        Level::Verified | Level::TrustDomain | Level::Token | Level::Claimed | Level::Unknown => return None,
    };
    Some(finding(at, Code::BadValue, why, hint))
}

fn finding(at: &Place, code: Code, message: String, hint: &str) -> Finding {
    Finding { at: at.clone(), code, message, hint: hint.to_owned() }
}
