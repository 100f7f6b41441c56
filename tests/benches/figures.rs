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
use std::time::Instant;

use isthmus::plugin;
use isthmus::sandbox::{Connection, Headers, Module, Node, PeerCertificate, Plugin, Tls};
use policy::compile::ClusterPlans;
use policy::evaluate::{self, Arrival};
use policy::name::{Identity, Namespace};
use policy::plan::Role;
use policy::source::{By, Source};
use policy::{Guard, Mesh, Policy};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let module = std::fs::read(root.join("wasm/isthmus.wasm"))?;
    let (mesh, policies) = world(200, 10_000)?;
    let before = resident_bytes();
    let begun = Instant::now();
    let (plans, findings) = policy::compile(&mesh, &policies);
    let compiled = begun.elapsed();
    let plans = plans.ok_or_else(|| format!("{findings:?}"))?;
    let held = resident_bytes().zip(before).map(|(after, before)| (after.saturating_sub(before)) as f64);
    let mut figures = vec![
        figure("module.bytes", module.len() as f64, "bytes", Some(120_000.0), false),
        figure("compile.clusters200_rules10000_seconds", compiled.as_secs_f64(), "s", Some(1.0), false),
    ];
    figures.extend(
        held.map(|held| figure("compile.clusters200_rules10000_rss_bytes", held, "bytes", None, false)),
    );
    let sizes = plans.values().flat_map(ClusterPlans::parts);
    let sizes = sizes.map(|(_, _, plan)| plan.to_json().map(|json| json.len()));
    let largest = sizes.collect::<Result<Vec<usize>, _>>()?.into_iter().max().unwrap_or_default();
    figures.push(figure("plan.largest_part_bytes", largest as f64, "bytes", Some(262_144.0), false));
    drop(plans);
    figures.extend(verdicts()?);
    let few = plans_of(2, 10)?;
    let requests = requests_per_second(&module, &few)?;
    figures.push(figure("sandbox.requests_per_second", requests, "1/s", Some(1e6), true));
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

/// The time of a verdict, where the rules belong to other services and where all are the service's own. Rounds of
/// all worlds in alternation, so that what slows the machine slows each alike.
fn verdicts() -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let sizes = [10, 1_000, 10_000];
    let mut judged = Vec::new();
    for rules in sizes {
        judged.push(Judged::new(plans_of(2, rules)?, "s0", "p0/r9", 9)?);
    }
    for rules in sizes {
        let (mesh, policies) = own_rules(rules)?;
        let plans = compiled(&mesh, &policies)?;
        judged.push(Judged::new(plans, "own", &format!("own/r{}", rules - 1), rules - 1)?);
    }
    let mut rounds = vec![Vec::new(); judged.len()];
    for _ in 0..21 {
        for (judged, rounds) in judged.iter().zip(&mut rounds) {
            rounds.push(judged.round());
        }
    }
    let medians: Vec<f64> = rounds.into_iter().map(median).collect();
    let [other10, other1000, other10000, own10, own1000, own10000] = medians[..] else {
        return Err("a world is missing".into());
    };
    let nanoseconds = |name: &str, value: f64| figure(name, value, "ns", None, false);
    Ok(vec![
        nanoseconds("evaluate.rules10_ns", other10),
        nanoseconds("evaluate.rules1000_ns", other1000),
        nanoseconds("evaluate.rules10000_ns", other10000),
        figure("evaluate.rules1000_over_rules10", other1000 / other10, "ratio", Some(1.1), false),
        figure("evaluate.rules10000_over_rules10", other10000 / other10, "ratio", Some(1.1), false),
        nanoseconds("evaluate.own10_ns", own10),
        nanoseconds("evaluate.own1000_ns", own1000),
        nanoseconds("evaluate.own10000_ns", own10000),
        figure("evaluate.own10000_over_own10", own10000 / own10, "ratio", Some(1_000.0), false),
    ])
}

/// A workload and a request for it.
struct Judged {
    plans: ClusterPlans,
    namespace: Namespace,
    guard: Guard,
    identity: Identity,
    path: String,
}

impl Judged {
    /// The workload of a service in the first cluster, and a request that its rule number `rule` decides.
    fn new(
        plans: ClusterPlans,
        service: &str,
        reason: &str,
        rule: usize,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let namespace: Namespace = "shop0".parse()?;
        let plan = plans.inbound_of(&namespace);
        let guard = Guard::new(plan, &namespace, &BTreeMap::from([("app".to_owned(), service.to_owned())]));
        let identity = format!("spiffe://cluster.local/ns/ns{rule}/sa/web").parse()?;
        let judged = Self { guard, identity, path: format!("/v{rule}/x"), plans, namespace };
        if judged.reason() != reason {
            return Err(format!("{service} is judged by {}, not by {reason}", judged.reason()).into());
        }
        Ok(judged)
    }

    fn arrival(&self) -> Option<Arrival<'_>> {
        let plan = self.plans.inbound_of(&self.namespace);
        Some(Arrival {
            source: Source::Verified(plan.named("c1")?, By::Certificate),
            identity: Some(&self.identity),
            port: None,
            method: "GET",
            path: &self.path,
            host: None,
        })
    }

    fn reason(&self) -> String {
        let judge = |arrival| evaluate::inbound(&self.guard, &arrival).verdict.reason();
        self.arrival().map(judge).unwrap_or_default()
    }

    /// Nanoseconds of one verdict, over many.
    fn round(&self) -> f64 {
        const VERDICTS: u32 = 20_000;
        let arrival = self.arrival().expect("a cluster");
        let begun = Instant::now();
        for _ in 0..VERDICTS {
            black_box(evaluate::inbound(&self.guard, black_box(&arrival)));
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(VERDICTS)
    }
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// What this process holds of memory, where the system says it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// A figure with its goal, if it has one, which it meets from below or, where more is better, from above.
fn figure(name: &str, value: f64, unit: &str, goal: Option<f64>, more_is_better: bool) -> Value {
    let meets = goal.map(|goal| if more_is_better { value >= goal } else { value <= goal });
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
    let Some(value) = entry[key].as_f64() else { return "-".to_owned() };
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} x {}", cores, model.unwrap_or(std::env::consts::ARCH))
}

/// The services of a world are spread over so many namespaces.
const NAMESPACES: usize = 20;

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
            "---\napiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p{service}, namespace: shop{}}}\nspec:\n  services: [s{service}]\n  access:\n    allow:\n",
            service % NAMESPACES
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

/// A mesh of two clusters and so many rules, all of one service: no two for the same namespace and path.
fn own_rules(rules: usize) -> Result<(Mesh, Vec<Policy>), Box<dyn std::error::Error>> {
    let (mesh, _) = world(2, 10)?;
    let mut text = "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {name: own, namespace: shop0}\nspec:\n  services: [own]\n  access:\n    allow:\n".to_owned();
    for rule in 0..rules {
        writeln!(
            text,
            "    - {{name: r{rule}, from: [{{clusters: [c1], namespaces: [ns{rule}]}}], to: [{{paths: [/v{rule}/*]}}]}}"
        )?;
    }
    let (policies, findings) = Policy::read("own.yaml", &text, mesh.root_namespace());
    if findings.is_empty() { Ok((mesh, policies)) } else { Err(format!("{findings:?}").into()) }
}

/// The plans of the first cluster.
fn compiled(mesh: &Mesh, policies: &[Policy]) -> Result<ClusterPlans, Box<dyn std::error::Error>> {
    let (plans, findings) = policy::compile(mesh, policies);
    let mut plans = plans.ok_or_else(|| format!("{findings:?}"))?;
    Ok(plans.remove(&"c0".parse()?).ok_or("no plans for c0")?)
}

fn plans_of(clusters: usize, rules: usize) -> Result<ClusterPlans, Box<dyn std::error::Error>> {
    let (mesh, policies) = world(clusters, rules)?;
    compiled(&mesh, &policies)
}

/// Requests to a sidecar, through the real module, on one core.
fn requests_per_second(wasm: &[u8], plans: &ClusterPlans) -> Result<f64, Box<dyn std::error::Error>> {
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
