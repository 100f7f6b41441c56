//! `compile`: the size of the module and of the largest plan, and what it takes to compile plans.

use std::time::Instant;

use policy::compile::ClusterPlans;

use super::Outcome;
use super::figure::Report;
use super::world::world;

/// Compiles ten thousand rules for two hundred clusters.
pub(super) fn plans(report: &mut Report) -> Outcome<()> {
    let module = std::fs::metadata(super::module())?.len();
    report.at_most("module.bytes", module as f64, "bytes", 120_000.0);
    let (mesh, policies) = world(200, 10_000)?;
    let before = resident_bytes("self");
    let begun = Instant::now();
    let (plans, findings) = policy::compile(&mesh, &policies);
    let compiled = begun.elapsed();
    let plans = plans.ok_or_else(|| format!("{findings:?}"))?;
    report.at_most("compile.clusters200_rules10000_seconds", compiled.as_secs_f64(), "s", 1.0);
    if let Some((after, before)) = resident_bytes("self").zip(before) {
        let held = after.saturating_sub(before);
        report.put("compile.clusters200_rules10000_rss_bytes", held as f64, "bytes");
    }
    let sizes = plans.values().flat_map(ClusterPlans::parts);
    let sizes = sizes.map(|(_, _, plan)| plan.to_json().map(|json| json.len()));
    let largest = sizes.collect::<Result<Vec<usize>, _>>()?.into_iter().max().unwrap_or_default();
    report.at_most("plan.largest_part_bytes", largest as f64, "bytes", 262_144.0);
    Ok(())
}

/// What a process holds of memory, where the system says it.
pub(super) fn resident_bytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
