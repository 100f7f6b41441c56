//! How the last rollout stands, by what all clusters tell of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::name::ClusterName;
use serde_json::{Value, json as value};
use time::{Duration, OffsetDateTime};

use super::Status;
use crate::proxies::Stamp;
use crate::rollout::machine::{End, Goal, Stage, Standing as At};
use crate::rollout::{Chronicle, Held, Holding, Last, Record};
use crate::text::{age, plain};

/// What a cluster tells of rollouts.
#[derive(Debug, Clone)]
pub struct Told {
    /// The cluster that has its objects: itself, or its control plane's.
    pub primary: ClusterName,
    /// What that one keeps.
    pub chronicle: Arc<Chronicle>,
    /// The revision that the objects there are, as far as their plans tell it: none, where they are of several.
    pub applied: Option<u64>,
    /// The revision that is what the policies here come to, if one is kept.
    pub wanted: Option<u64>,
    /// The revisions of those plans that proxies run although others are wanted.
    pub running: Arc<BTreeMap<Stamp, u64>>,
}

/// The last rollout.
#[derive(Debug)]
pub struct Rollout {
    record: Record,
    /// Clusters that say something else of it, and why that is not believed.
    apart: BTreeMap<ClusterName, String>,
    held: Holding,
}

/// Who is at work.
#[derive(Debug, PartialEq, Eq)]
enum Work<'r> {
    /// Nobody needs to be.
    Over,
    /// They are, or it was not long ago that they were.
    Somebody(&'r Held),
    /// They were, and have not been heard of for longer than they said they would hold on.
    Silent(&'r Held, Duration),
    /// Their clock is ahead of ours by more than that, so when they were heard of last nobody can tell.
    Ahead(&'r Held, Duration),
    /// Nobody is.
    Nobody,
    /// Nobody can tell.
    Unknown,
}

impl Rollout {
    /// The rollout that all copies tell of together.
    pub fn of(statuses: &[Status]) -> Option<Self> {
        let told = || statuses.iter().filter_map(|status| told(status));
        let Last { record, apart } = Last::of(told().map(|told| (&told.primary, &*told.chronicle)));
        let record = record?;
        let holding = told().map(|told| &told.chronicle.held);
        let held = holding.max_by_key(|held| match held {
            Holding::Unknown => (0, None),
            Holding::Nobody => (1, None),
            Holding::Somebody(held) => (2, held.renewed),
        });
        Some(Self { record, apart, held: held.cloned().unwrap_or_default() })
    }

    fn work(&self, now: OffsetDateTime) -> Work<'_> {
        let state = &self.record.state;
        if state.is_paused() || matches!(state.stage(), Stage::Ended(_)) {
            return Work::Over;
        }
        match &self.held {
            Holding::Unknown => Work::Unknown,
            Holding::Nobody => Work::Nobody,
            // To look at all the others took time as well.
            Holding::Somebody(held) => {
                match held.renewed.map(|renewed| now - held.seen.elapsed() - renewed) {
                    Some(silent) if silent > held.time => Work::Silent(held, silent),
                    Some(silent) if -silent > held.time => Work::Ahead(held, -silent),
                    Some(_) | None => Work::Somebody(held),
                }
            }
        }
    }

    /// The revision that it brings a cluster to.
    pub(super) fn brings(&self, cluster: &ClusterName) -> Option<u64> {
        let known = self.record.state.clusters().contains_key(cluster);
        match self.record.state.goal() {
            Goal::New => known.then_some(self.record.revision),
            Goal::Old => self.record.before.get(cluster).copied().flatten(),
        }
    }

    /// Why a cluster takes no more part in it.
    fn behind(&self, cluster: &ClusterName) -> Option<&str> {
        match self.record.state.clusters().get(cluster)? {
            At::Behind(why) => Some(why),
            At::Due | At::Taking | At::AtGate | At::Ready => None,
        }
    }

    /// What is to be said of it; nothing of one that is complete.
    pub(super) fn lines(&self, now: OffsetDateTime) -> Vec<String> {
        let Record { revision, origin, state, .. } = &self.record;
        let begun = format!("begun by {} at {}", plain(&origin.author), plain(&origin.time));
        let wave = state.wave().map(|wave| plain(&wave.name));
        let stage = state.stage().told(wave.as_deref());
        let goes = match state.goal() {
            Goal::New => "",
            Goal::Old => ", which goes back,",
        };
        let on = "`isthmus rollout resume` goes on";
        let back = if state.goal() == Goal::New { ", `isthmus rollout undo` goes back" } else { "" };
        let line = match (state.stage(), self.work(now)) {
            (Stage::Ended(End::Complete), _) => return Vec::new(),
            (Stage::Ended(End::Undone), _) => format!("was undone: {begun}"),
            (Stage::Ended(end), _) => format!("is {}: {begun}: {on}{back}", end.as_str()),
            (_, Work::Over) => format!("is paused: {stage}; {begun}: {on}{back}"),
            (_, Work::Somebody(held)) => format!("is under way: {stage}; {begun}; {} is at work", held.by),
            (_, Work::Silent(held, silent)) => format!(
                "is under way: {stage}; {begun}; {}, who was at work, said so last {} ago by their own clock, and may have died: {on} then{back}",
                held.by,
                age(silent)
            ),
            (_, Work::Ahead(held, ahead)) => format!(
                "is under way: {stage}; {begun}; {}, whose clock is {} ahead of this one, is at work or has died: {on} in that case{back}",
                held.by,
                age(ahead)
            ),
            (_, Work::Nobody) => {
                format!("stands still: {stage}; {begun}; nobody is at work any more: {on}{back}")
            }
            (_, Work::Unknown) => {
                format!("is not over: {stage}; {begun}: unless somebody is at work, {on}{back}")
            }
        };
        let mut lines = vec![format!("the rollout of revision {revision}{goes} {line}")];
        if let Some(failure) = state.failure() {
            lines.push(format!("{}: it failed here: {}", failure.cluster, plain(&failure.why)));
        }
        lines
    }

    /// What is to be said of it for one cluster.
    pub(super) fn line_of(&self, status: &Status) -> Option<String> {
        let told = told(status)?;
        if let Some(why) = self.apart.get(&told.primary) {
            return Some(plain(why));
        }
        let failed = self.record.state.failure().is_some_and(|failure| failure.cluster == status.cluster);
        let why = self.behind(&told.primary).filter(|_| !failed)?;
        Some(format!("takes no more part in the rollout: {}", plain(why)))
    }

    /// The same for programs.
    pub(super) fn json(&self, now: OffsetDateTime) -> Value {
        let Record { revision, id, origin, strategy, state, .. } = &self.record;
        let (word, held) = match self.work(now) {
            Work::Over if state.is_paused() => ("paused", None),
            Work::Over => (self.ended(), None),
            Work::Somebody(held) => ("underWay", Some(held)),
            Work::Silent(held, _) => ("silent", Some(held)),
            Work::Ahead(held, _) => ("unknown", Some(held)),
            Work::Nobody => ("abandoned", None),
            Work::Unknown => ("unknown", None),
        };
        let behind = state
            .clusters()
            .keys()
            .filter_map(|name| Some(value!({"cluster": name.as_str(), "why": self.behind(name)?})));
        value!({
            "revision": revision,
            "id": id,
            "state": word,
            "stage": state.stage().told(state.wave().map(|wave| wave.name.as_str())),
            "wave": state.wave().map(|wave| &wave.name),
            "goesBack": state.goal() == Goal::Old,
            "strategy": strategy,
            "origin": origin,
            "holder": held.map(|held| value!({
                "name": held.by,
                "renewed": held.renewed.map(OffsetDateTime::unix_timestamp),
                "leaseSeconds": held.time.as_secs(),
            })),
            "failure": state.failure(),
            "behind": behind.collect::<Vec<_>>(),
            "apart": self.apart.iter().map(|(name, why)| (name.to_string(), why.as_str().into())).collect::<serde_json::Map<_, Value>>(),
        })
    }

    fn ended(&self) -> &'static str {
        self.record.state.stage().end().map_or("unknown", End::as_str)
    }
}

/// What a cluster tells.
pub(super) fn told(status: &Status) -> Option<&Told> {
    status.found.as_ref().ok()?.told.as_ref().ok()
}

/// The revision of a cluster as a table has it: what it is at, and what the rollout brings it to, where that is another.
pub(super) fn revision(status: &Status, rollout: Option<&Rollout>) -> String {
    let Some(told) = told(status) else { return "-".to_owned() };
    let has_some = status.found.as_ref().is_ok_and(|found| found.standing.digest.is_some());
    let unknown = if has_some && !told.chronicle.kept.is_empty() { "?" } else { "-" };
    let at = told.applied.map_or_else(|| unknown.to_owned(), |at| at.to_string());
    match rollout.and_then(|rollout| rollout.brings(&told.primary)) {
        Some(to) if Some(to) != told.applied => format!("{at}->{to}"),
        Some(_) | None => at,
    }
}
