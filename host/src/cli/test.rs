use clap::Args;

use super::{Common, Exit, Out};

/// `isthmus test`
#[derive(Debug, Args)]
pub(super) struct Test {}

impl Test {
    pub(super) fn run(self, _common: &Common, _out: &mut Out) -> anyhow::Result<Exit> {
        anyhow::bail!("unfinished")
    }
}
