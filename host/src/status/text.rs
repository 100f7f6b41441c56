//! The status of clusters as a table, and below it what is not as it should be.

use time::OffsetDateTime;

use super::rollout::revision;
use super::{Condition, Drift, Found, Judged, Rollout, Runs, Status, Told};
use crate::rollout::State;
use crate::text::age;

/// How many things of a sort are listed of a cluster, unless all are asked for.
const LISTED: usize = 10;

const HEAD: [&str; 11] = [
    "CLUSTER",
    "STATUS",
    "WANTED",
    "APPLIED",
    "REVISION",
    "OBJECTS",
    "RUNNING",
    "DRIFT",
    "ISTIO",
    "KUBERNETES",
    "AGE",
];

/// The table; of what is not as it should be, all or the first few of each sort.
pub fn text(statuses: &[Status], now: OffsetDateTime, all: bool) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    let rollout = Rollout::of(statuses);
    rows.extend(statuses.iter().map(|status| row(status, rollout.as_ref(), now)));
    let mut out = table(&rows);
    out.extend(rollout.iter().flat_map(|rollout| rollout.lines(now)));
    for status in statuses {
        let mut lines = details(status, all);
        lines.extend(rollout.as_ref().and_then(|rollout| rollout.line_of(status)));
        out.extend(lines.into_iter().map(|line| format!("{}: {line}", status.cluster)));
    }
    out.join("\n")
}

fn table(rows: &[[String; HEAD.len()]]) -> Vec<String> {
    let widths: [usize; HEAD.len()] = std::array::from_fn(|column| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    });
    let line = |row: &[String; HEAD.len()]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(status: &Status, rollout: Option<&Rollout>, now: OffsetDateTime) -> [String; HEAD.len()] {
    let dash = || "-".to_owned();
    let condition = status.condition().as_str().to_owned();
    let (name, wanted) = (status.cluster.to_string(), short(&status.wanted));
    let Ok(found) = &status.found else {
        let rest = std::array::from_fn(|_| dash());
        let [a, b, c, d, e, f, g, h]: [String; 8] = rest;
        return [name, condition, wanted, a, b, c, d, e, f, g, h];
    };
    let objects = &found.standing.objects;
    let as_wanted = objects.iter().filter(|object| object.state == State::AsWanted).count();
    let running = found.running().map_or_else(|_| dash(), |(running, all)| format!("{running}/{all}"));
    let drifts = found.drifts(&status.wanted).len();
    [
        name,
        condition,
        wanted,
        found.standing.digest.as_deref().map_or_else(dash, short),
        revision(status, rollout),
        format!("{as_wanted}/{}", objects.len()),
        running,
        if drifts == 0 { dash() } else { drifts.to_string() },
        if found.istio.is_empty() { dash() } else { found.istio.join(",") },
        found.kubernetes.clone().unwrap_or_else(dash),
        found.changed.map_or_else(dash, |changed| age(now - changed)),
    ]
}

/// What is not as it should be, a line each.
fn details(status: &Status, all: bool) -> Vec<String> {
    let found = match &status.found {
        Ok(found) => found,
        Err(why) => return vec![why.clone()],
    };
    let limit = if all { usize::MAX } else { LISTED };
    let mut lines = few(found.drifts(&status.wanted).iter().map(drift), limit, "object");
    // Where nothing is, there is no need to list all that is not.
    if found.standing.digest.is_some() {
        lines.extend(few(objects(found), limit, "object"));
    }
    match &found.proxies {
        Err(why) if status.condition() == Condition::Unproven => lines.push(format!("proxies: {why}")),
        Err(_) => {}
        Ok(proxies) => {
            let told = found.told.as_ref().ok();
            lines.extend(few(proxies.iter().filter_map(|judged| proxy(judged, told)), limit, "proxy"));
        }
    }
    if let Err(why) = &found.told {
        lines.push(format!("rollouts: {why}"));
    }
    lines
}

/// The first of these, and how many more there are.
fn few(lines: impl Iterator<Item = String>, limit: usize, what: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    let more = lines.len().saturating_sub(limit);
    if more > 0 {
        lines.truncate(limit);
        lines.push(format!("and {more} more of this sort ({what}): --all lists them, and so does -o json"));
    }
    lines
}

fn drift(drift: &Drift) -> String {
    if drift.edits.is_empty() {
        return format!("{} lacks what was rolled out: somebody has removed it", drift.object);
    }
    let by = |edit: &super::Edit| {
        let when = edit.time.as_deref().map(|time| format!(" at {time}")).unwrap_or_default();
        format!("{:?} wrote {}{when}", edit.manager, edit.fields.join(", "))
    };
    format!("{}: {}", drift.object, drift.edits.iter().map(by).collect::<Vec<_>>().join("; "))
}

fn objects(found: &Found) -> impl Iterator<Item = String> {
    found.standing.objects.iter().filter_map(|object| match object.state {
        State::AsWanted => None,
        State::Differs => Some(format!("{} is not as wanted", object.name)),
        State::Missing => Some(format!("{} is not there", object.name)),
        State::Unwanted => Some(format!("{} is wanted no more", object.name)),
    })
}

fn proxy(judged: &Judged, told: Option<&Told>) -> Option<String> {
    let what = match &judged.runs {
        Runs::Wanted => return None,
        Runs::Other { role, stamp, applied } => {
            let known = if *applied { ", as applied" } else { ", which is neither wanted nor applied" };
            let of = told.and_then(|told| told.running.get(stamp));
            let of = of.map(|number| format!(", of revision {number}")).unwrap_or_default();
            format!("runs {stamp} at {}{of}{known}", role.as_str())
        }
        Runs::Lacks(role) => format!("has no isthmus-{}", role.as_str()),
        Runs::Nothing => "does not run the filter".to_owned(),
        Runs::Silent(why) => format!("does not say what it runs: {why}"),
    };
    Some(format!("{} {what}", judged.proxy.name))
}

/// As much of a digest as people compare.
fn short(digest: &str) -> String {
    digest.get(..12).unwrap_or(digest).to_owned()
}
