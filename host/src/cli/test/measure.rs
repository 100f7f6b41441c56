//! What is to be known of the cases themselves, and how much of it is enough.

use std::num::NonZeroUsize;

use clap::Args;

use crate::coverage::{self, Coverage, Threshold};
use crate::mutate::Mutation;
use crate::report::Report;
use crate::runner::{Job, Tested};

/// What is to be known of the cases themselves.
#[derive(Debug, Args)]
pub(super) struct Measure {
    /// Say which rules, reasons and pairs of clusters no case has touched
    #[arg(long)]
    coverage: bool,
    /// Fail when fewer hundredths of the rules, reasons or pairs are touched; rules=, reasons= or pairs= before the
    /// number asks for one of them; may be repeated
    #[arg(long, value_name = "[KIND=]PERCENT")]
    coverage_threshold: Vec<Threshold>,
    /// Weaken each rule, boundary and exposure in turn, and say what no case notices
    #[arg(long)]
    mutate: bool,
    /// Fail when fewer hundredths of what is weakened are noticed
    #[arg(long, value_name = "PERCENT", value_parser = coverage::percent)]
    mutate_threshold: Option<f64>,
}

impl Measure {
    pub(super) fn coverage(&self, jobs: &[Job<'_>], tested: &[Option<Tested>]) -> Option<Coverage> {
        let asked = self.coverage || !self.coverage_threshold.is_empty();
        asked.then(|| Coverage::of(jobs, tested))
    }

    pub(super) fn mutation(&self, jobs: &[Job<'_>], threads: Option<NonZeroUsize>) -> Option<Mutation> {
        let asked = self.mutate || self.mutate_threshold.is_some();
        asked.then(|| Mutation::of(jobs, threads))
    }

    /// The thresholds that are not reached.
    pub(super) fn missed(&self, report: &Report<'_>) -> Vec<String> {
        let thresholds = self.coverage_threshold.iter();
        let of = |threshold: &Threshold| {
            report.coverage.map(|coverage| threshold.missed(coverage)).unwrap_or_default()
        };
        let covered = thresholds.flat_map(of).map(|short| format!("coverage: {short}"));
        let noticed = self.mutate_threshold.zip(report.mutation).and_then(|(percent, mutation)| {
            let share = mutation.share();
            (!share.reaches(percent)).then(|| format!("mutants: {share} noticed, less than {percent} %"))
        });
        covered.chain(noticed).collect()
    }
}
