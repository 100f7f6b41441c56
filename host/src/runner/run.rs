//! Cases, spread over threads: each thread has proxies of its own, and all share the certificates.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Loaded, World};
use crate::case::Case;
use crate::sandbox::Module;
use crate::text::chain;
use crate::walk::{self, Compared, Ground, NoPath, Offline, OfflineError, Outcomes};

/// A case with the world that it is run in.
#[derive(Debug, Clone, Copy)]
pub struct Job<'c> {
    /// The suite that it is of.
    pub suite: &'c Loaded,
    /// What that speaks of.
    pub world: &'c World,
    /// The case.
    pub case: &'c Case,
}

/// How cases are run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// On how many threads; `None`: on as many as the machine runs at once.
    pub threads: Option<NonZeroUsize>,
    /// Whether no case is begun after one has failed.
    pub fail_fast: bool,
    /// The time at which certificates begin to hold.
    pub now: time::OffsetDateTime,
}

/// What came of a case.
#[derive(Debug)]
pub struct Tested {
    /// What each cluster that may answer made of it.
    pub outcomes: Outcomes,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// Why a case failed.
#[derive(Debug)]
pub enum Failure {
    /// Something is not as expected.
    Different(Vec<Compared>),
    /// There is no way to walk.
    NoPath(NoPath),
    /// The walk broke off: a module that traps, or that refuses its plan.
    Broken(String),
}

/// Runs cases through the module, each over its whole path. What is not run, after a failure, is `None`.
pub fn run(jobs: &[Job<'_>], module: &Module, options: Options) -> Result<Vec<Option<Tested>>, OfflineError> {
    let mut grounds: BTreeMap<usize, Arc<Ground<'_>>> = BTreeMap::new();
    for job in jobs {
        if let Entry::Vacant(place) = grounds.entry(job.suite.world) {
            let World { mesh, plans, keys, .. } = job.world;
            let ground = Ground::new(module.clone(), mesh, plans, options.now)?.with_keys(keys);
            place.insert(Arc::new(ground));
        }
    }
    let here = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = options.threads.map_or_else(here, NonZeroUsize::get).min(jobs.len()).max(1);
    let work = Work {
        jobs,
        // Neighbours in a file mostly pass the same proxies, so that a thread takes several at once.
        chunk: (jobs.len() / (threads * 8)).clamp(1, 64),
        next: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        fail_fast: options.fail_fast,
        tested: Mutex::default(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let engines = grounds.iter().map(|(world, ground)| (*world, Offline::on(Arc::clone(ground))));
                work.share(engines.collect());
            });
        }
    });
    let mut tested = work.tested.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok((0..jobs.len()).map(|number| tested.remove(&number)).collect())
}

struct Work<'w> {
    jobs: &'w [Job<'w>],
    chunk: usize,
    next: AtomicUsize,
    stop: AtomicBool,
    fail_fast: bool,
    tested: Mutex<BTreeMap<usize, Tested>>,
}

impl Work<'_> {
    /// Takes cases until none is left.
    fn share<'g>(&self, mut engines: BTreeMap<usize, Offline<'g>>) {
        let mut done = Vec::new();
        'chunks: loop {
            let first = self.next.fetch_add(self.chunk, Ordering::Relaxed);
            if first >= self.jobs.len() {
                break;
            }
            for (number, job) in self.jobs.iter().enumerate().skip(first).take(self.chunk) {
                if self.stop.load(Ordering::Relaxed) {
                    break 'chunks;
                }
                let Some(engine) = engines.get_mut(&job.suite.world) else { continue };
                let tested = test(job, engine);
                if self.fail_fast && tested.failure.is_some() {
                    self.stop.store(true, Ordering::Relaxed);
                }
                done.push((number, tested));
            }
        }
        self.tested.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(done);
    }
}

fn test(job: &Job<'_>, engine: &mut Offline<'_>) -> Tested {
    let begun = Instant::now();
    let mut outcomes = Outcomes::new();
    let failure = match walk::journeys(&job.world.mesh, &job.world.plans, &job.case.call) {
        Err(none) => Some(Failure::NoPath(none)),
        Ok(journeys) => {
            let walked: Result<(), OfflineError> = journeys.iter().try_for_each(|journey| {
                outcomes.push((journey.destination.name.clone(), engine.walk(journey)?));
                Ok(())
            });
            match walked {
                Ok(()) => walk::judge(job.case, &outcomes).map(Failure::Different),
                Err(error) => {
                    // What trapped is gone: the next case finds proxies that live.
                    engine.restart();
                    Some(Failure::Broken(chain(&error)))
                }
            }
        }
    };
    Tested { outcomes, failure, took: begun.elapsed() }
}
