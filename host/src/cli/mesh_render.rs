use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use policy::Mesh;
use policy::mesh::{Federated, IstioVersion};
use policy::name::{ClusterName, RootName};
use serde_json::{Value, json};

use super::{Common, Exit, Out, Output};
use crate::cert::Hierarchy;
use crate::manifest::addresses::Book;
use crate::manifest::{self, Content, Manifest, Options, folder};
use crate::read::Project;

/// `isthmus mesh render`
#[derive(Debug, Args)]
pub(super) struct MeshRender {
    /// Write a directory for each cluster into DIR, with a page that says what to run in which order
    #[arg(long, env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Only this cluster; can be given several times
    #[arg(long, env = "ISTHMUS_CLUSTER", value_name = "NAME", value_delimiter = ',')]
    cluster: Vec<ClusterName>,
    #[command(flatten)]
    rendering: Rendering,
}

/// What `mesh.yaml` does not say of what is rendered.
#[derive(Debug, Args)]
pub(super) struct Rendering {
    /// Where the addresses lie that names were given before: a directory that was rendered. By default what was rendered
    /// before, or what the clusters have
    #[arg(long, env = "ISTHMUS_ADDRESSES", value_name = "DIR")]
    addresses: Option<PathBuf>,
    /// Where the root certificates of federated meshes lie, as ROOT.pem; by default roots/ beside mesh.yaml, and where
    /// `isthmus mesh certs` has made them there
    #[arg(long, env = "ISTHMUS_ROOTS", value_name = "DIR")]
    roots: Option<PathBuf>,
    /// Have proxies trust several roots, while the root of the mesh is being changed
    #[arg(long, env = "ISTHMUS_CHANGING_ROOT")]
    changing_root: bool,
}

impl Rendering {
    /// The addresses that lie where it is said, if it is.
    pub(super) fn book(&self) -> anyhow::Result<Option<Book>> {
        Ok(self.addresses.as_deref().map(folder::book).transpose()?)
    }

    /// How a mesh is rendered that was given these addresses before.
    pub(super) fn options<'o>(
        &self,
        project: &Project,
        book: Book,
        clusters: &'o [ClusterName],
    ) -> anyhow::Result<Options<'o>> {
        let beside = project.file.with_file_name("roots");
        if let Some(roots) = &self.roots {
            ensure!(
                roots.is_dir(),
                "there is no directory {}: --roots names the one that has ROOT.pem of each mesh",
                roots.display()
            );
        }
        let mut roots = BTreeMap::new();
        for mesh in project.mesh.iter().flat_map(Mesh::meshes) {
            let given = self.roots.as_ref().unwrap_or(&beside).join(format!("{}.pem", mesh.root));
            let made = || made_here(project, &mesh.root).filter(|_| self.roots.is_none());
            if let Some(path) = Some(given).filter(|path| path.is_file()).or_else(made) {
                roots.insert(mesh.root.clone(), root(&path, mesh)?);
            }
        }
        Ok(Options { book, roots, changing_root: self.changing_root, clusters })
    }
}

impl MeshRender {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        warn_of_version(mesh, out);
        let names: Vec<&str> = mesh.clusters().map(|cluster| cluster.name.as_str()).collect();
        for cluster in &self.cluster {
            let known = mesh.cluster(cluster).is_some();
            ensure!(known, "cluster {cluster} is not in mesh.yaml: it has {}", names.join(", "));
        }
        let book = match (self.rendering.book()?, &self.output_dir) {
            (Some(book), _) => book,
            (None, Some(directory)) => folder::book(directory)?,
            (None, None) => Book::default(),
        };
        let options = self.rendering.options(&project, book, &self.cluster)?;
        let manifest = manifest::render(mesh, plans, &options)?;
        match &self.output_dir {
            Some(directory) => {
                let files = folder::files(mesh, &manifest)?;
                let (written, removed) = folder::write(directory, &files)?;
                let unchanged = files.len() - written;
                if common.output == Output::Json {
                    let directory = directory.display().to_string();
                    out.json(&json!({
                        "apiVersion": policy::API_VERSION, "kind": "RenderedMesh", "directory": directory,
                        "written": written, "unchanged": unchanged, "removed": removed,
                    }));
                } else {
                    let told = format!("{written} files written, {unchanged} unchanged, {removed} removed");
                    out.print(&format!("{told}: {}", directory.display()));
                }
            }
            None if common.output == Output::Json => out.json(&listed(&manifest)),
            None => print(&manifest, out)?,
        }
        Ok(Exit::Yes)
    }
}

/// An Istio that nobody has tried what is rendered with.
pub(super) fn warn_of_version(mesh: &Mesh, out: &mut Out) {
    let (oldest, newest) = manifest::KNOWN;
    let is_known =
        |version: &IstioVersion| version.major() == 1 && (oldest..=newest).contains(&version.minor());
    if let Some(version) = mesh.installation().version.filter(|version| !is_known(version)) {
        out.say(&format!(
            "warning: what is rendered is for Istio 1.{oldest} to 1.{newest}, and mesh.yaml says {version}"
        ));
    }
}

/// The certificate of a root that was made beside mesh.yaml, if it was.
fn made_here(project: &Project, root: &RootName) -> Option<PathBuf> {
    let home = project.mesh.as_ref()?.meshes().next()?;
    let certs = project.file.with_file_name("certs");
    let hierarchy = if home.root == *root { Hierarchy::at(certs) } else { Hierarchy::of_root(certs, root) };
    Some(hierarchy.root_certificate()).filter(|path| path.is_file())
}

/// The root certificate of a mesh.
fn root(path: &Path, mesh: &Federated) -> anyhow::Result<String> {
    let pem = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        pem.contains("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE KEY"),
        "{} is to hold the root certificate of mesh {} in PEM, and nothing else",
        path.display(),
        mesh.name
    );
    Ok(pem)
}

/// Every object; what is for `istioctl` or helm is no object, and only told of.
fn print(manifest: &Manifest, out: &mut Out) -> anyhow::Result<()> {
    let mut withheld = 0;
    for (cluster, items) in manifest {
        for item in items {
            if matches!(item.content, Content::Object(_)) {
                let document = folder::document(item)?;
                out.print(&format!("---\n# {cluster}: {}\n{}", item.phase.as_str(), document.trim_end()));
            } else {
                withheld += 1;
            }
        }
    }
    out.say(&format!(
        "{withheld} files for istioctl or helm are no objects: --output-dir writes them too, and the order"
    ));
    Ok(())
}

/// Everything, for programs.
fn listed(manifest: &Manifest) -> Value {
    let mut listed = Vec::new();
    for (cluster, items) in manifest {
        for item in items {
            let (kind, content) = match &item.content {
                Content::Object(object) => ("object", object.clone()),
                Content::IstioOperator(file) => ("istioctl", file.clone()),
                Content::Helm(release) => (
                    "helm",
                    json!({
                        "name": release.name, "chart": release.chart, "namespace": release.namespace,
                        "version": release.version, "values": release.values,
                    }),
                ),
            };
            listed.push(json!({
                "cluster": cluster.as_str(), "phase": item.phase.as_str(), "file": item.file_name(), "for": kind,
                "content": content,
            }));
        }
    }
    json!({"apiVersion": policy::API_VERSION, "kind": "RenderedMesh", "items": listed})
}
