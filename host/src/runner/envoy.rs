//! The same cases in the lab: real Envoys, started for each mesh in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::World;
use super::run::{Failure, Job, Tested, chain};
use crate::lab::{Lab, LabError, Site};
use crate::stage::{Stage, StageError};
use crate::walk::{self, Outcomes};

/// What a lab is made of.
#[derive(Debug, Clone, Copy)]
pub struct LabOptions<'o> {
    /// The Envoy.
    pub envoy: &'o Path,
    /// The module.
    pub module: &'o Path,
    /// Where its files go.
    pub dir: &'o Path,
    /// Whether no case is begun after one has failed.
    pub fail_fast: bool,
    /// The time at which certificates begin to hold.
    pub now: time::OffsetDateTime,
}

/// Why the lab did not stand.
#[derive(Debug, thiserror::Error)]
pub enum LabRunError {
    /// An Envoy failed.
    #[error("the lab failed")]
    Lab(#[from] LabError),
    /// The mesh did not get into it.
    #[error("the mesh cannot be played")]
    Stage(#[from] StageError),
}

/// Runs cases through Envoys, one after the other. What comes after a failure that ends the run is `None`.
pub async fn on_envoy(jobs: &[Job<'_>], options: LabOptions<'_>) -> Result<Vec<Option<Tested>>, LabRunError> {
    let mut worlds: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (number, job) in jobs.iter().enumerate() {
        worlds.entry(job.suite.world).or_default().push(number);
    }
    let mut tested: Vec<Option<Tested>> = jobs.iter().map(|_| None).collect();
    for (number, jobs_of) in worlds {
        let chosen: Vec<(usize, Job<'_>)> =
            jobs_of.into_iter().filter_map(|number| Some((number, *jobs.get(number)?))).collect();
        let Some((_, first)) = chosen.first() else { continue };
        let came = in_lab(first.world, &chosen, &options.dir.join(number.to_string()), options).await?;
        let failed = fold(&mut tested, came);
        if failed && options.fail_fast {
            break;
        }
    }
    Ok(tested)
}

/// Puts what came in its places, and says whether any of it failed.
fn fold(tested: &mut [Option<Tested>], came: Vec<(usize, Tested)>) -> bool {
    let failed = came.iter().any(|(_, tested)| tested.failure.is_some());
    for (number, one) in came {
        if let Some(place) = tested.get_mut(number) {
            *place = Some(one);
        }
    }
    failed
}

/// All cases of a world, in a lab that has whoever they speak of.
async fn in_lab(
    world: &World,
    jobs: &[(usize, Job<'_>)],
    dir: &Path,
    options: LabOptions<'_>,
) -> Result<Vec<(usize, Tested)>, LabRunError> {
    let mut journeys = Vec::new();
    for (_, job) in jobs {
        // A case that goes nowhere needs nobody: it is told of when its turn comes.
        journeys.extend(walk::journeys(&world.mesh, &world.plans, &job.case.call).into_iter().flatten());
    }
    let site = Site::claim(walk::blueprint(&world.mesh, journeys.iter()), dir)?;
    let stage = Stage::set(&world.mesh, &site, options.module)?;
    stage.roll_out(&world.project.policies)?;
    for (cluster, key) in &world.keys {
        site.give_token_key(cluster.as_str(), None, key)?;
    }
    let lab = site.up(options.envoy, options.now).await?;
    let came = walked(&lab, &stage, jobs, options.fail_fast).await;
    lab.down().await?;
    Ok(came?)
}

async fn walked(
    lab: &Lab,
    stage: &Stage,
    jobs: &[(usize, Job<'_>)],
    fail_fast: bool,
) -> Result<Vec<(usize, Tested)>, StageError> {
    let mut came: Vec<(usize, Tested)> = Vec::new();
    let mut requests = 0;
    let Some((_, first)) = jobs.first() else { return Ok(came) };
    let plans = stage.compile(&first.world.project.policies)?;
    for (number, job) in jobs {
        let begun = Instant::now();
        let mut outcomes = Outcomes::new();
        let mut failure = None;
        match walk::journeys(stage.mesh(), &plans, &job.case.call) {
            Err(none) => failure = Some(Failure::NoPath(none)),
            Ok(journeys) => {
                for journey in &journeys {
                    requests += 1;
                    match walk::envoy::walk(lab, journey, requests).await {
                        Ok(outcome) => outcomes.push((journey.destination.name.clone(), outcome)),
                        Err(error) => failure = Some(Failure::Broken(chain(&error))),
                    }
                }
            }
        }
        let failure = failure.or_else(|| walk::judge(job.case, &outcomes).map(Failure::Different));
        let failed = failure.is_some();
        came.push((*number, Tested { outcomes, failure, took: begun.elapsed() }));
        if failed && fail_fast {
            break;
        }
    }
    Ok(came)
}
