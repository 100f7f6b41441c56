//! Pods whose proxies answer, where no kubelet runs: objects that an API server has, and something real behind them.
//!
//! The API server reaches a pod by its address, and refuses addresses of loopback, where all of a lab listens. So each
//! proxy gets a port of this machine's own address, by which whoever comes is led to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use kube::Client;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Proxies of some cluster as pods; they answer until this value goes.
pub struct Pods {
    client: Client,
    address: IpAddr,
    fronts: Vec<(String, JoinSet<()>)>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A client has credentials.
        out.debug_struct("Pods").field("fronts", &self.fronts).finish_non_exhaustive()
    }
}

/// A pod with a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'p> {
    /// Its namespace, which is there.
    pub namespace: &'p str,
    /// Its name.
    pub name: &'p str,
    /// What its proxy is told to be: `sidecar` or `router`.
    pub role: &'p str,
    /// The value of its label `istio`.
    pub istio: Option<&'p str>,
    /// Where its proxy answers.
    pub admin: SocketAddr,
}

impl Pods {
    /// None yet; `None` where this machine has no address but those of loopback, which is said aloud.
    pub fn of(client: Client) -> Option<Self> {
        match own_address() {
            Some(address) => Some(Self { client, address, fronts: Vec::new() }),
            None => {
                super::tell("this machine has no address but those of loopback");
                None
            }
        }
    }

    /// Adds a pod.
    pub async fn add(&mut self, pod: Pod<'_>) {
        let labels: BTreeMap<&str, &str> =
            [("app", pod.name)].into_iter().chain(pod.istio.map(|istio| ("istio", istio))).collect();
        let container = json!({
            "name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.30.2", "args": ["proxy", pod.role],
        });
        let port = ("http-envoy-prom", pod.admin);
        self.put((pod.namespace, pod.name), json!(labels), container, port).await;
    }

    /// Adds the pod of an istiod, whose metrics are at an address.
    pub async fn add_istiod(&mut self, name: &str, metrics: SocketAddr) {
        let container = json!({"name": "discovery", "image": "docker.io/istio/pilot:1.30.2"});
        let port = ("http-monitoring", metrics);
        self.put(("istio-system", name), json!({"app": "istiod"}), container, port).await;
    }

    async fn put(
        &mut self,
        (namespace, name): (&str, &str),
        labels: Value,
        mut container: Value,
        (port, to): (&str, SocketAddr),
    ) {
        let listener = TcpListener::bind((self.address, 0)).await.expect("a port");
        let number = listener.local_addr().expect("an address").port();
        let mut front = JoinSet::new();
        front.spawn(lead(listener, to));
        self.fronts.push((name.to_owned(), front));
        let ports = json!([{"name": port, "containerPort": number, "protocol": "TCP"}]);
        container.as_object_mut().expect("a container").insert("ports".to_owned(), ports);
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"containers": [container]},
        });
        let base = format!("/api/v1/namespaces/{namespace}/pods");
        self.send(hyper::Request::post(&base), "application/json", &object).await;
        let status = json!({"status": {
            "phase": "Running",
            "podIP": self.address.to_string(),
            "podIPs": [{"ip": self.address.to_string()}],
        }});
        let request = hyper::Request::patch(format!("{base}/{name}/status"));
        self.send(request, "application/merge-patch+json", &status).await;
    }

    /// Takes the proxy of a pod away; the pod stays.
    pub fn silence(&mut self, pod: &str) {
        self.fronts.retain(|(name, _)| name != pod);
    }

    async fn send(&self, request: hyper::http::request::Builder, content: &str, body: &Value) {
        let request = request.header("content-type", content).body(body.to_string().into_bytes());
        self.client.request::<Value>(request.expect("a request")).await.expect("the server agrees");
    }
}

/// Leads whoever comes to where a proxy listens.
async fn lead(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        connections.spawn(async move {
            if let Ok(mut proxy) = TcpStream::connect(to).await {
                let _either_may_end_it =
                    tokio::io::copy_bidirectional(&mut stream, &mut proxy).await.is_err();
            }
        });
    }
}

/// The address by which this machine would reach others. Nothing is sent to find it out.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address for documentation: nobody has it.
    socket.connect("203.0.113.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}
