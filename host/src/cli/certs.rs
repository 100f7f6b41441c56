use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use policy::mesh::IssuerName;

use super::{Common, Exit, Out};
use crate::cert::{Hierarchy, KeyKind, Options};

/// `isthmus mesh certs`
#[derive(Debug, Args)]
pub(super) struct Certs {
    /// Where the CA lies; by default certs/ beside mesh.yaml
    #[arg(long, env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// The kind of the keys
    #[arg(long, env = "ISTHMUS_KEY", default_value = "rsa4096")]
    key: Key,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Key {
    /// RSA of 4096 bits, as Istio's own tool makes
    Rsa4096,
    /// ECDSA on P-256
    P256,
}

impl Certs {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        for cluster in mesh.clusters() {
            let ours = IssuerName::of_intermediate(&cluster.name);
            ensure!(
                cluster.issuers.contains(&ours),
                "mesh.yaml says that {} has a CA of its own: take issuers away there, or add {:?} to them",
                cluster.name,
                ours.as_str()
            );
        }
        let beside = project.file.parent().unwrap_or(Path::new(".")).join("certs");
        let directory = self.output_dir.unwrap_or(beside);
        let names: Vec<&str> = mesh.clusters().map(|cluster| cluster.name.as_str()).collect();
        let key = match self.key {
            Key::Rsa4096 => KeyKind::Rsa4096,
            Key::P256 => KeyKind::P256,
        };
        let report =
            Hierarchy::at(&directory).ensure(&names, Options { key, ..Options::default() }, super::now())?;
        let word = |made: bool| if made { "made" } else { "kept" };
        out.print(&format!("{} root of {} in {}", word(report.root_made), mesh.name(), directory.display()));
        for cluster in mesh.clusters() {
            let made = report.made.iter().any(|name| name == cluster.name.as_str());
            let issuer = IssuerName::of_intermediate(&cluster.name);
            out.print(&format!("{} intermediate of {}: {issuer}", word(made), cluster.name));
        }
        out.say("the root's key is not needed by any cluster: keep it off line");
        Ok(Exit::Yes)
    }
}
