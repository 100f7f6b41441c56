use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use policy::Mesh;
use policy::mesh::{Cluster, IssuerName};
use policy::name::{MeshName, RootName};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Common, Exit, Out};
use crate::cert::{self, Form, Hierarchy, KeyKind, Options, Report, RootFiles, Side};
use crate::manifest::ISTIO_NAMESPACE;
use crate::read::Project;

/// `isthmus mesh certs`
#[derive(Debug, Args)]
pub(super) struct Certs {
    #[command(flatten)]
    place: Place,
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

/// The form of Secrets with a CA.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SecretForm {
    /// ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem
    Files,
    /// Of type kubernetes.io/tls: tls.crt, tls.key, ca.crt
    Tls,
}

impl SecretForm {
    pub(super) fn form(self) -> Form {
        match self {
            Self::Files => Form::Files,
            Self::Tls => Form::Tls,
        }
    }
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

/// Which CA, and where it lies.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Where the CA lies; by default certs/ beside mesh.yaml
    #[arg(long, alias = "output-dir", env = "ISTHMUS_CERTS", value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Of federated meshes, the one whose CA is meant; by default that of mesh.yaml
    #[arg(long, env = "ISTHMUS_MESH", value_name = "NAME")]
    mesh: Option<MeshName>,
}

/// The CA of a mesh: its files, and the clusters below its root that have one of their own. A remote cluster has not: the
/// istiod of its primary signs for it.
#[derive(Debug)]
pub(super) struct Ca<'m> {
    pub(super) hierarchy: Hierarchy,
    pub(super) clusters: Vec<&'m Cluster>,
}

impl Place {
    /// The CA that is meant.
    pub(super) fn of<'m>(&self, project: &Project, mesh: &'m Mesh) -> anyhow::Result<Ca<'m>> {
        let directory = directory(project, self.certs.clone());
        let meant = match &self.mesh {
            Some(name) => mesh.meshes().find(|mesh| mesh.name == *name),
            None => mesh.meshes().next(),
        };
        let meant = meant.with_context(|| {
            let names: Vec<&str> = mesh.meshes().map(|mesh| mesh.name.as_str()).collect();
            format!("there is no such mesh in mesh.yaml: it has {}", names.join(", "))
        })?;
        Ok(Ca::below(mesh, &meant.root, &directory))
    }
}

impl<'m> Ca<'m> {
    /// The CA below a root: that of the mesh itself lies on top, others in directories of their own.
    fn below(mesh: &'m Mesh, root: &RootName, directory: &Path) -> Self {
        let is_home = mesh.meshes().next().is_some_and(|home| home.root == *root);
        let hierarchy = if is_home { Hierarchy::at(directory) } else { Hierarchy::of_root(directory, root) };
        let below =
            |cluster: &&Cluster| mesh.meshes().any(|mesh| mesh.name == cluster.mesh && mesh.root == *root);
        Self { hierarchy, clusters: mesh.signers().filter(below).collect() }
    }

    /// Every CA of a mesh and of those that it is federated with.
    pub(super) fn all(mesh: &'m Mesh, directory: &Path) -> Vec<Self> {
        let roots: BTreeSet<&RootName> = mesh.meshes().map(|mesh| &mesh.root).collect();
        roots.into_iter().map(|root| Self::below(mesh, root, directory)).collect()
    }
}

impl Ca<'_> {
    pub(super) fn names(&self) -> Vec<&str> {
        self.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
    }
}

/// Where the CAs of a mesh lie.
pub(super) fn directory(project: &Project, named: Option<PathBuf>) -> PathBuf {
    named.unwrap_or_else(|| project.file.parent().unwrap_or(Path::new(".")).join("certs"))
}

impl Certs {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let Some(mesh) = &project.mesh else { return Ok(Exit::No) };
        let now = super::now();
        let ca = self.place.of(&project, mesh)?;
        for cluster in &ca.clusters {
            ensure!(
                ca.hierarchy.has(cluster.name.as_str())?
                    || cluster.issuers.contains(&IssuerName::of_intermediate(&cluster.name)),
                "mesh.yaml says that {} has a CA of its own: take issuers away there, or add {:?} to them",
                cluster.name,
                IssuerName::of_intermediate(&cluster.name).as_str()
            );
        }
        let root = RootFiles { certificate: self.root_cert.as_deref(), key: self.root_key.as_deref() };
        let report = ca.hierarchy.ensure_under(root, &ca.names(), self.key.options(), now)?;
        let issuers = issuers(&ca, now)?;
        tell(&ca, &report, &issuers, out);
        self.give_secrets(&ca, out)?;
        left_out(mesh, &ca, out);
        for key in ca.hierarchy.exposed_keys(&ca.names())? {
            out.say(&format!("warning: others may read {}: chmod 600 it", key.display()));
        }
        out.say("the root's key is not needed by any cluster: keep it off line");
        Ok(Exit::Yes)
    }

    fn give_secrets(&self, ca: &Ca<'_>, out: &mut Out) -> anyhow::Result<()> {
        if self.secrets.is_none() && !self.show_secrets {
            return Ok(());
        }
        let form = self.secret_form.form();
        let hierarchy = &ca.hierarchy;
        for name in ca.names() {
            let bundle = hierarchy.bundle(name)?;
            bundle.check(&hierarchy.cluster(name), super::now())?;
            let secret = cert::secret(&bundle, ISTIO_NAMESPACE, form)?;
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
fn issuers(ca: &Ca<'_>, now: OffsetDateTime) -> anyhow::Result<Vec<String>> {
    let hierarchy = &ca.hierarchy;
    let of = |cluster: &&Cluster| {
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
    ca.clusters.iter().map(of).collect()
}

/// Says of the clusters that no CA was made for why that is.
fn left_out(mesh: &Mesh, ca: &Ca<'_>, out: &mut Out) {
    for other in mesh.clusters().filter(|cluster| ca.clusters.iter().all(|own| own.name != cluster.name)) {
        let (name, signer) = (&other.name, &mesh.signer(other).name);
        if signer == name {
            out.say(&format!(
                "{name} is of mesh {}, which has a root of its own: --mesh {}",
                other.mesh, other.mesh
            ));
        } else {
            out.say(&format!("{name} has no CA of its own: the istiod of {signer} signs for it"));
        }
    }
}

fn tell(ca: &Ca<'_>, report: &Report, issuers: &[String], out: &mut Out) {
    let word = |made: bool| if made { "made" } else { "kept" };
    out.print(&format!("{} root in {}", word(report.root_made), ca.hierarchy.root_certificate().display()));
    for (cluster, issuer) in ca.clusters.iter().zip(issuers) {
        let made = report.made.iter().any(|name| name == cluster.name.as_str());
        out.print(&format!("{} intermediate of {}: {issuer}", word(made), cluster.name));
    }
}
