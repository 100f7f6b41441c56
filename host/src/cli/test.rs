use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Common, Exit, Out, Output};
use crate::coverage::{self, Coverage, Threshold};
use crate::mutate::Mutation;
use crate::read;
use crate::render;
use crate::report::Report;
use crate::runner::{self, CollectError, Collection, Job, Options, Tested};
use crate::sandbox::Module;

/// `isthmus test`
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of cases, and directories: of those every cases.yaml and *.cases.yaml in them and below. By default the
    /// directory of mesh.yaml
    #[arg(value_name = "FILE|DIR")]
    cases: Vec<PathBuf>,
    /// The module; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
    /// Only cases with this in their name, or in that of their suite; may be repeated
    #[arg(long, value_name = "TEXT")]
    filter: Vec<String>,
    /// Begin no case after one has failed
    #[arg(long)]
    fail_fast: bool,
    /// On how many threads; by default on as many as this machine runs at once
    #[arg(long, env = "ISTHMUS_JOBS", value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
    /// Name the cases that pass as well
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    measure: Measure,
}

/// What is to be known of the cases themselves.
#[derive(Debug, Args)]
struct Measure {
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
    fn coverage(&self, jobs: &[Job<'_>], tested: &[Option<Tested>]) -> Option<Coverage> {
        let asked = self.coverage || !self.coverage_threshold.is_empty();
        asked.then(|| Coverage::of(jobs, tested))
    }

    fn mutation(&self, jobs: &[Job<'_>], threads: Option<NonZeroUsize>) -> Option<Mutation> {
        let asked = self.mutate || self.mutate_threshold.is_some();
        asked.then(|| Mutation::of(jobs, threads))
    }

    /// The thresholds that are not reached.
    fn missed(&self, report: &Report<'_>) -> Vec<String> {
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

impl Test {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(collection) = collect(&self.files(common)?, common, out)? else { return Ok(Exit::Usage) };
        let jobs = collection.jobs(&self.filter);
        if jobs.is_empty() {
            out.say(&format!("error: no case has {} in its name", self.filter.join(" or ")));
            return Ok(Exit::Usage);
        }
        let wasm = super::module(self.module)?;
        let wasm = std::fs::read(&wasm)
            .with_context(|| format!("no module at {}: run `isthmus build`", wasm.display()))?;
        let module = Module::compile(&wasm)?;
        let options = Options { threads: self.jobs, fail_fast: self.fail_fast, now: super::now() };
        let tested = runner::run(&jobs, &module, options)?;
        let coverage = self.measure.coverage(&jobs, &tested);
        let mutation = self.measure.mutation(&jobs, self.jobs);
        let report =
            Report { jobs: &jobs, tested: &tested, coverage: coverage.as_ref(), mutation: mutation.as_ref() };
        match common.output {
            Output::Text => out.print(report.text(self.verbose).trim_end()),
            Output::Json => out.json(&report.json()),
            Output::Junit => out.print(report.junit()?.trim_end()),
        }
        let missed = self.measure.missed(&report);
        for missed in &missed {
            out.say(&format!("error: {missed}"));
        }
        Ok(if report.counts().failed == 0 && missed.is_empty() { Exit::Yes } else { Exit::No })
    }

    fn files(&self, common: &Common) -> anyhow::Result<Vec<PathBuf>> {
        if !self.cases.is_empty() {
            return Ok(runner::case_files(&self.cases)?);
        }
        let mesh = read::mesh_file(common.file.as_deref(), &std::env::current_dir()?)?;
        let beside = mesh.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(runner::case_files(&[beside.to_owned()])?)
    }
}

/// Reads suites with their meshes and policies; findings are printed, and `None`.
pub(super) fn collect(
    files: &[PathBuf],
    common: &Common,
    out: &mut Out,
) -> anyhow::Result<Option<Collection>> {
    let collection = match Collection::read(files) {
        Ok(collection) => collection,
        Err(CollectError::Read(unreadable)) => return Err(unreadable.into()),
        Err(other) => return Err(other.into()),
    };
    if !collection.has_errors() {
        return Ok(Some(collection));
    }
    if common.output == Output::Json {
        out.json(&render::findings_json(&collection.findings));
    }
    out.say(&render::findings(&collection.findings, &collection.sources));
    out.say(&render::summary(&collection.findings));
    Ok(None)
}
