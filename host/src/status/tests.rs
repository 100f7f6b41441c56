use std::collections::BTreeSet;
use std::sync::Arc;

use policy::plan::Role;

use super::*;
use crate::proxies::{Kind, Proxy, Reading, Silence};
use crate::rollout::machine::{self, Event, OnFailure, Wave};
use crate::rollout::strategy::Limits;
use crate::rollout::{Chronicle, Held, Holding, Origin, Placed, Record, Revision, Standing, State};

fn stamp(text: &str) -> Stamp {
    Stamp::of(&text.repeat(12)).expect("hex")
}

fn namespace(name: &str) -> Namespace {
    name.parse().expect("a namespace")
}

/// A cluster whose inbound plan is cut: `payments` has its own.
fn plans() -> Plans {
    let inbound = |own: Option<&str>| (Role::Inbound, own.map(namespace));
    let enforced = [
        ((Role::Outbound, None), stamp("a")),
        (inbound(None), stamp("b")),
        (inbound(Some("payments")), stamp("c")),
        ((Role::Gateway, None), stamp("d")),
    ];
    // The plan of everyone but of `payments` is about to change.
    let tried = [((Role::Inbound, None), stamp("f"))];
    Plans { enforced: enforced.into(), tried: tried.into() }
}

#[test]
fn a_proxy_tries_what_it_should_at_each_of_its_places_and_nothing_else() {
    let tries = |own, runs: &[(Role, &str)], trials: &[(Role, &str)]| {
        let mut proxy = proxy(own, Kind::Sidecar, runs);
        let reading = proxy.said.as_mut().expect("it says something");
        reading.trials = trials.iter().map(|(role, plan)| (*role, stamp(plan))).collect();
        plans().tries(&proxy)
    };
    let runs = [(Role::Inbound, "b"), (Role::Outbound, "a")];
    assert!(tries(Some("sample"), &runs, &[(Role::Inbound, "f")]));
    assert!(!tries(Some("sample"), &runs, &[]), "not yet");
    assert!(!tries(Some("sample"), &runs, &[(Role::Inbound, "e")]), "another");
    assert!(!tries(Some("sample"), &runs, &[(Role::Inbound, "f"), (Role::Outbound, "f")]), "one too many");
    assert!(tries(Some("payments"), &[(Role::Inbound, "c")], &[]), "it has a plan of its own");
    assert!(tries(None, &runs, &[(Role::Inbound, "f")]) && tries(None, &[(Role::Inbound, "c")], &[]));
    assert!(!tries(None, &runs, &[]) && !tries(None, &[(Role::Inbound, "c")], &[(Role::Inbound, "f")]));
}

fn proxy(own: Option<&str>, kind: Kind, runs: &[(Role, &str)]) -> Proxy {
    let plans = runs.iter().map(|(role, plan)| (*role, stamp(plan))).collect();
    let said = Ok(Reading { plans, ..Reading::default() });
    Proxy { name: "p".to_owned(), namespace: own.map(namespace), kind, said }
}

#[test]
fn a_proxy_runs_what_is_wanted_of_its_kind_and_in_its_namespace() {
    let judge = |own, kind, runs: &[(Role, &str)]| plans().judge(&proxy(own, kind, runs), &[stamp("e")]);
    let other = |role, plan, applied| Runs::Other { role, stamp: stamp(plan), applied };
    let (sidecar, gateway) = (Kind::Sidecar, Kind::EastWest);
    assert_eq!(judge(Some("sample"), sidecar, &[(Role::Inbound, "b"), (Role::Outbound, "a")]), Runs::Wanted);
    assert_eq!(judge(Some("sample"), sidecar, &[(Role::Inbound, "b")]), Runs::Wanted);
    assert_eq!(judge(Some("sample"), sidecar, &[(Role::Outbound, "a")]), Runs::Lacks(Role::Inbound));
    assert_eq!(judge(Some("sample"), sidecar, &[]), Runs::Nothing);
    assert_eq!(judge(Some("sample"), sidecar, &[(Role::Inbound, "e")]), other(Role::Inbound, "e", true));
    assert_eq!(judge(Some("sample"), sidecar, &[(Role::Inbound, "f")]), other(Role::Inbound, "f", false));
    let stale = [(Role::Inbound, "b"), (Role::Outbound, "f")];
    assert_eq!(judge(Some("sample"), sidecar, &stale), other(Role::Outbound, "f", false));
    // Each namespace its own, and no other's.
    assert_eq!(judge(Some("payments"), sidecar, &[(Role::Inbound, "c")]), Runs::Wanted);
    assert_eq!(judge(Some("payments"), sidecar, &[(Role::Inbound, "b")]), other(Role::Inbound, "b", false));
    assert_eq!(judge(Some("sample"), sidecar, &[(Role::Inbound, "c")]), other(Role::Inbound, "c", false));
    assert_eq!(judge(None, Kind::Unknown, &[(Role::Inbound, "c")]), Runs::Wanted);
    // Behind the load balancer each service has a plan, and which one tells of itself nobody knows.
    assert_eq!(
        judge(Some("istio-system"), gateway, &[(Role::Gateway, "d"), (Role::Upstream, "f")]),
        Runs::Wanted
    );
    assert_eq!(judge(Some("istio-system"), gateway, &[(Role::Upstream, "f")]), Runs::Nothing);
}

fn status(name: &str, found: Result<Found, String>) -> Status {
    Status { cluster: name.parse().expect("a name"), wanted: "a".repeat(64), found }
}

fn object(name: &str, state: State) -> Placed {
    Placed { name: format!("WasmPlugin istio-system/{name}"), state, seen: None }
}

fn found(digest: &str, objects: Vec<Placed>, proxies: Result<Vec<Judged>, String>) -> Found {
    let standing = Standing { digest: Some(digest.repeat(64)), objects };
    let changed = OffsetDateTime::from_unix_timestamp(1_000_000).ok();
    Found {
        standing,
        proxies,
        kubernetes: Some("v1.34.2".to_owned()),
        istio: vec!["1.30.2".to_owned()],
        changed,
        told: Ok(told(None)),
    }
}

fn told(applied: Option<u64>) -> Told {
    let (primary, chronicle) = ("one".parse().expect("a name"), Arc::default());
    Told { primary, chronicle, applied, wanted: None, running: Arc::default() }
}

fn judged(name: &str, runs: Runs) -> Judged {
    let said = if let Runs::Silent(why) = &runs {
        Err(Silence::Unreachable(why.clone()))
    } else {
        Ok(Reading::default())
    };
    Judged { proxy: Proxy { name: name.to_owned(), namespace: None, kind: Kind::Sidecar, said }, runs }
}

#[test]
fn the_table_says_of_each_cluster_what_it_comes_to_and_below_it_why() {
    let good = || object("isthmus-inbound", State::AsWanted);
    let many = (0..13).map(|n| judged(&format!("sample/p{n}"), Runs::Nothing)).collect();
    let statuses = [
        status("in-force", Ok(found("a", vec![good()], Ok(vec![judged("a/b", Runs::Wanted)])))),
        status("behind", Ok(found("a", vec![good()], Ok(many)))),
        status("unproven", Ok(found("a", vec![good()], Err("u may not get pods/proxy".to_owned())))),
        status(
            "outdated",
            Ok(found("b", vec![good(), object("isthmus-gateway", State::Missing)], Ok(vec![]))),
        ),
        status(
            "silent",
            Ok(found("a", vec![good()], Ok(vec![judged("a/b", Runs::Silent("gone".to_owned()))]))),
        ),
        status("down", Err("the API server cannot be reached".to_owned())),
    ];
    let now = OffsetDateTime::from_unix_timestamp(1_000_000 + 7 * 3600 + 60).expect("a time");
    let text = text(&statuses, now, false);
    let wanted = "\
CLUSTER   STATUS       WANTED        APPLIED       REVISION  OBJECTS  RUNNING  DRIFT  ISTIO   KUBERNETES  AGE
in-force  InForce      aaaaaaaaaaaa  aaaaaaaaaaaa  -         1/1      1/1      -      1.30.2  v1.34.2     7h1m
behind    Behind       aaaaaaaaaaaa  aaaaaaaaaaaa  -         1/1      0/13     -      1.30.2  v1.34.2     7h1m
unproven  Unproven     aaaaaaaaaaaa  aaaaaaaaaaaa  -         1/1      -        -      1.30.2  v1.34.2     7h1m
outdated  Outdated     aaaaaaaaaaaa  bbbbbbbbbbbb  -         1/2      0/0      -      1.30.2  v1.34.2     7h1m
silent    Behind       aaaaaaaaaaaa  aaaaaaaaaaaa  -         1/1      0/1      -      1.30.2  v1.34.2     7h1m
down      Unreachable  aaaaaaaaaaaa  -             -         -        -        -      -       -           -
behind: sample/p0 does not run the filter
";
    assert!(text.starts_with(wanted), "{text}");
    let rest = "\
behind: sample/p9 does not run the filter
behind: and 3 more of this sort (proxy): --all lists them, and so does -o json
unproven: proxies: u may not get pods/proxy
outdated: WasmPlugin istio-system/isthmus-gateway is not there
silent: a/b does not say what it runs: gone
down: the API server cannot be reached";
    assert!(text.ends_with(rest), "{text}");
    let all = super::text(&statuses, now, true);
    assert!(all.contains("behind: sample/p12 does not run the filter\n"), "{all}");
}

/// A rollout of revision 3 to `one` and then `two`, as far as these events bring it.
fn record(events: &[Event]) -> Record {
    let wave = |name: &str| Wave {
        name: format!("{name}-first"),
        clusters: BTreeSet::from([name.parse().expect("a name")]),
        at_once: 1,
        bake: 0,
        shadow: None,
    };
    let mut state = machine::State::new(vec![wave("one"), wave("two")], OnFailure::Stop);
    for event in [Event::Begin].iter().chain(events) {
        state.step(event.clone());
    }
    Record {
        id: "id".to_owned(),
        revision: 3,
        generation: 1,
        origin: Origin {
            author: "me\u{1b}[2J".to_owned(),
            time: "2026-08-01T10:00:00Z".to_owned(),
            ..Origin::default()
        },
        strategy: "careful".to_owned(),
        gates: Limits::default(),
        before: ["one", "two"].map(|name| (name.parse().expect("a name"), Some(2))).into(),
        state,
    }
}

/// Two clusters of which the first has revision 3 and the second 2, and what they tell of a rollout.
fn amid(record: Record, held: Holding) -> [Status; 2] {
    let kept = |number| Revision {
        number,
        origin: Origin::default(),
        plans: number.to_string(),
        digest: String::new(),
    };
    let chronicle = Arc::new(Chronicle::of(record, 2, vec![kept(2), kept(3)], held));
    [("one", 3), ("two", 2)].map(|(name, applied)| {
        let primary = name.parse().expect("a name");
        let running = Arc::new([(stamp("c"), 2)].into());
        let told = Told { primary, chronicle: Arc::clone(&chronicle), running, ..told(Some(applied)) };
        let proxies = [("p", "c"), ("q", "d")].map(|(name, plan)| {
            judged(name, Runs::Other { role: Role::Inbound, stamp: stamp(plan), applied: false })
        });
        let found = found("a", vec![object("isthmus-inbound", State::AsWanted)], Ok(proxies.into()));
        status(name, Ok(Found { told: Ok(told), ..found }))
    })
}

const NOW: i64 = 1_000_000;

fn held(silent: i64) -> Holding {
    let renewed = OffsetDateTime::from_unix_timestamp(NOW - silent).ok();
    let time = std::time::Duration::from_secs(15);
    // It was seen a moment ago, so what it says is a moment older than it was then.
    Holding::Somebody(Held { by: "them (1)".to_owned(), renewed, time, seen: std::time::Instant::now() })
}

const BEGUN: &str = "begun by me\\u{1b}[2J at 2026-08-01T10:00:00Z";
const BOTH: &str = "`isthmus rollout resume` goes on, `isthmus rollout undo` goes back";

fn cluster(name: &str) -> ClusterName {
    name.parse().expect("a name")
}

fn took(name: &str) -> Event {
    Event::Taken(cluster(name), true)
}

/// Both have their subsets, the first its routes and its filters.
fn amid_filters() -> Vec<Event> {
    ["one", "two", "one", "one"].map(took).into()
}

/// The second has its routes.
fn amid_second() -> Vec<Event> {
    [amid_filters(), vec![Event::Passed(cluster("one")), took("two")]].concat()
}

fn all() -> Vec<Event> {
    let rest = vec![took("two"), Event::Passed(cluster("two"))];
    [amid_second(), rest, ["one", "two", "one", "two"].map(took).into()].concat()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW).expect("a time")
}

/// What is said of a rollout.
fn told_of(events: &[Event], held: Holding) -> Vec<String> {
    Rollout::of(&amid(record(events), held)).expect("a record").lines(now())
}

#[test]
fn a_rollout_that_is_not_over_is_told_with_its_wave_and_who_is_at_it() {
    let stage = "wave one-first: filters change";
    let is = "the rollout of revision 3";
    for (held, wanted) in [
        (held(3), format!("{is} is under way: {stage}; {BEGUN}; them (1) is at work")),
        (
            held(90),
            format!(
                "{is} is under way: {stage}; {BEGUN}; them (1), who was at work, said so last 89s ago by their own clock, and may have died: `isthmus rollout resume` goes on then, `isthmus rollout undo` goes back"
            ),
        ),
        // Their clock or ours may be wrong by a moment, or by a year.
        (held(-3), format!("{is} is under way: {stage}; {BEGUN}; them (1) is at work")),
        (
            held(-365 * 86_400),
            format!(
                "{is} is under way: {stage}; {BEGUN}; them (1), whose clock is 365d ahead of this one, is at work or has died: `isthmus rollout resume` goes on in that case, `isthmus rollout undo` goes back"
            ),
        ),
        (Holding::Nobody, format!("{is} stands still: {stage}; {BEGUN}; nobody is at work any more: {BOTH}")),
        (Holding::Unknown, format!("{is} is not over: {stage}; {BEGUN}: unless somebody is at work, {BOTH}")),
    ] {
        assert_eq!(told_of(&amid_filters(), held), [wanted]);
    }
}

#[test]
fn how_a_rollout_ended_is_told_and_where_it_failed() {
    let failed = || "one: it failed here: denials".to_owned();
    let is = "the rollout of revision 3";
    let refused = Event::Refused(cluster("one"), "denials".to_owned());
    for (more, wanted) in [
        (
            vec![Event::Pause],
            vec![format!("{is} is paused: wave one-first: filters change; {BEGUN}: {BOTH}")],
        ),
        (vec![refused.clone()], vec![format!("{is} is failed: {BEGUN}: {BOTH}"), failed()]),
        (
            vec![refused, Event::Undo],
            vec![
                format!(
                    "{is}, which goes back, stands still: subsets come everywhere; {BEGUN}; nobody is at work any more: `isthmus rollout resume` goes on"
                ),
                failed(),
            ],
        ),
    ] {
        assert_eq!(told_of(&[amid_filters(), more].concat(), Holding::Nobody), wanted);
    }
    assert_eq!(told_of(&all(), Holding::Nobody), [""; 0], "of one that is complete there is nothing to say");
}

#[test]
fn a_cluster_that_is_behind_says_so_itself_and_each_which_revision_it_has() {
    let rest = vec![Event::Stuck(cluster("two"), "gone\u{7}".to_owned()), took("one")];
    let statuses = amid(record(&[amid_second(), rest].concat()), Holding::Nobody);
    let wanted = format!(
        "\
CLUSTER  STATUS  WANTED        APPLIED       REVISION  OBJECTS  RUNNING  DRIFT  ISTIO   KUBERNETES  AGE
one      Behind  aaaaaaaaaaaa  aaaaaaaaaaaa  3         1/1      0/2      -      1.30.2  v1.34.2     0s
two      Behind  aaaaaaaaaaaa  aaaaaaaaaaaa  2->3      1/1      0/2      -      1.30.2  v1.34.2     0s
the rollout of revision 3 is incomplete: {BEGUN}: {BOTH}
one: p runs cccccccccccc at inbound, of revision 2, which is neither wanted nor applied
one: q runs dddddddddddd at inbound, which is neither wanted nor applied
two: p runs cccccccccccc at inbound, of revision 2, which is neither wanted nor applied
two: q runs dddddddddddd at inbound, which is neither wanted nor applied
two: takes no more part in the rollout: gone\\u{{7}}"
    );
    assert_eq!(text(&statuses, now(), false), wanted);
    let json = json(&statuses, now());
    assert_eq!(json["rollout"]["state"], "incomplete");
    assert_eq!(json["rollout"]["behind"][0]["cluster"], "two");
    let revision =
        serde_json::json!({"applied": 2, "recorded": 2, "wanted": null, "rollout": 3, "kept": [2, 3]});
    assert_eq!(json["items"][1]["revision"], revision);
    assert_eq!(json["items"][1]["proxies"][0]["revision"], 2);
}
