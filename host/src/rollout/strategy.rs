//! How a change of plans goes through the clusters: a document of its own, which many rollouts may use.

mod measure;
mod read;

use std::collections::BTreeMap;
use std::time::Duration;

use policy::finding::{Finding, has_errors};
use policy::pattern::Pattern;
use policy::{Mesh, name::ClusterName};

use serde::{Deserialize, Serialize};

use super::machine::{OnFailure, Wave};
pub use measure::{AtMost, Count, MeasureError, Share, Span, Trying};

/// A `RolloutStrategy` that was read and fits the mesh: every cluster is in one wave.
#[derive(Debug, Clone, PartialEq)]
pub struct Strategy {
    /// Its name.
    pub name: String,
    /// Its waves, in order.
    pub waves: Vec<Wave>,
    /// What must hold in a cluster that has its filters.
    pub gates: Limits,
    /// What a failure leads to.
    pub on_failure: OnFailure,
}

/// What the gates of a rollout demand. What is not said is not asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Within what time all objects are as they were written.
    pub applied: Duration,
    /// Which share of the proxies runs the plan, within what time.
    pub running: Option<Running>,
    /// How many requests may be let on that a plan on trial would have denied.
    pub would_deny: Option<AtMost>,
    /// How many requests may be denied, beyond those of before.
    pub denials: Option<AtMost>,
    /// How many answers of 5xx there may be, beyond those of before.
    pub errors: Option<AtMost>,
    /// How often the module may trap.
    pub traps: Option<u64>,
}

/// What proxies have to run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Within what time.
    pub within: Duration,
    /// Which share of all proxies, those among them that do not answer.
    pub share: Share,
}

impl Default for Limits {
    fn default() -> Self {
        Self { applied: APPLIED, running: None, would_deny: None, denials: None, errors: None, traps: None }
    }
}

/// How long objects may take to be what was written, where nobody says otherwise.
const APPLIED: Duration = Duration::from_secs(60);

impl Limits {
    /// What of it proxies have to be asked for, as a strategy calls it.
    pub fn of_proxies(&self) -> Vec<&'static str> {
        let Self { applied: _, running, would_deny, denials, errors, traps } = self;
        let asked = [
            ("running", running.is_some()),
            ("wouldDeny", would_deny.is_some()),
            ("denials", denials.is_some()),
            ("errors", errors.is_some()),
            ("traps", traps.is_some()),
        ];
        asked.into_iter().filter_map(|(name, is_asked)| is_asked.then_some(name)).collect()
    }

    /// What holds where plans are tried and nothing else is said: every proxy tries them, and they would deny nothing that is
    /// let on.
    fn trying(&mut self) {
        self.running.get_or_insert(Running { within: RUNNING, share: Share::ALL });
        self.would_deny.get_or_insert(AtMost::Share(Share::NONE));
    }
}

/// How long proxies may take to try a plan, where nobody says otherwise.
const RUNNING: Duration = Duration::from_secs(300);

impl Strategy {
    /// All clusters in one wave, whoever is down.
    pub fn all_at_once<'c>(clusters: impl Iterator<Item = &'c ClusterName>) -> Self {
        let clusters: std::collections::BTreeSet<_> = clusters.cloned().collect();
        let at_once = clusters.len();
        Self {
            name: "all-at-once".to_owned(),
            waves: vec![Wave { name: "all".to_owned(), clusters, at_once, bake: 0, shadow: None }],
            gates: Limits::default(),
            on_failure: OnFailure::Stop,
        }
    }

    /// Reads the text of a strategy for a mesh; without errors among the findings there is one.
    pub fn read(file: &str, text: &str, mesh: &Mesh) -> (Option<Self>, Vec<Finding>) {
        let (strategy, findings) = read::strategy(file, text, mesh);
        (strategy.filter(|_| !has_errors(&findings)), findings)
    }
}

/// Which clusters a wave takes: those that one of the patterns takes, and those that have all of the labels.
#[derive(Debug, Default)]
struct Selector {
    clusters: Vec<Pattern>,
    regions: Vec<Pattern>,
    networks: Vec<Pattern>,
    labels: BTreeMap<String, Pattern>,
}

#[cfg(test)]
mod tests;
