//! How proxies fare with a plan, from the moment on at which each is seen to run it.
//!
//! Counters know no plans. So what a proxy has counted when it is first seen with the plan is of the plan before, or may be,
//! and is left out; and when its counters go back it has started anew, and counts from there.

use std::collections::BTreeMap;

use crate::proxies::{Counts, Proxy, Reading};
use crate::rollout::strategy::AtMost;

/// What is known of each proxy of a cluster, look by look.
#[derive(Debug, Clone, Default)]
pub struct Health {
    before: BTreeMap<String, Counts>,
    known: BTreeMap<String, Known>,
}

/// A proxy that was seen with the plan.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its counters when it was first seen so, or first since it last started.
    base: Counts,
    /// Its counters now.
    now: Counts,
    /// What it has counted with the plan before it last started, or before it ran another in between.
    kept: Counts,
    /// Whether it runs the plan now.
    runs: bool,
}

/// How a cluster's proxies stand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {
    /// How many run the plan.
    pub running: usize,
    /// How many answered.
    pub asked: usize,
    /// How many did not.
    pub silent: usize,
    /// What was counted with the plan.
    pub counts: Counts,
    /// What proxies had counted before, since each had started.
    pub before: Counts,
}

impl Health {
    /// What proxies have counted before the change. Those that are not seen now have counted nothing.
    pub fn before(proxies: &[Proxy]) -> Self {
        let counts = |proxy: &Proxy| Some((proxy.name.clone(), proxy.said.as_ref().ok()?.counts));
        Self { before: proxies.iter().filter_map(counts).collect(), known: BTreeMap::new() }
    }

    /// Takes in what proxies say now, each with whether it runs the plan.
    pub fn see<'p>(&mut self, proxies: impl IntoIterator<Item = (&'p Proxy, bool)>) -> Standing {
        let mut standing = Standing::default();
        for (proxy, runs) in proxies {
            let Ok(reading) = &proxy.said else {
                standing.silent += 1;
                continue;
            };
            standing.asked += 1;
            standing.running += usize::from(runs);
            self.take(&proxy.name, reading, runs);
        }
        // A pod that is gone has counted what it counted.
        for known in self.known.values() {
            standing.counts.add(known.kept);
            standing.counts.add(known.now.since(known.base));
        }
        self.before.values().for_each(|counts| standing.before.add(*counts));
        standing
    }

    fn take(&mut self, name: &str, reading: &Reading, runs: bool) {
        let now = reading.counts;
        let Some(known) = self.known.get_mut(name) else {
            if runs {
                let kept = Counts::default();
                self.known.insert(name.to_owned(), Known { base: now, now, kept, runs });
            }
            return;
        };
        if !known.runs || !runs || now.went_back(known.now) {
            known.kept.add(known.now.since(known.base));
            known.base = now;
        }
        (known.now, known.runs) = (now, runs);
    }
}

impl Standing {
    /// Those refused with the plan beyond what they may be, with what they may be.
    pub fn denied_beyond(&self, budget: AtMost) -> Option<Beyond> {
        let (counts, before) = (&self.counts, &self.before);
        self.beyond(budget, (counts.denied, counts.judged()), (before.denied, before.judged()))
    }

    /// Those let on that the plan on trial would have refused. What an earlier trial has counted is no measure.
    pub fn would_deny_beyond(&self, budget: AtMost) -> Option<Beyond> {
        self.beyond(budget, (self.counts.trial_denied, self.counts.tried), (0, 0))
    }

    /// Those answered with 500 or more.
    pub fn failed_beyond(&self, budget: AtMost) -> Option<Beyond> {
        let (counts, before) = (&self.counts, &self.before);
        self.beyond(budget, (counts.failed, counts.requests), (before.failed, before.requests))
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a number of requests is a number of requests"
    )]
    fn beyond(
        &self,
        budget: AtMost,
        (bad, all): (u64, u64),
        (bad_before, all_before): (u64, u64),
    ) -> Option<Beyond> {
        let per = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
        let allowed = match budget {
            // Beyond the share of before; of a share that is not 0, one request is always within.
            AtMost::Share(share) => (share.of_one() + per(bad_before, all_before)) * all as f64,
            AtMost::PerMinute(limit) => {
                // Of all proxies together, beyond those of before; for less than a minute as many as for one. All have run for about as long, so that what one has in a second counts as one of many.
                let seconds = per(self.counts.uptime, self.running.max(1) as u64).max(60.0);
                let rate = per(bad_before, self.before.uptime) * self.asked.max(1) as f64;
                (limit as f64 / 60.0 + rate) * seconds
            }
        };
        let allowed = allowed.ceil() as u64;
        (bad > allowed).then_some(Beyond { found: bad, allowed, of: all })
    }
}

/// More requests of a sort than there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{found} of {of}, and {allowed} may be")]
pub struct Beyond {
    /// How many there are.
    pub found: u64,
    /// How many there may be.
    pub allowed: u64,
    /// Of how many in all.
    pub of: u64,
}

#[cfg(test)]
mod tests;
