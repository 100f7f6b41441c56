//! One cluster: its processes, its files, and how to reach it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use isthmus::digest::sha256;
use isthmus::lab::Process;
use rcgen::KeyPair;
use serde_json::{Value, json};

/// How long a cluster may take to come up, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(50);
/// Where etcd keeps its data, in the directory of a server.
pub(super) const DATA: &str = "etcd";
/// How often another port is tried: somebody may take the one that was free a moment ago.
const TRIES: usize = 3;

/// What plays a cluster.
#[derive(Debug, Clone)]
pub(super) enum Programs {
    /// Both in one, as `tests/apiserver` builds it.
    Built(PathBuf),
    /// `kube-apiserver` and `etcd` of this directory.
    Assets(PathBuf),
}

impl Programs {
    /// Those that `KUBEBUILDER_ASSETS` names, or what is built once.
    pub(super) fn find() -> Result<Self, String> {
        match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(assets) => Ok(Self::Assets(assets.into())),
            None => super::path_from("tests/apiserver/build", &[]).map(Self::Built),
        }
    }
}

/// A kube-apiserver and its etcd.
#[derive(Debug)]
pub struct Server {
    name: String,
    programs: Programs,
    directory: PathBuf,
    token: String,
    port: u16,
    // In the order in which they end.
    processes: Vec<Process>,
}

impl Server {
    /// Starts one, on a copy of what is to be there.
    pub(super) async fn start(
        programs: &Programs,
        name: &str,
        directory: &Path,
        seed: Option<&Path>,
    ) -> Self {
        std::fs::create_dir_all(directory).expect("a directory");
        if let Some(seed) = seed {
            super::seed::sow(seed, &directory.join(DATA)).expect("a copy");
        }
        let key = KeyPair::generate().expect("a key");
        let token = sha256(key.serialize_pem());
        let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("a file");
        // What signs the tokens of service accounts, and what checks them.
        file("accounts.key", &key.serialize_pem());
        file("accounts.pub", &key.public_key_pem());
        file("tokens.csv", &format!("{token},admin,admin,\"system:masters\"\n"));
        let (name, programs, directory) = (name.to_owned(), programs.clone(), directory.to_owned());
        let mut server = Self { name, programs, directory, token, port: 0, processes: Vec::new() };
        for _ in 0..TRIES {
            server.port = free_port();
            if server.come_up().await {
                return server;
            }
        }
        panic!("{} does not come up:\n{}", server.name, server.log_tail());
    }

    /// The name of the cluster, of its context and of its user.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The token of its administrator.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Ends it. What it holds stays, and so do its port and its certificate.
    pub fn stop(&mut self) {
        self.processes.clear();
    }

    /// Starts it again after [`Self::stop`].
    pub async fn resume(&mut self) {
        assert!(self.come_up().await, "{} does not come up again:\n{}", self.name, self.log_tail());
    }

    /// Its entry among the clusters of a kubeconfig.
    pub fn entry_of_cluster(&self) -> Value {
        let cluster = json!({"server": self.url(), "certificate-authority": self.certificate()});
        json!({"name": self.name, "cluster": cluster})
    }

    pub(super) fn entry_of_user(&self) -> Value {
        json!({"name": self.name, "user": {"token": self.token}})
    }

    pub(super) fn entry_of_context(&self) -> Value {
        json!({"name": self.name, "context": {"cluster": self.name, "user": self.name}})
    }

    /// What the server signed for itself.
    fn certificate(&self) -> PathBuf {
        self.directory.join("certificates/apiserver.crt")
    }

    fn log(&self, program: &str) -> PathBuf {
        self.directory.join(format!("{program}.log"))
    }

    fn log_tail(&self) -> String {
        self.processes.iter().map(Process::log_tail).collect::<Vec<_>>().join("\n")
    }

    /// Starts the processes and waits until the server is ready; false when one has ended instead.
    async fn come_up(&mut self) -> bool {
        self.processes = self.spawn();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.processes.iter_mut().any(Process::has_ended) {
                return false;
            }
            if self.is_ready().await {
                return true;
            }
            tokio::time::sleep(TICK).await;
        }
        panic!("{} is not ready after {PATIENCE:?}:\n{}", self.name, self.log_tail());
    }

    async fn is_ready(&self) -> bool {
        if !self.certificate().is_file() {
            return false;
        }
        let kubeconfig = self.directory.join("kubeconfig");
        let alone = json!({
            "clusters": [self.entry_of_cluster()],
            "users": [self.entry_of_user()],
            "contexts": [self.entry_of_context()],
        });
        std::fs::write(&kubeconfig, alone.to_string()).expect("a file");
        let client = super::client(&kubeconfig, &self.name).await;
        let request = hyper::Request::get("/readyz").body(Vec::new()).expect("a request");
        client.request_text(request).await.is_ok_and(|text| text == "ok")
    }

    fn spawn(&self) -> Vec<Process> {
        let data = self.directory.join(DATA);
        let run = |program: &Path, arguments: Vec<String>, log: &str| {
            Process::run(program, arguments, &self.log(log)).expect("it starts")
        };
        match &self.programs {
            Programs::Built(program) => {
                let arguments = [vec![data.display().to_string()], self.flags()].concat();
                vec![run(program, arguments, "apiserver")]
            }
            Programs::Assets(directory) => {
                let (client, peer) = (free_port(), free_port());
                let [client, peer] = [client, peer].map(|port| format!("http://127.0.0.1:{port}"));
                let etcd = vec![
                    format!("--data-dir={}", data.display()),
                    format!("--listen-client-urls={client}"),
                    format!("--advertise-client-urls={client}"),
                    format!("--listen-peer-urls={peer}"),
                    "--unsafe-no-fsync".to_owned(),
                ];
                let flags = [self.flags(), vec![format!("--etcd-servers={client}")]].concat();
                let etcd = run(&directory.join("etcd"), etcd, "etcd");
                vec![run(&directory.join("kube-apiserver"), flags, "apiserver"), etcd]
            }
        }
    }

    /// The flags of kube-apiserver. It signs its own certificate.
    fn flags(&self) -> Vec<String> {
        let file = |name: &str| self.directory.join(name).display().to_string();
        vec![
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", file("certificates")),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/12".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            // Nothing makes the account that it would give to each pod.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
        ]
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
