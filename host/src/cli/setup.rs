use clap::Args;

use super::{Exit, Out};
use crate::envoy::Envoy;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// `isthmus setup`
#[derive(Debug, Args)]
pub(super) struct Setup {}

impl Setup {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<Exit> {
        let Self {} = self;
        let workspace = Workspace::here()?;
        let toolchain = Toolchain::provide(&workspace, &mut |line| out.say(line))?;
        out.print(&format!("wasm toolchain: {toolchain}"));
        let envoy = Envoy::provide(&workspace, &mut |line| out.say(line))?;
        out.print(&format!("envoy: {} at {}", envoy.version(), envoy.path().display()));
        Ok(Exit::Yes)
    }
}
