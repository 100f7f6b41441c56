use clap::Args;

use super::mesh_apply::{Deed, Making, Where};
use super::mesh_secrets::Tokens;
use super::{Common, Exit, Out};
use crate::install::{self, DryRun};

/// `isthmus mesh delete`
#[derive(Debug, Args)]
pub(super) struct MeshDelete {
    #[command(flatten)]
    making: Making,
    /// Only say what would go: `client` looks at what is there, `server` also has API servers check it
    #[arg(long, env = "ISTHMUS_DRY_RUN", value_name = "WHERE", num_args = 0..=1, default_missing_value = "client")]
    dry_run: Option<Where>,
    /// Really take it away; without it nothing is changed
    #[arg(long)]
    yes: bool,
}

impl MeshDelete {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let dry_run = match Where::dry_run(self.dry_run) {
            DryRun::No if !self.yes => {
                out.say("nothing is changed without --yes: this is what would go");
                DryRun::Client
            }
            dry_run @ (DryRun::No | DryRun::Client | DryRun::Server) => dry_run,
        };
        let deed = Deed { word: "MeshDeleted", dry_run, replace_ca: false };
        self.making.run(&project, (Tokens::default(), deed), (common.output, out), |wanted, standing, how| {
            Box::pin(install::remove(wanted, standing, how))
        })
    }
}
