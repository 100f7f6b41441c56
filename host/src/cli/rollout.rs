//! `isthmus rollout`, and where the clusters of every verb like it are.

mod asked;
mod interrupt;
pub(super) mod progress;
mod report;
mod verbs;
mod way;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use policy::Mesh;
use policy::compile::Plans;
use policy::meaning::Meaning;
use policy::mesh;
use policy::name::ClusterName;
use tokio::runtime::Runtime;

use super::clusters::Clusters;
use super::lab::Standing;
use super::registry::Resolving;
use super::{Common, Exit, Out};
use crate::kube::ClusterError;
use crate::plugin::ModuleUrl;
use crate::read::Project;
use crate::rollout::gate::Gate;
use crate::rollout::strategy::{Limits, Strategy};
use crate::rollout::{self, DryRun, How, Options, Progress, Target};
use crate::stage;
use asked::Asked;
use interrupt::until_interrupted;
use progress::Printer;
use report::Said;
use verbs::RolloutVerb;
use way::Way;

/// `isthmus rollout`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Rollout {
    #[command(subcommand)]
    verb: Option<RolloutVerb>,
    #[command(flatten)]
    start: Box<Start>,
}

/// What begins a rollout.
#[derive(Debug, Args)]
struct Start {
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
    #[command(flatten)]
    way: Way,
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
    /// Also hold boundaries where the endpoint of a request is known, by an `EnvoyFilter`; needs a --url of file://
    #[arg(long, env = "ISTHMUS_UPSTREAM_CHECK")]
    upstream_check: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Where clusters are, and how they are treated.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Put each cluster's objects into DIR/CLUSTER, whatever mesh.yaml says of the cluster
    #[arg(long, env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR")]
    output_dir: Option<PathBuf>,
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

impl Where {
    fn dry_run(said: Option<Self>) -> DryRun {
        match said {
            None => DryRun::No,
            Some(Self::Client) => DryRun::Client,
            Some(Self::Server) => DryRun::Server,
        }
    }
}

/// What makes gates of what a strategy demands.
type Gates<'g> = dyn Fn(&Limits) -> Vec<Arc<dyn Gate>> + Sync + 'g;

/// Where each cluster is, or why it cannot be had.
type Targets = BTreeMap<ClusterName, Result<Target, ClusterError>>;

impl Rollout {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        match self.verb {
            Some(verb) => verb.run(common, out),
            None => self.start.run(common, out),
        }
    }
}

impl Start {
    fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        let Some(strategy) = self.way.strategy(mesh, out)? else { return Ok(Exit::Usage) };
        // Clients of clusters live in the runtime that made them.
        let runtime = super::runtime()?;
        if let Some(lab) = &self.lab {
            let standing = Standing::read(lab)?;
            let mesh = standing.relocate(mesh.clone())?;
            let (plans, findings) = policy::compile(&mesh, &project.policies);
            let Some(plans) = plans else { anyhow::bail!("the policies do not fit the lab: {findings:?}") };
            let module = super::module(self.module.clone())?;
            let url = stage::place_module(&module, lab)?;
            let targets = directories(standing.directories(lab));
            let asked =
                runtime.block_on(Asked::of(&mesh, &targets, &self.destination.reach, Some(&standing)))?;
            return self.drive((&runtime, &asked), (&mesh, &plans, &url), (targets, strategy), (common, out));
        }
        let places = self.destination.places(&project)?;
        let url = self.module_url(&places, out)?;
        let targets = runtime.block_on(self.destination.targets(places))?;
        let asked = runtime.block_on(Asked::of(mesh, &targets, &self.destination.reach, None))?;
        self.drive((&runtime, &asked), (mesh, plans, &url), (targets, strategy), (common, out))
    }

    fn drive(
        &self,
        (runtime, asked): (&Runtime, &Asked),
        (mesh, plans, url): (&Mesh, &Plans, &ModuleUrl),
        (targets, strategy): (Targets, Strategy),
        (common, out): (&Common, &mut Out),
    ) -> anyhow::Result<Exit> {
        let dry_run = Where::dry_run(self.dry_run);
        let how = self.destination.how(dry_run);
        let options = self.destination.options(url, dry_run != DryRun::No);
        let said = Said {
            dry_run: dry_run != DryRun::No,
            undone_is_well: false,
            waves: strategy.waves.clone(),
            meaning: match dry_run {
                DryRun::No => BTreeMap::new(),
                DryRun::Client | DryRun::Server => {
                    runtime.block_on(meant((mesh, plans), &targets, (options, how)))?
                }
            },
        };
        let origin = self.way.origin("rollout");
        let mut printer = Printer::new(common.output, said.waves.len(), said.dry_run, out);
        let mut tell = |progress: &Progress| printer.tell(progress);
        asked.check(&strategy.gates)?;
        let gates = |limits: &Limits| asked.gates(limits);
        let campaign = self.way.keeping.campaign(mesh, (targets, how), &gates, &mut tell)?;
        let (brake, rolling) =
            (campaign.brake(), campaign.roll_out((mesh, plans, options), strategy, origin));
        let reported = runtime.block_on(until_interrupted(brake, rolling));
        printer.end();
        report::tell(reported, &said, common.output, out)
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

/// What would be decided otherwise in the clusters that can be had.
async fn meant(
    (mesh, plans): (&Mesh, &Plans),
    targets: &Targets,
    how: (Options<'_>, How),
) -> anyhow::Result<BTreeMap<ClusterName, Meaning>> {
    let targets =
        targets.iter().filter_map(|(name, target)| Some((name.clone(), Ok(target.as_ref().ok()?.clone()))));
    let compared = rollout::compare(mesh, plans, targets.collect(), how).await?;
    Ok(compared.into_iter().flat_map(|compared| compared.meaning).collect())
}

fn directories(directories: BTreeMap<ClusterName, PathBuf>) -> Targets {
    directories.into_iter().map(|(name, directory)| (name, Ok(Target::Directory(directory)))).collect()
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
        self.reach.how(dry_run)
    }

    pub(super) fn places(&self, project: &Project) -> anyhow::Result<Places> {
        self.reach.places(project)
    }

    pub(super) async fn targets(&self, places: Places) -> anyhow::Result<Targets> {
        self.reach.targets(places).await
    }
}

impl Reach {
    /// Clusters that are looked at alone.
    pub(super) fn to_look_at(output_dir: Option<PathBuf>, clusters: Clusters) -> Self {
        Self { output_dir, force_conflicts: false, clusters }
    }

    fn how(&self, dry_run: DryRun) -> How {
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
    pub(super) async fn targets(&self, places: Places) -> anyhow::Result<Targets> {
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
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) directories: BTreeMap<ClusterName, PathBuf>,
    pub(super) contexts: BTreeMap<ClusterName, String>,
}
