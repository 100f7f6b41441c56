use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, Out, Output};
use crate::case::Suite;
use crate::read::{Project, ReadError};
use crate::render;
use crate::sandbox::Module;
use crate::walk::{self, Offline, Outcomes};

/// `isthmus test`
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of cases; by default cases.yaml beside mesh.yaml
    cases: Vec<PathBuf>,
    /// The module; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
}

/// A suite with all that it speaks of, found sound.
pub(super) struct Ready {
    pub(super) file: PathBuf,
    pub(super) suite: Suite,
    pub(super) project: Project,
}

/// What came of one case.
pub(super) struct Tested {
    pub(super) name: String,
    pub(super) wrong: Option<String>,
    outcomes: Outcomes,
}

impl Test {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let files = if self.cases.is_empty() {
            let project = common.project()?;
            vec![project.file.parent().unwrap_or(Path::new(".")).join("cases.yaml")]
        } else {
            self.cases
        };
        let wasm = super::module(self.module)?;
        let wasm = std::fs::read(&wasm)
            .with_context(|| format!("no module at {}: run `isthmus build`", wasm.display()))?;
        let module = Module::compile(&wasm)?;
        let (mut passed, mut failed, mut suites) = (0, 0, Vec::new());
        for file in &files {
            let Some(ready) = ready(file, out)? else { return Ok(Exit::Usage) };
            let tested = offline(&ready, module.clone())?;
            if common.output == Output::Text {
                out.print(&format!("{}: {}", ready.file.display(), ready.suite.name));
                for case in &tested {
                    match &case.wrong {
                        None => out.print(&format!("  ok    {}", case.name)),
                        Some(wrong) => out.print(&format!("  FAIL  {}\n        {wrong}", case.name)),
                    }
                }
            }
            failed += tested.iter().filter(|case| case.wrong.is_some()).count();
            passed += tested.iter().filter(|case| case.wrong.is_none()).count();
            suites.push(suite_json(&ready, &tested));
        }
        match common.output {
            Output::Text => out.print(&format!("{passed} passed, {failed} failed")),
            Output::Json => out.json(&json!({
                "apiVersion": policy::API_VERSION, "kind": "TestReport",
                "passed": passed, "failed": failed, "suites": suites,
            })),
        }
        Ok(if failed == 0 && passed > 0 { Exit::Yes } else { Exit::No })
    }
}

/// Reads a suite with its mesh and policies; findings are printed, and `None`.
pub(super) fn ready(file: &Path, out: &mut Out) -> anyhow::Result<Option<Ready>> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ReadError::Io { path: file.to_owned(), source })?;
    let name = file.display().to_string();
    let (suite, mut findings) = Suite::read(&name, &text);
    let mut sources = std::collections::BTreeMap::from([(name, text)]);
    let base = file.parent().unwrap_or(Path::new("."));
    if let Some(suite) = suite {
        let policies: Vec<PathBuf> = suite.policies.iter().map(|path| base.join(path)).collect();
        let project = Project::with_policies(&base.join(&suite.mesh), &policies)?;
        findings.extend(project.findings.iter().cloned());
        sources.extend(project.sources.clone());
        if let Some(mesh) = &project.mesh {
            findings.extend(suite.check(mesh));
        }
        if project.plans.is_some() && !policy::finding::has_errors(&findings) {
            return Ok(Some(Ready { file: file.to_owned(), suite, project }));
        }
    }
    out.say(&render::findings(&findings, &sources));
    out.say(&format!("{}: {}", file.display(), render::summary(&findings)));
    Ok(None)
}

/// Runs all cases of a suite through the module.
pub(super) fn offline(ready: &Ready, module: Module) -> anyhow::Result<Vec<Tested>> {
    let mesh = ready.project.mesh.as_ref().context("the mesh has errors")?;
    let mesh = &mesh.clone().with_own_ca();
    let plans = &policy::compile(mesh, &ready.project.policies).0.context("the policies have errors")?;
    let mut engine = Offline::new(module, mesh, plans, super::now())?;
    let mut tested = Vec::new();
    for case in &ready.suite.cases {
        let name = case.name.value.clone();
        let journeys = match walk::journeys(mesh, plans, &case.call) {
            Ok(journeys) => journeys,
            Err(none) => {
                tested.push(Tested { name, wrong: Some(none.to_string()), outcomes: Vec::new() });
                continue;
            }
        };
        let mut outcomes = Vec::new();
        for journey in &journeys {
            outcomes.push((journey.destination.name.clone(), engine.walk(journey)?));
        }
        tested.push(Tested { name, wrong: walk::judge(case, &outcomes), outcomes });
    }
    Ok(tested)
}

fn suite_json(ready: &Ready, tested: &[Tested]) -> Value {
    let cases: Vec<Value> = tested
        .iter()
        .map(|case| {
            let outcomes: Vec<Value> = case
                .outcomes
                .iter()
                .map(|(cluster, outcome)| {
                    json!({
                        "destination": cluster.as_str(), "verdict": outcome.verdict, "reason": outcome.reason,
                        "at": outcome.at.to_string(), "status": outcome.status,
                        "source": outcome.source, "level": outcome.level,
                    })
                })
                .collect();
            json!({"name": case.name, "passed": case.wrong.is_none(), "wrong": case.wrong, "outcomes": outcomes})
        })
        .collect();
    json!({"file": ready.file.display().to_string(), "suite": ready.suite.name, "cases": cases})
}
