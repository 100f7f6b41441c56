//! The one door from the text of a strategy to a [`Strategy`].

use std::collections::{BTreeMap, BTreeSet};

use policy::document::{self, Fields, Located, Node};
use policy::finding::{Code, Finding, Place};
use policy::mesh::{self, Mesh};
use policy::name::ClusterName;
use policy::pattern::Pattern;

use super::measure::{AtMost, Count, Share, Span, Trying};
use super::{APPLIED, Limits, Running, Selector, Strategy};
use crate::rollout::machine::{OnFailure, Wave};

/// A wave as it was written.
struct Draft {
    name: Located<String>,
    takes: Selector,
    at_once: Option<Count>,
    bake: Option<Span>,
    shadow: Option<Trying>,
    clusters: BTreeSet<ClusterName>,
}

pub(super) fn strategy(file: &str, text: &str, mesh: &Mesh) -> (Option<Strategy>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut documents = document::read(file, text, &mut findings).into_iter();
    let strategy = match documents.next() {
        Some(first) => document_of(first, mesh, &mut findings),
        None if findings.is_empty() => {
            findings.push(Finding {
                at: Place { file: file.into(), line: 1, column: 1, width: 1 },
                code: Code::MissingKey,
                message: "this file holds no document".to_owned(),
                hint: "a strategy is one document of kind RolloutStrategy".to_owned(),
            });
            None
        }
        None => None,
    };
    findings.extend(documents.map(|extra| Finding {
        at: extra.at,
        code: Code::Duplicate,
        message: "a second document in a strategy's file".to_owned(),
        hint: "a rollout has one strategy: put the other into a file of its own".to_owned(),
    }));
    findings.sort();
    (strategy, findings)
}

fn document_of(node: Node, mesh: &Mesh, findings: &mut Vec<Finding>) -> Option<Strategy> {
    let mut fields = Fields::open(node, "RolloutStrategy", findings)?;
    let kind = policy::expect_kind(&mut fields, "RolloutStrategy");
    let name = fields.optional_fields("metadata").and_then(|mut metadata| {
        let name = metadata.required_value::<String>("name");
        metadata.close();
        name
    });
    let spec = fields.required("spec").and_then(|spec| self::spec(spec, mesh, fields.findings()));
    fields.close();
    kind?;
    let name = name.map_or_else(|| "unnamed".to_owned(), |name| name.value);
    spec.map(|spec| Strategy { name, ..spec })
}

fn spec(node: Node, mesh: &Mesh, findings: &mut Vec<Finding>) -> Option<Strategy> {
    let mut spec = Fields::open(node, "spec", findings)?;
    let list = spec.required("waves").and_then(|node| document::list(node, "waves", spec.findings()));
    let at = list.as_ref().map_or_else(|| spec.at().clone(), |list| list.at.clone());
    let nodes = list.map(|list| list.value).unwrap_or_default();
    let count = nodes.len();
    let mut drafts: Vec<Draft> =
        nodes.into_iter().filter_map(|node| draft(node, mesh, spec.findings())).collect();
    let shadow = spec.optional_value::<Trying>("shadowFirst").map(|time| time.value);
    let tries = shadow.is_some() || drafts.iter().any(|draft| draft.shadow.is_some());
    let gates = spec.optional_fields("gates").map(|gates| limits(gates, tries));
    let mut gates = gates.unwrap_or_default();
    if tries {
        gates.trying();
    }
    let choices = [("Stop", OnFailure::Stop), ("Undo", OnFailure::Undo)];
    let on_failure = spec.optional_choice("onFailure", &choices).map_or(OnFailure::Stop, |found| found.value);
    spec.close();
    // A wave that could not be read would leave its clusters to none.
    if drafts.len() == count {
        deal(&mut drafts, mesh, &at, findings);
    }
    let waves = drafts.into_iter().map(|draft| Wave {
        name: draft.name.value,
        at_once: draft.at_once.map_or(draft.clusters.len(), |count| count.of(draft.clusters.len())),
        bake: draft.bake.map_or(0, |bake| bake.0.as_secs()),
        shadow: draft.shadow.or(shadow).map(|time| time.0.as_secs()),
        clusters: draft.clusters,
    });
    Some(Strategy { name: String::new(), waves: waves.collect(), gates, on_failure })
}

fn draft(node: Node, mesh: &Mesh, findings: &mut Vec<Finding>) -> Option<Draft> {
    let mut fields = Fields::open(node, "wave", findings)?;
    let at = fields.at().clone();
    let name = fields.required_value::<String>("name");
    let mut takes = Selector::default();
    let mut speaks = false;
    let said = [
        ("clusters", fields.optional_values::<Pattern>("clusters")),
        ("regions", fields.optional_values::<Pattern>("regions")),
        ("networks", fields.optional_values::<Pattern>("networks")),
    ];
    for (key, list) in said {
        for pattern in list.into_iter().flat_map(|list| list.value) {
            speaks = true;
            let is_of =
                |cluster: &mesh::Cluster| reads(key, cluster).is_some_and(|text| pattern.value.matches(text));
            if !mesh.clusters().any(is_of) {
                fields.findings().push(unknown(key, &pattern));
            }
            match key {
                "clusters" => takes.clusters.push(pattern.value),
                "regions" => takes.regions.push(pattern.value),
                _ => takes.networks.push(pattern.value),
            }
        }
    }
    if let Some(said) = fields.optional_fields("labels") {
        speaks = true;
        takes.labels = labels(said, mesh);
    }
    if !speaks {
        fields.findings().push(Finding {
            at,
            code: Code::MissingKey,
            message: "this wave has no clusters".to_owned(),
            hint: "name them by clusters:, regions:, networks: or labels:; clusters: [\"*\"] takes all that no other wave has"
                .to_owned(),
        });
    }
    let at_once = fields.optional_value::<Count>("maxUnavailable").map(|count| count.value);
    let bake = fields.optional_value::<Span>("bake").map(|bake| bake.value);
    let shadow = fields.optional_value::<Trying>("shadowFirst").map(|time| time.value);
    fields.close();
    Some(Draft { name: name?, takes, at_once, bake, shadow, clusters: BTreeSet::new() })
}

/// Labels that a cluster has to have, all of them.
fn labels(mut said: Fields<'_>, mesh: &Mesh) -> BTreeMap<String, Pattern> {
    let mut labels = BTreeMap::new();
    let at = said.at().clone();
    for (label, node) in said.rest() {
        let Some(pattern) = document::parse::<Pattern>(node, "a label", said.findings()) else { continue };
        labels.insert(label.text, pattern.value);
    }
    if labels.is_empty() || !mesh.clusters().any(|cluster| has_all(cluster, &labels)) {
        let words: Vec<String> = labels.iter().map(|(label, value)| format!("{label}: {value}")).collect();
        said.findings().push(Finding {
            at,
            code: Code::NotInMesh,
            message: format!("no cluster of the mesh has the labels {{{}}}", words.join(", ")),
            hint: "give a cluster of mesh.yaml these labels:, all of them, or take them out".to_owned(),
        });
    }
    labels
}

fn has_all(cluster: &mesh::Cluster, labels: &BTreeMap<String, Pattern>) -> bool {
    labels
        .iter()
        .all(|(label, pattern)| cluster.labels.get(label).is_some_and(|value| pattern.matches(value)))
}

/// What a pattern under a key is compared with.
fn reads<'c>(key: &str, cluster: &'c mesh::Cluster) -> Option<&'c str> {
    match key {
        "clusters" => Some(cluster.name.as_str()),
        "regions" => cluster.region.as_ref().map(|region| region.as_str()),
        _ => Some(cluster.network.as_str()),
    }
}

fn unknown(key: &str, pattern: &Located<Pattern>) -> Finding {
    let what = key.trim_end_matches('s');
    Finding {
        at: pattern.at.clone(),
        code: Code::NotInMesh,
        message: format!("no {what} of the mesh is {:?}", pattern.value.to_string()),
        hint: "write one of mesh.yaml, or take it out".to_owned(),
    }
}

/// Gives each cluster to its wave. One that several take, or none, is a finding; `*` takes what no other wave does.
fn deal(drafts: &mut [Draft], mesh: &Mesh, at: &Place, findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for draft in drafts.iter() {
        if let Some(line) = seen.insert(draft.name.value.clone(), draft.name.at.line) {
            findings.push(Finding {
                at: draft.name.at.clone(),
                code: Code::Duplicate,
                message: format!("wave {:?} stands twice", draft.name.value),
                hint: format!("the first is in line {line}; give this one another name"),
            });
        }
    }
    for cluster in mesh.clusters() {
        let exactly = |draft: &&mut Draft| draft.takes.takes(cluster);
        let mut by: Vec<&mut Draft> = drafts.iter_mut().filter(exactly).collect();
        if by.is_empty() {
            by = drafts.iter_mut().filter(|draft| draft.takes.takes_the_rest()).collect();
        }
        let names: Vec<String> = by.iter().map(|draft| format!("{:?}", draft.name.value)).collect();
        let finding = |code, at: &Place, message, hint: &str| Finding {
            at: at.clone(),
            code,
            message,
            hint: hint.to_owned(),
        };
        match by.as_mut_slice() {
            [one] => drop(one.clusters.insert(cluster.name.clone())),
            [] => findings.push(finding(
                Code::MissingKey,
                at,
                format!("cluster {} is in no wave", cluster.name),
                "add it to one, or clusters: [\"*\"] to the last, which takes all that are in no other",
            )),
            [_, second, ..] => findings.push(finding(
                Code::Duplicate,
                &second.name.at,
                format!("cluster {} is in waves {}", cluster.name, names.join(" and ")),
                "leave it in one of them",
            )),
        }
    }
}

impl Selector {
    /// Whether it takes a cluster by more than taking all.
    fn takes(&self, cluster: &mesh::Cluster) -> bool {
        let is = |patterns: &[Pattern], key: &str| {
            let matches = |pattern: &Pattern| {
                *pattern != Pattern::Any && reads(key, cluster).is_some_and(|text| pattern.matches(text))
            };
            patterns.iter().any(matches)
        };
        is(&self.clusters, "clusters")
            || is(&self.regions, "regions")
            || is(&self.networks, "networks")
            || !self.labels.is_empty() && has_all(cluster, &self.labels)
    }

    fn takes_the_rest(&self) -> bool {
        [&self.clusters, &self.regions, &self.networks]
            .iter()
            .any(|patterns| patterns.contains(&Pattern::Any))
    }
}

fn limits(mut gates: Fields<'_>, tries: bool) -> Limits {
    let applied = gates.optional_value::<Span>("applied").map_or(APPLIED, |within| within.value.0);
    let running = gates.optional_fields("running").and_then(|mut running| {
        let within = running.required_value::<Span>("within");
        let share = running.optional_value::<Share>("share").map_or(Share::ALL, |share| share.value);
        running.close();
        within.map(|within| Running { within: within.value.0, share })
    });
    let would_deny = gates.optional_value::<AtMost>("wouldDeny");
    if let Some(limit) = would_deny.as_ref().filter(|_| !tries) {
        gates.findings().push(Finding {
            at: limit.at.clone(),
            code: Code::MissingKey,
            message: "wouldDeny is asked of plans that are tried, and no wave has shadowFirst".to_owned(),
            hint: "say shadowFirst: 10m in a wave, or in spec for all of them, or take wouldDeny out"
                .to_owned(),
        });
    }
    let would_deny = would_deny.map(|limit| limit.value);
    let denials = gates.optional_value::<AtMost>("denials").map(|limit| limit.value);
    let errors = gates.optional_value::<AtMost>("errors").map(|limit| limit.value);
    let traps = gates.optional_value::<u64>("traps").map(|limit| limit.value);
    gates.close();
    Limits { applied, running, would_deny, denials, errors, traps }
}
