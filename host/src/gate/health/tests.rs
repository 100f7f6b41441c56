use std::collections::BTreeMap;

use policy::plan::Role;
use proptest::prelude::*;

use super::*;
use crate::proxies::{Kind, Stamp};

const NEW: &str = "bbbbbbbbbbbb";
const OLD: &str = "aaaaaaaaaaaa";

fn counts(allowed: u64, denied: u64, uptime: u64) -> Counts {
    Counts { allowed, denied, uptime, requests: allowed + denied, ..Counts::default() }
}

fn proxy(name: &str, plan: &str, counts: Counts) -> Proxy {
    let plans = BTreeMap::from([(Role::Inbound, Stamp::of(plan).expect("hex"))]);
    let said = Ok(Reading { plans, counts, ..Reading::default() });
    Proxy { name: name.to_owned(), namespace: None, kind: Kind::Sidecar, said }
}

fn runs_new(proxy: &Proxy) -> bool {
    proxy.said.as_ref().is_ok_and(|reading| reading.plans.values().all(|plan| plan.to_string() == NEW))
}

/// What a cluster's health says to what its proxies say.
fn see(health: &mut Health, proxies: &[Proxy]) -> Standing {
    health.see(proxies.iter().map(|proxy| (proxy, runs_new(proxy))))
}

#[test]
fn what_was_counted_before_a_proxy_runs_the_plan_is_not_of_the_plan() {
    let mut health =
        Health::before(&[proxy("a", OLD, counts(100, 50, 60)), proxy("b", OLD, counts(10, 0, 60))]);
    let standing =
        see(&mut health, &[proxy("a", OLD, counts(120, 60, 70)), proxy("b", NEW, counts(20, 7, 70))]);
    assert_eq!((standing.running, standing.asked, standing.counts), (1, 2, Counts::default()));
    let standing =
        see(&mut health, &[proxy("a", NEW, counts(140, 70, 80)), proxy("b", NEW, counts(30, 8, 80))]);
    assert_eq!(standing.counts, counts(10, 1, 10), "of b alone");
    let standing =
        see(&mut health, &[proxy("a", NEW, counts(141, 72, 81)), proxy("b", NEW, counts(30, 8, 81))]);
    assert_eq!(standing.counts, counts(11, 3, 12));
    assert_eq!(standing.before, counts(110, 50, 120));
}

#[test]
fn a_proxy_that_started_anew_or_is_gone_has_counted_what_it_had() {
    let mut health = Health::before(&[]);
    see(&mut health, &[proxy("a", NEW, counts(100, 0, 60)), proxy("b", NEW, counts(0, 0, 60))]);
    see(&mut health, &[proxy("a", NEW, counts(105, 5, 65)), proxy("b", NEW, counts(1, 1, 65))]);
    // Of a started proxy, what came before it was seen is left out. The other pod is gone.
    let standing = see(&mut health, &[proxy("a", NEW, counts(300, 300, 2))]);
    assert_eq!(standing.counts, counts(6, 6, 10));
    let standing = see(&mut health, &[proxy("a", NEW, counts(301, 302, 3))]);
    assert_eq!(standing.counts, counts(7, 8, 11));
}

#[test]
fn a_proxy_that_went_back_to_the_plan_before_counts_for_nothing_meanwhile() {
    let mut health = Health::before(&[]);
    for (plan, denied) in [(NEW, 0), (NEW, 1), (OLD, 10), (OLD, 20), (NEW, 30), (NEW, 31)] {
        see(&mut health, &[proxy("a", plan, counts(0, denied, denied))]);
    }
    let standing = see(&mut health, &[proxy("a", NEW, counts(0, 31, 31))]);
    assert_eq!(standing.counts.denied, 2);
}

fn share(text: &str) -> AtMost {
    text.parse().expect("a share")
}

#[test]
fn a_budget_is_beyond_what_was_before_and_never_below_one() {
    let standing =
        |now: Counts, before: Counts| Standing { running: 2, asked: 2, silent: 0, counts: now, before };
    let beyond = |denied, all, before, budget| {
        standing(counts(all - denied, denied, 120), before).denied_beyond(budget).map(|beyond| beyond.allowed)
    };
    let (none, tenth) = (counts(0, 0, 0), counts(900, 100, 1200));
    assert_eq!(beyond(0, 0, none, share("0%")), None);
    assert_eq!(beyond(1, 1000, none, share("0%")), Some(0));
    assert_eq!([1, 2].map(|denied| beyond(denied, 3, none, share("1%"))), [None, Some(1)]);
    assert_eq!([10, 11].map(|denied| beyond(denied, 1000, none, share("1%"))), [None, Some(10)]);
    // A tenth was refused before.
    assert_eq!([110, 111].map(|denied| beyond(denied, 1000, tenth, share("1%"))), [None, Some(110)]);
    // Two proxies for a minute; before, 100 in the 1200 s of two.
    assert_eq!([5, 6].map(|denied| beyond(denied, 1000, none, AtMost::PerMinute(5))), [None, Some(5)]);
    assert_eq!([15, 16].map(|denied| beyond(denied, 1000, tenth, AtMost::PerMinute(5))), [None, Some(15)]);
}

proptest! {
    /// Each step, a proxy counts so many denials, or starts anew, and what it runs may change.
    #[test]
    fn no_count_of_another_plan_is_taken_for_one_of_this(
        steps in proptest::collection::vec((0u64..50, any::<bool>(), prop::bool::weighted(0.2)), 1..40)
    ) {
        let mut health = Health::before(&[]);
        let (mut denied, mut uptime, mut with_new, mut before) = (0, 1, 0, false);
        let mut found = 0;
        for (count, new, starts) in steps {
            // Looks lie some seconds apart, and nobody starts twice in one of them.
            let starts = starts && uptime > 1;
            (denied, uptime) = if starts { (0, 1) } else { (denied, uptime + 5) };
            denied += count;
            // Only what was counted between two looks that both saw the plan, in one life, is surely of it.
            if before && new && !starts {
                with_new += count;
            }
            let plan = if new { NEW } else { OLD };
            found = see(&mut health, &[proxy("a", plan, counts(0, denied, uptime))]).counts.denied;
            before = new;
        }
        prop_assert!(found <= with_new, "{found} of {with_new}");
    }
}
