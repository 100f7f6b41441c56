use clap::Args;

use super::{Common, Exit, Out, Output};
use crate::render;

/// `isthmus check`
#[derive(Debug, Args)]
pub(super) struct Check {}

impl Check {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Self {} = self;
        let project = common.project()?;
        match common.output {
            Output::Json => out.json(&render::findings_json(&project.findings)),
            Output::Text | Output::Junit | Output::Short => {
                let shown = render::findings(&project.findings, &project.sources);
                if !shown.is_empty() {
                    out.print(shown.trim_end());
                    out.print("");
                    if let Some(first) = project.findings.first() {
                        out.say(&format!("`isthmus explain {}` says more of a finding", first.code));
                    }
                }
                let what = project.mesh.as_ref().map_or_else(String::new, |mesh| {
                    let (clusters, policies) = (mesh.clusters().count(), project.policies.len());
                    // One cluster is no way yet of building a mesh of several.
                    let model = if clusters > 1 { format!(", {}", mesh.model()) } else { String::new() };
                    format!(
                        " ({}{model}; {})",
                        render::counted(clusters, "cluster"),
                        if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") }
                    )
                });
                out.print(&format!(
                    "{}: {}{what}",
                    project.file.display(),
                    render::summary(&project.findings)
                ));
            }
        }
        Ok(if project.plans.is_some() { Exit::Yes } else { Exit::No })
    }
}
