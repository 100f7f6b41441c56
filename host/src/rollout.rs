//! Bringing plans to clusters: through their API servers, and into directories that GitOps, or the lab, applies from.
//!
//! ```text
//! plans ── rendered ──> parts ─┬─ steps ──> what to do, by phase ──> directory | live
//!          what is there ──────┘                     └─ waves of all clusters: run
//! ```

mod agree;
mod campaign;
mod chronicle;
mod compare;
mod crew;
mod difference;
mod directory;
mod drive;
pub mod gate;
mod job;
mod lease;
mod live;
pub mod machine;
mod meaning;
mod packed;
mod record;
mod rendered;
mod revision;
mod shadow;
mod shelf;
mod standing;
mod steps;
pub mod strategy;
mod target;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use policy::Mesh;
use policy::compile::Plans;
use policy::name::ClusterName;
use policy::plan::PlanError;

use crate::plugin::ModuleUrl;
pub use campaign::{Brake, Campaign, Kept, Refused, Report, Standings};
pub use chronicle::{Chronicle, Last};
pub use compare::{Compared, compare};
pub use difference::Difference;
pub use drive::Progress;
use job::Job;
pub use lease::{Held, Holder, Holding};
pub use record::{Origin, Record, Records};
pub use revision::Revision;
pub use standing::{Placed, Standing, State, Wanted, wanted};
pub use steps::Phase;
use steps::Step;
pub use target::{DryRun, How, Target, Trouble};

/// Why a cluster did not get its objects. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A file that cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A plan that has no JSON.
    #[error("cannot write the plan of {cluster} as JSON")]
    Plan {
        /// Whose.
        cluster: ClusterName,
        /// Why.
        source: PlanError,
    },
    /// A check behind the load balancer with a module that is no file.
    #[error(
        "--upstream-check needs a --url of file://: Istio's agent does not fetch a module for an Envoy cluster, so it has to be in the proxy's image or on a volume"
    )]
    NoFile,
    /// An object that no server would take.
    #[error(
        "{cluster}: {file} would take {kib} KiB, and an API server stores no more than 1536: nothing was written; draw boundaries for fewer services, or leave --upstream-check out"
    )]
    TooLarge {
        /// Whose it is.
        cluster: ClusterName,
        /// The file that it stands in.
        file: String,
        /// How large it would be.
        kib: usize,
    },
    /// An object that has no YAML.
    #[error("cannot write {path} as YAML")]
    Yaml {
        /// The file that it should stand in.
        path: PathBuf,
        /// Why.
        source: Box<serde_saphyr::SerializeError>,
    },
}

/// What a rollout does to one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The cluster.
    pub cluster: ClusterName,
    /// A digest over those of its plans.
    pub digest: String,
    /// What is new or differs: files by their paths, objects by kind, namespace and name.
    pub written: Vec<String>,
    /// What is there no more.
    pub removed: Vec<String>,
    /// What could be narrowed or removed, and stays until every cluster is done.
    pub left: Vec<String>,
    /// How many files or objects are as they should be already.
    pub unchanged: usize,
}

impl Change {
    fn new(cluster: &ClusterName, digest: String) -> Self {
        let (written, removed, left) = (Vec::new(), Vec::new(), Vec::new());
        Self { cluster: cluster.clone(), digest, written, removed, left, unchanged: 0 }
    }

    /// Notes what a step has done to something of this name, which counts once however often it is written on the way.
    fn note(&mut self, step: &Step, name: String) {
        let names = match step {
            Step::Write(..) => &mut self.written,
            Step::Remove(_) => &mut self.removed,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

/// What became of a cluster.
#[derive(Debug)]
pub struct Outcome {
    /// What was done, or would be.
    pub change: Change,
    /// What kept the rest from being done.
    pub trouble: Option<Trouble>,
}

impl Outcome {
    fn of(job: Job) -> Self {
        Self { change: job.change, trouble: job.trouble }
    }
}

/// How to roll out.
#[derive(Debug, Clone, Copy)]
pub struct Options<'o> {
    /// Where proxies get the module from.
    pub url: &'o ModuleUrl,
    /// Whether boundaries are held once more where the endpoint is known.
    pub upstream_check: bool,
    /// Whether to say only what would be written.
    pub dry_run: bool,
}

/// Writes every cluster's objects into its directory, or with `Options::dry_run` only says what would be written.
///
/// All objects of all clusters are made before the first is written, and each file is replaced whole, so that
/// nothing half-made is ever there to be applied. A plan of one namespace comes before the plan that leaves the
/// namespace to it, and goes after the plan that takes it back: in between both judge, and never neither.
pub fn to_directories(
    mesh: &Mesh,
    plans: &Plans,
    directories: &BTreeMap<ClusterName, PathBuf>,
    options: Options<'_>,
) -> Result<Vec<Change>, RolloutError> {
    let (mut changes, mut all) = (Vec::new(), Vec::new());
    for (cluster, rendered) in rendered::render(mesh, plans, options)? {
        let Some(directory) = directories.get(&cluster) else { continue };
        let there = directory::there(directory, &rendered.parts)?;
        let (steps, unchanged) = steps::steps(&there, rendered.parts, |there, wanted| there == wanted);
        let mut change = Change::new(&cluster, rendered.digest);
        change.unchanged = unchanged;
        for (_, step) in &steps {
            change.note(step, directory.join(step.file()).display().to_string());
        }
        changes.push(change);
        all.extend(steps.into_iter().map(|(phase, step)| (phase, directory, step)));
    }
    all.sort_by_key(|(phase, ..): &(Phase, _, _)| *phase);
    if !options.dry_run {
        all.iter().try_for_each(|(_, directory, step)| directory::take(directory, step))?;
    }
    Ok(changes)
}
