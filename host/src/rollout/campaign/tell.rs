//! What can be told of rollouts without taking a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::name::ClusterName;

use super::{Campaign, Refused, Trouble};
use crate::kube::many;
use crate::rollout::chronicle::Last;
use crate::rollout::lease;
use crate::rollout::record::{Copy, Record, Records};
use crate::rollout::revision::{self, Revision};
use crate::rollout::shelf::Shelf;

/// How the last rollout stands.
#[derive(Debug)]
pub struct Standings {
    /// Its record, if any cluster knows one.
    pub record: Option<Record>,
    /// What clusters say of it that the others do not, and why that is not believed.
    pub apart: BTreeMap<ClusterName, String>,
    /// Which revision each cluster has, or why it cannot be known.
    pub clusters: BTreeMap<ClusterName, Result<Option<u64>, Trouble>>,
}

/// A revision that is kept, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number and where it comes from.
    pub revision: Revision,
    /// The clusters that keep it.
    pub in_clusters: Vec<ClusterName>,
    /// The clusters that have it now.
    pub at: Vec<ClusterName>,
}

impl Campaign<'_> {
    /// How the last rollout stands.
    pub async fn standings(self) -> Standings {
        let (root, records) = (self.root, Arc::<Records>::default());
        let reading = self.targets.into_iter().map(|(name, target)| {
            let (root, records) = (root.clone(), Arc::clone(&records));
            async move {
                let read = match target {
                    Ok(target) => Copy::read(&Shelf::new(target, &root), &records).await,
                    Err(error) => Err(error.into()),
                };
                (name, read)
            }
        });
        let read = many::bounded(reading.collect::<Vec<_>>(), self.how.parallel).await;
        let copies = read.iter().filter_map(|(name, copy)| Some((name, copy.as_ref().ok()?)));
        let Last { record, apart } = Last::by(copies);
        let clusters = read.into_iter().map(|(name, copy)| (name, copy.map(|copy| copy.at)));
        Standings { record, apart, clusters: clusters.collect() }
    }

    /// The revisions that are kept, the oldest first, and why some clusters could not be asked.
    pub async fn history(self) -> (Vec<Kept>, Vec<Trouble>) {
        let (root, records) = (self.root, Arc::<Records>::default());
        let reading = self.targets.into_iter().map(|(name, target)| {
            let (root, records) = (root.clone(), Arc::clone(&records));
            async move {
                let shelf = Shelf::new(target?, &root);
                let at = Copy::read(&shelf, &records).await?.at;
                let list = shelf.list().await?;
                let revisions = revision::listed(&list).into_iter().map(|(revision, _)| revision);
                Ok::<_, Trouble>((name, at, revisions.collect::<Vec<_>>()))
            }
        });
        let read = many::bounded(reading.collect::<Vec<_>>(), self.how.parallel).await;
        let (mut history, mut troubles) = (BTreeMap::new(), Vec::new());
        for read in read {
            let (name, at, revisions) = match read {
                Ok(read) => read,
                Err(trouble) => {
                    troubles.push(trouble);
                    continue;
                }
            };
            for revision in revisions {
                let number = revision.number;
                // What one cluster says of a revision is not said of those of others.
                let said = (number, revision.origin.clone());
                let kept: &mut Kept =
                    history.entry(said).or_insert(Kept { revision, in_clusters: Vec::new(), at: Vec::new() });
                kept.in_clusters.push(name.clone());
                if at == Some(number) {
                    kept.at.push(name.clone());
                }
            }
        }
        (history.into_values().collect(), troubles)
    }

    /// Asks whoever rolls out to stop where they are; the clusters where somebody was asked.
    pub async fn pause(self) -> Result<Vec<ClusterName>, Refused> {
        let root = self.root;
        let asking = self.targets.into_iter().map(|(name, target)| {
            let root = root.clone();
            async move { Ok::<_, Trouble>((name, lease::ask_to_pause(&target?, &root, None).await?)) }
        });
        let asked = many::bounded(asking.collect::<Vec<_>>(), self.how.parallel).await;
        let (mut names, mut trouble) = (Vec::new(), None);
        for asked in asked {
            match asked {
                Ok((name, true)) => names.push(name),
                Ok((_, false)) => {}
                Err(failed) => trouble = Some(failed),
            }
        }
        match trouble {
            Some(trouble) if names.is_empty() => Err(Refused::Stopped(trouble)),
            _ => Ok(names),
        }
    }
}
