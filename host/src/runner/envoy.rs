//! The same cases in the lab: real Envoys, started for each mesh in turn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use super::World;
use super::run::{Failure, Job, Tested};
use crate::lab::{Client, Lab, LabError, Site};
use crate::stage::{Stage, StageError};
use crate::text::chain;
use crate::walk::{self, Journey, Outcomes};

/// How many Envoys run at once, if a case does not need more by itself. Each has three of Linux' inotify instances, of which
/// a user has 128 unless the system is told otherwise.
const ENVOYS: usize = 20;

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
    let mut tested: Vec<Option<Tested>> = jobs.iter().map(|_| None).collect();
    for (number, batch) in batches(jobs).into_iter().enumerate() {
        let came = batch.play(&options.dir.join(number.to_string()), options).await?;
        let failed = fold(&mut tested, came);
        if failed && options.fail_fast {
            break;
        }
    }
    Ok(tested)
}

/// Cases of one world that share a lab.
struct Batch<'c> {
    world: &'c World,
    jobs: Vec<(usize, Job<'c>)>,
    journeys: Vec<Journey<'c>>,
    /// Who goes where: what goes the same way needs nobody else.
    ways: BTreeSet<(Client, String, String)>,
}

/// Cases world by world, of one world as many together as a lab is to have Envoys for.
fn batches<'c>(jobs: &[Job<'c>]) -> Vec<Batch<'c>> {
    let mut batches: BTreeMap<usize, Vec<Batch<'c>>> = BTreeMap::new();
    // What goes to one service wants the same servers.
    let mut ordered: Vec<(usize, &Job<'c>)> = jobs.iter().enumerate().collect();
    ordered.sort_by_key(|(number, job)| (job.case.call.service().map(|service| service.host()), *number));
    for (number, job) in ordered {
        let of_world = batches.entry(job.suite.world).or_default();
        let taken = of_world.last_mut().is_some_and(|batch| batch.take(number, *job));
        if !taken {
            let mut batch =
                Batch { world: job.world, jobs: Vec::new(), journeys: Vec::new(), ways: BTreeSet::new() };
            batch.take(number, *job);
            of_world.push(batch);
        }
    }
    batches.into_values().flatten().collect()
}

impl<'c> Batch<'c> {
    /// Takes a case, unless that makes the lab too large; the first one it takes whatever it needs.
    fn take(&mut self, number: usize, job: Job<'c>) -> bool {
        // A case that goes nowhere needs nobody: it is told of when its turn comes.
        let journeys = walk::journeys(&job.world.mesh, &job.world.plans, &job.case.call).unwrap_or_default();
        let way = |journey: &Journey<'c>| {
            (journey.client(), journey.service.to_string(), journey.destination.name.to_string())
        };
        let (known, ways) = (self.journeys.len(), self.ways.clone());
        for journey in journeys {
            if self.ways.insert(way(&journey)) {
                self.journeys.push(journey);
            }
        }
        let is_more = self.journeys.len() > known && !self.jobs.is_empty();
        if is_more && walk::blueprint(&self.world.mesh, self.journeys.iter()).proxies() > ENVOYS {
            self.journeys.truncate(known);
            self.ways = ways;
            return false;
        }
        self.jobs.push((number, job));
        true
    }

    /// Runs the cases in a lab that has whoever they speak of.
    async fn play(&self, dir: &Path, options: LabOptions<'_>) -> Result<Vec<(usize, Tested)>, LabRunError> {
        let world = self.world;
        let site = Site::claim(walk::blueprint(&world.mesh, self.journeys.iter()), dir)?;
        let stage = Stage::set(&world.mesh, &site, options.module)?;
        stage.roll_out(&world.project.policies)?;
        for (cluster, key) in &world.keys {
            site.give_token_key(cluster.as_str(), None, key)?;
        }
        let lab = site.up(options.envoy, options.now).await?;
        let came = walked(&lab, &stage, &self.jobs, options.fail_fast).await;
        lab.down().await?;
        Ok(came?)
    }
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
