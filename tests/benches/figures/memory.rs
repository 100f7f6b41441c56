//! `filter.memory`: what the filter with ten thousand rules holds of memory beyond a module that does nothing.
//!
//! V8 does not say what a module holds, so it is the difference of two whole Envoys, each after load.

use std::time::Duration;

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
    report.at_most("module.memory_over_noop_bytes", over(1), "bytes", GOAL);
    report.put("module.memory_cut_over_noop_bytes", over(2), "bytes");
    Ok(())
}

fn held(ground: &Ground, variant: &Variant, certificates: &Certificates) -> Outcome<f64> {
    let at = addresses(1)?;
    let listener = variant.listener(at[0], certificates);
    let proxy = Proxy::start(ground, &variant.name, (&bootstrap(&[listener], &[]), &at))?;
    let mut connections = variant.connect(at[0], certificates)?;
    slice(&mut connections, &variant.request(), 200, LOAD)?;
    Ok(proxy.resident_bytes()? as f64)
}
