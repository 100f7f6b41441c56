//! What a rollout does next: a state, what has happened, and what to do about it. No IO and no clock.
//!
//! ```text
//! Subsets ─> [Shadow(0) ─> ShadowBake(0)] ─> Routes(0) ─> Filters(0) ─> Bake(0) ─> ... ─> RoutesGo ─> SubsetsGo ─> Ended
//!    ^ all     a few at                      wave's      a few at                             all         all
//!    │         a time, each with its gate    clusters    a time, each with its gate
//!    └──────────── begins again, towards what was before, when it is undone; and whenever it is resumed
//! ```
//!
//! A wave that tries its plans first has them judge and count beside those in force; no cluster of it goes on to its routes and
//! filters before that was watched there for its time.
//!
//! What a cluster has to do for a stage is not known here: whoever takes it there looks at what is there. So a stage
//! that was taken already costs nothing, and a rollout that was cut anywhere begins again at its first one.

mod step;

use std::collections::{BTreeMap, BTreeSet};

use policy::name::ClusterName;
use serde::{Deserialize, Serialize};

use super::steps::Phase;

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// Subsets come to all clusters.
    Subsets,
    /// New plans of a wave come to judge beside those in force, and their gates open.
    Shadow(usize),
    /// What they would refuse is watched for a time.
    ShadowBake(usize),
    /// Routes come to a wave.
    Routes(usize),
    /// Filters of a wave change, and its gates open.
    Filters(usize),
    /// A wave is watched for a time.
    Bake(usize),
    /// What no filter asks for any more goes.
    RoutesGo,
    /// What no route leads to any more goes.
    SubsetsGo,
    /// Nothing more is done by itself.
    Ended(End),
}

/// How a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum End {
    /// Every cluster has what it should have.
    Complete,
    /// Some could not be brought there.
    Incomplete,
    /// A gate failed, or too many clusters: it stopped where it was.
    Failed,
    /// Every cluster has what it had before.
    Undone,
}

impl Stage {
    /// How it ended, if it has.
    pub fn end(self) -> Option<End> {
        match self {
            Self::Ended(end) => Some(end),
            Self::Subsets
            | Self::Shadow(_)
            | Self::ShadowBake(_)
            | Self::Routes(_)
            | Self::Filters(_)
            | Self::Bake(_)
            | Self::RoutesGo
            | Self::SubsetsGo => None,
        }
    }

    /// In words, with the name of its wave.
    pub fn told(self, wave: Option<&str>) -> String {
        let wave = wave.unwrap_or_default();
        match self {
            Self::Subsets => "subsets come everywhere".to_owned(),
            Self::Shadow(_) => format!("wave {wave}: plans come in shadow"),
            Self::ShadowBake(_) => format!("wave {wave}: tried in shadow"),
            Self::Routes(_) => format!("wave {wave}: routes come"),
            Self::Filters(_) => format!("wave {wave}: filters change"),
            Self::Bake(_) => format!("wave {wave}: watched"),
            Self::RoutesGo => "old routes go everywhere".to_owned(),
            Self::SubsetsGo => "old subsets go everywhere".to_owned(),
            Self::Ended(end) => end.as_str().to_owned(),
        }
    }
}

impl End {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Undone => "undone",
        }
    }
}

/// What clusters are brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// What is rolled out.
    New,
    /// What was there before.
    Old,
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFailure {
    /// Everything stays where it is.
    #[default]
    Stop,
    /// What was touched goes back.
    Undo,
}

/// Clusters that change together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// Its name.
    pub name: String,
    /// Which.
    pub clusters: BTreeSet<ClusterName>,
    /// How many of them may be changing, waiting for their gates or behind at a time.
    pub at_once: usize,
    /// For how many seconds it is watched.
    pub bake: u64,
    /// For how many seconds its plans are tried in shadow before; `None`: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<u64>,
}

/// What a cluster is about in the stage that the rollout is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It has still to take its steps.
    Due,
    /// It is taking them.
    Taking,
    /// They are taken, and the gates are not open yet.
    AtGate,
    /// Nothing is left for it to do.
    Ready,
    /// It takes no more part; why.
    Behind(String),
}

/// Why a rollout failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where it was seen.
    pub cluster: ClusterName,
    /// What.
    pub why: String,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A rollout begins, or goes on after whatever stopped it.
    Begin,
    /// A cluster has taken its steps, and whether there were any.
    Taken(ClusterName, bool),
    /// Nothing of a cluster is to be tried: it has the plans that it should have.
    Spared(ClusterName),
    /// A cluster could not take them; why.
    Stuck(ClusterName, String),
    /// The gates of a cluster are open.
    Passed(ClusterName),
    /// A gate of a cluster says no; why.
    Refused(ClusterName, String),
    /// A wave was watched for its time.
    Baked,
    /// It should stop where it is, to go on later.
    Pause,
    /// What was touched should go back.
    Undo,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Keep the state, before anything else is done.
    Save,
    /// Have a cluster take its steps of a phase.
    Take(ClusterName, Phase),
    /// Ask the gates of a cluster.
    Look(ClusterName),
    /// Watch a wave.
    Watch(usize),
    /// Nothing is left to do.
    Rest,
}

/// A rollout, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    waves: Vec<Wave>,
    on_failure: OnFailure,
    goal: Goal,
    stage: Stage,
    clusters: BTreeMap<ClusterName, Standing>,
    /// Those whose filters are what they should be, and whose gates were open since.
    passed: BTreeSet<ClusterName>,
    /// Those whose new plans were tried for their time.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    tried: BTreeSet<ClusterName>,
    /// How many waves are over.
    over: usize,
    /// How many waves were begun.
    begun: usize,
    failure: Option<Failure>,
    paused: bool,
    /// Whether subsets may have gone already.
    pruned: bool,
}

impl State {
    /// A rollout to come.
    pub fn new(waves: Vec<Wave>, on_failure: OnFailure) -> Self {
        let names = waves.iter().flat_map(|wave| &wave.clusters);
        Self {
            clusters: names.map(|name| (name.clone(), Standing::Due)).collect(),
            waves,
            on_failure,
            goal: Goal::New,
            stage: Stage::Subsets,
            passed: BTreeSet::new(),
            tried: BTreeSet::new(),
            over: 0,
            begun: 0,
            failure: None,
            paused: false,
            pruned: false,
        }
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What it brings clusters to.
    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Its waves; of one that is undone, one with all that it had begun to change.
    pub fn waves(&self) -> &[Wave] {
        &self.waves
    }

    /// The wave that its stage is of, if it is one's.
    pub fn wave(&self) -> Option<&Wave> {
        match self.stage {
            Stage::Shadow(wave)
            | Stage::ShadowBake(wave)
            | Stage::Routes(wave)
            | Stage::Filters(wave)
            | Stage::Bake(wave) => self.waves.get(wave),
            Stage::Subsets | Stage::RoutesGo | Stage::SubsetsGo | Stage::Ended(_) => None,
        }
    }

    /// What each cluster is about.
    pub fn clusters(&self) -> &BTreeMap<ClusterName, Standing> {
        &self.clusters
    }

    /// Whether a cluster has its filters, and its gates were open since.
    pub fn has_passed(&self, cluster: &ClusterName) -> bool {
        self.passed.contains(cluster)
    }

    /// Whether its new plans are tried: they judge, and nothing is done by them.
    pub fn is_in_shadow(&self) -> bool {
        matches!(self.stage, Stage::Shadow(_) | Stage::ShadowBake(_))
    }

    /// The clusters of the wave whose gates have to stay open while it is watched.
    pub fn watched(&self) -> impl Iterator<Item = &ClusterName> {
        let wave = self.wave().into_iter().flat_map(|wave| &wave.clusters);
        wave.filter(|name| if self.is_in_shadow() { self.is_on_trial(name) } else { self.has_passed(name) })
    }

    /// Whether the gates of a cluster that tries its plans are open, and have not been for their time.
    fn is_on_trial(&self, cluster: &ClusterName) -> bool {
        self.clusters.get(cluster) == Some(&Standing::Ready) && !self.tried.contains(cluster)
    }

    /// Why it failed, if it has.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether it was told to stop where it is.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether a subset that is to come may be missing where nobody can look: one that was never told to go is there.
    pub fn may_lack_subsets(&self) -> bool {
        self.goal == Goal::New || self.pruned
    }

    /// Whether it goes through the same clusters in the same waves as another.
    pub fn is_of(&self, other: &Self) -> bool {
        self.waves == other.waves && self.on_failure == other.on_failure && self.goal == other.goal
    }

    /// Whether both may be one rollout at different times: with the waves that it has until it goes back.
    pub fn has_terms_of(&self, other: &Self) -> bool {
        self.goal != other.goal || self.waves == other.waves && self.on_failure == other.on_failure
    }

    /// Believes no more of what was reached than the copy of each cluster says of itself: a cluster has passed if its
    /// own copy says so, and a wave is over if all say so. What was begun is what any says.
    pub fn believe(&mut self, own: &BTreeMap<&ClusterName, &Self>) {
        let alike = || own.values().filter(|state| state.goal == self.goal);
        let over = alike().map(|state| state.over).min().unwrap_or_default();
        let begun = alike().map(|state| state.begun).max().unwrap_or_default();
        (self.over, self.begun) = (self.over.min(over), self.begun.max(begun));
        self.passed.retain(|name| own.get(name).is_none_or(|state| state.passed.contains(name)));
        self.tried.retain(|name| own.get(name).is_none_or(|state| state.tried.contains(name)));
        self.pruned |= own.values().any(|state| state.pruned);
    }

    /// Whether there is nothing to go on with.
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended(End::Complete | End::Undone))
    }
}

#[cfg(test)]
mod tests;
