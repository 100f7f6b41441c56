//! `sandbox`: the module in wasmtime.

use std::hint::black_box;
use std::time::Instant;

use isthmus::plugin;
use isthmus::sandbox::{Connection, Headers, Module, Node, PeerCertificate, Plugin, Tls};
use policy::compile::ClusterPlans;
use policy::plan::Role;
use serde_json::json;

use super::Outcome;
use super::figure::Report;
use super::world::plans_of;

/// How many requests a second pass.
pub(super) fn requests(report: &mut Report) -> Outcome<()> {
    let requests = requests_per_second(&std::fs::read(super::module())?, &plans_of(2, 10)?)?;
    report.at_least("sandbox.requests_per_second", requests, "1/s", 1e6);
    Ok(())
}

/// Requests to a sidecar, through the real module, on one core.
fn requests_per_second(wasm: &[u8], plans: &ClusterPlans) -> Outcome<f64> {
    const REQUESTS: u32 = 100_000;
    let node = Node {
        metadata: json!({"CLUSTER_ID": "c0", "NETWORK": "n0", "NAMESPACE": "shop0", "LABELS": {"app": "s0"}}),
        ..Node::default()
    };
    let configuration = serde_json::to_vec(&plugin::configuration(
        Role::Inbound,
        &plans.at(Role::Inbound, &"shop0".parse()?),
    )?)?;
    let vm = Module::compile(wasm)?.start(&node, Plugin { configuration, ..Plugin::default() })?;
    let peer = PeerCertificate { sha256: "0".repeat(64), valid: true, ..PeerCertificate::default() };
    let connection = Connection::new("127.0.0.1:1".parse()?, "127.0.0.1:2".parse()?)
        .with_tls(Tls { peer: Some(peer), ..Tls::default() })
        .with_upstream_cluster("inbound|80||");
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        let request =
            Headers::from([(":authority", "s0"), (":method", "GET"), (":path", "/"), (":scheme", "http")]);
        let stream = vm.http(&connection, request)?;
        black_box(stream.request());
        stream.finish()?;
    }
    Ok(f64::from(REQUESTS) / begun.elapsed().as_secs_f64())
}
