//! Rollouts from their beginning to their end: who holds the clusters, which revision it is, what is driven, and what is
//! thrown away afterwards.

mod back;
mod brake;
mod keep;
mod open;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::Mesh;
use policy::compile::Plans;
use policy::name::ClusterName;

use super::agree::Agreed;
use super::crew::Crew;
use super::drive::{Driver, Tell};
use super::gate::Gate;
use super::job::Job;
use super::lease::Holder;
use super::machine::{Event, Goal, State, Wave};
use super::record::{Origin, Record, timestamp};
use super::rendered::{self, Rendered};
use super::strategy::{Limits, Strategy};
use super::target::{DryRun, How, Target, Trouble};
use super::{Options, Outcome, RolloutError, revision};
use crate::digest::sha256;
use crate::kube::{ClusterError, many};
use crate::text::plain;
pub use brake::Brake;
use keep::{before, catch_up, is_same, keep, keep_found, next_number};
pub use tell::{Kept, Standings};

/// What a rollout is done with, whatever it does.
pub struct Campaign<'c> {
    /// The namespace that records, revisions and leases are in.
    pub root: String,
    /// Where the clusters are, or why they cannot be had.
    pub targets: BTreeMap<ClusterName, Result<Target, ClusterError>>,
    /// How they are treated.
    pub how: How,
    /// Who does it.
    pub holder: Holder,
    /// What makes gates of what a strategy demands, beside that objects are as they were written.
    pub gates: &'c (dyn Fn(&Limits) -> Vec<Arc<dyn Gate>> + Sync),
    /// How many revisions are kept.
    pub history: usize,
    /// Who hears of it.
    pub tell: Tell<'c>,
}

impl std::fmt::Debug for Campaign<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Campaign").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// What became of it.
#[derive(Debug)]
pub struct Report {
    /// What was done in each cluster, or would be.
    pub outcomes: Vec<Outcome>,
    /// The record as it was kept last; of a dry run there is none.
    pub record: Option<Record>,
}

/// Why nothing was done, or no more.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Somebody else is at it.
    #[error(transparent)]
    Busy(Trouble),
    /// It was paused, and whoever did it had a reason.
    #[error(
        "rollout {} of revision {revision} is paused: go on with `isthmus rollout resume`, or take it back with `isthmus rollout undo`",
        plain(id)
    )]
    Paused {
        /// Which.
        id: String,
        /// Its revision.
        revision: u64,
    },
    /// No cluster knows of any rollout.
    #[error("no cluster that can be reached knows of a rollout")]
    NoRollout,
    /// There is nothing to go on with.
    #[error(
        "rollout {} of revision {revision} is over: `isthmus rollout rollback` brings an earlier revision back",
        plain(id)
    )]
    Over {
        /// Which.
        id: String,
        /// Its revision.
        revision: u64,
    },
    /// Nobody can say which copy of its record is right.
    #[error(
        "the ConfigMaps isthmus-rollout of clusters say different things of what rollout {} was to do, as many one thing as another: somebody has changed one; delete those that are not right, or all of them and roll out again",
        plain(id)
    )]
    Torn {
        /// Which.
        id: String,
    },
    /// A number that no next one follows.
    #[error(
        "{}: revision {number} is kept here, after which there is none: no rollout made it; delete its ConfigMaps isthmus-revision-{number}, and isthmus-rollout if that names it",
        names(clusters)
    )]
    LastNumber {
        /// Where.
        clusters: Vec<ClusterName>,
        /// Which.
        number: u64,
    },
    /// There is no revision to go back to.
    #[error("there is no revision before this one")]
    NoEarlier,
    /// No cluster has it.
    #[error("no cluster that can be reached has revision {0}: see `isthmus rollout history`")]
    NoRevision(u64),
    /// It had to stop in the middle.
    #[error(transparent)]
    Stopped(Trouble),
    /// The objects could not be made.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
}

/// What a rollout is to bring, and how.
struct Order {
    new: BTreeMap<ClusterName, Arc<Rendered>>,
    left: BTreeMap<ClusterName, Arc<Rendered>>,
    strategy: Strategy,
    origin: Origin,
}

impl Campaign<'_> {
    /// Brings every cluster what its plans need, as a strategy says.
    pub async fn roll_out(
        self,
        (mesh, plans, options): (&Mesh, &Plans, Options<'_>),
        strategy: Strategy,
        origin: Origin,
    ) -> Result<Report, Refused> {
        let rendered = rendered::render(mesh, plans, options)?.into_iter();
        let new = rendered.filter(|(name, _)| self.targets.contains_key(name));
        let new = new.map(|(name, rendered)| (name, Arc::new(rendered))).collect();
        let order = Order { new, left: BTreeMap::new(), strategy, origin };
        if self.how.dry_run != DryRun::No {
            return self.pretend(order, BTreeMap::new()).await;
        }
        let crew = self.open(order.new.keys().cloned().collect()).await?;
        self.begin(crew, order).await
    }

    /// Goes on with a rollout that was paused, has failed, left clusters behind, or whose host died.
    pub async fn resume(self) -> Result<Report, Refused> {
        self.go_on(Event::Begin).await
    }

    /// Brings back what a rollout that is not over has touched.
    pub async fn undo(self) -> Result<Report, Refused> {
        self.go_on(Event::Undo).await
    }

    async fn go_on(self, first: Event) -> Result<Report, Refused> {
        let mut crew = self.open(self.targets.keys().cloned().collect()).await?;
        let agreed = crew.agreed();
        if let Some(torn) = torn(&agreed) {
            return refuse(crew, torn).await;
        }
        let Agreed { record: Some(record), apart, .. } = agreed else {
            return refuse(crew, Refused::NoRollout).await;
        };
        let (id, revision) = (record.id.clone(), record.revision);
        if record.state.is_over() {
            return refuse(crew, Refused::Over { id, revision }).await;
        }
        crew.leave_out(&apart, &record).await;
        for (name, member) in &crew.members {
            // What is not kept is told by the cluster's job.
            if let Ok(Some(rendered)) = revision::read(&member.shelf, revision).await {
                crew.new.insert(name.clone(), Arc::new(rendered));
            }
        }
        let state = record.state.clone();
        let (gates, applied) = ((self.gates)(&record.gates), record.gates.applied);
        crew.record = Some(record);
        crew.trying = trying(state.waves());
        let mut driver = Driver::new(state, &mut crew, self.tell);
        (driver.gates, driver.applied) = (gates, applied);
        let driven = driver.run(first).await;
        finish(crew, driven, self.history).await
    }

    /// Begins a rollout, or goes on with the one that brings the very same.
    async fn begin(self, mut crew: Crew, order: Order) -> Result<Report, Refused> {
        let agreed = crew.agreed();
        if let Some(torn) = torn(&agreed) {
            return refuse(crew, torn).await;
        }
        let last = agreed.record;
        if let Some(record) = last.as_ref().filter(|record| record.state.is_paused()) {
            let (id, revision) = (record.id.clone(), record.revision);
            return refuse(crew, Refused::Paused { id, revision }).await;
        }
        (crew.new, crew.left) = (order.new, order.left);
        crew.trying = trying(&order.strategy.waves);
        let names = concerned(&crew);
        let tasks: Vec<_> = names.iter().map(|name| crew.task(name, Goal::New)).collect();
        let jobs = many::bounded(tasks.into_iter().map(Job::start), crew.how.parallel).await;
        let again = last.as_ref().filter(|record| is_same(&crew, record, &order.origin));
        if again.is_some_and(|record| record.state.is_over())
            && jobs.iter().all(|job| job.trouble.is_some() || job.steps.is_empty())
        {
            let outcomes = jobs.into_iter().map(Outcome::of).collect();
            crew.release().await;
            return Ok(Report { outcomes, record: last });
        }
        let next = match next_number(&crew, last.as_ref()) {
            Ok(next) => next,
            Err(refused) => return refuse(crew, refused).await,
        };
        let fresh = State::new(waves(&order.strategy, &names), order.strategy.on_failure);
        let found = keep_found(&mut crew, &jobs, next, &order.origin).await;
        let mut record = match again {
            Some(record) => self.again(record, (&order.strategy, &order.origin), fresh),
            None => {
                let number = if found.is_empty() { next } else { next + 1 };
                Record {
                    id: self.id(&order.origin),
                    revision: number,
                    generation: last.as_ref().map_or(0, |last| last.generation),
                    before: before(&crew, last.as_ref(), &found),
                    origin: order.origin.clone(),
                    strategy: order.strategy.name.clone(),
                    gates: order.strategy.gates.clone(),
                    state: fresh,
                }
            }
        };
        catch_up(&crew, &mut record, &found);
        keep(&mut crew, &record).await;
        let state = record.state.clone();
        let (gates, applied) = ((self.gates)(&record.gates), record.gates.applied);
        crew.record = Some(record);
        let mut driver = Driver::new(state, &mut crew, self.tell);
        driver.jobs = jobs.into_iter().map(|job| (job.change.cluster.clone(), job)).collect();
        (driver.gates, driver.applied, driver.fresh) = (gates, applied, true);
        let driven = driver.run(Event::Begin).await;
        finish(crew, driven, self.history).await
    }

    /// The record of a rollout that brings the very same as the last: it goes on, or begins anew.
    fn again(&self, last: &Record, (strategy, origin): (&Strategy, &Origin), fresh: State) -> Record {
        if !last.state.is_over() && last.state.is_of(&fresh) {
            return last.clone();
        }
        Record {
            state: fresh,
            id: self.id(origin),
            strategy: strategy.name.clone(),
            gates: strategy.gates.clone(),
            ..last.clone()
        }
    }

    /// What a rollout is called: nobody else's is.
    fn id(&self, origin: &Origin) -> String {
        let digest =
            sha256(format!("{} {} {}", self.holder.name, origin.time, timestamp((self.holder.clock)())));
        digest.chars().take(10).collect()
    }
}

/// The clusters that something is brought to, and those that nothing can be brought to now: those are behind, and what they
/// may still ask for stays.
fn concerned(crew: &Crew) -> BTreeSet<ClusterName> {
    crew.new.keys().chain(crew.out.keys()).cloned().collect()
}

/// The waves with those clusters that have objects: a remote's are in the cluster of its control plane.
fn waves(strategy: &Strategy, concerned: &BTreeSet<ClusterName>) -> Vec<Wave> {
    let mut waves = strategy.waves.clone();
    waves.iter_mut().for_each(|wave| wave.clusters.retain(|name| concerned.contains(name)));
    waves.retain(|wave| !wave.clusters.is_empty());
    waves
}

/// The clusters of those waves that try their plans first.
fn trying(waves: &[Wave]) -> BTreeSet<ClusterName> {
    waves.iter().filter(|wave| wave.shadow.is_some()).flat_map(|wave| wave.clusters.iter().cloned()).collect()
}

/// Why nothing can be done, where nobody can say what was to be done.
fn torn(agreed: &Agreed) -> Option<Refused> {
    let record = agreed.record.as_ref().filter(|_| agreed.torn)?;
    Some(Refused::Torn { id: record.id.clone() })
}

fn names(clusters: &[ClusterName]) -> String {
    clusters.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(", ")
}

async fn refuse(crew: Crew, refused: Refused) -> Result<Report, Refused> {
    crew.release().await;
    Err(refused)
}

/// Throws away what is too old, lets the clusters go, and reports.
async fn finish(
    crew: Crew,
    driven: Result<(State, BTreeMap<ClusterName, Job>), Trouble>,
    history: usize,
) -> Result<Report, Refused> {
    let (state, jobs) = match driven {
        Ok(driven) => driven,
        Err(trouble) => return refuse(crew, Refused::Stopped(trouble)).await,
    };
    let mut jobs: Vec<Job> = jobs.into_values().collect();
    if state.is_over() {
        keep::prune(&crew, history).await;
    } else if !state.is_paused() {
        jobs.iter_mut().for_each(Job::leave_the_rest);
    }
    let record = crew.record.clone();
    crew.release().await;
    Ok(Report { outcomes: jobs.into_iter().map(Outcome::of).collect(), record })
}

#[cfg(test)]
mod tests;
