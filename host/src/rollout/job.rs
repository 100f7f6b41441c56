//! One cluster on its way to what it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::name::ClusterName;
use serde_json::Value;

use super::lease::Guard;
use super::packed::Packed;
use super::rendered::{Part, Rendered, Sort};
use super::shelf::Shelf;
use super::steps::{self, Phase, Step};
use super::target::{DryRun, How, Target, Trouble};
use super::{Change, directory, live, revision, shadow};
use crate::kube::Apply;

/// What a cluster should have.
#[derive(Debug, Clone)]
pub(super) enum Wanted {
    /// This.
    These(Arc<Rendered>),
    /// What it had at a revision.
    Revision(Shelf, u64),
    /// Nobody knows: it is kept in the cluster, which cannot be had.
    Unknown,
}

/// What a job is to bring a cluster to.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) cluster: ClusterName,
    /// Where it is, or why it cannot be had.
    pub(super) target: Result<Target, String>,
    pub(super) wanted: Wanted,
    /// What it is brought away from, where no name tells that to be ours.
    pub(super) left: Option<Arc<Rendered>>,
    /// Whether its new plans are tried first.
    pub(super) tries: bool,
    pub(super) root: String,
    pub(super) how: How,
    pub(super) guard: Guard,
}

impl Wanted {
    async fn rendered(self, cluster: &ClusterName) -> Result<Arc<Rendered>, Trouble> {
        match self {
            Self::These(rendered) => Ok(rendered),
            Self::Unknown => Err(Trouble::Before(format!("{cluster}: nobody knows what it should have"))),
            Self::Revision(shelf, number) => match revision::read(&shelf, number).await? {
                Some(rendered) => Ok(Arc::new(rendered)),
                None => Err(Trouble::NoRevision { cluster: cluster.clone(), number }),
            },
        }
    }
}

/// A cluster on its way.
pub(super) struct Job {
    pub(super) target: Option<Target>,
    pub(super) how: How,
    pub(super) there: BTreeMap<String, Packed>,
    /// What is still to be done.
    pub(super) steps: Vec<(Phase, Step)>,
    pub(super) change: Change,
    pub(super) trouble: Option<Trouble>,
    /// All that should be there in the end.
    pub(super) wanted: Arc<Rendered>,
    /// Whether nobody knows what that is.
    is_unknown: bool,
    /// The plugins that should be there while new plans are tried.
    staged: Arc<Rendered>,
    tries: bool,
    /// Whether it was waited before plugins of another kind go.
    settled: bool,
    root: String,
    guard: Guard,
}

impl Job {
    /// Looks at what is there, and finds out what is to be done.
    pub(super) async fn start(task: Task) -> Self {
        let Task { cluster, target, wanted, left, tries, root, how, guard } = task;
        let (wanted, unknown) = match wanted.rendered(&cluster).await {
            Ok(wanted) => (wanted, None),
            Err(trouble) => (Arc::default(), Some(trouble)),
        };
        let mut job = Self {
            target: None,
            how,
            there: BTreeMap::new(),
            steps: Vec::new(),
            change: Change::new(&cluster, wanted.digest.clone()),
            trouble: None,
            wanted,
            is_unknown: unknown.is_some(),
            staged: Arc::default(),
            tries,
            settled: false,
            root,
            guard,
        };
        let left: &[Part] = left.as_ref().map_or(&[], |left| &left.parts);
        let looked = match (unknown, target) {
            (_, Err(why)) => Err(Trouble::Before(why)),
            (Some(trouble), Ok(_)) => Err(trouble),
            (None, Ok(target)) => {
                let all: Vec<Part> = job.wanted.parts.iter().chain(left).cloned().collect();
                let mut looked = look(&target, &job.root, &all).await;
                if let (Ok(there), Target::Cluster(server)) = (&looked, &target)
                    && let Err(error) = live::reads(server, there, &job.wanted.parts).await
                {
                    looked = Err(error.into());
                }
                job.target = Some(target);
                looked
            }
        };
        job.plan(looked, left);
        job
    }

    fn plan(&mut self, looked: Result<BTreeMap<String, Value>, Trouble>, left: &[Part]) {
        let parts = self.wanted.parts.clone();
        match looked {
            // Nobody knows what is there, so all of it is to be done.
            Err(trouble) => {
                (self.steps, _) = steps::steps(&BTreeMap::new(), parts, |_, _| false);
                self.trouble = Some(trouble);
            }
            Ok(there) => {
                let files: BTreeSet<String> = parts.iter().map(|part| part.file.clone()).collect();
                (self.steps, self.change.unchanged) = steps::steps(&there, parts, self.holds());
                self.steps.extend(steps::leave(&there, &files, left));
                if self.tries {
                    self.stage(&there);
                }
                self.steps.sort_by_key(|(phase, _)| *phase);
                self.there = there.iter().map(|(file, seen)| (file.clone(), Packed::of(seen))).collect();
            }
        }
    }

    /// What is to be done so that new plans are tried. What cannot be tried is not done either.
    fn stage(&mut self, there: &BTreeMap<String, Value>) {
        let staged = shadow::staged(there, &self.wanted.parts, (&self.change.cluster, &self.root));
        let parts = match staged {
            Ok(parts) => parts,
            Err(trouble) => return self.trouble = Some(trouble),
        };
        let holds = self.holds();
        let is_due =
            |part: &&Part| !there.get(&part.file).is_some_and(|there| holds(there, &part.object.open()));
        let steps = parts.iter().filter(is_due);
        let steps = steps.map(|part| (Phase::Shadow, Step::Write(part.file.clone(), part.object.clone())));
        self.steps.extend(steps);
        self.staged = Arc::new(Rendered { digest: self.wanted.digest.clone(), parts });
    }

    /// Whether any new plan is tried here.
    pub(super) fn has_trials(&self) -> bool {
        shadow::tries(&self.staged.parts)
    }

    /// All that should be there: in the end, or while new plans are tried.
    pub(super) fn expected(&self, in_shadow: bool) -> &Arc<Rendered> {
        if in_shadow { &self.staged } else { &self.wanted }
    }

    fn holds(&self) -> fn(&Value, &Value) -> bool {
        match self.target {
            Some(Target::Cluster(_)) => live::holds,
            Some(Target::Directory(_)) | None => |there, wanted| there == wanted,
        }
    }

    /// Takes the steps of a phase, up to the first that fails.
    pub(super) async fn phase(mut self, phase: Phase) -> Self {
        while self.trouble.is_none()
            && let Some((_, step)) = self.steps.first().filter(|(due, _)| *due == phase).cloned()
        {
            self.settle(&step).await;
            match self.take(&step).await {
                Ok(true) => {
                    let name = self.name(&step);
                    self.change.note(&step, name);
                }
                Ok(false) => self.change.unchanged += 1,
                Err(trouble) => {
                    self.trouble = Some(trouble);
                    break;
                }
            }
            self.steps.remove(0);
        }
        self
    }

    /// Waits before the first plugin goes that another kind has taken the place of.
    async fn settle(&mut self, step: &Step) {
        let goes = matches!(step, Step::Remove(_)) && steps::is_replaced(step.file(), &self.wanted.parts);
        if goes && !self.settled && self.how.dry_run == DryRun::No {
            tokio::time::sleep(steps::SETTLING).await;
            self.settled = true;
        }
    }

    /// Takes a step; false if nothing changes by it.
    async fn take(&mut self, step: &Step) -> Result<bool, Trouble> {
        if !self.guard.holds() {
            return Err(Trouble::Unrenewed { cluster: self.change.cluster.clone() });
        }
        match (&self.target, self.how.dry_run) {
            (None, _) | (_, DryRun::Client) | (Some(Target::Directory(_)), DryRun::Server) => Ok(true),
            (Some(Target::Directory(path)), DryRun::No) => {
                directory::take(path, step)?;
                Ok(true)
            }
            (Some(Target::Cluster(server)), dry_run) => {
                let how = Apply { dry_run: dry_run == DryRun::Server, force: self.how.force };
                let (changed, now) = live::take(server, &self.there, step, how).await?;
                // What only stands in for a while has to be known when it goes.
                let goes = |file: &str| self.wanted.parts.iter().all(|part| part.file != file);
                if let Some(now) = now.filter(|_| goes(step.file())) {
                    self.there.insert(step.file().to_owned(), Packed::of(&now));
                }
                Ok(changed)
            }
        }
    }

    pub(super) fn name(&self, step: &Step) -> String {
        match &self.target {
            Some(Target::Directory(path)) => path.join(step.file()).display().to_string(),
            Some(Target::Cluster(_)) | None => live::name(&self.there, step),
        }
    }

    /// Istio's root namespace there.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The services of the steps of a phase that are still to be taken.
    fn services(&self, phase: Phase) -> impl Iterator<Item = &str> {
        self.steps.iter().filter(move |(due, _)| *due == phase).filter_map(|(_, step)| match step {
            Step::Write(file, _) => file.split_once('@')?.1.strip_suffix(".yaml"),
            Step::Remove(_) => None,
        })
    }

    /// Notes what stays for as long as a cluster that is behind may ask for it.
    pub(super) fn leave_the_rest(&mut self) {
        if self.trouble.is_none() {
            let steps = std::mem::take(&mut self.steps);
            self.change.left = steps.iter().map(|(_, step)| self.name(step)).collect();
        }
    }

    /// What reads the objects again.
    pub(super) fn looker(&self, in_shadow: bool) -> Option<Looker> {
        let target = self.target.clone()?;
        Some(Looker {
            target,
            root: self.root.clone(),
            wanted: Arc::clone(self.expected(in_shadow)),
            holds: self.holds(),
        })
    }
}

/// Why a cluster may not have its routes yet: one whose gateways they lead through lacks a subset.
pub(super) fn waits(job: &Job, behind: &[&Job]) -> Option<Trouble> {
    let lacking = |service: &str| {
        // What nobody knows of may be lacking.
        let lacks = |other: &&&Job| {
            other.is_unknown || other.services(Phase::SubsetsCome).any(|lacking| lacking == service)
        };
        behind.iter().rev().find(lacks).map(|other| other.change.cluster.clone())
    };
    job.services(Phase::RoutesCome).find_map(|service| {
        Some(Trouble::Waits {
            cluster: job.change.cluster.clone(),
            other: lacking(service)?,
            service: service.to_owned(),
        })
    })
}

async fn look(target: &Target, root: &str, parts: &[Part]) -> Result<BTreeMap<String, Value>, Trouble> {
    match target {
        Target::Directory(path) => Ok(directory::there(path, parts)?),
        Target::Cluster(server) => Ok(live::there(server, root, parts).await?),
    }
}

/// Reads the objects of a cluster again, after they were written.
#[derive(Debug, Clone)]
pub(super) struct Looker {
    target: Target,
    root: String,
    pub(super) wanted: Arc<Rendered>,
    holds: fn(&Value, &Value) -> bool,
}

impl Looker {
    /// The file of an object that is not as it was written, if there is one.
    pub(super) async fn differs(&self) -> Result<Option<String>, Trouble> {
        let there = look(&self.target, &self.root, &self.wanted.parts).await?;
        let is_other = |part: &&Part| {
            !there.get(&part.file).is_some_and(|there| (self.holds)(there, &part.object.open()))
        };
        // A route or subset is written wide, and narrow only in the end.
        let plugins = |part: &&Part| matches!(part.sort, Sort::Plugin);
        Ok(self.wanted.parts.iter().filter(plugins).find(is_other).map(|part| part.file.clone()))
    }
}
