//! Many clusters through the phases of a rollout, together: none goes on before all that can have taken their steps.
//!
//! A cluster that fails stops where it is, and the others go on, but for two things. Whoever would send requests through
//! the gateways of a cluster that does not know their subset waits for it; and no subset goes while a cluster may still
//! ask for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use policy::Mesh;
use policy::compile::Plans;
use policy::name::ClusterName;
use serde_json::Value;

use super::rendered::{self, Rendered};
use super::steps::{self, Phase, Step};
use super::{Change, Options, RolloutError, directory, live};
use crate::kube::{Apply, Cluster, ClusterError, many};

/// Where a cluster's objects go.
#[derive(Debug, Clone)]
pub enum Target {
    /// Files, in this directory.
    Directory(PathBuf),
    /// Objects, on this API server.
    Cluster(Arc<Cluster>),
}

/// Whether anything is done at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DryRun {
    /// Everything is done.
    No,
    /// Nothing is; what is there is looked at.
    Client,
    /// The API servers do all but keep it.
    Server,
}

/// How clusters are treated.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Whether anything is done.
    pub dry_run: DryRun,
    /// Whether fields that others own are taken from them.
    pub force: bool,
    /// How many clusters at a time.
    pub parallel: usize,
}

/// What became of a cluster.
#[derive(Debug)]
pub struct Outcome {
    /// What was done, or would be.
    pub change: Change,
    /// What kept the rest from being done.
    pub trouble: Option<Trouble>,
}

/// What keeps a cluster from getting what it should have.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Its API server, or the way to it.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Its directory.
    #[error(transparent)]
    Directory(#[from] RolloutError),
    /// Requests would go through a cluster that is not ready for them.
    #[error(
        "{cluster}: waits for {other}, whose gateways do not know yet where its requests for {service} should go"
    )]
    Waits {
        /// Which waits.
        cluster: ClusterName,
        /// For which other.
        other: ClusterName,
        /// A service, as `namespace.name`, whose subsets that one lacks.
        service: String,
    },
}

/// Brings every cluster that has a target to what it should be, as far as it can be brought there; a target that cannot
/// be had is one that fails. Without an error there is an outcome for each.
pub async fn roll_out(
    mesh: &Mesh,
    plans: &Plans,
    targets: BTreeMap<ClusterName, Result<Target, ClusterError>>,
    (options, how): (Options<'_>, How),
) -> Result<Vec<Outcome>, RolloutError> {
    let mut jobs = start(mesh, plans, targets, (options, how)).await?;
    for phase in Phase::ALL {
        hold(&mut jobs, phase);
        jobs = many::bounded(jobs.into_iter().map(|job| job.phase(phase)), how.parallel).await;
    }
    Ok(jobs.into_iter().map(|job| Outcome { change: job.change, trouble: job.trouble }).collect())
}

/// Looks at what is there in every cluster, and finds out what is to be done.
pub(super) async fn start(
    mesh: &Mesh,
    plans: &Plans,
    mut targets: BTreeMap<ClusterName, Result<Target, ClusterError>>,
    (options, how): (Options<'_>, How),
) -> Result<Vec<Job>, RolloutError> {
    let root = mesh.root_namespace().as_str();
    let starting = rendered::render(mesh, plans, options)?.into_iter().filter_map(|(cluster, rendered)| {
        let target = targets.remove(&cluster)?;
        Some(Job::start(cluster, target, rendered, (root.to_owned(), how)))
    });
    Ok(many::bounded(starting, how.parallel).await)
}

/// A cluster on its way.
pub(super) struct Job {
    pub(super) target: Option<Target>,
    pub(super) how: How,
    pub(super) there: BTreeMap<String, Value>,
    /// What is still to be done.
    pub(super) steps: Vec<(Phase, Step)>,
    pub(super) change: Change,
    pub(super) trouble: Option<Trouble>,
}

impl Job {
    async fn start(
        cluster: ClusterName,
        target: Result<Target, ClusterError>,
        Rendered { digest, parts }: Rendered,
        (root, how): (String, How),
    ) -> Self {
        let change = Change::new(&cluster, digest);
        let (target, looked) = match target {
            Err(error) => (None, Err(error.into())),
            Ok(Target::Directory(path)) => {
                let there = directory::there(&path, &parts).map_err(Trouble::from);
                (Some(Target::Directory(path)), there)
            }
            Ok(Target::Cluster(server)) => {
                let there = live::there(&server, &root, &parts).await.map_err(Trouble::from);
                (Some(Target::Cluster(server)), there)
            }
        };
        let mut job = Self { target, how, there: BTreeMap::new(), steps: Vec::new(), change, trouble: None };
        match looked {
            // Nobody knows what is there, so all of it is to be done.
            Err(trouble) => {
                (job.steps, _) = steps::steps(&job.there, parts, |_, _| false);
                job.trouble = Some(trouble);
            }
            Ok(there) => {
                let holds = match job.target {
                    Some(Target::Cluster(_)) => live::holds,
                    Some(Target::Directory(_)) | None => |there: &Value, wanted: &Value| there == wanted,
                };
                (job.steps, job.change.unchanged) = steps::steps(&there, parts, holds);
                job.there = there;
            }
        }
        job
    }

    /// Takes the steps of a phase, up to the first that fails.
    async fn phase(mut self, phase: Phase) -> Self {
        while self.trouble.is_none()
            && let Some((_, step)) = self.steps.first().filter(|(due, _)| *due == phase)
        {
            match self.take(step).await {
                Ok(true) => {
                    let name = self.name(step);
                    self.change.note(&step.clone(), name);
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

    /// Takes a step; false if nothing changes by it.
    async fn take(&self, step: &Step) -> Result<bool, Trouble> {
        match (&self.target, self.how.dry_run) {
            (None, _) | (_, DryRun::Client) | (Some(Target::Directory(_)), DryRun::Server) => Ok(true),
            (Some(Target::Directory(path)), DryRun::No) => {
                directory::take(path, step)?;
                Ok(true)
            }
            (Some(Target::Cluster(server)), dry_run) => {
                let how = Apply { dry_run: dry_run == DryRun::Server, force: self.how.force };
                Ok(live::take(server, &self.there, step, how).await?)
            }
        }
    }

    pub(super) fn name(&self, step: &Step) -> String {
        match &self.target {
            Some(Target::Directory(path)) => path.join(step.file()).display().to_string(),
            Some(Target::Cluster(_)) | None => live::name(&self.there, step),
        }
    }

    /// The services of the steps of a phase that are still to be taken.
    fn services(&self, phase: Phase) -> impl Iterator<Item = &str> {
        self.steps.iter().filter(move |(due, _)| *due == phase).filter_map(|(_, step)| match step {
            Step::Write(file, _) => file.split_once('@')?.1.strip_suffix(".yaml"),
            Step::Remove(_) => None,
        })
    }
}

/// Keeps jobs from a phase that those which have failed do not allow.
fn hold(jobs: &mut [Job], phase: Phase) {
    let failed = |job: &&Job| job.trouble.is_some();
    match phase {
        Phase::RoutesCome => {
            let mut lacking: BTreeMap<String, ClusterName> = BTreeMap::new();
            for job in jobs.iter().filter(failed) {
                for service in job.services(Phase::SubsetsCome) {
                    lacking.insert(service.to_owned(), job.change.cluster.clone());
                }
            }
            for job in jobs.iter_mut().filter(|job| job.trouble.is_none()) {
                let waits = job.services(phase).find_map(|service| lacking.get_key_value(service));
                job.trouble = waits.map(|(service, other)| Trouble::Waits {
                    cluster: job.change.cluster.clone(),
                    other: other.clone(),
                    service: service.clone(),
                });
            }
        }
        Phase::SubsetsGo if jobs.iter().any(|job| job.trouble.is_some()) => {
            for job in jobs.iter_mut().filter(|job| job.trouble.is_none()) {
                let steps = std::mem::take(&mut job.steps);
                job.change.left = steps.iter().map(|(_, step)| job.name(step)).collect();
            }
        }
        Phase::SubsetsCome | Phase::Filters | Phase::RoutesGo | Phase::SubsetsGo => {}
    }
}

#[cfg(test)]
mod tests;
