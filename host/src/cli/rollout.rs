use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use policy::Mesh;
use policy::compile::Plans;
use policy::mesh;
use policy::name::ClusterName;
use serde_json::{Value, json};

use super::clusters::Clusters;
use super::lab::Standing;
use super::registry::Resolving;
use super::{Common, Exit, Out, Output};
use crate::kube::ClusterError;
use crate::plugin::ModuleUrl;
use crate::read::Project;
use crate::rollout::{self, DryRun, How, Options, Outcome, Target};
use crate::stage;

/// `isthmus rollout`
#[derive(Debug, Args)]
pub(super) struct Rollout {
    #[command(flatten)]
    destination: Destination,
    /// The module to put into the directories when there is no --url; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
    /// Roll out into the lab that is up
    #[arg(long, env = "ISTHMUS_LAB", value_name = "DIR", conflicts_with = "output_dir", num_args = 0..=1, default_missing_value = ".isthmus/lab")]
    lab: Option<PathBuf>,
    /// Only say what would be written: `client` looks at what is there, `server` also has API servers check it
    #[arg(long, env = "ISTHMUS_DRY_RUN", value_name = "WHERE", num_args = 0..=1, default_missing_value = "client")]
    dry_run: Option<Where>,
}

/// What is brought to the clusters, and how they are reached.
#[derive(Debug, Args)]
pub(super) struct Destination {
    /// Where proxies get the module from, such as oci://registry.example/isthmus:v1, or with the @sha256: that
    /// `isthmus push` prints
    #[arg(long, env = "ISTHMUS_URL")]
    url: Option<ModuleUrl>,
    #[command(flatten)]
    resolving: Resolving,
    /// Put each cluster's objects into DIR/CLUSTER, whatever mesh.yaml says of the cluster
    #[arg(long, env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Also hold boundaries where the endpoint of a request is known, by an `EnvoyFilter`; needs a --url of file://
    #[arg(long, env = "ISTHMUS_UPSTREAM_CHECK")]
    upstream_check: bool,
    /// Take the fields of our objects that others own from them
    #[arg(long, env = "ISTHMUS_FORCE_CONFLICTS")]
    force_conflicts: bool,
    #[command(flatten)]
    clusters: Clusters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    /// Here
    Client,
    /// In the API servers
    Server,
}

impl Rollout {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        let outcomes = if let Some(lab) = &self.lab {
            let standing = Standing::read(lab)?;
            let mesh = standing.relocate(mesh.clone())?;
            let (plans, findings) = policy::compile(&mesh, &project.policies);
            let Some(plans) = plans else { anyhow::bail!("the policies do not fit the lab: {findings:?}") };
            let module = super::module(self.module.clone())?;
            let url = stage::place_module(&module, lab)?;
            self.to_directories(&mesh, &plans, &standing.directories(lab), &url)?
        } else {
            let places = self.destination.places(&project)?;
            let url = self.module_url(&places, out)?;
            if places.contexts.is_empty() {
                self.to_directories(mesh, plans, &places.directories, &url)?
            } else {
                super::runtime()?.block_on(self.to_clusters(mesh, plans, places, &url))?
            }
        };
        report(&outcomes, self.dry_run.is_some(), common.output, out);
        Ok(exit(&outcomes))
    }

    fn to_directories(
        &self,
        mesh: &Mesh,
        plans: &Plans,
        directories: &BTreeMap<ClusterName, PathBuf>,
        url: &ModuleUrl,
    ) -> anyhow::Result<Vec<Outcome>> {
        let changes = rollout::to_directories(mesh, plans, directories, self.options(url))?;
        Ok(changes.into_iter().map(|change| Outcome { change, trouble: None }).collect())
    }

    async fn to_clusters(
        &self,
        mesh: &Mesh,
        plans: &Plans,
        places: Places,
        url: &ModuleUrl,
    ) -> anyhow::Result<Vec<Outcome>> {
        let targets = self.destination.targets(places).await?;
        let dry_run = match self.dry_run {
            None => DryRun::No,
            Some(Where::Client) => DryRun::Client,
            Some(Where::Server) => DryRun::Server,
        };
        let how = self.destination.how(dry_run);
        Ok(rollout::roll_out(mesh, plans, targets, (self.options(url), how)).await?)
    }

    fn options<'o>(&self, url: &'o ModuleUrl) -> Options<'o> {
        self.destination.options(url, self.dry_run.is_some())
    }

    /// The URL that was said; without one, a copy of the module beside the first cluster's objects.
    fn module_url(&self, places: &Places, out: &mut Out) -> anyhow::Result<ModuleUrl> {
        if let Some(url) = self.destination.url(out)? {
            return Ok(url);
        }
        if !places.contexts.is_empty() {
            anyhow::bail!(
                "the proxies of a cluster cannot get the module from here: say with --url where they can"
            );
        }
        let module = super::module(self.module.clone())?;
        let beside = places
            .directories
            .values()
            .next()
            .and_then(|directory| directory.parent())
            .unwrap_or(Path::new("."));
        Ok(stage::place_module(&module, beside)?)
    }
}

impl Destination {
    /// The URL that was said, with the digest of what is there.
    pub(super) fn url(&self, out: &mut Out) -> anyhow::Result<Option<ModuleUrl>> {
        self.url.as_ref().map(|url| self.resolving.resolve(url, out)).transpose()
    }

    pub(super) fn options<'o>(&self, url: &'o ModuleUrl, dry_run: bool) -> Options<'o> {
        Options { url, upstream_check: self.upstream_check, dry_run }
    }

    pub(super) fn how(&self, dry_run: DryRun) -> How {
        How { dry_run, force: self.force_conflicts, parallel: self.clusters.parallel }
    }

    /// Where each cluster's objects go.
    pub(super) fn places(&self, project: &Project) -> anyhow::Result<Places> {
        let base = project.file.parent().unwrap_or(Path::new("."));
        let mut places = Places::default();
        let mut without = Vec::new();
        // A remote's objects are in the cluster of its control plane.
        let primaries = project.mesh.iter().flat_map(Mesh::control_planes).map(|(primary, _)| primary);
        for cluster in primaries {
            let name = cluster.name.clone();
            match (&self.output_dir, &cluster.target) {
                (Some(directory), _) => {
                    places.directories.insert(name, directory.join(cluster.name.as_str()));
                }
                (None, Some(mesh::Target::Directory(directory))) => {
                    places.directories.insert(name, base.join(directory));
                }
                (None, Some(mesh::Target::Context(context))) => {
                    places.contexts.insert(name, context.clone());
                }
                (None, None) => without.push(cluster.name.as_str()),
            }
        }
        if !without.is_empty() {
            anyhow::bail!(
                "nothing says where {} is: say context: or directory: in mesh.yaml, or --output-dir",
                without.join(", ")
            );
        }
        Ok(places)
    }

    /// What is brought the objects: directories, and clusters as far as they can be had.
    pub(super) async fn targets(
        &self,
        places: Places,
    ) -> anyhow::Result<BTreeMap<ClusterName, Result<Target, ClusterError>>> {
        let directories = places.directories.into_iter();
        let mut targets: BTreeMap<_, _> =
            directories.map(|(cluster, directory)| (cluster, Ok(Target::Directory(directory)))).collect();
        if !places.contexts.is_empty() {
            let clusters = self.clusters.connect(places.contexts).await?;
            targets.extend(clusters.into_iter().map(|(name, cluster)| (name, cluster.map(Target::Cluster))));
        }
        Ok(targets)
    }
}

/// Where the objects of the clusters go.
#[derive(Debug, Default)]
pub(super) struct Places {
    directories: BTreeMap<ClusterName, PathBuf>,
    contexts: BTreeMap<ClusterName, String>,
}

fn exit(outcomes: &[Outcome]) -> Exit {
    match outcomes.iter().filter(|outcome| outcome.trouble.is_some()).count() {
        0 => Exit::Yes,
        failed if failed < outcomes.len() => Exit::Partly,
        _ => Exit::Environment,
    }
}

fn report(outcomes: &[Outcome], dry_run: bool, output: Output, out: &mut Out) {
    if output == Output::Json {
        let items: Vec<Value> = outcomes.iter().map(json).collect();
        out.json(
            &json!({"apiVersion": policy::API_VERSION, "kind": "Rollout", "dryRun": dry_run, "items": items}),
        );
        return;
    }
    let would = if dry_run { "would be " } else { "" };
    for Outcome { change, trouble } in outcomes {
        let short = change.digest.get(..12).unwrap_or_default();
        let counted = |items: &[String], what: &str| match items.len() {
            0 => String::new(),
            count => format!(", {count} {what}"),
        };
        let removed = counted(&change.removed, &format!("{would}removed"));
        let left = counted(&change.left, "left until every cluster is done");
        let failed = if trouble.is_some() { ", not done" } else { "" };
        out.print(&format!(
            "{}: plan {short}, {} {would}written, {} unchanged{removed}{left}{failed}",
            change.cluster,
            change.written.len(),
            change.unchanged
        ));
        if dry_run {
            change.written.iter().for_each(|name| out.print(&format!("  + {name}")));
            change.removed.iter().for_each(|name| out.print(&format!("  - {name}")));
        }
    }
    for trouble in outcomes.iter().filter_map(|outcome| outcome.trouble.as_ref()) {
        out.say(&format!("error: {trouble}"));
    }
}

fn json(Outcome { change, trouble }: &Outcome) -> Value {
    json!({
        "cluster": change.cluster.as_str(),
        "digest": change.digest,
        "written": change.written,
        "removed": change.removed,
        "left": change.left,
        "unchanged": change.unchanged,
        "error": trouble.as_ref().map(ToString::to_string),
    })
}
