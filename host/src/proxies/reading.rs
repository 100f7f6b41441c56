//! What a proxy's metrics say of the filter.
//!
//! Proxy-wasm knows no tags, so the filter writes them into the name of a metric as `TAG=.=VALUE;.;`. A proxy that was
//! told to split them shows them as labels; in any other they stand in the name, with an underscore for each character
//! that a name cannot have.

use std::collections::BTreeMap;
use std::fmt;

use policy::plan::Role;

use super::exposition::{self, ExpositionError, Sample};

/// Which plan: the first 48 bits of its digest, as a proxy tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    /// How a proxy tells that there is none.
    const NONE: Self = Self(0);

    /// That of a digest in hex; `None` where it is none.
    pub fn of(digest: &str) -> Option<Self> {
        digest.get(..12).and_then(|start| u64::from_str_radix(start, 16).ok()).map(Self)
    }

    /// Envoy writes whole numbers; none has more bits than a digest's first twelve digits.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a whole number of 48 bits"
    )]
    fn read(value: f64) -> Option<Self> {
        let is_one = value.fract() == 0.0 && (0.0..281_474_976_710_656.0).contains(&value);
        is_one.then_some(Self(value as u64))
    }
}

impl fmt::Display for Stamp {
    /// As the first twelve digits of the digest.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:012x}", self.0)
    }
}

/// What a proxy has counted since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, and connections of a gateway, that the filter let on.
    pub allowed: u64,
    /// Those that it refused.
    pub denied: u64,
    /// Those that it let on, and that policies in shadow would have refused.
    pub shadow_denied: u64,
    /// Requests and connections that a plan on trial has judged.
    pub tried: u64,
    /// Those that were let on, and that it would have refused.
    pub trial_denied: u64,
    /// Requests that the proxy itself has counted.
    pub requests: u64,
    /// Those of them that were answered with 500 or more.
    pub failed: u64,
    /// How often Envoy has met a VM of the filter that had broken: each new start, and each that it put off.
    pub traps: u64,
    /// For how many seconds it runs.
    pub uptime: u64,
}

/// What a proxy says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// The plan of each of the filter's places.
    pub plans: BTreeMap<Role, Stamp>,
    /// The plan that is tried beside it, where one is.
    pub trials: BTreeMap<Role, Stamp>,
    /// What was counted.
    pub counts: Counts,
}

/// What is asked for, of all that a proxy counts.
pub(super) const QUERY: &str = "/stats/prometheus?filter=isthmus_%7Cvm_reload%7Cruntime.v8.active%7Cistio_requests_total%7Cdownstream_rq_.xx%7Cserver.uptime";

impl Reading {
    /// Reads what `/stats/prometheus` answers.
    pub fn read(text: &str) -> Result<Self, ExpositionError> {
        let (mut reading, mut served, mut runs_none) = (Self::default(), Served::default(), false);
        for sample in exposition::samples(text) {
            let sample = sample?;
            reading.take(&sample);
            served.take(&sample);
            runs_none |= sample.name.ends_with("_runtime_v8_active") && sample.value == 0.0;
        }
        (reading.counts.requests, reading.counts.failed) = served.counted();
        // Envoy keeps what it was ever told of: where no VM runs any more, a plan that is told of does not either.
        if runs_none {
            reading.plans.clear();
            reading.trials.clear();
        }
        Ok(reading)
    }

    fn take(&mut self, sample: &Sample<'_>) {
        let counts = &mut self.counts;
        if let Some(tags) = tags(sample, "isthmus_plan_info") {
            self.plans.extend(tags.role().zip(Stamp::read(sample.value)));
        } else if let Some(tags) = tags(sample, "isthmus_trial_info") {
            let stamp = Stamp::read(sample.value).filter(|stamp| *stamp != Stamp::NONE);
            self.trials.extend(tags.role().zip(stamp));
        } else if let Some(tags) = tags(sample, "isthmus_requests_total") {
            let count = if tags.has("verdict", "deny") { &mut counts.denied } else { &mut counts.allowed };
            count_in(count, sample);
        } else if tags(sample, "isthmus_shadow_denied_total").is_some() {
            count_in(&mut counts.shadow_denied, sample);
        } else if tags(sample, "isthmus_trial_requests_total").is_some() {
            count_in(&mut counts.tried, sample);
        } else if tags(sample, "isthmus_trial_denied_total").is_some() {
            count_in(&mut counts.trial_denied, sample);
        } else if sample.name == "envoy_server_uptime" {
            counts.uptime = whole(sample.value);
        } else if is_trap(sample.name) {
            count_in(&mut counts.traps, sample);
        }
    }
}

impl Counts {
    /// How many requests the filter has judged.
    pub fn judged(&self) -> u64 {
        self.allowed.saturating_add(self.denied)
    }

    /// Counts what another has counted too.
    pub(crate) fn add(&mut self, other: Self) {
        for (own, more) in self.each().into_iter().zip(other.all()) {
            *own = own.saturating_add(more);
        }
    }

    /// What was counted since.
    pub(crate) fn since(mut self, before: Self) -> Self {
        for (own, less) in self.each().into_iter().zip(before.all()) {
            *own = own.saturating_sub(less);
        }
        self
    }

    /// Whether something has been counted from its start again.
    pub(crate) fn went_back(self, before: Self) -> bool {
        self.all().into_iter().zip(before.all()).any(|(now, before)| now < before)
    }

    fn all(mut self) -> [u64; 9] {
        self.each().map(|count| *count)
    }

    fn each(&mut self) -> [&mut u64; 9] {
        let Self { allowed, denied, shadow_denied, tried, trial_denied, requests, failed, traps, uptime } =
            self;
        [allowed, denied, shadow_denied, tried, trial_denied, requests, failed, traps, uptime]
    }
}

/// Requests, and those of them that failed. Istio counts them at both of their ends, each proxy its own; where it does not,
/// Envoy does.
#[derive(Debug, Default)]
struct Served {
    of_istio: Option<(u64, u64)>,
    of_envoy: (u64, u64),
}

impl Served {
    fn take(&mut self, sample: &Sample<'_>) {
        let is_of_the_mesh = || {
            let prefix = sample.label("envoy_http_conn_manager_prefix").unwrap_or_default();
            prefix.starts_with("inbound") || prefix.starts_with("outbound")
        };
        let (counted, code) = match sample.name {
            "istio_requests_total" => (self.of_istio.get_or_insert_default(), "response_code"),
            "envoy_http_downstream_rq_xx" if is_of_the_mesh() => {
                (&mut self.of_envoy, "envoy_response_code_class")
            }
            _ => return,
        };
        count_in(&mut counted.0, sample);
        if sample.label(code).is_some_and(|code| code.starts_with('5')) {
            count_in(&mut counted.1, sample);
        }
    }

    fn counted(&self) -> (u64, u64) {
        self.of_istio.unwrap_or(self.of_envoy)
    }
}

/// The tags of a metric of the filter.
struct Tags<'s>(&'s Sample<'s>);

/// Those of a sample, if it is of this metric.
fn tags<'s>(sample: &'s Sample<'s>, metric: &str) -> Option<Tags<'s>> {
    let before = sample.name.strip_suffix(metric)?;
    (before.is_empty() || before.ends_with("___")).then_some(Tags(sample))
}

impl Tags<'_> {
    fn role(&self) -> Option<Role> {
        Role::ALL.into_iter().find(|role| self.has("direction", role.as_str()))
    }

    fn has(&self, tag: &str, value: &str) -> bool {
        match self.0.label(tag) {
            Some(found) => found == value,
            None => {
                let written = format!("{tag}___{value}___");
                let name = self.0.name;
                name.starts_with(&written) || name.contains(&format!("___{written}"))
            }
        }
    }
}

/// Whether it counts VMs that had broken, of a plugin of ours in whatever namespace.
fn is_trap(name: &str) -> bool {
    let ends = ["_vm_reload_backoff", "_vm_reload_success", "_vm_reload_failure"];
    name.starts_with("envoy_wasm_") && name.contains("isthmus_") && ends.iter().any(|end| name.ends_with(end))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` ends at the bounds, and takes NaN for none"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Adds what a sample counts; whoever answers for a pod may say any number, any number of times.
fn count_in(count: &mut u64, sample: &Sample<'_>) {
    *count = count.saturating_add(whole(sample.value));
}

#[cfg(test)]
mod tests;
