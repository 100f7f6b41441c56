use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use policy::Mesh;
use policy::mesh::{Cluster, IssuerName};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Common, Exit, Out};
use crate::cert::{self, Form, Hierarchy, KeyKind, Options, Report, RootFiles, Side};
use crate::read::Project;

/// `isthmus mesh certs`
#[derive(Debug, Args)]
pub(super) struct Certs {
    /// Where the CA lies; by default certs/ beside mesh.yaml
    #[arg(long, visible_alias = "certs", env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// The kind of the keys
    #[arg(long, env = "ISTHMUS_KEY", default_value = "rsa4096")]
    key: Key,
    /// The certificate of a root that is there already, to make the intermediates under
    #[arg(long, env = "ISTHMUS_ROOT_CERT", value_name = "FILE")]
    root_cert: Option<PathBuf>,
    /// The key of that root; it is read where it lies and never copied
    #[arg(long, env = "ISTHMUS_ROOT_KEY", value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Also write each cluster's Secret `cacerts`, with its key, for its owner alone; by default into
    /// cacerts.secrets/ where the CA lies
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    secrets: Option<Option<PathBuf>>,
    /// The form of the Secrets
    #[arg(long, default_value = "files")]
    secret_form: SecretForm,
    /// Print the Secrets, with their keys
    #[arg(long)]
    show_secrets: bool,
}

/// The kind of the keys of a CA.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Key {
    /// RSA of 4096 bits, as Istio's own tool makes
    Rsa4096,
    /// ECDSA on P-256
    P256,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SecretForm {
    /// ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem
    Files,
    /// Of type kubernetes.io/tls: tls.crt, tls.key, ca.crt
    Tls,
}

impl Key {
    pub(super) fn options(self) -> Options {
        let key = match self {
            Self::Rsa4096 => KeyKind::Rsa4096,
            Self::P256 => KeyKind::P256,
        };
        Options { key, ..Options::default() }
    }
}

/// Where the CA of a mesh lies.
pub(super) fn directory(project: &Project, named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| project.file.parent().unwrap_or(Path::new(".")).join("certs"))
}

/// The names of a mesh's clusters.
pub(super) fn names(mesh: &Mesh) -> Vec<&str> {
    mesh.clusters().map(|cluster| cluster.name.as_str()).collect()
}

impl Certs {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        let now = super::now();
        let directory = directory(&project, self.output_dir.clone());
        let hierarchy = Hierarchy::at(&directory);
        for cluster in mesh.clusters() {
            let there = hierarchy.cluster(cluster.name.as_str()).join("ca-cert.pem").exists();
            ensure!(
                there || cluster.issuers.contains(&IssuerName::of_intermediate(&cluster.name)),
                "mesh.yaml says that {} has a CA of its own: take issuers away there, or add {:?} to them",
                cluster.name,
                IssuerName::of_intermediate(&cluster.name).as_str()
            );
        }
        let root = RootFiles { certificate: self.root_cert.as_deref(), key: self.root_key.as_deref() };
        let report = hierarchy.ensure_under(root, &names(mesh), self.key.options(), now)?;
        let issuers = issuers(mesh, &hierarchy, now)?;
        tell(mesh, &report, &issuers, out);
        self.give_secrets(mesh, &hierarchy, out)?;
        out.say("the root's key is not needed by any cluster: keep it off line");
        Ok(Exit::Yes)
    }

    fn give_secrets(&self, mesh: &Mesh, hierarchy: &Hierarchy, out: &mut Out) -> anyhow::Result<()> {
        if self.secrets.is_none() && !self.show_secrets {
            return Ok(());
        }
        let form = match self.secret_form {
            SecretForm::Files => Form::Files,
            SecretForm::Tls => Form::Tls,
        };
        for name in names(mesh) {
            let bundle = hierarchy.bundle(name)?;
            bundle.check(&hierarchy.cluster(name), super::now())?;
            let secret = cert::secret(&bundle, mesh.root_namespace().as_str(), form)?;
            let text = Zeroizing::new(serde_saphyr::to_string(&secret).context("a Secret is no YAML")?);
            if let Some(named) = &self.secrets {
                let beside = || hierarchy.cluster("cacerts.secrets");
                let path = named.clone().unwrap_or_else(beside).join(format!("{name}.yaml"));
                let word = if cert::write_secret(&path, &text)? { "wrote" } else { "kept" };
                out.print(&format!("{word} Secret cacerts of {name} in {}", path.display()));
            }
            if self.show_secrets {
                out.print(&format!("---\n# {name}\n{}", text.trim_end()));
            }
        }
        Ok(())
    }
}

/// The issuer that each cluster's leaves name, as the filter reads it: one that `mesh.yaml` gives to that cluster.
fn issuers(mesh: &Mesh, hierarchy: &Hierarchy, now: OffsetDateTime) -> anyhow::Result<Vec<String>> {
    let of = |cluster: &Cluster| {
        let name = cluster.name.as_str();
        let side = Side::of(name, cluster.trust_domain.as_str(), &hierarchy.bundle(name)?, now)?;
        let issuer =
            side.issuer().with_context(|| format!("the intermediate of {name} has no readable name"))?;
        ensure!(
            cluster.issuers.iter().any(|listed| listed.as_str() == issuer),
            "the intermediate of {name} in {} is called {issuer:?}, which mesh.yaml does not list: without it requests \
             from {name} have no source; add it to issuers of {name}",
            hierarchy.cluster(name).display()
        );
        Ok(issuer)
    };
    mesh.clusters().map(of).collect()
}

fn tell(mesh: &Mesh, report: &Report, issuers: &[String], out: &mut Out) {
    let word = |made: bool| if made { "made" } else { "kept" };
    out.print(&format!("{} root of {}", word(report.root_made), mesh.name()));
    for (cluster, issuer) in mesh.clusters().zip(issuers) {
        let made = report.made.iter().any(|name| name == cluster.name.as_str());
        out.print(&format!("{} intermediate of {}: {issuer}", word(made), cluster.name));
    }
}
