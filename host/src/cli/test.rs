use clap::Args;

use super::{Common, Exit, Out};

/// `isthmus test`
#[derive(Debug, Args)]
pub(super) struct Test {}

impl Test {
    #[expect(clippy::needless_pass_by_value, reason = "a verb is run once")]
    pub(super) fn run(self, _common: &Common, _out: &mut Out) -> anyhow::Result<Exit> {
        anyhow::bail!("unfinished")
    }
}
