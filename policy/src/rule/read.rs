//! The one door from the text of a policy file to [`Policy`] values.

mod access;
mod routing;

use super::{Mode, Policy, Scope};
use crate::document::{self, Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{Namespace, PolicyName, Service, ServiceName};

pub(super) fn policies(file: &str, text: &str, root: &Namespace) -> (Vec<Policy>, Vec<Finding>) {
    let mut findings = Vec::new();
    let documents = document::read(file, text, &mut findings);
    let policies = documents.into_iter().filter_map(|node| policy(node, root, &mut findings)).collect();
    findings.sort();
    (policies, findings)
}

fn policy(node: Node, root: &Namespace, findings: &mut Vec<Finding>) -> Option<Policy> {
    let mut fields = Fields::open(node, "CrossClusterPolicy", findings)?;
    crate::kind::expect(&mut fields, "CrossClusterPolicy")?;
    let metadata = fields.required("metadata");
    let spec = fields.required("spec");
    let metadata = metadata.and_then(|node| self::metadata(node, fields.findings()));
    let spec = spec.zip(metadata).and_then(|(spec, (name, namespace))| {
        let mut spec = Fields::open(spec, "policy's spec", fields.findings())?;
        let policy = self::spec(&mut spec, name, namespace, root);
        spec.close();
        policy
    });
    fields.close();
    spec
}

fn metadata(node: Node, findings: &mut Vec<Finding>) -> Option<(Located<PolicyName>, Namespace)> {
    let mut metadata = Fields::open(node, "metadata", findings)?;
    let name = metadata.required_value::<PolicyName>("name");
    let namespace = metadata.required_value::<Namespace>("namespace");
    metadata.close();
    Some((name?, namespace?.value))
}

fn spec(
    spec: &mut Fields<'_>,
    name: Located<PolicyName>,
    namespace: Namespace,
    root: &Namespace,
) -> Option<Policy> {
    let services = spec.required("services");
    let services = services.and_then(|node| document::list(node, "services", spec.findings()));
    let scopes = services.map(|list| {
        if list.value.is_empty() {
            spec.findings().push(no_service(list.at, &name.value));
        }
        scopes(list.value, &namespace, namespace == *root, spec.findings())
    });
    let mode = spec.optional_choice("mode", &[("Enforce", Mode::Enforce), ("Shadow", Mode::Shadow)]);
    let access = spec.optional_fields("access").map(access::section);
    let routing = spec.optional_fields("routing").map(routing::routing).unwrap_or_default();
    let exposure = spec.optional_fields("exposure").and_then(routing::exposure);
    if access.is_none() && routing.is_empty() && exposure.is_none() {
        spec.findings().push(Finding {
            at: name.at.clone(),
            code: Code::NoEffect,
            message: format!("policy {:?} decides nothing", name.value.as_str()),
            hint: "say access, routing or exposure".to_owned(),
        });
    }
    let mode = mode.map(|mode| mode.value).unwrap_or_default();
    Some(Policy { name, namespace, mode, services: scopes?, access, routing, exposure })
}

fn no_service(at: Place, policy: &PolicyName) -> Finding {
    Finding {
        at,
        code: Code::NoEffect,
        message: format!("policy {:?} speaks of no service", policy.as_str()),
        hint: "name services of the namespace, or write \"*\" for all of them".to_owned(),
    }
}

fn scopes(
    nodes: Vec<Node>,
    namespace: &Namespace,
    in_root: bool,
    findings: &mut Vec<Finding>,
) -> Vec<Located<Scope>> {
    let mut scopes = Vec::new();
    for node in nodes {
        let Some(text) = document::text(node, "services", findings) else { continue };
        match scope(&text.value, namespace, in_root) {
            Some(scope) => scopes.push(Located { at: text.at, value: scope }),
            None => findings.push(not_a_scope(text, in_root)),
        }
    }
    scopes
}

fn scope(text: &str, namespace: &Namespace, in_root: bool) -> Option<Scope> {
    match (text, in_root) {
        (host, true) => host.parse().ok(),
        ("*", false) => Some(Scope::Namespace(namespace.clone())),
        (name, false) => {
            let name = name.parse::<ServiceName>().ok()?;
            Some(Scope::Service(Service { name, namespace: namespace.clone() }))
        }
    }
}

fn not_a_scope(text: Located<String>, in_root: bool) -> Finding {
    let hint = if in_root {
        "in the root namespace write ledger.payments.svc.cluster.local, *.payments.svc.cluster.local or *"
    } else {
        "write the name of a service of this namespace, or *"
    };
    Finding {
        message: format!("{:?} names no services", text.value),
        at: text.at,
        code: Code::BadValue,
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests;
