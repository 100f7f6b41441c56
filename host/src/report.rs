//! What came of suites, written for people, for programs and for CI.

mod json;
mod junit;
mod measures;
mod text;

pub use junit::JunitError;

use crate::coverage::Coverage;
use crate::mutate::Mutation;
use crate::runner::{Failure, Job, Tested};

/// What came of the cases that were chosen.
#[derive(Debug, Clone, Copy)]
pub struct Report<'r> {
    /// The cases.
    pub jobs: &'r [Job<'r>],
    /// What came of each; `None`: it was not run, as one before it had failed.
    pub tested: &'r [Option<Tested>],
    /// What they have touched, where that was asked.
    pub coverage: Option<&'r Coverage>,
    /// What they would notice, where that was asked.
    pub mutation: Option<&'r Mutation>,
}

/// How many cases came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// All is as expected.
    pub passed: usize,
    /// It is not, or could not be found out.
    pub failed: usize,
    /// Never begun.
    pub not_run: usize,
}

impl<'r> Report<'r> {
    /// What came of cases, and no more.
    pub fn new(jobs: &'r [Job<'r>], tested: &'r [Option<Tested>]) -> Self {
        Self { jobs, tested, coverage: None, mutation: None }
    }

    /// How many passed and failed.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for tested in self.tested {
            match tested {
                None => counts.not_run += 1,
                Some(tested) if tested.failure.is_some() => counts.failed += 1,
                Some(_) => counts.passed += 1,
            }
        }
        counts
    }

    /// The same, suite by suite.
    fn suites(&self) -> Vec<Report<'r>> {
        let mut suites = Vec::new();
        let (mut jobs, mut tested) = (self.jobs, self.tested);
        while let Some(first) = jobs.first() {
            let file = &first.suite.file;
            let length = jobs.iter().take_while(|job| job.suite.file == *file).count();
            let (these, other_jobs) = jobs.split_at(length);
            let (came, others) = tested.split_at(length.min(tested.len()));
            suites.push(Report::new(these, came));
            (jobs, tested) = (other_jobs, others);
        }
        suites
    }

    fn pairs(&self) -> impl Iterator<Item = (&'r Job<'r>, &'r Option<Tested>)> {
        self.jobs.iter().zip(self.tested)
    }
}

/// Why a case failed, in one line.
fn headline(failure: &Failure) -> String {
    match failure {
        Failure::NoPath(none) => none.to_string(),
        Failure::Broken(why) => why.clone(),
        Failure::Different(all) => {
            let one = |compared: &crate::walk::Compared| {
                let fields: Vec<String> = compared
                    .rows
                    .iter()
                    .filter(|row| row.differs())
                    .map(|row| {
                        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".to_owned());
                        format!("{} is {}, not {}", row.field, or(&row.got), or(&row.wanted))
                    })
                    .collect();
                format!("{}: {}", compared.cluster, fields.join(", "))
            };
            all.iter().map(one).collect::<Vec<_>>().join("; ")
        }
    }
}
