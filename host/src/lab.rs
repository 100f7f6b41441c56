//! A lab: stock Envoys on loopback that play the clusters of a mesh, with real mTLS and real filters.
//!
//! ```text
//! Blueprint -> Site::claim (addresses, directories) -> the caller writes WasmPlugins -> Site::up -> Lab
//! ```
//!
//! The lab plays istiod (docs/adr/0005-the-lab-plays-istiod.md): the YAML files in `<dir>/clusters/<cluster>/` are
//! that cluster's API server, and a change there reaches its proxies as a hot reload.

mod addresses;
mod blueprint;
mod bootstrap;
mod client;
mod config;
mod error;
mod files;
mod http;
mod istiod;
mod manifests;
mod process;
mod proxy;
mod secret;
mod site;

pub use blueprint::{Application, Blueprint, BlueprintError, LabCluster, LabService};
pub use client::{Client, Door, Heading, Manner, Shows};
pub use error::{LabError, PluginError};
pub(crate) use http::Sender;
pub use http::{Answer, Get, RequestError};
pub use process::Process;
pub use proxy::{Proxy, ProxyKind};
pub use site::Site;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::text::chain;
use istiod::Istiods;
use proxy::Workload;

/// How long a lab may take to come up; a Wasm module is compiled once per proxy.
const START: Duration = Duration::from_secs(180);
/// How often a condition is looked at while waiting.
const TICK: Duration = Duration::from_millis(20);
/// How often the clusters' plugins are looked at.
const POLL: Duration = Duration::from_millis(50);

/// A running lab; dropping it ends every process of it.
#[derive(Debug)]
pub struct Lab {
    // In the order they are dropped: the processes go before the addresses are free.
    running: Vec<Running>,
    sender: Sender,
    refused: watch::Receiver<Option<String>>,
    _watcher: JoinSet<()>,
    site: Arc<Site>,
}

#[derive(Debug)]
struct Running {
    proxy: Proxy,
    process: Process,
}

impl Lab {
    async fn start(site: Site, envoy: &Path, now: time::OffsetDateTime) -> Result<Self, LabError> {
        let site = Arc::new(site);
        let workloads = Workload::all(&site);
        files::write(&site, &workloads, now)?;
        let mut istiods = Istiods::new(Arc::clone(&site));
        istiods.settle().map_err(|source| LabError::Plugin { source })?;
        let running = workloads
            .iter()
            .map(|workload| Running::start(workload.proxy(), envoy))
            .collect::<Result<Vec<_>, _>>()?;
        drop(workloads);
        let (tell, refused) = watch::channel(None);
        let mut watcher = JoinSet::new();
        watcher.spawn(watch_plugins(istiods, tell));
        let mut lab = Self { running, sender: Sender::new(), refused, _watcher: watcher, site };
        lab.wait_until_ready().await?;
        Ok(lab)
    }

    /// The ground the lab stands on: addresses, directories, blueprint.
    #[must_use]
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Where this client sends its requests: its sidecar's outbound listener.
    #[must_use]
    pub fn client(&self, client: &Client) -> Option<SocketAddr> {
        let workloads = Workload::all(&self.site);
        workloads.iter().find_map(|own| own.side(client)).map(|side| side.listener())
    }

    /// The proxy of this client.
    pub fn proxy_of(&self, client: &Client) -> Result<&Proxy, LabError> {
        let workloads = Workload::all(&self.site);
        let own = workloads.iter().find(|own| own.side(client).is_some());
        let unknown = || LabError::Unknown { name: format!("client {client}") };
        self.proxy(&own.ok_or_else(unknown)?.name())
    }

    /// Every proxy, in the order of the blueprint: clients, servers, gateways.
    pub fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.running.iter().map(|r| &r.proxy)
    }

    /// The proxy of this name: `<cluster>/<workload>.<namespace>`.
    pub fn proxy(&self, name: &str) -> Result<&Proxy, LabError> {
        self.proxies().find(|p| p.name == name).ok_or_else(|| LabError::Unknown { name: name.to_owned() })
    }

    /// Sends a request from a client, through its sidecar.
    pub async fn get(&self, client: &Client, get: &Get) -> Result<Answer, LabError> {
        let unknown = || LabError::Unknown { name: format!("client {client}") };
        let to = self.client(client).ok_or_else(unknown)?;
        let failed = |source| LabError::Request { proxy: client.to_string(), source };
        self.sender.send(to, get).await.map_err(failed)
    }

    /// Asks a proxy's admin interface: `/stats`, `/config_dump`, ...
    pub async fn admin(&self, proxy: &str, path: &str) -> Result<String, LabError> {
        let proxy = self.proxy(proxy)?;
        self.ask(proxy, path).await
    }

    /// A counter or gauge of a proxy; one that is not there is zero, as Envoy makes most on first use.
    pub async fn stat(&self, proxy: &str, name: &str) -> Result<u64, LabError> {
        let all = self.admin(proxy, "/stats").await?;
        let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(value.and_then(|v| v.trim().parse().ok()).unwrap_or(0))
    }

    /// A proxy's access log so far.
    pub fn access_log(&self, proxy: &str) -> Result<Vec<Value>, LabError> {
        self.logged(proxy, "")
    }

    /// The lines of a proxy's access log that have this text somewhere.
    pub fn logged(&self, proxy: &str, text: &str) -> Result<Vec<Value>, LabError> {
        let has = |line: &&str| line.contains(text);
        let path = &self.proxy(proxy)?.access_log;
        let log = match std::fs::read_to_string(path) {
            Ok(log) => log,
            Err(none) if none.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(LabError::File { path: path.clone(), source }),
        };
        // Envoy flushes at any byte: a last line without its end is still being written.
        let whole = log.rfind('\n').and_then(|end| log.get(..end)).unwrap_or_default();
        whole
            .lines()
            .filter(has)
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()
            .map_err(|source| LabError::AccessLog { path: path.clone(), source })
    }

    /// What an istiod could not take from its cluster last, if it still cannot; its proxies keep what they had.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }

    /// An error when an Envoy has ended by itself.
    pub fn check(&mut self) -> Result<(), LabError> {
        match self.running.iter_mut().find_map(|r| r.process.has_ended().then_some(r)) {
            None => Ok(()),
            Some(r) => Err(LabError::Ended { proxy: r.proxy.name.clone(), log: r.process.log_tail() }),
        }
    }

    /// Ends everything, and confirms that it has ended.
    #[expect(
        clippy::unused_async,
        reason = "ending may come to wait on the runtime; callers are async already"
    )]
    pub async fn down(mut self) -> Result<(), LabError> {
        self.release();
        let proxies: Vec<String> = self
            .running
            .iter_mut()
            .filter_map(|r| (!r.process.wait()).then(|| r.proxy.name.clone()))
            .collect();
        if proxies.is_empty() { Ok(()) } else { Err(LabError::Stragglers { proxies }) }
    }

    fn release(&mut self) {
        self.running.iter_mut().for_each(|r| r.process.release());
    }

    async fn wait_until_ready(&mut self) -> Result<(), LabError> {
        let deadline = Instant::now() + START;
        for n in 0..self.running.len() {
            while let Some((proxy, last)) = self.not_ready(n).await {
                self.check()?;
                if Instant::now() > deadline {
                    return Err(LabError::NotReady { proxy, waited: START, last });
                }
                tokio::time::sleep(TICK).await;
            }
        }
        self.check()
    }

    /// The n-th proxy and what it said, while it takes no requests yet.
    async fn not_ready(&self, n: usize) -> Option<(String, String)> {
        let proxy = &self.running.get(n)?.proxy;
        // "LIVE" comes when every listener is warm, and the workers that listen start right after it.
        let last = match self.ask(proxy, "/ready").await {
            Ok(state) if state.trim() == "LIVE" => {
                match self.ask(proxy, "/stats?filter=listener_manager.workers_started").await {
                    Ok(stats) if stats.contains("workers_started: 1") => return None,
                    Ok(stats) => stats,
                    Err(error) => chain(&error),
                }
            }
            Ok(state) => state,
            Err(error) => chain(&error),
        };
        Some((proxy.name.clone(), last))
    }

    async fn ask(&self, proxy: &Proxy, path: &str) -> Result<String, LabError> {
        let answer = self.sender.send(proxy.admin, &Get::new("admin", path)).await;
        match answer {
            Ok(answer) => Ok(answer.body),
            Err(source) => Err(LabError::Request { proxy: proxy.name.clone(), source }),
        }
    }
}

impl Site {
    /// Starts everything and waits until every proxy takes requests; `now` dates the certificates.
    pub async fn up(self, envoy: &Path, now: time::OffsetDateTime) -> Result<Lab, LabError> {
        Lab::start(self, envoy, now).await
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // All at once; each process then waits for its own end.
        self.release();
    }
}

impl Running {
    fn start(proxy: Proxy, envoy: &Path) -> Result<Self, LabError> {
        let process = Process::start(envoy, &proxy.dir.join("bootstrap.json"), &proxy.dir.join("envoy.log"))
            .map_err(|source| LabError::Run { envoy: envoy.to_owned(), source })?;
        Ok(Self { proxy, process })
    }
}

/// Translates plugins for ever, and tells what it cannot translate.
async fn watch_plugins(mut istiods: Istiods, tell: watch::Sender<Option<String>>) {
    loop {
        tokio::time::sleep(POLL).await;
        // A few small files: reading them here costs less than a thread to do it.
        let refused = istiods.reconcile().err().map(|error| chain(&error));
        tell.send_if_modified(|last| {
            let changed = *last != refused;
            last.clone_from(&refused);
            changed
        });
    }
}
