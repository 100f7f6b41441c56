//! `path`: what is lost of a mesh's throughput where the filter stands at all its places.
//!
//! Two labs of two clusters each, one with filters and one without: client's sidecar, then half of the requests to
//! the service in the same cluster and half through the other's gateway, with mutual TLS. Without, each place holds
//! the empty RBAC filter that Istio puts there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use isthmus::lab::{Client, Lab, Site};
use isthmus::stage::{self, Stage};
use policy::{Mesh, Policy};
use tokio::runtime::Runtime;

use super::figure::Report;
use super::ground::{cpu, envoy, process_of};
use super::load::{Connection, request, slice};
use super::rounds::Measured;
use super::{Outcome, module};

const ROUNDS: usize = 15;
const SLICE: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_millis(500);

const MESH: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: bench}\nspec:\n  clusters:\n  \
    - {name: cluster1, network: network1, gateway: {address: 192.0.2.1}, podCidr: 10.1.0.0/16}\n  \
    - {name: cluster2, network: network2, gateway: {address: 192.0.2.2}, podCidr: 10.2.0.0/16}\n  \
    services: {helloworld.sample: {port: 5000}}\n";
const POLICY: &str = "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\n\
    metadata: {name: hello, namespace: sample}\nspec:\n  services: [helloworld]\n  exposure: {to: {networks: [network1]}}\n  \
    access: {allow: [{name: sleepers, from: [{clusters: [cluster1], namespaces: [sample]}], to: [{methods: [GET], paths: [/hello]}]}]}\n";

/// The proxies that a request may pass.
const PROXIES: [(&str, &str); 4] = [
    ("client", "cluster1/sleep.sample"),
    ("near", "cluster1/helloworld-v1.sample"),
    ("gateway", "cluster2/istio-eastwestgateway.istio-system"),
    ("far", "cluster2/helloworld-v2.sample"),
];

/// A lab and the runtime that it lives in; its proxies may have filters.
pub(super) struct Running {
    pub(super) runtime: Runtime,
    pub(super) lab: Lab,
    pub(super) stage: Stage,
    processes: Vec<u32>,
}

/// The policies of a text.
pub(super) fn policies(mesh: &Mesh, text: &str) -> Outcome<Vec<Policy>> {
    let (policies, findings) = Policy::read("bench.yaml", text, mesh.root_namespace());
    if findings.is_empty() { Ok(policies) } else { Err(format!("{findings:?}").into()) }
}

fn client() -> Client {
    Client::new("cluster1", "sample", "sleep")
}

impl Running {
    /// Starts a lab under these policies, or without filters.
    pub(super) fn start(dir: &Path, text: Option<&str>) -> Outcome<Self> {
        let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
        let mesh = mesh.ok_or_else(|| format!("{findings:?}"))?;
        let envoy = envoy()?;
        let site = Site::claim(stage::blueprint(&mesh, [client()]), dir)?;
        let stage = Stage::set(&mesh, &site, &module())?;
        if let Some(text) = text {
            stage.roll_out(&policies(stage.mesh(), text)?)?;
        }
        // One thread drives the lab, and the load is another: this one.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let lab = runtime.block_on(site.up(&envoy, time::OffsetDateTime::now_utc()))?;
        let process = |name| process_of(&envoy, &lab.proxy(name)?.dir.join("bootstrap.json"));
        let processes = PROXIES.iter().map(|(_, name)| process(name)).collect::<Outcome<Vec<_>>>()?;
        Ok(Self { runtime, lab, stage, processes })
    }

    /// Connections of the client's application to its sidecar.
    pub(super) fn connect(&self) -> Outcome<Vec<Connection>> {
        Connection::open_all(self.address()?, None)
    }

    /// Where the client's sidecar takes its requests.
    pub(super) fn address(&self) -> Outcome<SocketAddr> {
        Ok(self.lab.client(&client()).ok_or("no client")?)
    }

    fn cpu(&self) -> Outcome<Vec<u64>> {
        self.processes.iter().map(|process| cpu(*process)).collect()
    }

    /// Ends the lab.
    pub(super) fn down(self) -> Outcome<()> {
        Ok(self.runtime.block_on(self.lab.down())?)
    }
}

/// The request that both clusters answer.
pub(super) fn hello() -> Vec<u8> {
    request("helloworld.sample.svc.cluster.local:5000", "/hello", "bench", &[])
}

/// Requests a second with filters and without, and the CPU time of each proxy.
pub(super) fn throughput(report: &mut Report) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let without = Running::start(&dir.path().join("without"), None)?;
    let with = Running::start(&dir.path().join("with"), Some(POLICY))?;
    is_judged(&with)?;
    let request = hello();
    // Twice without, for the noise: over whole paths it is much.
    let mut lanes = Vec::new();
    for lab in [&without, &without, &with] {
        let mut connections = lab.connect()?;
        slice(&mut connections, &request, 200, WARM_UP)?;
        lanes.push((lab, connections));
    }
    let mut cpu = vec![vec![Vec::new(); lanes.len()]; PROXIES.len()];
    let rates = Measured::alternating(ROUNDS, lanes.len(), |lane| {
        let (lab, connections) = &mut lanes[lane];
        let (before, begun) = (lab.cpu()?, Instant::now());
        let answers = slice(connections, &request, 200, SLICE)? as f64;
        let rate = answers / begun.elapsed().as_secs_f64();
        for ((cpu, before), after) in cpu.iter_mut().zip(before).zip(lab.cpu()?) {
            cpu[lane].push((after - before) as f64 / answers / 1e3);
        }
        Ok(rate)
    })?;
    drop(lanes);
    [without, with].into_iter().try_for_each(Running::down)?;
    report.put("path.without_requests_per_second", rates.of(0), "1/s");
    report.put("path.with_requests_per_second", rates.of(2), "1/s");
    report.put("path.noise", rates.noise() / rates.of(0), "ratio");
    report.at_most("path.throughput_lost", 1.0 - rates.over_nothing(2), "ratio", 0.06);
    for ((name, _), cpu) in PROXIES.iter().zip(cpu) {
        let cpu = Measured::from(cpu);
        report.put(&format!("path.{name}.cpu_us"), cpu.of(0), "us/req");
        report.put(&format!("path.{name}.added_us"), cpu.added(2), "us/req");
    }
    Ok(())
}

/// Makes sure that a rule decides: of two requests one goes to the other cluster, and no rule there is for this path.
fn is_judged(running: &Running) -> Outcome<()> {
    let mut connections = running.connect()?;
    let other = request("helloworld.sample.svc.cluster.local:5000", "/other", "bench", &[]);
    let mut refused = 0;
    for _ in 0..4 {
        let answer = connections[0].ask(&other)?;
        refused += usize::from(answer.status == 403 && answer.text.contains("hello/no-rule-matched"));
    }
    if refused == 2 { Ok(()) } else { Err(format!("of 4 requests {refused} were refused, and not 2").into()) }
}
