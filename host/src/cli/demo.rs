use clap::Args;

use super::{Exit, Out};

/// `isthmus demo`
#[derive(Debug, Args)]
pub(super) struct Demo {}

impl Demo {
    #[expect(clippy::needless_pass_by_value, reason = "a verb is run once")]
    pub(super) fn run(self, _out: &mut Out) -> anyhow::Result<Exit> {
        anyhow::bail!("unfinished")
    }
}
