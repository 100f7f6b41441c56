use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use time::Duration;

use super::certs::{self, Ca};
use super::{Common, Exit, Out, Output};
use crate::cert::{CertError, Expiry, Life, expiries};
use crate::read::Project;
use crate::render;

/// `isthmus check`
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Where the CA lies, to see what of it ends soon; by default certs/ beside mesh.yaml, if it is there
    #[arg(long, env = "ISTHMUS_CERTS", value_name = "DIR")]
    certs: Option<PathBuf>,
    /// How many days before the end of a certificate to warn
    #[arg(long, env = "ISTHMUS_EXPIRY_WARNING", value_name = "DAYS", default_value_t = 30)]
    expiry_warning: u16,
}

impl Check {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let project = common.project()?;
        let certificates = self.certificates(&project)?;
        match common.output {
            Output::Json => {
                out.json(&with_certificates(render::findings_json(&project.findings), &certificates));
            }
            Output::Text | Output::Junit | Output::Short => {
                let shown = render::findings(&project.findings, &project.sources);
                if !shown.is_empty() {
                    out.print(shown.trim_end());
                    out.print("");
                    if let Some(first) = project.findings.first() {
                        out.say(&format!("`isthmus explain {}` says more of a finding", first.code));
                    }
                }
                for expiry in &certificates {
                    out.print(&told(expiry));
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
        let holds = certificates.iter().all(|expiry| expiry.life <= Life::Ends);
        Ok(if project.plans.is_some() && holds { Exit::Yes } else { Exit::No })
    }

    /// The certificates of which something is to be said.
    fn certificates(&self, project: &Project) -> Result<Vec<Expiry>, CertError> {
        let directory = certs::directory(project, self.certs.clone());
        let Some(mesh) = project.mesh.as_ref().filter(|_| self.certs.is_some() || directory.is_dir()) else {
            return Ok(Vec::new());
        };
        let warning = Duration::days(self.expiry_warning.into());
        let mut all = Vec::new();
        for ca in Ca::all(mesh, &directory) {
            all.extend(expiries(&ca.hierarchy, &ca.names(), super::now(), warning)?);
        }
        Ok(all.into_iter().filter(|expiry| expiry.life != Life::Holds).collect())
    }
}

fn severity(life: Life) -> &'static str {
    match life {
        Life::Holds | Life::Ends => "warning",
        Life::Begins | Life::Ended => "error",
    }
}

fn told(expiry: &Expiry) -> String {
    let (path, severity) = (expiry.path.display(), severity(expiry.life));
    format!("{path}: {severity}: {}\n  hint: {}\n", expiry.says(super::now()), expiry.remedy)
}

fn with_certificates(mut findings: Value, certificates: &[Expiry]) -> Value {
    let item = |expiry: &Expiry| {
        json!({
            "file": expiry.path.display().to_string(),
            "severity": severity(expiry.life),
            "message": expiry.says(super::now()),
            "hint": expiry.remedy,
        })
    };
    if let Some(findings) = findings.as_object_mut().filter(|_| !certificates.is_empty()) {
        findings.insert("certificates".to_owned(), certificates.iter().map(item).collect());
    }
    findings
}
