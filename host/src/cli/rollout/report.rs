//! What is told of a rollout at its end.

use std::collections::BTreeMap;

use policy::meaning::Meaning;
use policy::name::ClusterName;
use serde_json::{Value, json};

use crate::cli::{Exit, Out, Output};
use crate::rollout::machine::{End, Stage, Wave};
use crate::rollout::{Outcome, Record, Refused, Report};
use crate::text::plain;

/// What was asked for.
#[derive(Default)]
pub(super) struct Said {
    pub(super) dry_run: bool,
    /// Whether it was to be undone.
    pub(super) undone_is_well: bool,
    /// The waves that a dry run shows.
    pub(super) waves: Vec<Wave>,
    /// What a dry run would have decided otherwise.
    pub(super) meaning: BTreeMap<ClusterName, Meaning>,
}

/// So many changes of a cluster are told; `isthmus diff` tells all.
const TOLD: usize = 5;

pub(super) fn tell(
    reported: Result<Report, Refused>,
    said: &Said,
    output: Output,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let report = match reported {
        Ok(report) => report,
        Err(refused) => return refusal(refused, out),
    };
    if output == Output::Json {
        let items: Vec<Value> = report.outcomes.iter().map(json).collect();
        let document = json!({
            "apiVersion": policy::API_VERSION,
            "kind": "Rollout",
            "dryRun": said.dry_run,
            "revision": report.record.as_ref().map(|record| record.revision),
            "id": report.record.as_ref().map(|record| &record.id),
            "end": report.record.as_ref().map(ended),
            "items": items,
            "meaning": said.meaning.iter().map(meant).collect::<Vec<_>>(),
        });
        // One line each, also of this one: it may come after events.
        out.print(&document.to_string());
    } else {
        text(&report, said, out);
    }
    Ok(exit(&report, said))
}

fn refusal(refused: Refused, out: &mut Out) -> anyhow::Result<Exit> {
    let exit = match &refused {
        Refused::Busy(_) => Exit::Busy,
        Refused::Paused { .. }
        | Refused::NoRollout
        | Refused::Over { .. }
        | Refused::NoEarlier
        | Refused::NoRevision(_)
        | Refused::Torn { .. }
        | Refused::LastNumber { .. } => Exit::No,
        Refused::Stopped(_) | Refused::Rollout(_) => return Err(refused.into()),
    };
    out.say(&format!("error: {refused}"));
    Ok(exit)
}

fn text(report: &Report, said: &Said, out: &mut Out) {
    if said.dry_run && said.waves.len() > 1 {
        for wave in &said.waves {
            let names: Vec<&str> = wave.clusters.iter().map(ClusterName::as_str).collect();
            let tried =
                wave.shadow.map_or_else(String::new, |time| format!(", tried in shadow for {time} s"));
            let bake = if wave.bake > 0 { format!(", watched for {} s", wave.bake) } else { String::new() };
            out.print(&format!(
                "wave {}: {}, {} at once{tried}{bake}",
                wave.name,
                names.join(" "),
                wave.at_once
            ));
        }
    }
    let would = if said.dry_run { "would be " } else { "" };
    for Outcome { change, trouble } in &report.outcomes {
        // What it should have had is kept where nobody can look.
        let plan = change.digest.get(..12).map_or_else(String::new, |short| format!("plan {short}, "));
        let counted = |items: &[String], what: &str| match items.len() {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        let removed = counted(&change.removed, &format!("{would}removed"));
        let left = counted(&change.left, "left until every cluster is done");
        let failed = if trouble.is_some() { ", not done" } else { "" };
        out.print(&format!(
            "{}: {plan}{} {would}written, {} unchanged{removed}{left}{failed}",
            change.cluster,
            change.written.len(),
            change.unchanged
        ));
        if said.dry_run {
            change.written.iter().for_each(|name| out.print(&format!("  + {name}")));
            change.removed.iter().for_each(|name| out.print(&format!("  - {name}")));
        }
    }
    for (cluster, Meaning { changes, untold }) in &said.meaning {
        changes.iter().take(TOLD).for_each(|change| out.print(&plain(&format!("{cluster}: {change}"))));
        let more = changes.len().saturating_sub(TOLD);
        if more + untold.len() > 0 {
            let untold = if untold.is_empty() { "" } else { " and what was not compared" };
            out.print(&format!(
                "{cluster}: {more} more changes in meaning{untold}: `isthmus diff` tells them"
            ));
        }
    }
    if let Some(record) = &report.record {
        out.print(&format!("revision {}: {}", record.revision, ended(record)));
        if let Some(failure) = record.state.failure() {
            out.say(&format!("error: {}: {}", failure.cluster, plain(&failure.why)));
        }
    }
    for trouble in report.outcomes.iter().filter_map(|outcome| outcome.trouble.as_ref()) {
        out.say(&format!("error: {trouble}"));
    }
}

/// How a rollout stands, in a word.
pub(super) fn ended(record: &Record) -> &'static str {
    match record.state.stage().end() {
        _ if record.state.is_paused() => "paused",
        Some(end) => end.as_str(),
        None => "under way",
    }
}

fn exit(report: &Report, said: &Said) -> Exit {
    let outcomes = &report.outcomes;
    let failed = outcomes.iter().filter(|outcome| outcome.trouble.is_some()).count();
    match report.record.as_ref().map(|record| record.state.stage()) {
        Some(Stage::Ended(End::Failed)) => Exit::No,
        Some(Stage::Ended(End::Undone)) if !said.undone_is_well => Exit::No,
        _ if report.record.as_ref().is_some_and(|record| record.state.is_paused()) => Exit::Partly,
        _ if failed == 0 => Exit::Yes,
        _ if failed < outcomes.len() => Exit::Partly,
        _ => Exit::Environment,
    }
}

fn meant((cluster, meaning): (&ClusterName, &Meaning)) -> Value {
    let changes: Vec<String> = meaning.changes.iter().map(ToString::to_string).collect();
    json!({"cluster": cluster.as_str(), "changes": changes, "notCompared": meaning.untold})
}

fn json(Outcome { change, trouble }: &Outcome) -> Value {
    json!({
        "cluster": change.cluster.as_str(),
        "digest": change.digest,
        "written": change.written,
        "removed": change.removed,
        "left": change.left,
        "unchanged": change.unchanged,
        "error": trouble.as_ref().map(ToString::to_string),
    })
}
