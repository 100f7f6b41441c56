use std::time::Duration;

use super::*;
use crate::proxies::{Counts, Kind, Reading};
use crate::rollout::strategy::Running;

fn of_proxies(limits: Limits) -> OfProxies {
    let asking = Asking { patience: Duration::from_secs(1), parallel: 1 };
    OfProxies { limits, root: String::new(), sources: Sources::default(), asking, health: Mutex::default() }
}

fn judged(limits: Limits, standing: &Standing, behind: usize) -> Verdict {
    let proxy = |n: usize| Proxy {
        name: format!("sample/p{n}"),
        namespace: None,
        kind: Kind::Sidecar,
        said: Ok(Reading::default()),
    };
    let proxies: Vec<Proxy> = (0..behind).map(proxy).collect();
    let judged: Vec<_> = proxies.iter().map(|proxy| (proxy, false)).collect();
    of_proxies(limits).judge(standing, &judged)
}

fn standing(running: usize, asked: usize, silent: usize, counts: Counts) -> Standing {
    Standing { running, asked, silent, counts, before: Counts::default() }
}

fn running(share: &str) -> Limits {
    let running = Running { within: Duration::from_secs(9), share: share.parse().expect("a share") };
    Limits { running: Some(running), ..Limits::default() }
}

#[test]
fn it_opens_when_the_share_of_all_proxies_runs_the_plan() {
    let none = Counts::default();
    let verdict = judged(running("100%"), &standing(3, 4, 1, none), 5);
    let told = "3 of 5 proxies run the plan, 1 do not answer; not sample/p0, sample/p1, sample/p2";
    assert_eq!(verdict, Verdict::NotYet(told.to_owned()));
    assert_eq!(judged(running("60%"), &standing(3, 4, 1, none), 2), Verdict::Pass);
    assert_eq!(
        judged(running("61%"), &standing(3, 4, 1, none), 0),
        judged(running("100%"), &standing(3, 4, 1, none), 0)
    );
    // Those that the plan has broken do not answer any more.
    let broken = judged(running("100%"), &standing(1, 1, 99, none), 1);
    let told = "1 of 100 proxies run the plan, 99 do not answer; not sample/p0";
    assert_eq!(broken, Verdict::NotYet(told.to_owned()));
    assert_eq!(judged(running("100%"), &standing(0, 0, 0, none), 0), Verdict::Pass, "there is none");
    assert!(matches!(judged(running("0%"), &standing(0, 0, 4, none), 0), Verdict::NotYet(_)), "nobody knows");
}

#[test]
fn what_nobody_answers_about_is_not_taken_for_nothing() {
    let limits =
        || Limits { denials: Some("1%".parse().expect("a limit")), traps: Some(0), ..Limits::default() };
    let none = Counts::default();
    let told = "0 of 4 proxies run the plan, 4 do not answer; not sample/p0, sample/p1, sample/p2";
    assert_eq!(judged(limits(), &standing(0, 0, 4, none), 4), Verdict::NotYet(told.to_owned()));
    assert_eq!(judged(limits(), &standing(0, 1, 3, none), 4), Verdict::Pass);
    assert_eq!(judged(limits(), &standing(0, 0, 0, none), 0), Verdict::Pass, "there is none");
}

#[test]
fn it_fails_at_once_for_what_was_counted_with_the_plan() {
    let denied = Counts { allowed: 90, denied: 10, requests: 100, failed: 10, traps: 1, ..Counts::default() };
    let now = standing(0, 5, 0, denied);
    let limits = |denials: Option<&str>, errors: Option<&str>, traps| {
        let limit = |text: Option<&str>| text.map(|text| text.parse().expect("a limit"));
        Limits { denials: limit(denials), errors: limit(errors), traps, ..running("100%") }
    };
    let fails = |limits| match judged(limits, &now, 0) {
        Verdict::Fail(why) => Some(why),
        Verdict::Pass | Verdict::NotYet(_) => None,
    };
    assert_eq!(fails(limits(Some("10%"), Some("10%"), Some(1))), None);
    let told = fails(limits(Some("9%"), None, None)).expect("too many");
    assert_eq!(told, "requests denied since the plan runs: 10 of 100, and 9 may be");
    // What an earlier trial would have denied allows nothing.
    let tried = Counts { tried: 200, trial_denied: 3, ..Counts::default() };
    let before = Counts { tried: 10, trial_denied: 10, ..Counts::default() };
    let now_tried = Standing { before, ..standing(5, 5, 0, tried) };
    let would_deny =
        |limit: &str| Limits { would_deny: Some(limit.parse().expect("a limit")), ..running("100%") };
    let told = "requests that the new plan would deny: 3 of 200, and 2 may be".to_owned();
    assert_eq!(judged(would_deny("1%"), &now_tried, 0), Verdict::Fail(told));
    assert_eq!(judged(would_deny("1.5%"), &now_tried, 0), Verdict::Pass);
    assert!(matches!(judged(would_deny("0%"), &now_tried, 0), Verdict::Fail(_)));
    let told = fails(limits(None, Some("1/m"), None)).expect("too many");
    assert_eq!(told, "answers of 5xx since the plan runs: 10 of 100, and 1 may be");
    assert_eq!(
        fails(limits(None, None, Some(0))).expect("too many"),
        "the module broke 1 times, and 0 may be"
    );
}

#[test]
fn a_strategy_that_demands_nothing_of_proxies_has_no_gate_of_them() {
    let asking = Asking { patience: Duration::from_secs(1), parallel: 1 };
    let made = |limits: &Limits| gates(limits, "istio-system", &Sources::default(), asking).len();
    assert_eq!((made(&Limits::default()), made(&running("100%"))), (0, 1));
}
