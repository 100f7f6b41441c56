//! The one door from the text of a case file to a [`Suite`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use policy::document::{self, Fields, Located, Node};
use policy::finding::{Code, Finding, Place, has_errors};
use policy::name::{ClusterName, Namespace, ServiceAccount};

use super::{Call, Case, Expectation, Level, Origin, Request, Suite};

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
    let suite = if has_errors(&findings) { None } else { suite };
    (suite, findings)
}

fn suite_of(node: Node, findings: &mut Vec<Finding>) -> Option<Suite> {
    let mut fields = Fields::open(node, "suite", findings)?;
    let name = fields.required_value::<String>("suite");
    let mesh = fields.required_value::<PathBuf>("mesh");
    let policies = fields.optional_values::<PathBuf>("policies").map(|list| list.value).unwrap_or_default();
    let nodes = fields.required("cases").and_then(|node| document::list(node, "cases", fields.findings()));
    let nodes = nodes.map(|list| list.value).unwrap_or_default();
    let cases: Vec<Case> = nodes.into_iter().filter_map(|node| case(node, fields.findings())).collect();
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
    let to = fields.optional_value::<ClusterName>("to");
    let request = fields.required("request").and_then(|node| request(node, fields.findings()));
    let expect = fields.required("expect").and_then(|node| expectation(node, fields.findings()));
    fields.close();
    Some(Case {
        name: name?,
        call: Call { from: from?, to, request: request?, level: Level::default() },
        expect: expect?,
    })
}

fn origin(node: Node, findings: &mut Vec<Finding>) -> Option<Origin> {
    let mut fields = Fields::open(node, "from", findings)?;
    let cluster = fields.required_value::<ClusterName>("cluster");
    let namespace = fields.required_value::<Namespace>("namespace");
    let service_account = fields.required_value::<ServiceAccount>("serviceAccount");
    fields.close();
    Some(Origin { cluster: cluster?, namespace: namespace?.value, service_account: service_account?.value })
}

fn request(node: Node, findings: &mut Vec<Finding>) -> Option<Request> {
    let mut fields = Fields::open(node, "request", findings)?;
    let host = fields.required_value::<String>("host");
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
    Some(Request { host: host?, method: or(method, "GET"), path: or(path, "/"), headers })
}

fn expectation(node: Node, findings: &mut Vec<Finding>) -> Option<Expectation> {
    let mut fields = Fields::open(node, "expect", findings)?;
    let verdict = match fields.required("verdict") {
        Some(node) => document::text(node, "verdict", fields.findings()),
        None => None,
    };
    let word = verdict.and_then(|said| match said.value.as_str() {
        "allow" => Some("allow"),
        "deny" => Some("deny"),
        other => {
            fields.findings().push(Finding {
                at: said.at,
                code: Code::BadValue,
                message: format!("verdict cannot be {other:?}"),
                hint: "write allow or deny".to_owned(),
            });
            None
        }
    });
    let reason = fields.optional_value::<String>("reason");
    let status = fields.optional_value::<u16>("status");
    let source = fields.optional_value::<String>("source");
    let level = fields.optional_value::<String>("level");
    fields.close();
    Some(Expectation {
        verdict: word?,
        reason: reason.map(|reason| reason.value),
        status: status.map(|status| status.value),
        source: source.map(|source| source.value),
        level: level.map(|level| level.value),
    })
}

#[cfg(test)]
mod tests {
    use super::super::*;

    const GOOD: &str = "\
suite: a suite
mesh: mesh.yaml
policies: [policies]
cases:
- name: one
  from: {cluster: c1, namespace: a, serviceAccount: b}
  request: {host: s.a}
  expect: {verdict: allow, reason: no-policy}
";

    #[test]
    fn a_case_has_defaults_for_what_most_leave_out() {
        let (suite, findings) = Suite::read("cases.yaml", GOOD);
        assert_eq!(findings, []);
        let case = &suite.unwrap().cases[0];
        assert_eq!((case.call.request.method.as_str(), case.call.request.path.as_str()), ("GET", "/"));
        assert_eq!(case.call.service().unwrap().to_string(), "s.a");
    }

    #[test]
    fn all_mistakes_of_a_case_file_are_found_in_one_run() {
        let text = GOOD
            .replace("verdict: allow", "verdict: maybe")
            .replace("host: s.a", "hots: s.a, path: x")
            .replace("serviceAccount: b", "serviceAccount: B");
        let (suite, findings) = Suite::read("cases.yaml", &text);
        assert!(suite.is_none());
        let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "cases.yaml:6:53: error[ISM005]: serviceAccount: \"B\" is not a DNS name",
                "cases.yaml:7:12: error[ISM003]: this request has no \"host\"",
                "cases.yaml:7:13: error[ISM002]: request has no key \"hots\"",
                "cases.yaml:7:30: error[ISM005]: path \"x\" does not begin with a slash",
                "cases.yaml:8:21: error[ISM005]: verdict cannot be \"maybe\"",
            ]
        );
    }
}
