//! `filter.memory`: what the filter with ten thousand rules holds of memory beyond a module that does nothing.
//!
//! V8 does not say what a module holds. The memory of its VM is asked of the sandbox, which runs the same module with the
//! same plan; what whole Envoys hold, each after load, says what the plan costs besides: Envoy keeps copies of it.

use std::time::Duration;

use isthmus::plugin;
use isthmus::sandbox::{Connection, Headers, Module, Node, Plugin};
use policy::compile::ClusterPlans;
use policy::plan::Role;
use serde_json::json;

use super::Outcome;
use super::certificates::Certificates;
use super::figure::{Report, median};
use super::ground::Ground;
use super::listener::bootstrap;
use super::load::slice;
use super::proxy::{Proxy, addresses};
use super::variant::Variant;
use super::world::{compiled, own_rules, plans_of};

const RUNS: usize = 3;
const LOAD: Duration = Duration::from_millis(500);
const GOAL: f64 = 4.0 * 1024.0 * 1024.0;

/// The memory of Envoys with one listener.
pub(super) fn resident(report: &mut Report) -> Outcome<()> {
    let ground = Ground::find()?;
    let certificates = Certificates::make(ground.dir.path())?;
    let (mesh, policies) = own_rules(10_000)?;
    let whole = Variant::inbound(&ground, "memory_own10000", (&compiled(&mesh, &policies)?, 9_999))?;
    let cut = Variant::inbound(&ground, "memory_10000", (&plans_of(2, 10_000)?, 9))?;
    let variants = [Variant::noop(&ground), whole, cut];
    let mut runs = vec![Vec::new(); variants.len()];
    for _ in 0..RUNS {
        for (variant, runs) in variants.iter().zip(&mut runs) {
            runs.push(held(&ground, variant, &certificates)?);
        }
    }
    let held: Vec<f64> = runs.into_iter().map(median).collect();
    let over = |variant: usize| held[variant] - held[0];
    let noop = linear(&std::fs::read(&ground.noop)?, Vec::new())?;
    let wasm = std::fs::read(&ground.isthmus)?;
    let own = linear(&wasm, configuration(&compiled(&mesh, &policies)?)?)?;
    let cut = linear(&wasm, configuration(&plans_of(2, 10_000)?)?)?;
    report.at_most("module.memory_over_noop_bytes", own - noop, "bytes", GOAL);
    report.put("module.memory_cut_over_noop_bytes", cut - noop, "bytes");
    report.put("module.rss_over_noop_bytes", over(1), "bytes");
    report.put("module.rss_cut_over_noop_bytes", over(2), "bytes");
    Ok(())
}

fn configuration(plans: &ClusterPlans) -> Outcome<Vec<u8>> {
    let plan = plans.at(Role::Inbound, &"shop0".parse()?);
    Ok(serde_json::to_vec(&plugin::configuration(Role::Inbound, &plan)?)?)
}

/// The size of a module's own memory once it is configured and has served a thousand requests.
fn linear(wasm: &[u8], configuration: Vec<u8>) -> Outcome<f64> {
    let node = Node {
        metadata: json!({"CLUSTER_ID": "c0", "NETWORK": "n0", "NAMESPACE": "shop0", "LABELS": {"app": "own"}}),
        ..Node::default()
    };
    let vm = Module::compile(wasm)?.start(&node, Plugin { configuration, ..Plugin::default() })?;
    for _ in 0..1000 {
        let connection = Connection::new("127.0.0.1:1".parse()?, "127.0.0.1:2".parse()?);
        let headers = [(":authority", "own"), (":method", "GET"), (":path", "/"), (":scheme", "http")];
        vm.http(&connection, Headers::from(headers))?.finish()?;
    }
    Ok(vm.memory_bytes() as f64)
}

fn held(ground: &Ground, variant: &Variant, certificates: &Certificates) -> Outcome<f64> {
    let at = addresses(1)?;
    let listener = variant.listener(at[0], certificates);
    let proxy = Proxy::start(ground, &variant.name, (&bootstrap(&[listener], &[]), &at))?;
    let mut connections = variant.connect(at[0], certificates)?;
    slice(&mut connections, &variant.request(), 200, LOAD)?;
    Ok(proxy.resident_bytes()? as f64)
}
