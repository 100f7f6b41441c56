//! A mesh of real API servers, and what plays the controllers that no API server has.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use isthmus_tests::cluster::Clusters;
use isthmus_tests::repository;
use kube::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::task::JoinSet;

use super::{PATIENCE, ask, get, post};

const TICK: Duration = Duration::from_millis(20);
/// How often controllers look again: at each look they ask for nine lists, and their servers have more to do.
const LOOK: Duration = Duration::from_millis(100);

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
        let roots = repository().join(example).join("roots");
        if roots.is_dir() {
            std::fs::create_dir(directory.path().join("roots")).expect("a directory");
            for root in std::fs::read_dir(roots).expect("a directory").map(|entry| entry.expect("an entry")) {
                let to = directory.path().join("roots").join(root.file_name());
                std::fs::copy(root.path(), to).expect("a file");
            }
        }
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
        run(self.command(verb, more)).await
    }

    /// A verb of `isthmus mesh` for this mesh.
    pub(super) fn command(&self, verb: &str, more: &[&str]) -> Command {
        self.command_by(&self.clusters.kubeconfig(), verb, more)
    }

    /// The same with another kubeconfig.
    pub(super) fn command_by(&self, kubeconfig: &Path, verb: &str, more: &[&str]) -> Command {
        let mut command = isthmus();
        command.args(["mesh", verb, "-f"]).arg(self.directory());
        command.arg("--kubeconfig").arg(kubeconfig).args(more);
        command
    }

    /// An object of a cluster, by its path.
    pub(super) async fn get(&self, cluster: &str, path: &str) -> Value {
        get(&self.clusters.client(cluster).await, path).await
    }

    /// The address of a cluster's gateway, as mesh.yaml says it.
    fn address(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("mesh.yaml")).expect("a file");
        let mesh: Value = serde_saphyr::from_str(&text).expect("YAML");
        let mut clusters = mesh["spec"]["clusters"].as_array().expect("clusters").iter();
        let cluster = clusters.find(|cluster| cluster["name"] == name).expect("a cluster of this name");
        cluster["gateway"]["address"].as_str().unwrap_or("192.0.2.250").to_owned()
    }

    /// Controllers in every cluster.
    pub(super) async fn controllers(&self) -> Controllers {
        let mut controllers = Controllers::default();
        for name in &self.names {
            let entry = self.clusters.server(name).entry_of_cluster();
            let ca = entry["cluster"]["certificate-authority"].as_str().expect("a path");
            let told = Told { ca: std::fs::read_to_string(ca).expect("a file"), address: self.address(name) };
            controllers.play(self.clusters.client(name).await, told);
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

/// What controllers know of their cluster.
struct Told {
    ca: String,
    address: String,
}

impl Controllers {
    /// Puts tokens into the Secrets that are for them, as the token controller of kube-controller-manager does; says of
    /// every Deployment that its pods are ready, and of every Service with such pods that there is one, as their controllers do;
    /// writes its CA into Istio's webhooks, as istiod does; and gives load balancers this address.
    fn play(&mut self, client: Client, told: Told) {
        self.0.spawn(async move {
            loop {
                give_tokens(&client, &told.ca).await;
                run_deployments(&client).await;
                give_endpoints(&client).await;
                sign_webhooks(&client).await;
                deploy_gateways(&client).await;
                give_addresses(&client, &told.address).await;
                tokio::time::sleep(LOOK).await;
            }
        });
    }
}

/// The objects of a path; none where the server has been stopped, or does not know the kind.
async fn list(client: &Client, path: &str) -> Vec<Value> {
    let request = hyper::Request::get(path).body(Vec::new()).expect("a request");
    let Ok(mut list) = client.request::<Value>(request).await else { return Vec::new() };
    list["items"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// Changes an object, unless it is gone.
pub(super) async fn patch(client: &Client, path: &str, change: &Value) {
    let request = hyper::Request::patch(format!("{path}?fieldManager=kube-controller-manager"))
        .header("content-type", "application/merge-patch+json")
        .body(change.to_string().into_bytes())
        .expect("a request");
    let _gone = client.request::<Value>(request).await.is_err();
}

fn at(object: &Value) -> (&str, &str) {
    let text = |field: &str| object["metadata"][field].as_str().expect("text");
    (text("namespace"), text("name"))
}

async fn run_deployments(client: &Client) {
    for deployment in list(client, "/apis/apps/v1/deployments").await {
        let generation = &deployment["metadata"]["generation"];
        if deployment["status"]["observedGeneration"] == *generation {
            continue;
        }
        let (namespace, name) = at(&deployment);
        let status = json!({
            "observedGeneration": generation, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "updatedReplicas": 1,
        });
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}/status");
        patch(client, &path, &json!({"status": status})).await;
    }
}

/// An endpoint behind every Service whose pods a Deployment has.
async fn give_endpoints(client: &Client) {
    let deployments = list(client, "/apis/apps/v1/deployments").await;
    let slices = list(client, "/apis/discovery.k8s.io/v1/endpointslices").await;
    for service in list(client, "/api/v1/services").await {
        let (namespace, name) = at(&service);
        let Some(selector) = service["spec"]["selector"].as_object() else { continue };
        let of = |slice: &Value| {
            slice["metadata"]["labels"]["kubernetes.io/service-name"] == name
                && slice["metadata"]["namespace"] == namespace
        };
        let is_behind = |deployment: &Value| {
            let labels = &deployment["spec"]["template"]["metadata"]["labels"];
            deployment["metadata"]["namespace"] == namespace
                && selector.iter().all(|(key, value)| labels[key] == *value)
        };
        if slices.iter().any(of) || !deployments.iter().any(is_behind) {
            continue;
        }
        let slice = json!({
            "metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.200"], "conditions": {"ready": true}}],
        });
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        let request = hyper::Request::post(path)
            .header("content-type", "application/json")
            .body(slice.to_string().into_bytes())
            .expect("a request");
        let _stopped = client.request::<Value>(request).await.is_err();
    }
}

async fn sign_webhooks(client: &Client) {
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    for configuration in list(client, path).await {
        let mut webhooks = configuration["webhooks"].clone();
        let mut is_signed = true;
        for webhook in webhooks.as_array_mut().expect("webhooks") {
            let config = &mut webhook["clientConfig"];
            is_signed &= config["caBundle"].as_str().is_some_and(|bundle| !bundle.is_empty());
            config["caBundle"] = json!("LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t");
        }
        if !is_signed {
            let name = configuration["metadata"]["name"].as_str().expect("a name");
            patch(client, &format!("{path}/{name}"), &json!({"webhooks": webhooks})).await;
        }
    }
}

async fn give_addresses(client: &Client, address: &str) {
    for service in list(client, "/api/v1/services").await {
        let is_balanced = service["spec"]["type"] == "LoadBalancer";
        if !is_balanced || service["status"]["loadBalancer"]["ingress"].is_array() {
            continue;
        }
        let key = if address.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "hostname" };
        let (namespace, name) = at(&service);
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}/status");
        patch(client, &path, &json!({"status": {"loadBalancer": {"ingress": [{key: address}]}}})).await;
    }
}

/// What istiod makes of a gateway of the Gateway API, as far as others look at it.
async fn deploy_gateways(client: &Client) {
    for gateway in list(client, "/apis/gateway.networking.k8s.io/v1/gateways").await {
        let (namespace, gateway_name) = at(&gateway);
        let name = format!("{gateway_name}-istio");
        let labels = &gateway["spec"]["infrastructure"]["labels"];
        let listeners = gateway["spec"]["listeners"].as_array().expect("listeners").iter();
        let port = |listener: &Value| json!({"name": listener["name"], "port": listener["port"]});
        let of = json!({"gateway.networking.k8s.io/gateway-name": gateway_name});
        let owner = json!({
            "apiVersion": gateway["apiVersion"], "kind": "Gateway", "name": gateway_name, "uid": gateway["metadata"]["uid"],
        });
        let metadata =
            json!({"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"type": "LoadBalancer", "selector": of, "ports": listeners.map(port).collect::<Vec<_>>()},
        });
        let pod = json!({"containers": [{"name": "istio-proxy", "image": "auto"}]});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"selector": {"matchLabels": of}, "template": {"metadata": {"labels": of}, "spec": pod}},
        });
        for (path, object) in [("api/v1", service), ("apis/apps/v1", deployment)] {
            let plural = format!("{}s", object["kind"].as_str().expect("a kind").to_lowercase());
            let path =
                format!("/{path}/namespaces/{namespace}/{plural}/{name}?fieldManager=istiod&force=true");
            let request = hyper::Request::patch(path)
                .header("content-type", "application/apply-patch+yaml")
                .body(object.to_string().into_bytes())
                .expect("a request");
            let _stopped = client.request::<Value>(request).await.is_err();
        }
    }
}

/// Those it makes are bound to their Secret, so that they end with it as the lasting ones do.
async fn give_tokens(client: &Client, ca: &str) {
    for secret in list(client, "/api/v1/secrets?fieldSelector=type=kubernetes.io/service-account-token").await
    {
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
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
        patch(client, &path, &json!({"stringData": {"token": token["status"]["token"], "ca.crt": ca}})).await;
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

/// What the servers take for now.
#[expect(clippy::disallowed_methods, reason = "the server goes by this clock too")]
pub(super) fn now() -> OffsetDateTime {
    std::time::SystemTime::now().into()
}
