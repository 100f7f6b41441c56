//! `sandbox`: the module in wasmtime.

use std::hint::black_box;
use std::time::Instant;

use isthmus::plugin;
use isthmus::sandbox::{Connection, Headers, Module, Node, PeerCertificate, Plugin, Tls};
use policy::compile::ClusterPlans;
use policy::plan::Role;
use serde_json::json;
use tempfile::TempDir;

use super::Outcome;
use super::certificates::Certificates;
use super::figure::Report;
use super::world::plans_of;

/// How many requests a second pass, and how many are refused.
pub(super) fn requests(report: &mut Report) -> Outcome<()> {
    let wasm = std::fs::read(super::module())?;
    let plans = plans_of(2, 10)?;
    let hierarchy = TempDir::new()?;
    let certificates = Certificates::make(hierarchy.path())?;
    let pem = std::fs::read_to_string(&certificates.sidecar()[0])?;
    let pem = pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap_or_default().to_owned();
    // Of the cluster itself, whose requests pass; and one that proves nothing.
    let known = PeerCertificate {
        pem,
        sha256: "1".repeat(64),
        uri_san: Some("spiffe://cluster.local/ns/shop0/sa/s0".to_owned()),
        valid: true,
        ..PeerCertificate::default()
    };
    let unknown = PeerCertificate { sha256: "0".repeat(64), valid: true, ..PeerCertificate::default() };
    let passed = requests_per_second(&wasm, &plans, (known, true))?;
    report.at_least("sandbox.requests_per_second", passed, "1/s", 1e6);
    let refused = requests_per_second(&wasm, &plans, (unknown, false))?;
    report.put("sandbox.refusals_per_second", refused, "1/s");
    report.at_most("sandbox.second_start_ms", second_start(&wasm, &plans)?, "ms", 5.0);
    Ok(())
}

/// Milliseconds from the bytes of a module that this process has compiled before to a VM with a plugin, in the median.
fn second_start(wasm: &[u8], plans: &ClusterPlans) -> Outcome<f64> {
    const STARTS: usize = 101;
    let plan = plans.at(Role::Inbound, &"shop0".parse()?);
    let configuration = serde_json::to_vec(&plugin::configuration(Role::Inbound, &plan)?)?;
    let node = node();
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let plugin = Plugin { configuration: configuration.clone(), ..Plugin::default() };
        let begun = Instant::now();
        black_box(Module::compile(wasm)?.start(&node, plugin)?);
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[STARTS / 2])
}

/// The sidecar of a workload of s0.
fn node() -> Node {
    Node {
        metadata: json!({"CLUSTER_ID": "c0", "NETWORK": "n0", "NAMESPACE": "shop0", "LABELS": {"app": "s0"}}),
        ..Node::default()
    }
}

/// Requests of a peer to a sidecar, through the real module, on one core.
fn requests_per_second(
    wasm: &[u8],
    plans: &ClusterPlans,
    (peer, passes): (PeerCertificate, bool),
) -> Outcome<f64> {
    const REQUESTS: u32 = 200_000;
    let node = node();
    let configuration = serde_json::to_vec(&plugin::configuration(
        Role::Inbound,
        &plans.at(Role::Inbound, &"shop0".parse()?),
    )?)?;
    let vm = Module::compile(wasm)?.start(&node, Plugin { configuration, ..Plugin::default() })?;
    let connection = Connection::new("127.0.0.1:1".parse()?, "127.0.0.1:2".parse()?)
        .with_tls(Tls { peer: Some(peer), ..Tls::default() })
        .with_upstream_cluster("inbound|80||");
    let begun = Instant::now();
    for _ in 0..REQUESTS {
        let request =
            Headers::from([(":authority", "s0"), (":method", "GET"), (":path", "/"), (":scheme", "http")]);
        let stream = vm.http(&connection, request)?;
        let outcome = stream.request();
        if outcome.continued().is_some() != passes {
            return Err(format!("it came to {outcome:?}").into());
        }
        black_box(&outcome);
        stream.finish()?;
    }
    Ok(f64::from(REQUESTS) / begun.elapsed().as_secs_f64())
}
