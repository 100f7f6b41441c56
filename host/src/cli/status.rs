use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use policy::Mesh;
use policy::compile::Plans;
use policy::mesh;
use policy::name::ClusterName;

use super::clusters::Clusters;
use super::lab::Standing;
use super::rollout::{Places, Reach};
use super::{Common, Exit, Out, Output};
use crate::proxies::{Asking, Envoy, Kind};
use crate::status::{self, Condition, Look, Status};

/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// `isthmus status`
#[derive(Debug, Args)]
pub(super) struct ShowStatus {
    /// Of these clusters alone
    #[arg(value_name = "CLUSTER")]
    only: Vec<ClusterName>,
    /// Look into DIR/CLUSTER for each cluster's objects, whatever mesh.yaml says of the cluster
    #[arg(long, env = "ISTHMUS_OUTPUT_DIR", value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Look at the lab that is up
    #[arg(long, env = "ISTHMUS_LAB", value_name = "DIR", conflicts_with = "output_dir", num_args = 0..=1, default_missing_value = ".isthmus/lab")]
    lab: Option<PathBuf>,
    /// Also ask this Envoy of a cluster, by its admin interface: CLUSTER=HOST:PORT
    #[arg(long, env = "ISTHMUS_ADMIN", value_name = "ENVOY", value_delimiter = ',')]
    admin: Vec<Admin>,
    /// Ask no proxies what they run
    #[arg(long, env = "ISTHMUS_NO_PROXIES")]
    no_proxies: bool,
    /// How many seconds each proxy may take to answer
    #[arg(long, env = "ISTHMUS_PROXY_TIMEOUT", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    proxy_timeout: u64,
    /// List everything that is not as it should be, and not only the first ten of each sort
    #[arg(long, env = "ISTHMUS_ALL")]
    all: bool,
    /// Look again and again, until Ctrl-C
    #[arg(short, long, env = "ISTHMUS_WATCH")]
    watch: bool,
    /// How many seconds lie between two looks of --watch
    #[arg(long, env = "ISTHMUS_INTERVAL", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    #[command(flatten)]
    clusters: Clusters,
}

/// How many proxies of a cluster are asked at a time.
const PROXIES: usize = 32;

/// An Envoy as the command line names it.
#[derive(Debug, Clone)]
struct Admin(ClusterName, SocketAddr);

impl FromStr for Admin {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (cluster, address) =
            text.split_once('=').ok_or_else(|| anyhow::anyhow!("write CLUSTER=HOST:PORT"))?;
        Ok(Self(cluster.parse()?, address.parse()?))
    }
}

impl ShowStatus {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some(project) = common.sound_project(out)? else { return Ok(Exit::No) };
        let (Some(mesh), Some(plans)) = (&project.mesh, &project.plans) else { return Ok(Exit::No) };
        if let Some(unknown) = self.only.iter().find(|name| mesh.cluster(name).is_none()) {
            out.say(&format!("error: {} has no cluster {unknown}", mesh.name()));
            return Ok(Exit::Usage);
        }
        let reach = Reach::to_look_at(self.output_dir.clone(), self.clusters.clone());
        let runtime = super::runtime()?;
        let Some(lab) = &self.lab else {
            let mut places = reach.places(&project)?;
            // Those of remotes, whose proxies are asked.
            for cluster in mesh.clusters().filter(|_| self.output_dir.is_none()) {
                if let Some(mesh::Target::Context(context)) = &cluster.target {
                    places.contexts.insert(cluster.name.clone(), context.clone());
                }
            }
            let place = Place { reach: &reach, places, envoys: BTreeMap::new() };
            return runtime.block_on(self.show((mesh, plans), &place, common.output, out));
        };
        let standing = Standing::read(lab)?;
        let mesh = standing.relocate(mesh.clone())?;
        let (plans, findings) = policy::compile(&mesh, &project.policies);
        let Some(plans) = plans else { anyhow::bail!("the policies do not fit the lab: {findings:?}") };
        let places = Places { directories: standing.directories(lab), ..Places::default() };
        let place = Place { reach: &reach, places, envoys: standing.envoys() };
        runtime.block_on(self.show((&mesh, &plans), &place, common.output, out))
    }

    fn is_asked_for(&self, cluster: &ClusterName) -> bool {
        self.only.is_empty() || self.only.contains(cluster)
    }

    /// Shows it once, or again and again.
    async fn show(
        &self,
        (mesh, plans): (&Mesh, &Plans),
        place: &Place<'_>,
        output: Output,
        out: &mut Out,
    ) -> anyhow::Result<Exit> {
        let mut shown = String::new();
        loop {
            let look = self.look(mesh, place).await?;
            let mut statuses = status::look(mesh, plans, look).await?;
            statuses.retain(|status| self.is_asked_for(&status.cluster));
            let now = match output {
                Output::Json => format!("{:#}", status::json(&statuses, super::now())),
                Output::Text | Output::Junit | Output::Short => {
                    status::text(&statuses, super::now(), self.all)
                }
            };
            if !self.watch {
                out.print(&now);
                return Ok(exit(&statuses));
            }
            if now != shown {
                if std::io::stdout().is_terminal() {
                    out.print(CLEAR);
                }
                out.print(&now);
                shown = now;
            }
            tokio::time::sleep(Duration::from_secs(self.interval)).await;
        }
    }

    async fn look(&self, mesh: &Mesh, place: &Place<'_>) -> anyhow::Result<Look> {
        let Place { reach, places, envoys } = place;
        let mut places = places.clone();
        // Who has a cluster's objects is looked at too.
        let asked: BTreeSet<&ClusterName> = mesh
            .clusters()
            .filter(|cluster| self.is_asked_for(&cluster.name))
            .flat_map(|cluster| [&cluster.name, &mesh.primary(cluster).name])
            .collect();
        places.directories.retain(|cluster, _| asked.contains(cluster));
        places.contexts.retain(|cluster, _| asked.contains(cluster));
        let mut envoys = envoys.clone();
        for Admin(cluster, admin) in &self.admin {
            envoys.entry(cluster.clone()).or_default().push(Envoy {
                name: admin.to_string(),
                namespace: None,
                kind: Kind::Unknown,
                admin: *admin,
            });
        }
        let patience = Duration::from_secs(self.proxy_timeout);
        let asking = (!self.no_proxies).then_some(Asking { patience, parallel: PROXIES });
        let targets = reach.targets(places).await?;
        Ok(Look { targets, envoys, asking, parallel: self.clusters.parallel })
    }
}

/// Where the clusters are, and those of their proxies that are known by address.
struct Place<'p> {
    reach: &'p Reach,
    places: Places,
    envoys: BTreeMap<ClusterName, Vec<Envoy>>,
}

fn exit(statuses: &[Status]) -> Exit {
    let count = |condition| statuses.iter().filter(|status| status.condition() == condition).count();
    match count(Condition::Unreachable) {
        0 if count(Condition::InForce) == statuses.len() => Exit::Yes,
        0 => Exit::No,
        silent if silent < statuses.len() => Exit::Partly,
        _ => Exit::Environment,
    }
}
