//! How clusters are taken before a rollout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::name::ClusterName;

use super::{Campaign, Crew, DryRun, Refused};
use crate::kube::many;
use crate::rollout::crew::Member;
use crate::rollout::lease::{self, Hold, Holder};
use crate::rollout::record::{Copy, Records};
use crate::rollout::revision;
use crate::rollout::shelf::Shelf;
use crate::rollout::target::{Target, Trouble};

impl Campaign<'_> {
    /// Nobody yet.
    pub(super) fn crew(&self) -> Crew {
        Crew {
            root: self.root.clone(),
            how: self.how,
            members: BTreeMap::new(),
            seen: BTreeMap::new(),
            out: BTreeMap::new(),
            new: BTreeMap::new(),
            left: BTreeMap::new(),
            trying: BTreeSet::new(),
            record: None,
        }
    }

    /// Takes all clusters that can be had: the first by name alone, so that of two rollouts one has none; then the
    /// others. One that somebody else has is an error, and no cluster is kept then. What only pretends takes none, and keeps
    /// nobody from anything.
    pub(super) async fn open(&self, names: BTreeSet<ClusterName>) -> Result<Crew, Refused> {
        let mut crew = self.crew();
        let mut rest = Vec::new();
        for name in names {
            match self.targets.get(&name) {
                Some(Ok(target)) => rest.push((name, target.clone())),
                Some(Err(error)) => drop(crew.out.insert(name, error.to_string())),
                None => {}
            }
        }
        let records = Arc::default();
        let take = |(name, target)| {
            let holder = (self.how.dry_run == DryRun::No).then(|| self.holder.clone());
            member(name, target, (self.root.clone(), holder), Arc::clone(&records))
        };
        let mut rest = rest.into_iter();
        while crew.members.is_empty()
            && let Some(next) = rest.next()
        {
            let came = take(next).await;
            crew = admit(crew, vec![came]).await?;
        }
        let came = many::bounded(rest.map(take).collect::<Vec<_>>(), self.how.parallel).await;
        admit(crew, came).await
    }
}

/// A cluster that was taken, with what it knows of rollouts.
async fn member(
    name: ClusterName,
    target: Target,
    (root, holder): (String, Option<Holder>),
    records: Arc<Records>,
) -> (ClusterName, Result<Member, Trouble>) {
    let taken = match holder {
        Some(holder) => lease::take(&name, &target, &root, &holder).await,
        None => Ok(Hold::Nothing),
    };
    let hold = match taken {
        Ok(hold) => hold,
        Err(trouble) => return (name, Err(trouble)),
    };
    let shelf = Shelf::new(target.clone(), &root);
    let read = async {
        let copy = Copy::read(&shelf, &records).await?;
        let list = shelf.list().await?;
        let kept =
            revision::listed(&list).into_iter().map(|(revision, _)| (revision.number, revision.digest));
        Ok::<_, Trouble>((copy, kept.collect()))
    };
    match read.await {
        Ok((copy, kept)) => (name, Ok(Member { target, shelf, hold, copy, kept })),
        Err(trouble) => {
            hold.release().await;
            (name, Err(trouble))
        }
    }
}

async fn admit(mut crew: Crew, came: Vec<(ClusterName, Result<Member, Trouble>)>) -> Result<Crew, Refused> {
    let mut busy = None;
    for (name, member) in came {
        match member {
            Ok(member) => drop(crew.members.insert(name, member)),
            Err(trouble @ (Trouble::Held { .. } | Trouble::Locked { .. })) => {
                busy.get_or_insert(trouble);
            }
            Err(trouble) => drop(crew.out.insert(name, trouble.to_string())),
        }
    }
    match busy {
        None => Ok(crew),
        Some(trouble) => {
            crew.release().await;
            Err(Refused::Busy(trouble))
        }
    }
}
