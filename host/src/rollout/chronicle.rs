//! What a cluster tells of rollouts to who only looks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::lease::{self, Holding};
use super::record::{Copy, Record};
use super::revision::{self, Revision};
use super::shelf::Shelf;
use super::{Target, Trouble};
use crate::proxies::Stamp;

/// What one cluster tells.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    /// Its copy of the record of the last rollout.
    pub record: Option<Record>,
    /// The revision that the copy says the cluster has.
    pub at: Option<u64>,
    /// The revisions that it keeps, the oldest first.
    pub kept: Vec<Revision>,
    /// Whether anybody holds it.
    pub held: Holding,
}

impl Chronicle {
    /// Reads what a cluster tells; `root` is Istio's namespace.
    pub async fn read(target: &Target, root: &str) -> Result<Self, Trouble> {
        let shelf = Shelf::new(target.clone(), root);
        let (copy, list, held) =
            tokio::try_join!(Copy::read(&shelf), shelf.list(), lease::holding(target, root))?;
        let kept = revision::listed(&list).into_iter().map(|(revision, _)| revision).collect();
        Ok(Self { record: copy.record, at: copy.at, kept, held })
    }

    /// The revision whose plans have this digest: the one that the cluster says it has, if it is one of them, or the last.
    pub fn with_plans(&self, digest: &str) -> Option<u64> {
        let same = || self.kept.iter().filter(|revision| revision.plans == digest);
        let said = same().find(|revision| Some(revision.number) == self.at);
        said.or_else(|| same().next_back()).map(|revision| revision.number)
    }

    /// The last revision that each of these plans is of, among those that are kept.
    pub async fn revisions_of(
        &self,
        mut plans: BTreeSet<Stamp>,
        target: &Target,
        root: &str,
    ) -> BTreeMap<Stamp, u64> {
        let shelf = Shelf::new(target.clone(), root);
        let mut found = BTreeMap::new();
        for Revision { number, .. } in self.kept.iter().rev() {
            if plans.is_empty() {
                break;
            }
            // What cannot be used names no plan.
            let Ok(Some(rendered)) = revision::read(&shelf, *number).await else { continue };
            let digest = |object: &Value| Stamp::of(object.pointer("/spec/pluginConfig/digest")?.as_str()?);
            for stamp in rendered.parts.iter().filter_map(|part| digest(&part.object)) {
                if plans.remove(&stamp) {
                    found.insert(stamp, *number);
                }
            }
        }
        found
    }
}
