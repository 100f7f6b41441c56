//! `filter.http`: what a filter adds to the CPU time that Envoy takes for a request.
//!
//! One Envoy with a listener for each variant, which answers by itself, so that nothing is measured but the proxy.
//! `outbound` is a plan that speaks of other services than the one asked for, `outbound_boundary` one that speaks of
//! it, and with `outbound_tags` no policy routes anything, so that nothing of a request is read.
//! `inbound1000` is a sidecar's plan in a mesh that has so many rules, ten of them for its own workload, as meshes
//! are; for `inbound_own1000` all rules are for its own workload.

use std::time::Duration;

use super::Outcome;
use super::certificates::Certificates;
use super::figure::Report;
use super::ground::Ground;
use super::listener::bootstrap;
use super::load::{Connection, slice};
use super::proxy::{Proxy, addresses};
use super::rounds::{Measured, NONE};
use super::variant::Variant;

/// Many short rounds: neighbours on the machine come and go in seconds.
const ROUNDS: usize = 15;
const SLICE: Duration = Duration::from_millis(400);
const WARM_UP: Duration = Duration::from_millis(100);

/// Microseconds of CPU a request.
const UNIT: &str = "us/req";

/// Variants without TLS, then with.
pub(super) fn requests(report: &mut Report) -> Outcome<()> {
    let ground = Ground::find()?;
    let certificates = Certificates::make(ground.dir.path())?;
    let leaving = Variant::leaving(&ground)?;
    let arriving = Variant::arriving(&ground)?;
    let all: Vec<&Variant> = leaving.iter().chain(&arriving).collect();
    let at = addresses(all.len())?;
    let listeners: Vec<_> =
        all.iter().zip(&at).map(|(variant, at)| variant.listener(*at, &certificates)).collect();
    let proxy = Proxy::start(&ground, "filter", (&bootstrap(&listeners, &[]), &at))?;
    let _apart = proxy.apart()?;
    let mut lanes = Vec::new();
    for (variant, at) in all.iter().zip(&at) {
        let mut connections = variant.connect(*at, &certificates)?;
        slice(&mut connections, &variant.request(), 200, WARM_UP)?;
        lanes.push((connections, variant.request()));
    }
    let (without, with) = lanes.split_at_mut(leaving.len());
    let leaving = Costs { variants: &leaving, measured: measure(&proxy, without)? };
    let arriving = Costs { variants: &arriving, measured: measure(&proxy, with)? };
    leaving.report(report, "filter.none");
    arriving.report(report, "filter.mtls_none");
    ratios(report, &leaving, &arriving)
}

fn measure(proxy: &Proxy, lanes: &mut [(Vec<Connection>, Vec<u8>)]) -> Outcome<Measured> {
    Measured::alternating(ROUNDS, lanes.len(), |lane| {
        let (connections, request) = &mut lanes[lane];
        let before = proxy.cpu()?;
        let answers = slice(connections, request, 200, SLICE)?;
        Ok((proxy.cpu()? - before) as f64 / answers as f64 / 1e3)
    })
}

/// What was measured of variants.
struct Costs<'v> {
    variants: &'v [Variant],
    measured: Measured,
}

impl Costs<'_> {
    fn report(&self, report: &mut Report, nothing: &str) {
        self.measured.report_nothing(report, nothing, UNIT);
        for (lane, variant) in self.variants.iter().enumerate().skip(NONE.len()) {
            report.put(&format!("filter.{}.added_us", variant.name), self.measured.added(lane), UNIT);
        }
    }

    fn added(&self, name: &str) -> Outcome<f64> {
        let lane = self.variants.iter().position(|variant| variant.name == name);
        Ok(self.measured.added(lane.ok_or_else(|| format!("no variant {name}"))?))
    }
}

fn ratios(report: &mut Report, leaving: &Costs<'_>, arriving: &Costs<'_>) -> Outcome<()> {
    let noop = leaving.added("noop")?;
    report.at_most("filter.outbound.over_noop", leaving.added("outbound")? / noop, "ratio", 1.5);
    report.put("filter.outbound_tags.over_noop", leaving.added("outbound_tags")? / noop, "ratio");
    report.put("filter.outbound_boundary.over_noop", leaving.added("outbound_boundary")? / noop, "ratio");
    let inbound = arriving.added("inbound1000")?;
    report.at_most("filter.inbound1000.over_noop", inbound / arriving.added("mtls_noop")?, "ratio", 2.3);
    let rbac = arriving.added("mtls_rbac1000")?;
    report.at_least("filter.rbac1000.over_inbound1000", rbac / inbound, "ratio", 10.0);
    let grown = |many: &str, few: &str| {
        Ok::<_, Box<dyn std::error::Error>>(arriving.added(many)? / arriving.added(few)?)
    };
    report.at_most("filter.inbound10000.over_inbound10", grown("inbound10000", "inbound10")?, "ratio", 1.1);
    report.put(
        "filter.inbound_own10000.over_inbound_own10",
        grown("inbound_own10000", "inbound_own10")?,
        "ratio",
    );
    Ok(())
}
