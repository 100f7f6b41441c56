use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use policy::Mesh;
use policy::cidr::Cidr;
use policy::name::{ClusterName, Namespace, ServiceAccount};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{Common, Exit, Out};
use crate::case::Suite;
use crate::envoy;
use crate::lab::{Client, Lab, Site};
use crate::proxies::Envoy;
use crate::read::Project;
use crate::render;
use crate::stage::{self, Stage};
use crate::workspace::Workspace;

/// `isthmus lab`
#[derive(Debug, Subcommand)]
pub(super) enum LabVerb {
    /// Bring the clusters up, and keep them until Ctrl-C or `isthmus lab down`
    Up(Up),
    /// Bring the clusters up, run a command, bring them down; what the command finds is in `ISTHMUS_LAB_*`
    Run(Run),
    /// End the lab that is up
    Down(Down),
}

/// Where the lab lies and who is in it.
#[derive(Debug, Args)]
struct Where {
    /// The lab's directory
    #[arg(long, env = "ISTHMUS_LAB", value_name = "DIR", default_value = ".isthmus/lab")]
    dir: PathBuf,
    /// The module; by default wasm/isthmus.wasm
    #[arg(long, env = "ISTHMUS_MODULE", value_name = "FILE")]
    module: Option<PathBuf>,
    /// A client beside those of the cases, as CLUSTER/NAMESPACE/SERVICE-ACCOUNT
    #[arg(long, value_name = "CLIENT")]
    client: Vec<Named>,
}

/// A client as the command line names it.
#[derive(Debug, Clone)]
struct Named(Client);

impl FromStr for Named {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let &[cluster, namespace, account] = parts.as_slice() else {
            anyhow::bail!("write CLUSTER/NAMESPACE/SERVICE-ACCOUNT");
        };
        let (cluster, namespace): (ClusterName, Namespace) = (cluster.parse()?, namespace.parse()?);
        let account: ServiceAccount = account.parse()?;
        Ok(Self(stage::client(&cluster, &namespace, &account)))
    }
}

#[derive(Debug, Args)]
pub(super) struct Up {
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    place: Where,
    /// The command and its arguments
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Down {
    /// The lab's directory
    #[arg(long, env = "ISTHMUS_LAB", value_name = "DIR", default_value = ".isthmus/lab")]
    dir: PathBuf,
}

impl LabVerb {
    pub(super) fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let runtime = super::runtime()?;
        match self {
            Self::Up(verb) => runtime.block_on(verb.run(common, out)),
            Self::Run(verb) => runtime.block_on(verb.run(common, out)),
            Self::Down(verb) => runtime.block_on(verb.run(out)),
        }
    }
}

impl Up {
    async fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((project, lab)) = raise(&self.place, common, out).await? else { return Ok(Exit::No) };
        let standing = Standing::of(&lab, &project)?;
        let door = standing.open(&self.place.dir)?;
        describe(&lab, out);
        out.say("the lab is up; Ctrl-C or `isthmus lab down` ends it");
        let asker = tokio::select! {
            () = interrupted() => None,
            asker = asked(&door) => Some(asker?),
        };
        close(lab, &self.place.dir, out).await?;
        if let Some(mut asker) = asker {
            asker.write_all(DOWN).await?;
        }
        Ok(Exit::Yes)
    }
}

/// Until someone comes to the door and says what `isthmus lab down` says; others only look whether we are here.
async fn asked(door: &UnixListener) -> anyhow::Result<UnixStream> {
    loop {
        let (mut asker, _) = door.accept().await?;
        let mut said = [0; DOWN.len()];
        let heard = tokio::time::timeout(Duration::from_secs(1), asker.read_exact(&mut said)).await;
        if heard.is_ok_and(|read| read.is_ok()) && said == *DOWN {
            return Ok(asker);
        }
    }
}

impl Run {
    async fn run(self, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
        let Some((project, lab)) = raise(&self.place, common, out).await? else { return Ok(Exit::No) };
        let standing = Standing::of(&lab, &project)?;
        let _door = standing.open(&self.place.dir)?;
        let status = tokio::select! {
            status = command(&self.command, &standing, &self.place.dir) => Some(status?),
            () = interrupted() => None,
        };
        close(lab, &self.place.dir, out).await?;
        Ok(if status.is_some_and(|status| status.success()) { Exit::Yes } else { Exit::No })
    }
}

impl Down {
    async fn run(self, out: &mut Out) -> anyhow::Result<Exit> {
        let door = self.dir.join(DOOR);
        match UnixStream::connect(&door).await {
            Ok(mut lab) => {
                lab.write_all(DOWN).await?;
                let mut answer = Vec::new();
                lab.read_to_end(&mut answer).await?;
                anyhow::ensure!(answer == DOWN, "the lab did not say that it is down");
                out.say("down");
                Ok(Exit::Yes)
            }
            Err(_none) => {
                forget(&self.dir);
                out.say(&format!("no lab is up in {}", self.dir.display()));
                Ok(Exit::Yes)
            }
        }
    }
}

/// Reads the mesh, rolls its plans out into a lab and starts it; `None` when the mesh is not sound.
async fn raise(place: &Where, common: &Common, out: &mut Out) -> anyhow::Result<Option<(Project, Lab)>> {
    let Some(project) = common.sound_project(out)? else { return Ok(None) };
    let Some(mesh) = &project.mesh else { return Ok(None) };
    anyhow::ensure!(
        UnixStream::connect(place.dir.join(DOOR)).await.is_err(),
        "a lab is up in {} already: end it with `isthmus lab down`, or name another --dir",
        place.dir.display()
    );
    let workspace = Workspace::here()?;
    let envoy = envoy::Envoy::find(&workspace)?;
    let module = super::module(place.module.clone())?;
    let clients = clients(&project)?.into_iter().chain(place.client.iter().map(|named| named.0.clone()));
    let site = Site::claim(stage::blueprint(mesh, clients), &place.dir)?;
    let stage = Stage::set(mesh, &site, &module)?;
    stage.give_token_keys(&site, &project.file.with_file_name("certs").join("tokens"))?;
    stage.roll_out(&project.policies)?;
    out.say(&format!("starting {}", envoy.version()));
    let lab = site.up(envoy.path(), super::now()).await?;
    Ok(Some((project, lab)))
}

/// `sleep` in namespace `sample` of every cluster, as in Istio's own verification, and whoever the cases beside the
/// mesh speak of.
pub(super) fn clients(project: &Project) -> anyhow::Result<Vec<Client>> {
    let (namespace, account): (Namespace, ServiceAccount) = ("sample".parse()?, "sleep".parse()?);
    let clusters = project.mesh.iter().flat_map(Mesh::clusters);
    let mut clients: Vec<Client> =
        clusters.map(|cluster| stage::client(&cluster.name, &namespace, &account)).collect();
    let cases = project.file.with_file_name("cases.yaml");
    if let Ok(text) = std::fs::read_to_string(&cases) {
        let (suite, findings) = Suite::read(&cases.display().to_string(), &text);
        let suite = suite.with_context(|| format!("{}: {}", cases.display(), render::summary(&findings)))?;
        clients.extend(suite.clients());
    }
    Ok(clients)
}

/// Until someone wants us to end.
pub(super) async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_no_signals) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

async fn close(lab: Lab, dir: &Path, out: &mut Out) -> anyhow::Result<()> {
    let proxies = lab.proxies().count();
    lab.down().await?;
    forget(dir);
    out.say(&format!("{proxies} Envoys ended"));
    Ok(())
}

async fn command(words: &[String], standing: &Standing, dir: &Path) -> anyhow::Result<ExitStatus> {
    let (program, arguments) = words.split_first().context("no command")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env("ISTHMUS_LAB_DIR", dir).stdin(Stdio::inherit()).kill_on_drop(true);
    for (client, address) in &standing.clients {
        let key: String = client
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
            .collect();
        command.env(format!("ISTHMUS_LAB_{key}"), format!("http://{address}"));
    }
    command.status().await.with_context(|| format!("cannot run {program}"))
}

fn describe(lab: &Lab, out: &mut Out) {
    for proxy in lab.proxies() {
        out.print(&format!("{:45} admin http://{}", proxy.name, proxy.admin));
    }
    let blueprint = lab.site().blueprint();
    for client in &blueprint.clients {
        if let (Some(address), Some(service)) = (lab.client(client), blueprint.services.first()) {
            out.print(&format!(
                "{}/{}.{}: curl -s -H 'Host: {}.{}' http://{address}/",
                client.cluster, client.service_account, client.namespace, service.name, service.namespace
            ));
        }
    }
}

/// The socket by which `isthmus lab down` reaches the lab.
const DOOR: &str = "lab.sock";
/// What is said there, and answered when it is done.
const DOWN: &[u8; 4] = b"down";
/// What other runs of isthmus must know of the lab.
const STANDING: &str = "lab.json";

/// Nothing of a lab that is gone may be taken for one that stands.
fn forget(dir: &Path) {
    for name in [DOOR, STANDING] {
        let _absent_is_fine = std::fs::remove_file(dir.join(name));
    }
}

/// A lab that is up, as other runs of isthmus see it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Standing {
    addresses: BTreeMap<ClusterName, (Cidr, IpAddr)>,
    clients: BTreeMap<String, std::net::SocketAddr>,
    proxies: BTreeMap<ClusterName, Vec<Envoy>>,
}

impl Standing {
    fn of(lab: &Lab, project: &Project) -> anyhow::Result<Self> {
        let site = lab.site();
        let mut addresses = BTreeMap::new();
        for cluster in project.mesh.iter().flat_map(Mesh::clusters) {
            let name = cluster.name.as_str();
            let pods = site.pod_cidr(name).context("the lab lacks a cluster")?;
            let gateway = site.gateway(name).context("the lab lacks a gateway")?;
            addresses.insert(cluster.name.clone(), (pods.parse()?, gateway));
        }
        let clients = site.blueprint().clients.iter().filter_map(|client| {
            let name = format!("{}/{}/{}", client.cluster, client.namespace, client.service_account);
            Some((name, lab.client(client)?))
        });
        let mut proxies: BTreeMap<ClusterName, Vec<Envoy>> = BTreeMap::new();
        for proxy in lab.proxies() {
            proxies.entry(proxy.cluster.parse()?).or_default().push(Envoy::of_lab(proxy));
        }
        Ok(Self { addresses, clients: clients.collect(), proxies })
    }

    /// Writes it down, and opens the door for `isthmus lab down`.
    fn open(&self, dir: &Path) -> anyhow::Result<UnixListener> {
        forget(dir);
        std::fs::write(dir.join(STANDING), serde_json::to_vec_pretty(self)?)?;
        Ok(UnixListener::bind(dir.join(DOOR))?)
    }

    /// What is known of the lab in a directory.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(STANDING);
        let text = std::fs::read(&path)
            .with_context(|| format!("no lab is up in {}: start one with `isthmus lab up`", dir.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a lab's", path.display()))
    }

    /// The mesh with the lab's addresses and CA.
    pub(super) fn relocate(&self, mesh: Mesh) -> anyhow::Result<Mesh> {
        let missing = mesh.clusters().find(|cluster| !self.addresses.contains_key(&cluster.name));
        if let Some(cluster) = missing {
            anyhow::bail!("the lab that is up has no {}: it plays another mesh", cluster.name);
        }
        Ok(mesh.relocated(&self.addresses).with_own_ca())
    }

    /// The proxies of each cluster.
    pub(super) fn envoys(&self) -> BTreeMap<ClusterName, Vec<Envoy>> {
        self.proxies.clone()
    }

    /// The directories that play the clusters' API servers.
    pub(super) fn directories(&self, dir: &Path) -> BTreeMap<ClusterName, PathBuf> {
        let of = |name: &ClusterName| dir.join("clusters").join(name.as_str());
        self.addresses.keys().map(|name| (name.clone(), of(name))).collect()
    }
}
