//! Whether cases would notice a policy that is weaker than it is written: each mutant has one thing of one policy
//! changed, and should make some case fail.

mod mutants;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use policy::Policy;
use policy::finding::Place;
use policy::name::{Namespace, Service};
use policy::rule::Scope;

use crate::coverage::Share;
use crate::runner::{Job, World};
use crate::walk;
use crate::walk::pure::Pure;

/// A policy with one thing changed.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// Where the policy says what was changed.
    pub at: Place,
    /// What was changed, such as `policy ledger, rule eu: without its paths clause`.
    pub what: String,
    policy: Policy,
}

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The case of this name fails.
    Noticed(String),
    /// No case fails.
    Survived,
    /// It has errors, so that nobody could roll it out.
    Refused,
}

/// Every mutant of every policy, and what became of it.
#[derive(Debug, Default)]
pub struct Mutation {
    /// In the order of the files.
    pub mutants: Vec<(Mutant, Fate)>,
}

impl Mutation {
    /// Makes the mutants of all policies that the cases speak of and judges the cases of each anew, by the native
    /// evaluator: it decides as the module does, and makes a verdict in a fraction of the time.
    pub fn of(jobs: &[Job<'_>], threads: Option<NonZeroUsize>) -> Self {
        let mut worlds: BTreeMap<usize, Trial<'_>> = BTreeMap::new();
        for job in jobs {
            let trial = || Trial { world: job.world, jobs: Vec::new() };
            worlds.entry(job.suite.world).or_insert_with(trial).jobs.push(*job);
        }
        let mut work = Vec::new();
        for trial in worlds.values_mut() {
            trial.keep_what_passes();
            let trial = &*trial;
            let policies = trial.world.project.policies.iter().enumerate();
            work.extend(policies.flat_map(|(number, policy)| {
                mutants::of(policy).into_iter().map(move |mutant| (trial, number, mutant))
            }));
        }
        let here = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = threads.map_or_else(here, NonZeroUsize::get).min(work.len());
        let (next, fates) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((place, (trial, number, mutant))) = taken(&next, &work) {
                        let fate = trial.fate(*number, &mutant.policy);
                        fates.lock().unwrap_or_else(PoisonError::into_inner).insert(place, fate);
                    }
                });
            }
        });
        let mut fates = fates.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mutants = work.into_iter().enumerate();
        let fated = mutants.filter_map(|(place, (_, _, mutant))| Some((mutant, fates.remove(&place)?)));
        let mut mutants: Vec<(Mutant, Fate)> = fated.collect();
        mutants.sort_by(|(left, _), (right, _)| (&left.at, &left.what).cmp(&(&right.at, &right.what)));
        Self { mutants }
    }

    /// How many of the mutants that could be rolled out were noticed.
    pub fn share(&self) -> Share {
        let count =
            |wanted: &dyn Fn(&Fate) -> bool| self.mutants.iter().filter(|(_, fate)| wanted(fate)).count();
        Share {
            touched: count(&|fate| matches!(fate, Fate::Noticed(_))),
            total: count(&|fate| *fate != Fate::Refused),
        }
    }

    /// The mutants that no case has noticed.
    pub fn survivors(&self) -> impl Iterator<Item = &Mutant> {
        self.mutants.iter().filter(|(_, fate)| *fate == Fate::Survived).map(|(mutant, _)| mutant)
    }
}

fn taken<'w, T>(next: &AtomicUsize, work: &'w [T]) -> Option<(usize, &'w T)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    work.get(place).map(|work| (place, work))
}

/// The cases of one world.
struct Trial<'c> {
    world: &'c World,
    jobs: Vec<Job<'c>>,
}

impl Trial<'_> {
    /// A case that fails already tells nothing of a mutant.
    fn keep_what_passes(&mut self) {
        let mut pure = Pure::new(&self.world.mesh, &self.world.plans);
        self.jobs.retain(|job| passes(job, &mut pure));
    }

    /// Puts a mutant in the place of its policy and judges the cases that it can touch.
    fn fate(&self, number: usize, mutant: &Policy) -> Fate {
        let policies = self.world.project.policies.iter().enumerate();
        let near = policies.filter(|(_, policy)| is_near(policy, mutant));
        let changed: Vec<Policy> =
            near.map(|(place, policy)| if place == number { mutant } else { policy }.clone()).collect();
        let Some(plans) = policy::compile(&self.world.mesh, &changed).0 else { return Fate::Refused };
        let mut pure = Pure::new(&self.world.mesh, &plans);
        for job in &self.jobs {
            let service = job.case.call.service();
            let touched = service.is_some_and(|service| touches(mutant, &service));
            if touched && !passes(job, &mut pure) {
                return Fate::Noticed(job.case.name.value.clone());
            }
        }
        Fate::Survived
    }
}

fn passes(job: &Job<'_>, pure: &mut Pure<'_>) -> bool {
    pure.outcomes(&job.case.call).is_ok_and(|outcomes| walk::judge(job.case, &outcomes).is_none())
}

/// Whether two policies may speak of the same workload: what is said elsewhere changes nothing for the other.
fn is_near(policy: &Policy, mutant: &Policy) -> bool {
    let namespaces = |policy: &Policy| -> Vec<Option<Namespace>> {
        policy.services.iter().map(|scope| namespace(&scope.value)).collect()
    };
    let (these, those) = (namespaces(policy), namespaces(mutant));
    these.iter().any(|this| those.iter().any(|that| this.is_none() || that.is_none() || this == that))
}

/// Whether a policy can change what becomes of a service: workloads of a namespace may be behind several.
fn touches(policy: &Policy, service: &Service) -> bool {
    let within = |scope: &Scope| namespace(scope).is_none_or(|namespace| namespace == service.namespace);
    policy.services.iter().any(|scope| within(&scope.value))
}

/// The namespace that a scope lies in; `None`: it is all of them.
fn namespace(scope: &Scope) -> Option<Namespace> {
    match scope {
        Scope::Service(service) => Some(service.namespace.clone()),
        Scope::Namespace(namespace) => Some(namespace.clone()),
        Scope::Mesh => None,
    }
}
