//! What a `mesh.yaml` says of services.

use std::collections::{BTreeMap, BTreeSet};

use super::Draft;
use crate::document::{self, Fields, Key, Located};
use crate::finding::{Code, Finding};
use crate::mesh::{Listing, Protocol, ServicePort};
use crate::name::{ClusterName, Port, Service};

/// The longest that Kubernetes takes the name, or the value, of a label.
const LABEL_LENGTH: usize = 63;

/// A service with the places that findings about it point at.
pub(super) struct DraftListing {
    service: Service,
    clusters: Option<Located<Vec<Located<ClusterName>>>>,
    port: ServicePort,
    other_ports: Vec<ServicePort>,
    selector: BTreeMap<String, String>,
    labels: Vec<(Located<ClusterName>, BTreeMap<String, String>)>,
}

/// Reads the services, as far as they say of themselves what is wrong.
pub(super) fn read(services: &mut Fields<'_>) -> Vec<DraftListing> {
    let mut drafts = Vec::new();
    for (key, node) in services.rest() {
        let findings = services.findings();
        let service = match key.text.parse::<Service>() {
            Ok(service) => service,
            Err(error) => {
                findings.push(Finding {
                    at: key.at,
                    code: Code::BadValue,
                    message: error.to_string(),
                    hint: "the keys of services are NAME.NAMESPACE".to_owned(),
                });
                continue;
            }
        };
        let Some(mut fields) = Fields::open(node, "service", findings) else { continue };
        let first = port(&mut fields);
        let other_ports = fields.optional_list("otherPorts").map(|list| list.value).unwrap_or_default();
        let other_ports = other_ports.into_iter().filter_map(|node| {
            let mut fields = Fields::open(node, "port", fields.findings())?;
            let port = port(&mut fields);
            fields.close();
            port
        });
        let other_ports: Vec<_> = other_ports.collect();
        let clusters = fields.optional_values::<ClusterName>("clusters");
        let selector = fields.optional_fields("selector").map(labels).unwrap_or_default();
        let labels = fields.optional_fields("labels").map(endpoint_labels).unwrap_or_default();
        fields.close();
        let Some(first) = first else { continue };
        findings_of_ports(&first, &other_ports, services.findings());
        let other_ports = other_ports.into_iter().map(|port| port.value).collect();
        drafts.push(DraftListing { service, clusters, port: first.value, other_ports, selector, labels });
    }
    drafts
}

/// Takes `port` and `protocol`.
fn port(fields: &mut Fields<'_>) -> Option<Located<ServicePort>> {
    let port = fields.required_value::<Port>("port");
    let protocol = fields.optional_choice("protocol", Protocol::ALL).map(|protocol| protocol.value);
    let port = port?;
    Some(Located { at: port.at, value: ServicePort { number: port.value.number(), protocol } })
}

fn findings_of_ports(
    first: &Located<ServicePort>,
    others: &[Located<ServicePort>],
    findings: &mut Vec<Finding>,
) {
    for (index, port) in others.iter().enumerate() {
        let before = || others.iter().take(index).chain([first]);
        if before().any(|other| other.value.number == port.value.number) {
            findings.push(Finding {
                at: port.at.clone(),
                code: Code::Duplicate,
                message: format!("port {} stands twice", port.value.number),
                hint: "a port of a service is one: keep one of them".to_owned(),
            });
        }
    }
}

/// Labels by the cluster whose endpoint they are on.
fn endpoint_labels(mut clusters: Fields<'_>) -> Vec<(Located<ClusterName>, BTreeMap<String, String>)> {
    let mut found = Vec::new();
    for (key, node) in clusters.rest() {
        let Some(fields) = Fields::open(node, "labels", clusters.findings()) else { continue };
        let labels = labels(fields);
        match key.text.parse::<ClusterName>() {
            Ok(cluster) => found.push((Located { at: key.at, value: cluster }, labels)),
            Err(error) => clusters.findings().push(Finding {
                at: key.at,
                code: Code::BadValue,
                message: error.to_string(),
                hint: "the keys of labels are clusters".to_owned(),
            }),
        }
    }
    found
}

/// Labels as Kubernetes has them.
pub(super) fn labels(mut labels: Fields<'_>) -> BTreeMap<String, String> {
    let mut selector = BTreeMap::new();
    for (label, value) in labels.rest() {
        let Some(value) = document::text(value, "a label", labels.findings()) else { continue };
        labels.findings().extend(no_label(&label, &value));
        selector.insert(label.text, value.value);
    }
    selector
}

/// No workload carries a label that Kubernetes would not take, so who selects by it means another.
fn no_label(label: &Key, value: &Located<String>) -> Option<Finding> {
    let name = label.text.rsplit_once('/').map_or(label.text.as_str(), |(_prefix, name)| name);
    let prefix = label.text.rsplit_once('/').map(|(prefix, _name)| prefix);
    let (at, what, text) =
        if !is_label(name) || prefix.is_some_and(|prefix| !crate::name::is_dns_name(prefix)) {
            (&label.at, "name", &label.text)
        } else if !value.value.is_empty() && !is_label(&value.value) {
            (&value.at, "value", &value.value)
        } else {
            return None;
        };
    Some(Finding {
        at: at.clone(),
        code: Code::BadValue,
        message: format!("{text:?} is not the {what} of a label"),
        hint: format!(
            "write at most {LABEL_LENGTH} letters, digits and -_. between a letter or digit at either end{}",
            if what == "name" { ", after a DNS name and / where there is one" } else { "" }
        ),
    })
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= LABEL_LENGTH && text.bytes().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

/// Gives every service the clusters that run it; `whole`: all clusters could be read.
pub(super) fn place(
    listings: Vec<DraftListing>,
    drafts: &[Draft],
    whole: bool,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Service, Listing> {
    let known: BTreeSet<ClusterName> = drafts.iter().map(|draft| draft.name.value.clone()).collect();
    let mut placed = BTreeMap::new();
    for listing in listings {
        let DraftListing { service, clusters, port, other_ports, selector, labels } = listing;
        let clusters = match clusters {
            None => known.clone(),
            Some(list) if list.value.is_empty() => {
                findings.push(Finding {
                    at: list.at,
                    code: Code::BadValue,
                    message: format!("no cluster runs {service}"),
                    hint: "name the clusters that run it, or leave clusters out when all do".to_owned(),
                });
                continue;
            }
            Some(list) => running(&list.value, &known, whole, findings),
        };
        if whole {
            let elsewhere = labels.iter().filter(|(cluster, _)| !clusters.contains(&cluster.value));
            findings.extend(elsewhere.map(|(cluster, _)| not_run(cluster, &service, &clusters)));
        }
        let labels = labels.into_iter().map(|(cluster, labels)| (cluster.value, labels)).collect();
        let ServicePort { number: port, protocol } = port;
        placed.insert(service, Listing { port, protocol, other_ports, clusters, selector, labels });
    }
    placed
}

fn running(
    list: &[Located<ClusterName>],
    known: &BTreeSet<ClusterName>,
    whole: bool,
    findings: &mut Vec<Finding>,
) -> BTreeSet<ClusterName> {
    let (here, elsewhere): (Vec<_>, Vec<_>) = list.iter().partition(|cluster| known.contains(&cluster.value));
    if whole {
        findings.extend(elsewhere.into_iter().map(|cluster| not_in_mesh(cluster, known)));
    }
    here.into_iter().map(|cluster| cluster.value.clone()).collect()
}

/// Labels for the endpoint of a service in a cluster that has none.
fn not_run(cluster: &Located<ClusterName>, service: &Service, clusters: &BTreeSet<ClusterName>) -> Finding {
    let names: Vec<&str> = clusters.iter().map(ClusterName::as_str).collect();
    Finding {
        at: cluster.at.clone(),
        code: Code::NotInMesh,
        message: format!("{:?} is no cluster that runs {service}", cluster.value.as_str()),
        hint: format!("{} run it", names.join(", ")),
    }
}

fn not_in_mesh(cluster: &Located<ClusterName>, known: &BTreeSet<ClusterName>) -> Finding {
    let names: Vec<&str> = known.iter().map(ClusterName::as_str).collect();
    Finding {
        at: cluster.at.clone(),
        code: Code::NotInMesh,
        message: format!("cluster {:?} is not in the mesh", cluster.value.as_str()),
        hint: format!("the mesh has {}", names.join(", ")),
    }
}
