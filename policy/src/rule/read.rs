//! The one door from the text of a policy file to [`Policy`] values.

use super::{Access, Boundary, Demand, From, Judged, Policy, Rule, Scope, To};
use crate::document::{self, Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{Namespace, PolicyName, Port, RuleName, Service, ServiceName};
use crate::pattern::Pattern;
use crate::verdict::RESERVED;

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
    let access = spec.optional_fields("access").map(access);
    let boundary = spec.optional_fields("routing").and_then(routing);
    let exposure = spec.optional_fields("exposure").and_then(exposure);
    if access.is_none() && boundary.is_none() && exposure.is_none() {
        spec.findings().push(Finding {
            at: name.at.clone(),
            code: Code::NoEffect,
            message: format!("policy {:?} decides nothing", name.value.as_str()),
            hint: "say access, routing or exposure".to_owned(),
        });
    }
    Some(Policy { name, namespace, services: scopes?, access, boundary, exposure })
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

fn access(mut fields: Fields<'_>) -> Access {
    let source =
        fields.optional_choice("source", &[("Verified", Demand::Verified), ("Claimed", Demand::Claimed)]);
    let scope = fields.optional_choice("scope", &[("Remote", Judged::Remote), ("All", Judged::All)]);
    let deny = fields.optional_list("deny").map(|list| rules(list.value, fields.findings()));
    let allow = fields.optional_list("allow").map(|list| rules(list.value, fields.findings()));
    fields.close();
    Access {
        source: source.map(|source| source.value).unwrap_or_default(),
        scope: scope.map(|scope| scope.value).unwrap_or_default(),
        deny: deny.unwrap_or_default(),
        allow,
    }
}

fn routing(mut fields: Fields<'_>) -> Option<Located<Boundary>> {
    let choices = [
        ("Cluster", Boundary::Cluster),
        ("Network", Boundary::Network),
        ("Region", Boundary::Region),
        ("Mesh", Boundary::Mesh),
    ];
    let boundary = fields.optional_choice("boundary", &choices);
    fields.close();
    boundary
}

fn exposure(mut fields: Fields<'_>) -> Option<Located<Vec<Located<Pattern>>>> {
    let networks = fields.optional_fields("to").and_then(|mut to| {
        let networks = to.optional_values::<Pattern>("networks");
        if networks.is_none() {
            let at = to.at().clone();
            to.findings().push(Finding {
                at,
                code: Code::MissingKey,
                message: "exposure names no networks".to_owned(),
                hint: "write networks: [...]; networks: [] hides the service".to_owned(),
            });
        }
        to.close();
        networks
    });
    fields.close();
    networks
}

fn rules(nodes: Vec<Node>, findings: &mut Vec<Finding>) -> Vec<Rule> {
    nodes.into_iter().filter_map(|node| rule(node, findings)).collect()
}

fn rule(node: Node, findings: &mut Vec<Finding>) -> Option<Rule> {
    let mut fields = Fields::open(node, "rule", findings)?;
    let name = fields.required_value::<RuleName>("name");
    if let Some(name) = name.as_ref().filter(|name| RESERVED.contains(&name.value.as_str())) {
        fields.findings().push(Finding {
            at: name.at.clone(),
            code: Code::BadValue,
            message: format!("{:?} is a reason of isthmus' own", name.value.as_str()),
            hint: "give the rule another name, so that its reason is told apart".to_owned(),
        });
    }
    let from = fields.optional_list("from");
    let mut sources = Vec::new();
    match from {
        Some(list) if !list.value.is_empty() => {
            sources.extend(list.value.into_iter().filter_map(|node| source(node, fields.findings())));
        }
        Some(_) | None => {
            let at = fields.at().clone();
            fields.findings().push(no_source(at));
        }
    }
    let to = fields.optional_list("to").map(|list| list.value).unwrap_or_default();
    let to = to.into_iter().filter_map(|node| request(node, fields.findings())).collect();
    fields.close();
    Some(Rule { name: name?, from: sources, to })
}

fn no_source(at: Place) -> Finding {
    Finding {
        at,
        code: Code::NoSource,
        message: "this says neither clusters nor networks".to_owned(),
        hint: "name them in from; clusters: [\"*\"] says all, on purpose".to_owned(),
    }
}

fn source(node: Node, findings: &mut Vec<Finding>) -> Option<From> {
    let mut fields = Fields::open(node, "source", findings)?;
    let before = fields.findings().len(); // a value that was refused is not one that was left out
    let mut values = |key| fields.optional_values::<Pattern>(key).map(|list| list.value).unwrap_or_default();
    let from = From {
        clusters: values("clusters"),
        networks: values("networks"),
        namespaces: values("namespaces"),
        principals: values("principals"),
    };
    // What could not be read was meant to say something.
    if from.clusters.is_empty() && from.networks.is_empty() && fields.findings().len() == before {
        let at = fields.at().clone();
        fields.findings().push(no_source(at));
    }
    fields.close();
    Some(from)
}

fn request(node: Node, findings: &mut Vec<Finding>) -> Option<To> {
    let mut fields = Fields::open(node, "request", findings)?;
    let before = fields.findings().len();
    let ports = fields.optional_values::<Port>("ports").map(|list| list.value).unwrap_or_default();
    let mut values = |key| {
        let list = fields.optional_values::<Pattern>(key).map(|list| list.value).unwrap_or_default();
        list.into_iter().map(|located| located.value).collect()
    };
    let to = To {
        ports: ports.into_iter().map(|port| port.value.number()).collect(),
        methods: values("methods"),
        paths: values("paths"),
    };
    let empty = to.ports.is_empty() && to.methods.is_empty() && to.paths.is_empty();
    if empty && fields.findings().len() == before {
        let at = fields.at().clone();
        fields.findings().push(Finding {
            at,
            code: Code::NoEffect,
            message: "this takes in every request".to_owned(),
            hint: "say ports, methods or paths, or leave it out".to_owned(),
        });
    }
    fields.close();
    Some(to)
}

#[cfg(test)]
mod tests {
    use super::super::*;

    const GOOD: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: ledger, namespace: payments}
spec:
  services: [ledger]
  access:
    deny:
    - name: no-staging
      from: [{clusters: [\"staging-*\"]}]
    allow:
    - name: eu-reads
      from: [{clusters: [eu-1], namespaces: [checkout]}]
      to: [{ports: [8080], methods: [GET], paths: [/v1/*]}]
  routing: {boundary: Region}
  exposure: {to: {networks: [network2]}}
";

    fn findings_of(text: &str) -> Vec<String> {
        let (_, findings) = Policy::read("p.yaml", text, &"istio-system".parse().unwrap());
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_policy_is_read_whole() {
        let (policies, findings) = Policy::read("p.yaml", GOOD, &"istio-system".parse().unwrap());
        assert_eq!(findings, []);
        let policy = &policies[0];
        assert_eq!(policy.boundary.as_ref().unwrap().value, Boundary::Region);
        let access = policy.access.as_ref().unwrap();
        assert_eq!((access.source, access.scope), (Demand::Verified, Judged::Remote));
        assert_eq!(access.allow.as_ref().unwrap()[0].to[0].ports, [8080]);
        assert_eq!(policy.exposure.as_ref().unwrap().value.len(), 1);
    }

    #[test]
    fn a_rule_must_say_where_requests_come_from() {
        assert_eq!(
            findings_of(
                &GOOD
                    .replace("clusters: [eu-1], ", "")
                    .replace("from: [{clusters: [\"staging-*\"]}]", "to: [{ports: [1]}]")
            ),
            [
                "p.yaml:8:7: error[ISM013]: this says neither clusters nor networks",
                "p.yaml:12:14: error[ISM013]: this says neither clusters nor networks",
            ]
        );
    }

    #[test]
    fn hosts_are_named_in_the_root_namespace_only() {
        for (namespace, services, fine) in [
            ("payments", "ledger", true),
            ("payments", "\"*\"", true),
            ("payments", "ledger.payments.svc.cluster.local", false),
            ("istio-system", "ledger.payments.svc.cluster.local", true),
            ("istio-system", "\"*.payments.svc.cluster.local\"", true),
            ("istio-system", "ledger", false),
        ] {
            let text = GOOD
                .replace("services: [ledger]", &format!("services: [{services}]"))
                .replace("namespace: payments", &format!("namespace: {namespace}"));
            assert_eq!(findings_of(&text).is_empty(), fine, "{namespace} {services}");
        }
    }

    #[test]
    fn a_rule_may_not_take_the_name_of_a_built_in_reason() {
        assert_eq!(
            findings_of(&GOOD.replace("eu-reads", "boundary")),
            ["p.yaml:11:13: error[ISM005]: \"boundary\" is a reason of isthmus' own"]
        );
    }

    #[test]
    fn unknown_keys_are_found_at_every_depth() {
        assert_eq!(
            findings_of(
                &GOOD
                    .replace("  routing:", "  routng:")
                    .replace("methods:", "method:")
                    .replace("deny:", "denny:")
            ),
            [
                "p.yaml:7:5: error[ISM002]: access has no key \"denny\"",
                "p.yaml:13:28: error[ISM002]: request has no key \"method\"",
                "p.yaml:14:3: error[ISM002]: policy's spec has no key \"routng\"",
            ]
        );
    }
}
