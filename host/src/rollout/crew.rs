//! The clusters of a rollout: what each is to have, what holds them for us, and the record that each has a copy of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::name::ClusterName;

use super::DryRun;
use super::agree::{self, Agreed, Apart};
use super::job::{Task, Wanted};
use super::lease::{Guard, Hold};
use super::machine::{Goal, State};
use super::record::{Copy, Record, Records, Said};
use super::rendered::Rendered;
use super::shelf::Shelf;
use super::target::{How, Target, Trouble};
use crate::kube::{Problem, many};

/// What is known of one cluster that can be had.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) target: Target,
    pub(super) shelf: Shelf,
    pub(super) hold: Hold,
    pub(super) copy: Copy,
    /// The revisions that it has whole, with the digests of their snapshots.
    pub(super) kept: BTreeMap<u64, String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) root: String,
    pub(super) how: How,
    /// Those that this rollout holds.
    pub(super) members: BTreeMap<ClusterName, Member>,
    /// Those that it only looks at: of a dry run.
    pub(super) seen: BTreeMap<ClusterName, Target>,
    /// Those that cannot be had; why.
    pub(super) out: BTreeMap<ClusterName, String>,
    /// What they are to have.
    pub(super) new: BTreeMap<ClusterName, Arc<Rendered>>,
    /// What they are brought away from.
    pub(super) left: BTreeMap<ClusterName, Arc<Rendered>>,
    /// Those whose new plans are tried first.
    pub(super) trying: BTreeSet<ClusterName>,
    pub(super) record: Option<Record>,
}

impl Crew {
    /// What the copies of those that it holds come to.
    pub(super) fn agreed(&self) -> Agreed {
        agree::agreed(self.members.iter().map(|(name, member)| (name, &member.copy)))
    }

    /// Lets those go that a rollout that is gone on with is none of.
    pub(super) async fn leave_out(&mut self, apart: &BTreeMap<ClusterName, Apart>, record: &Record) {
        for (name, apart) in apart {
            let keeps = |member: &Member| member.kept.contains_key(&record.revision);
            let Some(why) = apart.why(record, self.members.get(name).is_some_and(keeps)) else { continue };
            self.out.insert(name.clone(), format!("{name}: {why}"));
            if let Some(member) = self.members.remove(name) {
                member.hold.release().await;
            }
        }
    }

    pub(super) fn is_dry(&self) -> bool {
        self.how.dry_run != DryRun::No
    }

    /// What a cluster is to be brought to.
    pub(super) fn task(&self, cluster: &ClusterName, goal: Goal) -> Task {
        let member = self.members.get(cluster);
        let mut target =
            member.map(|member| member.target.clone()).or_else(|| self.seen.get(cluster).cloned());
        let mut why =
            self.out.get(cluster).cloned().unwrap_or_else(|| format!("{cluster}: nothing says where it is"));
        let new = || self.new.get(cluster).cloned();
        let kept = |number: u64| member.map(|member| Wanted::Revision(member.shelf.clone(), number));
        let record = self.record.as_ref();
        let (wanted, left) = match goal {
            Goal::New => {
                let kept = || kept(record?.revision);
                let wanted = new().map(Wanted::These).or_else(kept).unwrap_or(Wanted::Unknown);
                (wanted, self.left.get(cluster).cloned())
            }
            Goal::Old => {
                let before = record.and_then(|record| record.before.get(cluster).copied());
                // It could not be asked when the rollout began, so nothing was done there.
                if before.is_none() && target.take().is_some() {
                    why = format!(
                        "{cluster}: nobody knows what it had before, as it could not be reached then"
                    );
                }
                let wanted = match before {
                    // Before its first revision a cluster had nothing.
                    Some(None) => Wanted::These(Arc::default()),
                    Some(Some(number)) => kept(number).unwrap_or(Wanted::Unknown),
                    None => Wanted::Unknown,
                };
                (wanted, new())
            }
        };
        Task {
            cluster: cluster.clone(),
            target: target.ok_or(why),
            wanted,
            left,
            tries: goal == Goal::New && self.trying.contains(cluster),
            root: self.root.clone(),
            how: self.how,
            guard: member.map_or_else(Guard::none, |member| member.hold.guard()),
        }
    }

    /// Notes that a cluster has its filters.
    pub(super) fn has(&mut self, cluster: &ClusterName, goal: Goal) {
        let Some(record) = &self.record else { return };
        let at = match goal {
            Goal::New => Some(record.revision),
            Goal::Old => record.before.get(cluster).copied().flatten(),
        };
        if let Some(member) = self.members.get_mut(cluster) {
            member.copy.at = at;
        }
    }

    /// Keeps the record in every cluster that can be reached. Not one of them is an error, and so is one where somebody
    /// else wrote since: what they wrote holds.
    pub(super) async fn save(&mut self, state: &State) -> Result<(), Trouble> {
        let Some(record) = self.record.as_mut().filter(|_| self.how.dry_run == DryRun::No) else {
            return Ok(());
        };
        record.generation = record.generation.saturating_add(1);
        record.state = state.clone();
        let record = Arc::new(Said::of(record.clone())?);
        let writing = self.members.iter().filter(|(_, member)| member.hold.guard().holds());
        let writing = writing.map(|(name, member)| {
            let (name, shelf, mut copy) = (name.clone(), member.shelf.clone(), member.copy.clone());
            let record = Arc::clone(&record);
            async move {
                let written = write(&name, &shelf, &mut copy, &record).await;
                (name, copy, written)
            }
        });
        let written = many::bounded(writing.collect::<Vec<_>>(), self.how.parallel).await;
        let (mut kept, mut failed) = (self.members.is_empty(), None);
        for (name, copy, written) in written {
            match written {
                Ok(()) => kept = true,
                Err(lost @ Trouble::Lost { .. }) => return Err(lost),
                Err(trouble) => failed = Some(trouble),
            }
            if let Some(member) = self.members.get_mut(&name) {
                member.copy = copy;
            }
        }
        match failed {
            Some(trouble) if !kept => Err(trouble),
            _ => Ok(()),
        }
    }

    /// An error if somebody else has taken a cluster over.
    pub(super) fn is_still_ours(&self) -> Result<(), Trouble> {
        match self.members.iter().find(|(_, member)| member.hold.is_lost()) {
            Some((name, _)) => Err(Trouble::Lost { cluster: name.clone() }),
            None => Ok(()),
        }
    }

    /// Whether somebody wants it to stop where it is.
    pub(super) fn is_to_pause(&self) -> bool {
        self.members.values().any(|member| member.hold.is_to_pause())
    }

    /// Lets all clusters go.
    pub(super) async fn release(self) {
        let releasing = self.members.into_values().map(|member| member.hold.release());
        many::bounded(releasing, self.how.parallel).await;
    }
}

async fn write(name: &ClusterName, shelf: &Shelf, copy: &mut Copy, record: &Said) -> Result<(), Trouble> {
    match copy.write(shelf, record).await {
        Err(Trouble::Cluster(error)) if matches!(*error.problem, Problem::Changed { .. }) => {
            // It may be that we have, and did not hear of it.
            let there = Copy::read(shelf, &Records::default()).await?;
            if there.record.as_ref() != Some(&record.record) {
                return Err(Trouble::Lost { cluster: name.clone() });
            }
            *copy = there;
            Ok(())
        }
        written => written,
    }
}
