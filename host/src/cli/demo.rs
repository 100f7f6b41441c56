mod acts;
mod story;
mod waves;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{Exit, Out};
use crate::build::inspect;
use crate::digest::sha256;
use crate::envoy::Envoy;
use crate::lab::{Lab, Site};
use crate::read::Project;
use crate::render;
use crate::report::Report;
use crate::runner::{self, Collection, Options};
use crate::sandbox::Module;
use crate::stage::{self, Stage};
use crate::workspace::Workspace;
use acts::Acts;
use story::Story;

/// `isthmus demo`: fails when any of what it shows is not so.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the lab's files go
    #[arg(long, value_name = "DIR", default_value = ".isthmus/demo")]
    dir: PathBuf,
}

impl Demo {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<Exit> {
        let begun = Instant::now();
        let here = std::env::current_dir()?;
        let workspace = Workspace::here()?;
        let example = workspace.root().join("examples/two-clusters");
        let example = example.strip_prefix(&here).map_or(example.clone(), Path::to_owned);
        let mut story = Story::new(out);

        story.act("A mesh with mistakes, then one without");
        checks(&example, &mut story)?;
        let project = Project::read(Some(&example), workspace.root())?;

        story.act("The module, and the cases run through it in wasmtime");
        let module = workspace.wasm().join("isthmus.wasm");
        offline(&module, &example, &mut story)?;

        let runtime = super::runtime()?;
        runtime.block_on(self.live(&workspace, &project, &module, &mut story))?;
        story.line(&format!("all of this took {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(Exit::Yes)
    }

    async fn live(
        &self,
        workspace: &Workspace,
        project: &Project,
        module: &Path,
        story: &mut Story<'_>,
    ) -> anyhow::Result<()> {
        story.act("Two clusters of real Envoys");
        let mesh = project.mesh.as_ref().context("the example has errors")?;
        let envoy = Envoy::find(workspace)?;
        let clients = super::lab::clients(project)?;
        let site = Site::claim(stage::blueprint(mesh, clients), &self.dir)?;
        let stage = Stage::set(mesh, &site, module)?;
        stage.roll_out(&project.policies)?;
        let begun = Instant::now();
        let lab = site.up(envoy.path(), super::now()).await?;
        up(&lab, &envoy, begun, story);

        let acts = Acts { lab: &lab, stage: &stage, project };
        acts.both_versions(story).await?;
        story.act("The ledger: who may, who may not, and a forged tag");
        acts.ledger(story).await?;
        story.act("A service that its policy hides");
        acts.hidden(story).await?;
        story.act("A policy changed while requests flow");
        acts.change_under_load(story).await?;
        story.act("Broken plans rolled out");
        acts.broken_plans(story).await?;
        story.act("A change in two waves, and a mistake that a gate holds");
        acts.waves(story).await?;

        story.act("Everything down");
        let admins: Vec<_> = lab.proxies().map(|proxy| proxy.admin).collect();
        lab.down().await?;
        for admin in &admins {
            let answers = tokio::net::TcpStream::connect(admin).await.is_ok();
            ensure!(!answers, "something still listens at {admin}");
        }
        story.line(&format!("{} Envoys ended, and nothing listens where they did", admins.len()));
        Ok(())
    }
}

/// Act 1.
fn checks(example: &Path, story: &mut Story<'_>) -> anyhow::Result<()> {
    let broken = Project::read(Some(&example.join("broken")), example)?;
    ensure!(broken.plans.is_none(), "the broken mesh passed the check");
    let two = broken.findings.get(..2).unwrap_or(&broken.findings);
    story.block(&render::findings(two, &broken.sources));
    story.line(&format!("... and more: {}", render::summary(&broken.findings)));
    let sound = Project::read(Some(example), example)?;
    story.line(&format!("{}: {}", sound.file.display(), render::summary(&sound.findings)));
    ensure!(sound.findings.is_empty(), "the sound mesh has findings");
    Ok(())
}

/// Act 2.
fn offline(module: &Path, example: &Path, story: &mut Story<'_>) -> anyhow::Result<()> {
    let wasm = std::fs::read(module).with_context(|| format!("no module at {}", module.display()))?;
    let inspected = inspect(&wasm)?;
    let digest = sha256(&wasm);
    let count = inspected.imports.len();
    story.line(&format!(
        "{} bytes, sha256 {digest}, ABI {}, {count} imports, all of env.proxy_*",
        wasm.len(),
        inspected.abi
    ));
    let collection = Collection::read(&[example.join("cases.yaml")])?;
    ensure!(!collection.has_errors(), "the cases have errors");
    let jobs = collection.jobs(&[]);
    let begun = Instant::now();
    let options = Options { threads: None, fail_fast: false, now: super::now() };
    let tested = runner::run(&jobs, &Module::compile(&wasm)?, options)?;
    let report = Report::new(&jobs, &tested);
    story.block(&report.text(true));
    let failed = report.counts().failed;
    story.line(&format!("{} cases in {:.1} s", jobs.len(), begun.elapsed().as_secs_f64()));
    ensure!(failed == 0 && !jobs.is_empty(), "{failed} cases failed");
    Ok(())
}

fn up(lab: &Lab, envoy: &Envoy, begun: Instant, story: &mut Story<'_>) {
    let count = lab.proxies().count();
    story.line(&format!("{count} Envoys {} up in {:.1} s:", envoy.version(), begun.elapsed().as_secs_f64()));
    for proxy in lab.proxies() {
        story.line(&format!("  {:46} {}", proxy.name, proxy.admin.ip()));
    }
}
