use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::{Common, Exit, Out, Output};
use crate::read;
use crate::render;
use crate::report::Report;
use crate::runner::{self, Collection, Options};
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
        let report = Report { jobs: &jobs, tested: &tested };
        match common.output {
            Output::Text => out.print(report.text(self.verbose).trim_end()),
            Output::Json => out.json(&report.json()),
            Output::Junit => out.print(report.junit()?.trim_end()),
        }
        Ok(if report.counts().failed == 0 { Exit::Yes } else { Exit::No })
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
    let collection = Collection::read(files)?;
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
