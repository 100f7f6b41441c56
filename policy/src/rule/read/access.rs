//! The access section: rules, their sources and their requests.

use std::str::FromStr;

use super::super::{Access, Clause, Demand, From, Judged, Rule, To};
use crate::document::{Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::RuleName;
use crate::pattern::Pattern;
use crate::verdict::RESERVED;

pub(super) fn section(mut fields: Fields<'_>) -> Access {
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
    let mut sources = Vec::new();
    match fields.optional_list("from") {
        Some(list) if !list.value.is_empty() => {
            sources.extend(list.value.into_iter().filter_map(|node| source(node, fields.findings())));
        }
        Some(_) | None => {
            let at = fields.at().clone();
            fields.findings().push(no_source(at));
        }
    }
    let to = fields.optional_list("to");
    if let Some(list) = to.as_ref().filter(|list| list.value.is_empty()) {
        let finding = empty(&list.at, "to");
        fields.findings().push(finding);
    }
    let to = to.map(|list| list.value).unwrap_or_default();
    let to = to.into_iter().filter_map(|node| request(node, fields.findings())).collect();
    fields.close();
    Some(Rule { name: name?, from: sources, to })
}

fn no_source(at: Place) -> Finding {
    Finding {
        at,
        code: Code::NoSource,
        message: "this says no clusters, networks or regions".to_owned(),
        hint: "name them in from; clusters: [\"*\"] says all, on purpose, and not* only takes away"
            .to_owned(),
    }
}

fn source(node: Node, findings: &mut Vec<Finding>) -> Option<From> {
    let mut fields = Fields::open(node, "source", findings)?;
    let before = fields.findings().len(); // a value that was refused is not one that was left out
    let from = From {
        clusters: clause(&mut fields, "clusters", "notClusters"),
        networks: clause(&mut fields, "networks", "notNetworks"),
        regions: clause(&mut fields, "regions", "notRegions"),
        namespaces: clause(&mut fields, "namespaces", "notNamespaces"),
        principals: clause(&mut fields, "principals", "notPrincipals"),
        trust_domains: clause(&mut fields, "trustDomains", "notTrustDomains"),
    };
    let nowhere = from.clusters.any.is_empty() && from.networks.any.is_empty() && from.regions.any.is_empty();
    if nowhere && fields.findings().len() == before {
        let at = fields.at().clone();
        fields.findings().push(no_source(at));
    }
    fields.close();
    Some(from)
}

fn request(node: Node, findings: &mut Vec<Finding>) -> Option<To> {
    let mut fields = Fields::open(node, "request", findings)?;
    let before = fields.findings().len();
    let to = To {
        ports: clause(&mut fields, "ports", "notPorts"),
        methods: clause(&mut fields, "methods", "notMethods"),
        paths: clause(&mut fields, "paths", "notPaths"),
        hosts: clause(&mut fields, "hosts", "notHosts"),
    };
    let said = to.methods.iter().filter_map(method).chain(to.paths.iter().filter_map(path));
    let said: Vec<Finding> = said.chain(to.hosts.iter().filter_map(host)).collect();
    fields.findings().extend(said);
    if to == To::default() && fields.findings().len() == before {
        let at = fields.at().clone();
        fields.findings().push(Finding {
            at,
            code: Code::NoEffect,
            message: "this takes in every request".to_owned(),
            hint: "say ports, methods, paths or hosts, or leave it out".to_owned(),
        });
    }
    fields.close();
    Some(to)
}

/// Reads a field and its twin. A list without values is a finding: it would hold of nothing, or of everything.
fn clause<T: FromStr<Err: std::fmt::Display>>(
    fields: &mut Fields<'_>,
    field: &'static str,
    twin: &'static str,
) -> Clause<T> {
    let mut values = |key: &'static str| {
        let list = fields.optional_list(key)?;
        if list.value.is_empty() {
            let finding = empty(&list.at, key);
            fields.findings().push(finding);
        }
        let values = list.value.into_iter();
        Some(values.filter_map(|node| crate::document::parse(node, key, fields.findings())).collect())
    };
    Clause { any: values(field).unwrap_or_default(), none: values(twin).unwrap_or_default() }
}

fn empty(at: &Place, key: &str) -> Finding {
    Finding {
        at: at.clone(),
        code: Code::BadValue,
        message: format!("{key} lists no value"),
        hint: format!("name values, or leave {key} out"),
    }
}

fn method(pattern: &Located<Pattern>) -> Option<Finding> {
    let written = pattern.value.text();
    written.contains(|sign: char| sign.is_ascii_lowercase()).then(|| Finding {
        at: pattern.at.clone(),
        code: Code::BadValue,
        message: format!(
            "no request has the method {:?}: methods are written in upper case",
            pattern.value.to_string()
        ),
        hint: format!("write {}", pattern.value.to_string().to_ascii_uppercase()),
    })
}

fn path(pattern: &Located<Pattern>) -> Option<Finding> {
    let written = pattern.value.text();
    let (message, hint) = match &pattern.value {
        Pattern::Exact(_) | Pattern::Prefix(_) if !written.starts_with('/') => {
            ("a path begins with /", format!("write /{written}"))
        }
        Pattern::Any | Pattern::Suffix(_) | Pattern::Exact(_) | Pattern::Prefix(_)
            if written.contains(['?', '#']) =>
        {
            ("paths are matched without query and fragment", "leave out what stands after ? or #".to_owned())
        }
        Pattern::Any | Pattern::Suffix(_) | Pattern::Exact(_) | Pattern::Prefix(_) => return None,
    };
    Some(Finding {
        at: pattern.at.clone(),
        code: Code::NeverMatches,
        message: format!("no path matches {:?}: {message}", pattern.value.to_string()),
        hint,
    })
}

fn host(pattern: &Located<Pattern>) -> Option<Finding> {
    let written = pattern.value.text();
    let upper = written.contains(|sign: char| sign.is_ascii_uppercase());
    let (message, hint) = if upper {
        (
            "hosts are matched in lower case",
            format!("write {}", pattern.value.to_string().to_ascii_lowercase()),
        )
    } else if written.contains(':') && !written.starts_with('[') {
        ("hosts are matched without their port", "say ports for the port".to_owned())
    } else {
        return None;
    };
    Some(Finding {
        at: pattern.at.clone(),
        code: Code::BadValue,
        message: format!("no host matches {:?}: {message}", pattern.value.to_string()),
        hint,
    })
}
