//! A mesh of real API servers, and what plays the controllers that no API server has.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use isthmus_tests::cluster::Clusters;
use isthmus_tests::repository;
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{PATIENCE, ask, get, post};

const TICK: Duration = Duration::from_millis(20);

/// An example mesh whose clusters are there.
pub(super) struct Mesh {
    pub(super) clusters: Clusters,
    pub(super) names: Vec<String>,
    directory: TempDir,
}

impl Mesh {
    /// Starts a server for each cluster of an example, each with its own address as `apiServer`.
    pub(super) async fn start(example: &str) -> Option<Self> {
        let text = std::fs::read_to_string(repository().join(example).join("mesh.yaml")).expect("a mesh");
        let mut mesh: Value = serde_saphyr::from_str(&text).expect("YAML");
        let of = |mesh: &Value| mesh["spec"]["clusters"].as_array().expect("clusters").clone();
        let name = |cluster: &Value| cluster["name"].as_str().expect("a name").to_owned();
        let names: Vec<String> = of(&mesh).iter().map(name).collect();
        let clusters = Clusters::start(&names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let standing = |mut cluster: Value| {
            let name = name(&cluster);
            cluster["apiServer"] = json!(clusters.server(&name).url());
            cluster["context"] = json!(name);
            cluster.as_object_mut().expect("fields").remove("directory");
            cluster
        };
        mesh["spec"]["clusters"] = of(&mesh).into_iter().map(standing).collect();
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("mesh.yaml"), mesh.to_string()).expect("a file");
        Some(Self { clusters, names, directory })
    }

    /// Where its mesh.yaml lies.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Changes its mesh.yaml.
    pub(super) fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.directory.path().join("mesh.yaml");
        let text = std::fs::read_to_string(&path).expect("a file");
        let mut mesh = serde_saphyr::from_str(&text).expect("YAML");
        change(&mut mesh);
        std::fs::write(path, mesh.to_string()).expect("a file");
    }

    /// A verb of `isthmus mesh`, run to its end while the servers of this process go on.
    pub(super) async fn run(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = isthmus();
        command.args(["mesh", verb, "-f"]).arg(self.directory());
        command.arg("--kubeconfig").arg(self.clusters.kubeconfig()).args(more);
        run(command).await
    }

    /// An object of a cluster, by its path.
    pub(super) async fn get(&self, cluster: &str, path: &str) -> Value {
        get(&self.clusters.client(cluster).await, path).await
    }

    /// Controllers in every cluster.
    pub(super) async fn controllers(&self) -> Controllers {
        let mut controllers = Controllers::default();
        for name in &self.names {
            controllers.play(self.clusters.client(name).await);
        }
        controllers
    }
}

/// The program, as it was built.
pub(super) fn isthmus() -> Command {
    let test = std::env::current_exe().expect("a test binary");
    let binary: PathBuf = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("isthmus");
    assert!(binary.is_file(), "no {}: run `cargo build -p isthmus`", binary.display());
    let mut command = Command::new(binary);
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end while the servers of this process go on.
pub(super) async fn run(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output().expect("it runs"));
    ended.await.expect("it ends")
}

/// What a run printed, and its exit code.
pub(super) fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// What runs beside an API server in a real cluster, as far as it concerns a mesh. It ends with this value.
#[derive(Default)]
pub(super) struct Controllers(JoinSet<()>);

impl Controllers {
    /// Puts tokens into the Secrets that are for them, as the token controller of kube-controller-manager does. Those
    /// it makes are bound to their Secret, so that they end with it as the lasting ones do.
    fn play(&mut self, client: Client) {
        self.0.spawn(async move {
            loop {
                give_tokens(&client).await;
                tokio::time::sleep(TICK).await;
            }
        });
    }
}

async fn give_tokens(client: &Client) {
    let wanted = "/api/v1/secrets?fieldSelector=type=kubernetes.io/service-account-token";
    // A server that a test has stopped has nothing to do.
    let request = hyper::Request::get(wanted).body(Vec::new()).expect("a request");
    let Ok(secrets) = client.request::<Value>(request).await else { return };
    for secret in secrets["items"].as_array().expect("a list") {
        if secret["data"]["token"].is_string() {
            continue;
        }
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let metadata = &secret["metadata"];
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let account = text(&metadata["annotations"]["kubernetes.io/service-account.name"]);
        let wish = json!({
            "spec": {
                "expirationSeconds": 3600,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": name},
            },
        });
        let accounts = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
        let token = post(client, &format!("{accounts}/token"), &wish).await;
        let data = json!({"stringData": {"token": token["status"]["token"]}});
        let request = hyper::Request::patch(format!(
            "/api/v1/namespaces/{namespace}/secrets/{name}?fieldManager=kube-controller-manager"
        ))
        .header("content-type", "application/merge-patch+json")
        .body(data.to_string().into_bytes())
        .expect("a request");
        // It may be gone again.
        let _gone = client.request::<Value>(request).await.is_err();
    }
}

/// Waits until something is so, asking again and again.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(TICK).await;
    }
}

/// Deletes an object by its path.
pub(super) async fn delete(client: &Client, path: &str) {
    ask(client, hyper::Request::delete(path), &Value::Null).await;
}
