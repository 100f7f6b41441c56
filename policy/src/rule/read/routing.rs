//! The routing and exposure sections.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::super::{Boundary, Clause, Exposure, HashOn, Pin, Routing, Split};
use crate::document::{self, Fields, Located, Node};
use crate::finding::{Code, Finding, Place};
use crate::name::{ClusterName, CookieName, HeaderName, Port};
use crate::pattern::Pattern;

const CLUSTER: (&str, Boundary) = ("Cluster", Boundary::Cluster);
const NETWORK: (&str, Boundary) = ("Network", Boundary::Network);
const REGION: (&str, Boundary) = ("Region", Boundary::Region);
const MESH: (&str, Boundary) = ("Mesh", Boundary::Mesh);

pub(super) fn routing(mut fields: Fields<'_>) -> Routing {
    let boundary = fields.optional_choice("boundary", &[CLUSTER, NETWORK, REGION, MESH]);
    let prefer = fields.optional_choice("prefer", &[CLUSTER, NETWORK, REGION]);
    let failover = fields.optional_values::<ClusterName>("failover");
    if let Some(list) = &failover {
        let found = once_each(&list.value, "failover");
        fields.findings().extend(found);
    }
    let pin = fields.optional_fields("pin").and_then(pin);
    let legs = fields.optional_list("split").map(|list| legs(list, fields.findings()));
    let hash_on = fields.optional_fields("hashOn").and_then(hash_on);
    let split = match (legs, hash_on) {
        (Some(legs), hash_on) => {
            let hash_on = hash_on.map(|hash_on| hash_on.value);
            Some(Located { at: legs.at, value: Split { legs: legs.value, hash_on } })
        }
        (None, Some(alone)) => {
            fields.findings().push(Finding {
                at: alone.at,
                code: Code::NoEffect,
                message: "hashOn makes a split sticky, and there is no split".to_owned(),
                hint: "say split, or leave hashOn out".to_owned(),
            });
            None
        }
        (None, None) => None,
    };
    fields.close();
    Routing { boundary, prefer, failover, pin, split }
}

/// Clusters that stand twice in a list whose order means something.
fn once_each(clusters: &[Located<ClusterName>], what: &str) -> Vec<Finding> {
    let mut seen: BTreeMap<&ClusterName, &Place> = BTreeMap::new();
    let twice = |cluster| {
        let Located { at, value }: &Located<ClusterName> = cluster;
        let first = *seen.entry(value).or_insert(at);
        (first != at).then(|| Finding {
            at: at.clone(),
            code: Code::Duplicate,
            message: format!("cluster {:?} stands twice in {what}", value.as_str()),
            hint: format!("the first is in line {}; keep one of them", first.line),
        })
    };
    clusters.iter().filter_map(twice).collect()
}

fn pin(mut fields: Fields<'_>) -> Option<Located<Pin>> {
    let at = fields.at().clone();
    let header = fields.required_value::<HeaderName>("header");
    let mut to = BTreeMap::new();
    if let Some(node) = fields.required("to")
        && let Some(mut values) = Fields::open(node, "to", fields.findings())
    {
        for (value, node) in values.rest() {
            if let Some(cluster) = document::parse::<ClusterName>(node, "to", values.findings()) {
                to.insert(value.text, cluster);
            }
        }
    }
    fields.close();
    Some(Located { at, value: Pin { header: header?.value, to } })
}

/// A text is not a weight.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a weight: write a whole number from 1 to 100")]
struct WeightError(String);

/// A share in hundredths. None at all is one as well, and a finding of its own.
struct Weight(u8);

impl FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, WeightError> {
        let weight = text.parse().ok().filter(|weight| *weight <= 100);
        weight.map(Self).ok_or_else(|| WeightError(text.to_owned()))
    }
}

fn leg(node: Node, findings: &mut Vec<Finding>) -> Option<(Located<ClusterName>, u8)> {
    let mut fields = Fields::open(node, "share of a split", findings)?;
    let cluster = fields.required_value::<ClusterName>("cluster");
    let weight = fields.required_value::<Weight>("weight");
    if let Some(weight) = weight.as_ref().filter(|weight| weight.value.0 == 0) {
        fields.findings().push(Finding {
            at: weight.at.clone(),
            code: Code::Weights,
            message: "a share of nothing".to_owned(),
            hint: "leave the cluster out, or give it a weight from 1 to 100".to_owned(),
        });
    }
    fields.close();
    Some((cluster?, weight?.value.0))
}

type Legs = Vec<(Located<ClusterName>, u8)>;

fn legs(list: Located<Vec<Node>>, findings: &mut Vec<Finding>) -> Located<Legs> {
    let count = list.value.len();
    let legs: Legs = list.value.into_iter().filter_map(|node| leg(node, findings)).collect();
    let clusters: Vec<Located<ClusterName>> = legs.iter().map(|(cluster, _)| cluster.clone()).collect();
    findings.extend(once_each(&clusters, "split"));
    let sum: u32 = legs.iter().map(|(_, weight)| u32::from(*weight)).sum();
    if sum != 100 && legs.len() == count {
        findings.push(Finding {
            at: list.at.clone(),
            code: Code::Weights,
            message: format!("the weights of this split make {sum}, not 100"),
            hint: "a weight is a cluster's share in hundredths: make them 100 together".to_owned(),
        });
    }
    Located { at: list.at, value: legs }
}

fn hash_on(mut fields: Fields<'_>) -> Option<Located<HashOn>> {
    let at = fields.at().clone();
    let before = fields.findings().len();
    let header = fields.optional_value::<HeaderName>("header");
    let cookie = fields.optional_value::<CookieName>("cookie");
    let refused = fields.findings().len() > before;
    let value = match (header, cookie) {
        (Some(header), None) => Some(HashOn::Header(header.value)),
        (None, Some(cookie)) => Some(HashOn::Cookie(cookie.value)),
        (None, None) | (Some(_), Some(_)) => None,
    };
    if value.is_none() && !refused {
        fields.findings().push(Finding {
            at: at.clone(),
            code: Code::BadValue,
            message: "hashOn takes one of header and cookie".to_owned(),
            hint: "write {header: x-user} or {cookie: session}".to_owned(),
        });
    }
    fields.close();
    Some(Located { at, value: value? })
}

pub(super) fn exposure(mut fields: Fields<'_>) -> Option<Exposure> {
    let at = fields.at().clone();
    let ports = fields.optional_values::<Port>("ports");
    if let Some(none) = ports.as_ref().filter(|ports| ports.value.is_empty()) {
        let finding = Finding {
            at: none.at.clone(),
            code: Code::BadValue,
            message: "ports lists no value".to_owned(),
            hint: "name ports, or leave ports out; to: {networks: []} hides the service".to_owned(),
        };
        fields.findings().push(finding);
    }
    let to = fields.optional_fields("to").map(networks);
    if to.is_none() && ports.is_none() {
        fields.findings().push(no_networks(at.clone()));
    }
    fields.close();
    let (at, networks) = to.unwrap_or_else(|| (at, Some(Clause::default())));
    Some(Exposure { at, networks, ports: ports.map(|ports| ports.value).unwrap_or_default() })
}

/// The networks that see a service, and where they are said; `None` when the list is empty, on purpose: no one does.
fn networks(mut to: Fields<'_>) -> (Place, Option<Clause<Pattern>>) {
    let networks = to.optional_values::<Pattern>("networks");
    let twin = to.optional_values::<Pattern>("notNetworks");
    if networks.is_none() && twin.as_ref().is_none_or(|twin| twin.value.is_empty()) {
        let at = to.at().clone();
        to.findings().push(no_networks(at));
    }
    let at = networks.as_ref().or(twin.as_ref()).map_or_else(|| to.at().clone(), |list| list.at.clone());
    to.close();
    if networks.as_ref().is_some_and(|networks| networks.value.is_empty()) {
        return (at, None);
    }
    let values = |list: Option<Located<Vec<_>>>| list.map(|list| list.value).unwrap_or_default();
    (at, Some(Clause { any: values(networks), none: values(twin) }))
}

fn no_networks(at: Place) -> Finding {
    Finding {
        at,
        code: Code::MissingKey,
        message: "exposure names no networks".to_owned(),
        hint: "write to: {networks: [...]}; networks: [] hides the service".to_owned(),
    }
}
