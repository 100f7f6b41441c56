//! `make bench`: the figures there are so far, as a table and in `target/bench.json`. What is not measured is absent.
#![expect(clippy::print_stdout, reason = "a table is what this is for")]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot run has nothing to say"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use isthmus::plugin;
use isthmus::sandbox::{Connection, Headers, Module, Node, PeerCertificate, Plugin, Tls};
use policy::evaluate::{self, Arrival};
use policy::plan::{Guard, Role};
use policy::source::Source;
use policy::{Mesh, Plan, Policy};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let module = std::fs::read(root.join("wasm/isthmus.wasm"))?;
    let (few, many) = (plan(2, 10)?, plan(2, 10_000)?);
    let evaluated = ratio(&verdict_time(&few), &verdict_time(&many));
    let (mesh, policies) = world(200, 10_000)?;
    let begun = Instant::now();
    black_box(policy::compile(&mesh, &policies));
    let compiled = begun.elapsed();
    let figures = [
        figure("module.bytes", module.len() as f64, "bytes", 120_000.0, false),
        figure("evaluate.rules10000_over_rules10", evaluated, "ratio", 1.1, false),
        figure("compile.clusters200_rules10000_seconds", compiled.as_secs_f64(), "s", 1.0, false),
        figure("sandbox.requests_per_second", requests_per_second(&module, &few)?, "1/s", 1e6, true),
    ];
    for entry in &figures {
        println!(
            "{:42} {:>16} {:6} goal {:>10}  {}",
            text(entry, "name"),
            shown(entry, "value"),
            text(entry, "unit"),
            shown(entry, "goal"),
            text(entry, "meets")
        );
    }
    let report = json!({"machine": machine(), "figures": figures});
    std::fs::write(root.join("target/bench.json"), format!("{report:#}\n"))?;
    println!("on {}", machine());
    Ok(())
}

/// A figure with its goal, which it meets from below or, where more is better, from above.
fn figure(name: &str, value: f64, unit: &str, goal: f64, more_is_better: bool) -> Value {
    let meets = if more_is_better { value >= goal } else { value <= goal };
    json!({"name": name, "value": value, "unit": unit, "goal": goal, "meets": meets})
}

fn text(entry: &Value, key: &str) -> String {
    match &entry[key] {
        Value::Bool(true) => "meets".to_owned(),
        Value::Bool(false) => "short".to_owned(),
        Value::String(text) => text.clone(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn shown(entry: &Value, key: &str) -> String {
    let value = entry[key].as_f64().unwrap_or_default();
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} x {}", cores, model.unwrap_or(std::env::consts::ARCH))
}

/// A mesh of so many clusters and so many rules, ten to a service.
fn world(clusters: usize, rules: usize) -> Result<(Mesh, Vec<Policy>), Box<dyn std::error::Error>> {
    let mut mesh =
        "apiVersion: isthmus.dev/v1alpha1\nkind: Mesh\nmetadata: {name: m}\nspec:\n  clusters:\n".to_owned();
    for n in 0..clusters {
        writeln!(mesh, "  - {{name: c{n}, network: n{n}, gateway: {{address: 192.0.2.1}}}}")?;
    }
    let mut text = String::new();
    for service in 0..rules / 10 {
        write!(
            text,
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p{service}, namespace: shop}}\nspec:\n  services: [s{service}]\n  access:\n    allow:\n"
        )?;
        for rule in 0..10 {
            writeln!(
                text,
                "    - {{name: r{rule}, from: [{{clusters: [c1], namespaces: [ns{rule}]}}], to: [{{methods: [GET], paths: [/v{rule}/*]}}]}}"
            )?;
        }
    }
    let (mesh, findings) = Mesh::read("mesh.yaml", &mesh);
    let mesh = mesh.ok_or_else(|| format!("{findings:?}"))?;
    let (policies, findings) = Policy::read("p.yaml", &text, mesh.root_namespace());
    if !findings.is_empty() {
        return Err(format!("{findings:?}").into());
    }
    Ok((mesh, policies))
}

/// The plan of the first cluster of such a mesh.
fn plan(clusters: usize, rules: usize) -> Result<Plan, Box<dyn std::error::Error>> {
    let (mesh, policies) = world(clusters, rules)?;
    let (plans, findings) = policy::compile(&mesh, &policies);
    let mut plans = plans.ok_or_else(|| format!("{findings:?}"))?;
    Ok(plans.remove(&"c0".parse()?).ok_or("no plan for c0")?)
}

/// The time of a verdict for service s0, in rounds.
fn verdict_time(plan: &Plan) -> Vec<Duration> {
    let namespace = "shop".parse().expect("a label");
    let guard = Guard::new(plan, &namespace, &BTreeMap::from([("app".to_owned(), "s0".to_owned())]));
    let identity = "spiffe://cluster.local/ns/ns9/sa/web".parse().expect("an identity");
    let source = Source::Verified(plan.known("c1").expect("a cluster"));
    let arrival = Arrival { source, identity: Some(&identity), port: 0, method: "GET", path: "/v9/x" };
    assert_eq!(evaluate::inbound(plan, &guard, &arrival).reason(), "p0/r9");
    (0..21)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..20_000 {
                black_box(evaluate::inbound(plan, &guard, black_box(&arrival)));
            }
            begun.elapsed()
        })
        .collect()
}

fn ratio(below: &[Duration], above: &[Duration]) -> f64 {
    let median = |rounds: &[Duration]| {
        let mut sorted = rounds.to_vec();
        sorted.sort();
        sorted[sorted.len() / 2].as_secs_f64()
    };
    median(above) / median(below)
}

/// Requests to a sidecar, through the real module, on one core.
fn requests_per_second(wasm: &[u8], plan: &Plan) -> Result<f64, Box<dyn std::error::Error>> {
    const REQUESTS: u32 = 100_000;
    let node = Node {
        metadata: json!({"CLUSTER_ID": "c0", "NETWORK": "n0", "NAMESPACE": "shop", "LABELS": {"app": "s0"}}),
        ..Node::default()
    };
    let configuration = serde_json::to_vec(&plugin::configuration(Role::Inbound, plan)?)?;
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
