//! What is done with rollouts that are there: `isthmus rollout status`, `pause`, `resume`, `undo`, `history`, `rollback`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use policy::Mesh;
use policy::name::ClusterName;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::asked::Asked;
use super::interrupt::until_interrupted;
use super::progress::Printer;
use super::report::{self, Said, ended};
use super::way::{Keeping, Way};
use super::{Reach, Targets, Where, directories};
use crate::cli::lab::Standing;
use crate::cli::{Common, Exit, Out, Output};
use crate::read::{Project, mesh_file};
use crate::rollout::gate::Gate;
use crate::rollout::machine::{Stage, Standing as At};
use crate::rollout::strategy::Limits;
use crate::rollout::{DryRun, Kept, Progress, Record, Standings};
use crate::text::plain;

/// `isthmus rollout VERB`
#[derive(Debug, Subcommand)]
pub(super) enum RolloutVerb {
    /// Say how the last rollout stands, and which revision each cluster has
    Status(Look),
    /// Have a rollout that runs stop where it is
    Pause(Look),
    /// Go on with a rollout that was paused, has failed, left clusters behind, or whose program died
    Resume(Go),
    /// Bring back what a rollout that is not complete has touched
    Undo(Go),
    /// List the revisions that the clusters keep
    History(Look),
    /// Bring every cluster what it had at a revision, as a new revision
    Rollback(Rollback),
}

/// Where the clusters are.
#[derive(Debug, Args)]
pub(super) struct Look {
    #[command(flatten)]
    reach: Reach,
    /// The clusters of the lab that is up
    #[arg(long, env = "ISTHMUS_LAB", value_name = "DIR", conflicts_with = "output_dir", num_args = 0..=1, default_missing_value = ".isthmus/lab")]
    lab: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Go {
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    keeping: Keeping,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// Which revision; by default the one before the last
    revision: Option<u64>,
    /// Only say what would be written: `client` looks at what is there, `server` also has API servers check it
    #[arg(long, env = "ISTHMUS_DRY_RUN", value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<Where>,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    way: Way,
}

impl RolloutVerb {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        match self {
            Self::Status(look) => look.status(common, out),
            Self::Pause(look) => look.pause(common, out),
            Self::History(look) => look.history(common, out),
            Self::Resume(go) => go.run(false, common, out),
            Self::Undo(go) => go.run(true, common, out),
            Self::Rollback(rollback) => rollback.run(common, out),
        }
    }
}

/// What is looked at with.
const NO_GATES: fn(&Limits) -> Vec<Arc<dyn Gate>> = |_| Vec::new();
const NOBODY: Keeping = Keeping { author: None, lease: 15, history_limit: 0 };

impl Look {
    /// The mesh, whatever its policies are by now, and where its clusters are.
    fn place(&self, common: &Common, out: &mut Out) -> anyhow::Result<Option<(Runtime, Mesh, Targets)>> {
        let file = mesh_file(common.file.as_deref(), &std::env::current_dir()?)?;
        let project = Project::with_policies(&file, &[])?;
        let Some(mesh) = project.mesh.clone() else {
            out.say(&crate::render::findings(&project.findings, &project.sources));
            return Ok(None);
        };
        // Clients of clusters live in the runtime that made them.
        let runtime = crate::cli::runtime()?;
        let targets = match &self.lab {
            Some(lab) => directories(Standing::read(lab)?.directories(lab)),
            None => {
                let places = self.reach.places(&project)?;
                runtime.block_on(self.reach.targets(places))?
            }
        };
        Ok(Some((runtime, mesh, targets)))
    }

    async fn asked(&self, mesh: &Mesh, targets: &Targets) -> anyhow::Result<Asked> {
        let lab = self.lab.as_deref().map(Standing::read).transpose()?;
        Asked::of(mesh, targets, &self.reach, lab.as_ref()).await
    }

    fn status(&self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((runtime, mesh, targets)) = self.place(common, out)? else { return Ok(Exit::No) };
        let mut deaf = |_: &Progress| {};
        let campaign = NOBODY.campaign(&mesh, (targets, self.reach.how(DryRun::No)), &NO_GATES, &mut deaf)?;
        let standings = runtime.block_on(campaign.standings());
        let (all, failed) =
            (standings.clusters.len(), standings.clusters.values().filter(|at| at.is_err()).count());
        if common.output == Output::Json {
            out.json(&status_json(&standings));
        } else {
            status_text(&standings, out);
        }
        Ok(reached(all, failed))
    }

    fn pause(&self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((runtime, mesh, targets)) = self.place(common, out)? else { return Ok(Exit::No) };
        let mut deaf = |_: &Progress| {};
        let campaign = NOBODY.campaign(&mesh, (targets, self.reach.how(DryRun::No)), &NO_GATES, &mut deaf)?;
        let asked = runtime.block_on(campaign.pause())?;
        if asked.is_empty() {
            out.say("error: nobody rolls out: there is nothing to pause");
            return Ok(Exit::No);
        }
        let names: Vec<&str> = asked.iter().map(ClusterName::as_str).collect();
        if common.output == Output::Json {
            out.json(&json!({"apiVersion": policy::API_VERSION, "kind": "RolloutPause", "clusters": names}));
        } else {
            out.print(&format!("asked to pause, in {}", names.join(" ")));
        }
        Ok(Exit::Yes)
    }

    fn history(&self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((runtime, mesh, targets)) = self.place(common, out)? else { return Ok(Exit::No) };
        let mut deaf = |_: &Progress| {};
        let all = targets.len();
        let campaign = NOBODY.campaign(&mesh, (targets, self.reach.how(DryRun::No)), &NO_GATES, &mut deaf)?;
        let (history, troubles) = runtime.block_on(campaign.history());
        if common.output == Output::Json {
            let items: Vec<Value> = history.iter().map(kept_json).collect();
            let errors: Vec<String> = troubles.iter().map(ToString::to_string).collect();
            out.json(&json!({"apiVersion": policy::API_VERSION, "kind": "RolloutHistory", "items": items, "errors": errors}));
        } else {
            history.iter().for_each(|kept| kept_text(kept, out));
            troubles.iter().for_each(|trouble| out.say(&format!("error: {trouble}")));
        }
        Ok(reached(all, troubles.len()))
    }
}

impl Go {
    fn run(&self, undo: bool, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((runtime, mesh, targets)) = self.look.place(common, out)? else { return Ok(Exit::No) };
        let mut printer = Printer::new(common.output, 2, false, out);
        let mut tell = |progress: &Progress| printer.tell(progress);
        let asked = runtime.block_on(self.look.asked(&mesh, &targets))?;
        let gates = |limits: &Limits| asked.gates(limits);
        let reached = (targets, self.look.reach.how(DryRun::No));
        let campaign = self.keeping.campaign(&mesh, reached, &gates, &mut tell)?;
        let brake = campaign.brake();
        let going = async { if undo { campaign.undo().await } else { campaign.resume().await } };
        let reported = runtime.block_on(until_interrupted(brake, going));
        printer.end();
        let said = Said { undone_is_well: undo, ..Said::default() };
        report::tell(reported, &said, common.output, out)
    }
}

impl Rollback {
    fn run(&self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((runtime, mesh, targets)) = self.look.place(common, out)? else { return Ok(Exit::No) };
        let Some(strategy) = self.way.strategy(&mesh, out)? else { return Ok(Exit::Usage) };
        let how = self.look.reach.how(Where::dry_run(self.dry_run));
        let dry_run = how.dry_run != DryRun::No;
        let said = Said { dry_run, waves: strategy.waves.clone(), ..Said::default() };
        let mut printer = Printer::new(common.output, strategy.waves.len(), dry_run, out);
        let mut tell = |progress: &Progress| printer.tell(progress);
        let asked = runtime.block_on(self.look.asked(&mesh, &targets))?;
        asked.check(&strategy.gates)?;
        let gates = |limits: &Limits| asked.gates(limits);
        let campaign = self.way.keeping.campaign(&mesh, (targets, how), &gates, &mut tell)?;
        let brake = campaign.brake();
        let rolling = campaign.roll_back(self.revision, strategy, self.way.origin("rollback"));
        let reported = runtime.block_on(until_interrupted(brake, rolling));
        printer.end();
        report::tell(reported, &said, common.output, out)
    }
}

fn reached(all: usize, failed: usize) -> Exit {
    match failed {
        0 => Exit::Yes,
        failed if failed < all => Exit::Partly,
        _ => Exit::Environment,
    }
}

fn status_text(Standings { record, apart, clusters }: &Standings, out: &mut Out) {
    match record {
        None => out.print("no rollout is known"),
        Some(record) => {
            let Record { id, revision, origin, strategy, state, .. } = record;
            out.print(&format!("revision {revision}: {}", ended(record)));
            out.print(&format!(
                "rollout {} by {} at {}, strategy {}",
                plain(id),
                plain(&origin.author),
                plain(&origin.time),
                plain(strategy)
            ));
            if !matches!(state.stage(), Stage::Ended(_)) {
                let wave = state.wave().map(|wave| plain(&wave.name));
                out.print(&state.stage().told(wave.as_deref()));
            }
            if let Some(failure) = state.failure() {
                out.print(&format!("{}: {}", failure.cluster, plain(&failure.why)));
            }
        }
    }
    for (name, why) in apart {
        out.print(&format!("{name}: {}", plain(why)));
    }
    for (name, at) in clusters {
        let behind = record.as_ref().and_then(|record| match record.state.clusters().get(name)? {
            At::Behind(why) => Some(format!(", behind: {}", plain(why))),
            At::Due | At::Taking | At::AtGate | At::Ready => None,
        });
        match at {
            Ok(Some(at)) => out.print(&format!("{name}: revision {at}{}", behind.unwrap_or_default())),
            Ok(None) => out.print(&format!("{name}: no revision{}", behind.unwrap_or_default())),
            Err(trouble) => out.say(&format!("error: {trouble}")),
        }
    }
}

fn status_json(Standings { record, apart, clusters }: &Standings) -> Value {
    let of = |(name, at): (&ClusterName, &Result<Option<u64>, crate::rollout::Trouble>)| {
        json!({
            "cluster": name.as_str(),
            "revision": at.as_ref().ok().copied().flatten(),
            "error": at.as_ref().err().map(ToString::to_string),
            "apart": apart.get(name),
        })
    };
    json!({
        "apiVersion": policy::API_VERSION,
        "kind": "RolloutStatus",
        "end": record.as_ref().map(ended),
        "record": record,
        "items": clusters.iter().map(of).collect::<Vec<_>>(),
    })
}

fn kept_text(Kept { revision, in_clusters, at }: &Kept, out: &mut Out) {
    let names = |names: &[ClusterName]| names.iter().map(ClusterName::as_str).collect::<Vec<_>>().join(" ");
    let origin = &revision.origin;
    let message =
        if origin.message.is_empty() { String::new() } else { format!(": {}", plain(&origin.message)) };
    let source =
        if origin.source.is_empty() { String::new() } else { format!(", from {}", plain(&origin.source)) };
    out.print(&format!(
        "{} {} by {} at {}{source}{message}",
        revision.number,
        plain(&origin.reason),
        plain(&origin.author),
        plain(&origin.time)
    ));
    out.print(&format!("  kept in {}", names(in_clusters)));
    if !at.is_empty() {
        out.print(&format!("  now in {}", names(at)));
    }
}

fn kept_json(Kept { revision, in_clusters, at }: &Kept) -> Value {
    let names = |names: &[ClusterName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "revision": revision.number,
        "author": revision.origin.author,
        "time": revision.origin.time,
        "message": revision.origin.message,
        "source": revision.origin.source,
        "reason": revision.origin.reason,
        "keptIn": names(in_clusters),
        "nowIn": names(at),
    })
}
