//! `clusters.rolled_out_to`: what it takes to roll out to very many clusters, each of them a directory.
//!
//! A process of its own for each number of clusters: what an allocator keeps of the one before would hide what the next
//! one needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use isthmus::rollout::strategy::Strategy;
use isthmus::rollout::{Campaign, DryRun, Holder, How, Options, Origin, Target};
use policy::Mesh;
use policy::compile::Plans;

use super::Outcome;
use super::compile::resident_bytes;
use super::figure::Report;
use super::world::world;

/// How many clusters are rolled out to: three, so that it shows how cost grows.
const CLUSTERS: [usize; 3] = [100, 300, 1000];
const PARALLEL: usize = 20;
/// What a process that rolls out alone is told first, before the number of clusters.
pub(super) const ALONE: &str = "alone";

/// What memory for a thousand clusters may come to.
const MOST_BYTES: f64 = 400e6;

/// All of them.
pub(super) fn figures(report: &mut Report) -> Outcome<()> {
    for clusters in CLUSTERS {
        let out = Command::new(std::env::current_exe()?).args([ALONE, &clusters.to_string()]).output()?;
        let told = String::from_utf8(out.stdout)?;
        let told: Vec<f64> = told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [first, next, plans, first_peak, peak] = told[..] else {
            return Err(format!("{clusters}: {}", String::from_utf8_lossy(&out.stderr)).into());
        };
        let name = |what: &str| format!("rollout.clusters{clusters}_{what}");
        report.put(&name("seconds"), first, "s");
        report.put(&name("next_seconds"), next, "s");
        report.put(&name("plans_bytes"), plans, "bytes");
        report.put(&name("first_peak_bytes"), first_peak, "bytes");
        match clusters {
            1000 => report.at_most(&name("peak_bytes"), peak, "bytes", MOST_BYTES),
            _ => report.put(&name("peak_bytes"), peak, "bytes"),
        }
    }
    Ok(())
}

/// One number of clusters: prints the seconds of the first rollout and of one that changes all its plans, what the plans
/// take of memory, and what this process had of it at most after each, beyond what it began with.
pub(super) fn alone(clusters: usize) -> Outcome<()> {
    let before = resident_bytes("self").ok_or("the kernel says nothing of memory")?;
    let directory = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut told = Vec::new();
    for rules in [100, 110] {
        let (mesh, policies) = world(clusters, rules)?;
        let (plans, findings) = policy::compile(&mesh, &policies);
        let plans = plans.ok_or_else(|| format!("{findings:?}"))?;
        let held = resident_bytes("self").unwrap_or_default().saturating_sub(before);
        let begun = Instant::now();
        runtime.block_on(roll_out(&mesh, &plans, directory.path()))?;
        let took = begun.elapsed().as_secs_f64();
        told.extend([took, held as f64, peak_bytes()?.saturating_sub(before) as f64]);
    }
    let [first, plans, first_peak, next, _, peak] = told[..] else { return Err("not two rollouts".into()) };
    println!("{first} {next} {plans} {first_peak} {peak}");
    Ok(())
}

async fn roll_out(mesh: &Mesh, plans: &Plans, directory: &Path) -> Outcome<()> {
    let target = |name: &str| Ok(Target::Directory(directory.join(name)));
    let targets: BTreeMap<_, _> =
        mesh.clusters().map(|cluster| (cluster.name.clone(), target(cluster.name.as_str()))).collect();
    let url = "oci://registry.example/isthmus:v1".parse()?;
    let campaign = Campaign {
        root: mesh.root_namespace().to_string(),
        targets,
        how: How { dry_run: DryRun::No, force: false, parallel: PARALLEL },
        holder: Holder {
            name: "bench".to_owned(),
            time: Duration::from_secs(15),
            clock: time::OffsetDateTime::now_utc,
        },
        gates: &|_| Vec::new(),
        history: 10,
        tell: &mut |_| {},
    };
    let strategy = Strategy::all_at_once(mesh.clusters().map(|cluster| &cluster.name));
    let options = Options { url: &url, upstream_check: false, dry_run: false };
    let origin = Origin::at(time::OffsetDateTime::now_utc());
    let done = campaign.roll_out((mesh, plans, options), strategy, origin).await?;
    match done.outcomes.iter().find_map(|outcome| outcome.trouble.as_ref()) {
        Some(trouble) => Err(trouble.to_string().into()),
        None => Ok(()),
    }
}

/// How much memory this process had at most.
fn peak_bytes() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    Ok(peak.ok_or("the kernel says no peak")?.trim().parse::<u64>()? * 1024)
}
