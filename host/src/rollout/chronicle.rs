//! What a cluster tells of rollouts to who only looks.

use std::collections::{BTreeMap, BTreeSet};

use policy::name::ClusterName;
use serde_json::Value;

use super::agree::{Agreed, agreed};
use super::lease::{self, Holding};
use super::record::{Copy, Record, Records};
use super::revision::{self, Revision};
use super::shelf::Shelf;
use super::{Target, Trouble};
use crate::plugin;
use crate::proxies::Stamp;

/// What one cluster tells.
#[derive(Debug, Clone, Default)]
pub struct Chronicle {
    /// Its copy of the record of the last rollout, and the revision that it has by that.
    copy: Copy,
    /// The revisions that it keeps, the oldest first.
    pub kept: Vec<Revision>,
    /// Whether anybody holds it.
    pub held: Holding,
}

/// What the clusters say of the last rollout, together.
#[derive(Debug, Clone, Default)]
pub struct Last {
    /// The record that holds.
    pub record: Option<Record>,
    /// What clusters say of it that the others do not, and why that is not believed.
    pub apart: BTreeMap<ClusterName, String>,
}

impl Last {
    /// By what each cluster tells.
    pub fn of<'c>(told: impl Iterator<Item = (&'c ClusterName, &'c Chronicle)>) -> Self {
        Self::by(told.map(|(name, chronicle)| (name, &chronicle.copy)))
    }

    /// By the copy of each cluster.
    pub(super) fn by<'c>(copies: impl Iterator<Item = (&'c ClusterName, &'c Copy)>) -> Self {
        let Agreed { record, apart, .. } = agreed(copies);
        let apart = apart.into_iter().filter_map(|(name, apart)| {
            // One that was not told has the revision that it has, which is told.
            Some((name, apart.why(record.as_ref()?, true)?))
        });
        let apart = apart.collect();
        Self { record, apart }
    }
}

impl Chronicle {
    /// What a cluster would tell.
    #[cfg(test)]
    pub(crate) fn of(record: Record, at: u64, kept: Vec<Revision>, held: Holding) -> Self {
        Self { copy: Copy::said(Some(record), Some(at)), kept, held }
    }

    /// The revision that the cluster says it has.
    pub fn at(&self) -> Option<u64> {
        self.copy.at
    }

    /// Reads what a cluster tells; `root` is Istio's namespace, and `records` those that other clusters have told already.
    pub async fn read(target: &Target, root: &str, records: &Records) -> Result<Self, Trouble> {
        let shelf = Shelf::new(target.clone(), root);
        let (copy, list, held) =
            tokio::try_join!(Copy::read(&shelf, records), shelf.list(), lease::holding(target, root))?;
        let kept = revision::listed(&list).into_iter().map(|(revision, _)| revision).collect();
        Ok(Self { copy, kept, held })
    }

    /// The revision whose plans have this digest: the one that the cluster says it has, if it is one of them, or the last.
    pub fn with_plans(&self, digest: &str) -> Option<u64> {
        let same = || self.kept.iter().filter(|revision| revision.plans == digest);
        let said = same().find(|revision| Some(revision.number) == self.copy.at);
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
            let digest = |object: &Value| Stamp::of(plugin::configured(object)?.get("digest")?.as_str()?);
            for stamp in rendered.parts.iter().filter_map(|part| digest(&part.object.open())) {
                if plans.remove(&stamp) {
                    found.insert(stamp, *number);
                }
            }
        }
        found
    }
}
