use clap::Args;

use super::{Common, Exit, Out, Output};
use crate::build::{BuildOptions, Built, build};
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

/// `isthmus build`
#[derive(Debug, Args)]
pub(super) struct Build {}

impl Build {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Self {} = self;
        let workspace = Workspace::here()?;
        let toolchain = Toolchain::find(&workspace)?;
        out.say(&format!("compiling the filter with {toolchain}"));
        let built = build(&BuildOptions::new(workspace, toolchain), &mut |line| out.say(line))?;
        match common.output {
            Output::Json => {
                let manifest = built.path.with_extension("json");
                out.print(std::fs::read_to_string(manifest)?.trim_end());
            }
            Output::Text | Output::Junit | Output::Short => out.print(&describe(&built)),
        }
        Ok(Exit::Yes)
    }
}

/// A module in three lines.
pub(super) fn describe(built: &Built) -> String {
    format!(
        "{}: {} bytes, proxy-wasm ABI {}\nsha256: {}\nimports: {}, all of env.proxy_*",
        built.path.display(),
        built.bytes,
        built.abi,
        built.sha256,
        built.imports.len(),
    )
}
