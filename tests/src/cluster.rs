//! Real API servers that play the clusters of a mesh: a kube-apiserver and an etcd for each.
//!
//! Nothing else of Kubernetes runs. So no token appears in a `Secret` of type service-account-token (a token comes from
//! the server itself, by a `TokenRequest`), a namespace that is deleted never goes, nothing is collected with its
//! owner, no namespace has a service account `default`, and no pod ever runs.
#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that fails fails its test")]

mod crds;
mod faults;
mod pods;
mod seed;
mod server;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

pub use faults::{Fault, Faulty, Somebody, Span};
pub use pods::{Pod, Pods};
use server::Programs;
pub use server::Server;

/// The oldest and the newest Istio whose definitions can be had, of those that isthmus is for.
pub const ISTIO: [&str; 2] = ["1.29.0", "1.31.1"];

/// Several clusters, with Istio's definitions in each. They end with this value, or with the process that holds it.
#[derive(Debug)]
pub struct Clusters {
    servers: Vec<Server>,
    directory: TempDir,
}

impl Clusters {
    /// Starts a cluster of each name at once; `None` where no API server can be had, which is said aloud.
    pub async fn start(names: &[&str]) -> Option<Self> {
        let [_, newest] = ISTIO;
        let names: Vec<_> = names.iter().map(|name| (*name, newest)).collect();
        Self::with_istio(&names).await
    }

    /// Starts a cluster of each name, with the definitions of a version of Istio.
    pub async fn with_istio(names: &[(&str, &str)]) -> Option<Self> {
        let programs = Programs::find().map_err(|why| tell(&why)).ok()?;
        let directory = TempDir::new().expect("a directory");
        let mut starting = JoinSet::new();
        for (number, (name, version)) in names.iter().enumerate() {
            let seed = seed::find(&programs, version).await;
            let (programs, name) = (programs.clone(), (*name).to_owned());
            let directory = directory.path().join(&name);
            starting.spawn(async move {
                (number, Server::start(&programs, &name, &directory, seed.as_deref()).await)
            });
        }
        let mut servers = starting.join_all().await;
        servers.sort_by_key(|(number, _)| *number);
        let clusters = Self { servers: servers.into_iter().map(|(_, server)| server).collect(), directory };
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": clusters.each(Server::entry_of_cluster),
            "users": clusters.each(Server::entry_of_user),
            "contexts": clusters.each(Server::entry_of_context),
        });
        std::fs::write(clusters.kubeconfig(), kubeconfig.to_string()).expect("a kubeconfig");
        if let Programs::Assets(_) = programs {
            for (name, version) in names {
                crds::install(&clusters.client(name).await, version).await;
            }
        }
        Some(clusters)
    }

    /// The cluster `cluster1`, which the tests of a process share as long as one of them runs: each test keeps to a
    /// namespace of its own.
    pub async fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Clusters>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(clusters) = shared.upgrade() {
            return Some(clusters);
        }
        let clusters = Arc::new(Self::start(&["cluster1"]).await?);
        *shared = Arc::downgrade(&clusters);
        Some(clusters)
    }

    /// Puts Istio's newest definitions into a cluster.
    pub async fn install(&self, name: &str) {
        let [_, newest] = ISTIO;
        crds::install(&self.client(name).await, newest).await;
    }

    /// A kubeconfig with a context for each cluster, by its name, as an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The server of a cluster.
    pub fn server(&self, name: &str) -> &Server {
        self.servers.iter().find(|server| server.name() == name).expect("a cluster of this name")
    }

    /// The server of a cluster, to stop it or to start it again.
    pub fn server_mut(&mut self, name: &str) -> &mut Server {
        self.servers.iter_mut().find(|server| server.name() == name).expect("a cluster of this name")
    }

    /// A client of kube's own: what tests prepare and look at goes past the code that they test.
    pub async fn client(&self, context: &str) -> Client {
        client(&self.kubeconfig(), context).await
    }

    /// A kubeconfig whose one context leads to a server at `url` as the holder of a token.
    pub fn kubeconfig_of(&self, name: &str, url: &str, token: &str) -> PathBuf {
        self.kubeconfig_with(&[(name, url, token)])
    }

    /// A kubeconfig with a context for each of these clusters: its name, where it is reached, and with which token.
    pub fn kubeconfig_with(&self, entries: &[(&str, &str, &str)]) -> PathBuf {
        let cluster = |(name, url, _): &(&str, &str, &str)| {
            let mut cluster = self.server(name).entry_of_cluster();
            if let Some(server) = cluster.pointer_mut("/cluster/server") {
                *server = (*url).into();
            }
            cluster
        };
        let kubeconfig = json!({
            "clusters": entries.iter().map(cluster).collect::<Vec<_>>(),
            "users": entries.iter().map(|(name, _, token)| json!({"name": name, "user": {"token": token}})).collect::<Vec<_>>(),
            "contexts": entries.iter().map(|(name, ..)| self.server(name).entry_of_context()).collect::<Vec<_>>(),
        });
        let digest = isthmus::digest::sha256(kubeconfig.to_string());
        let path = self.directory.path().join(format!("kubeconfig-{digest}"));
        std::fs::write(&path, kubeconfig.to_string()).expect("a kubeconfig");
        path
    }

    fn each(&self, entry: impl Fn(&Server) -> Value) -> Vec<Value> {
        self.servers.iter().map(entry).collect()
    }
}

/// An administrator's client of kube's own.
pub async fn client(kubeconfig: &Path, context: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a context");
    Client::try_from(config).expect("a client")
}

/// Under CI a tier that cannot run has failed; elsewhere it says so past what the test harness captures.
fn tell(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "no API server: {why}");
    writeln!(std::io::stderr(), "NOT RUN against a real API server: {why}").expect("stderr");
}

/// What a script of the repository prints, which is a path; why not, otherwise.
fn path_from(script: &str, arguments: &[&str]) -> Result<PathBuf, String> {
    let output = Command::new(crate::repository().join(script)).args(arguments).output().expect("bash runs");
    let (printed, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(printed.trim().into()) } else { Err(format!("{script}: {said}")) }
}
