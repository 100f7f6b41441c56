mod measure;
mod watch;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Common, Exit, Out, Output};
use crate::envoy::Envoy;
use crate::read;
use crate::render;
use crate::report::Report;
use crate::runner::{self, CollectError, Collection, Job, LabOptions, Options, Tested};
use crate::sandbox::Module;
use crate::workspace::Workspace;
use measure::Measure;

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
    /// Where the cases are run
    #[arg(long, value_name = "WHERE", default_value = "sandbox")]
    on: On,
    /// Where the files of a lab go, with --on envoy
    #[arg(long, value_name = "DIR", default_value = ".isthmus/test")]
    dir: PathBuf,
    /// Run again whenever a file changes that was read, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    measure: Measure,
}

/// Where cases are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    /// In wasmtime, offline
    Sandbox,
    /// In real Envoys on this machine, as `isthmus lab` starts them
    Envoy,
}

impl Test {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        if self.watch { watch::run(&self, common, out) } else { self.once(common, out) }
    }

    /// Reads everything, runs it and reports.
    fn once(&self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(collection) = collect(&self.files(common)?, common, out)? else { return Ok(Exit::Usage) };
        let jobs = collection.jobs(&self.filter);
        if jobs.is_empty() {
            out.say(&format!("error: no case has {} in its name", self.filter.join(" or ")));
            return Ok(Exit::Usage);
        }
        let module = super::module(self.module.clone())?;
        let tested = match self.on {
            On::Sandbox => {
                let options = Options { threads: self.jobs, fail_fast: self.fail_fast, now: super::now() };
                let wasm = std::fs::read(&module)
                    .with_context(|| format!("no module at {}: run `isthmus build`", module.display()))?;
                runner::run(&jobs, &Module::compile(&wasm)?, options)?
            }
            On::Envoy => self.in_lab(&jobs, &module, out)?,
        };
        let coverage = self.measure.coverage(&jobs, &tested);
        let mutation = self.measure.mutation(&jobs, self.jobs);
        let report =
            Report { jobs: &jobs, tested: &tested, coverage: coverage.as_ref(), mutation: mutation.as_ref() };
        match common.output {
            Output::Text | Output::Short => out.print(report.text(self.verbose).trim_end()),
            Output::Json => out.json(&report.json()),
            Output::Junit => out.print(report.junit()?.trim_end()),
        }
        let missed = self.measure.missed(&report);
        for missed in &missed {
            out.say(&format!("error: {missed}"));
        }
        Ok(if report.counts().failed == 0 && missed.is_empty() { Exit::Yes } else { Exit::No })
    }

    fn in_lab(&self, jobs: &[Job<'_>], module: &Path, out: &mut Out) -> anyhow::Result<Vec<Option<Tested>>> {
        let workspace = Workspace::here()?;
        let envoy = Envoy::find(&workspace)?;
        out.say(&format!("starting {}", envoy.version()));
        let options = LabOptions {
            envoy: envoy.path(),
            module,
            dir: &self.dir,
            fail_fast: self.fail_fast,
            now: super::now(),
        };
        Ok(super::runtime()?.block_on(runner::on_envoy(jobs, options))?)
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
