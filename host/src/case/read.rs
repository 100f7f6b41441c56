//! The one door from the text of a case file to a [`Suite`].

mod expect;
mod matrix;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use policy::document::{self, Fields, Located, Node};
use policy::finding::{Code, Finding, Place, has_errors};
use policy::name::{ClusterName, Namespace, ServiceAccount};

use super::{Call, Case, Level, Origin, Request, Suite, Way};

pub(super) fn suite(file: &str, text: &str) -> (Option<Suite>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut documents = document::read(file, text, &mut findings).into_iter();
    let suite = documents.next().and_then(|node| suite_of(node, &mut findings));
    if suite.is_none() && findings.is_empty() {
        findings.push(Finding {
            at: Place { file: file.into(), line: 1, column: 1, width: 1 },
            code: Code::MissingKey,
            message: "this file holds no cases".to_owned(),
            hint: "write suite:, mesh:, policies: and cases:".to_owned(),
        });
    }
    findings.extend(documents.map(|extra| Finding {
        at: extra.at,
        code: Code::Duplicate,
        message: "a second document in a file of cases".to_owned(),
        hint: "put it into a file of its own".to_owned(),
    }));
    findings.sort();
    // What is wrong in an entry that stands for several cases is wrong once.
    findings.dedup();
    let suite = if has_errors(&findings) { None } else { suite };
    (suite, findings)
}

pub(super) fn speaks_of(text: &str) -> Vec<PathBuf> {
    let mut ignored = Vec::new();
    let node = document::read("", text, &mut ignored).into_iter().next();
    let Some(mut fields) = node.and_then(|node| Fields::open(node, "suite", &mut ignored)) else {
        return Vec::new();
    };
    let mesh = fields.optional_value::<PathBuf>("mesh").map(|mesh| mesh.value);
    let policies = fields.optional_values::<PathBuf>("policies").map(|list| list.value).unwrap_or_default();
    mesh.into_iter().chain(policies.into_iter().map(|path| path.value)).collect()
}

fn suite_of(node: Node, findings: &mut Vec<Finding>) -> Option<Suite> {
    let mut fields = Fields::open(node, "suite", findings)?;
    let name = fields.required_value::<String>("suite");
    let mesh = fields.required_value::<PathBuf>("mesh");
    let policies = fields.optional_values::<PathBuf>("policies").map(|list| list.value).unwrap_or_default();
    let nodes = fields.required("cases").and_then(|node| document::list(node, "cases", fields.findings()));
    let nodes = nodes.map(|list| list.value).unwrap_or_default();
    let mut cases = Vec::new();
    for node in nodes {
        for node in matrix::cases(node, fields.findings()) {
            cases.extend(case(node, fields.findings()));
        }
    }
    let mut seen = BTreeSet::new();
    for case in &cases {
        if !seen.insert(&case.name.value) {
            fields.findings().push(Finding {
                at: case.name.at.clone(),
                code: Code::Duplicate,
                message: format!("case {:?} stands twice", case.name.value),
                hint: "say what sets this one apart".to_owned(),
            });
        }
    }
    fields.close();
    Some(Suite {
        name: name?.value,
        mesh: mesh?.value,
        policies: policies.into_iter().map(|path| path.value).collect(),
        cases,
    })
}

fn case(node: Node, findings: &mut Vec<Finding>) -> Option<Case> {
    let mut fields = Fields::open(node, "case", findings)?;
    let name = fields.required_value::<String>("name");
    let from = fields.required("from").and_then(|node| origin(node, fields.findings()));
    let level = fields.optional_choice("as", &Level::WORDS);
    let via = fields.optional_choice("via", &[("egress", Way::Egress)]);
    let to = fields.optional_value::<ClusterName>("to");
    let misrouted = fields.optional_value::<bool>("misrouted");
    let request = fields.required("request").and_then(|node| request(node, fields.findings()));
    let expect = fields.required("expect").and_then(|node| expect::expectation(node, fields.findings()));
    if let (Some(misrouted), None) = (&misrouted, &to) {
        let wrong =
            (&misrouted.at, "misrouted says that it goes to another cluster, and not to which", "add to:");
        fields.findings().push(bad(wrong));
    }
    let outside = from.as_ref().is_some_and(|(_, way)| *way == Way::Ingress);
    if let Some(via) = via.as_ref().filter(|_| outside) {
        let wrong =
            (&via.at, "what comes from outside leaves by the gateway that it came in by", "leave via out");
        fields.findings().push(bad(wrong));
    }
    fields.close();
    let (from, way) = from?;
    let level_at = level.as_ref().map(|level| level.at.clone());
    let call = Call {
        from,
        way: via.map_or(way, |via| via.value),
        to,
        misrouted: misrouted.is_some_and(|misrouted| misrouted.value),
        request: request?,
        level: level.map(|level| level.value).unwrap_or_default(),
        level_at,
    };
    Some(Case { name: name?, call, expect: expect? })
}

fn bad((at, message, hint): (&Place, &str, &str)) -> Finding {
    Finding { at: at.clone(), code: Code::BadValue, message: message.to_owned(), hint: hint.to_owned() }
}

/// A workload; or the ingress gateway that a request from outside comes in by, which has the identity that Istio gives
/// it unless another is said.
fn origin(node: Node, findings: &mut Vec<Finding>) -> Option<(Origin, Way)> {
    let mut fields = Fields::open(node, "from", findings)?;
    let outside = fields.optional_value::<ClusterName>("outside");
    let origin = match outside {
        Some(cluster) => {
            let namespace = fields.optional_value::<Namespace>("namespace");
            let account = fields.optional_value::<ServiceAccount>("serviceAccount");
            let namespace = namespace.map_or_else(Namespace::istio_system, |namespace| namespace.value);
            let service_account =
                account.map_or_else(ServiceAccount::ingress_gateway, |account| account.value);
            Some((Origin { cluster, namespace, service_account }, Way::Ingress))
        }
        None => {
            let cluster = fields.required_value::<ClusterName>("cluster");
            let namespace = fields.required_value::<Namespace>("namespace");
            let account = fields.required_value::<ServiceAccount>("serviceAccount");
            cluster.zip(namespace).zip(account).map(|((cluster, namespace), account)| {
                let origin = Origin { cluster, namespace: namespace.value, service_account: account.value };
                (origin, Way::Sidecar)
            })
        }
    };
    fields.close();
    origin
}

fn request(node: Node, findings: &mut Vec<Finding>) -> Option<Request> {
    let mut fields = Fields::open(node, "request", findings)?;
    let host = fields.required_value::<String>("host");
    let service = fields.optional_value::<String>("service");
    let method = fields.optional_value::<String>("method");
    let path = fields.optional_value::<String>("path");
    if let Some(path) = path.as_ref().filter(|path| !path.value.starts_with('/')) {
        fields.findings().push(Finding {
            at: path.at.clone(),
            code: Code::BadValue,
            message: format!("path {:?} does not begin with a slash", path.value),
            hint: format!("write /{}", path.value),
        });
    }
    let mut headers = BTreeMap::new();
    if let Some(mut given) = fields.optional_fields("headers") {
        for (key, value) in given.rest() {
            if let Some(value) = document::parse::<String>(value, "a header", given.findings()) {
                headers.insert(key.text.to_ascii_lowercase(), value.value);
            }
        }
    }
    fields.close();
    let or = |given: Option<Located<String>>, default: &str| {
        given.map_or_else(|| default.to_owned(), |given| given.value)
    };
    Some(Request { host: host?, service, method: or(method, "GET"), path: or(path, "/"), headers })
}

#[cfg(test)]
mod tests;
