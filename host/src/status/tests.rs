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
    Plans(
        [
            ((Role::Outbound, None), stamp("a")),
            (inbound(None), stamp("b")),
            (inbound(Some("payments")), stamp("c")),
            ((Role::Gateway, None), stamp("d")),
        ]
        .into(),
    )
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

#[test]
fn an_age_is_told_in_the_units_that_say_most() {
    let ages = [0, 119, 120, 599, 7200, 10_801, 36_000, 180_000, 700_000];
    let told = ages.map(|seconds| text::age(time::Duration::seconds(seconds)));
    assert_eq!(told, ["0s", "119s", "2m", "9m59s", "120m", "3h", "10h", "2d2h", "8d"]);
    assert_eq!(text::age(time::Duration::seconds(-5)), "0s", "clocks differ");
}

/// A rollout of revision 3 to `one` and then `two`, as far as these events bring it.
fn record(events: &[Event]) -> Record {
    let wave = |name: &str| Wave {
        name: format!("{name}-first"),
        clusters: BTreeSet::from([name.parse().expect("a name")]),
        at_once: 1,
        bake: 0,
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
    let chronicle = Chronicle { record: Some(record), at: Some(2), kept: vec![kept(2), kept(3)], held };
    let chronicle = Arc::new(chronicle);
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

#[test]
fn how_the_last_rollout_stands_is_told_with_its_wave_and_who_is_at_it() {
    let cluster = |name: &str| name.parse::<ClusterName>().expect("a name");
    let took = |name: &str| Event::Taken(cluster(name), true);
    // Both have their subsets, the first its routes and its filters.
    let amid_filters = || vec![took("one"), took("two"), took("one"), took("one")];
    let amid_second = || [amid_filters(), vec![Event::Passed(cluster("one")), took("two")]].concat();
    let all = || {
        let rest = ["two", "one", "two", "one", "two"].map(took);
        let mut events = [amid_second(), rest.to_vec()].concat();
        events.insert(7, Event::Passed(cluster("two")));
        events
    };
    let begun = "begun by me\\u{1b}[2J at 2026-08-01T10:00:00Z";
    let both = "`isthmus rollout resume` goes on, `isthmus rollout undo` goes back";
    let stage = "wave one-first: filters change";
    let is = "the rollout of revision 3 is";
    let refused = Event::Refused(cluster("one"), "denials".to_owned());
    let back = vec![refused.clone(), Event::Undo];
    for (events, held, wanted) in [
        (amid_filters(), held(3), vec![format!("{is} under way: {stage}; {begun}; them (1) is at work")]),
        (
            amid_filters(),
            held(90),
            vec![format!(
                "{is} under way: {stage}; {begun}; them (1), who was at work, said so last 89s ago by their own clock, and may have died: `isthmus rollout resume` goes on then, `isthmus rollout undo` goes back"
            )],
        ),
        (
            amid_filters(),
            Holding::Nobody,
            vec![format!(
                "the rollout of revision 3 stands still: {stage}; {begun}; nobody is at work any more: {both}"
            )],
        ),
        (
            amid_filters(),
            Holding::Unknown,
            vec![format!("{is} not over: {stage}; {begun}: unless somebody is at work, {both}")],
        ),
        (
            [amid_filters(), vec![Event::Pause]].concat(),
            Holding::Nobody,
            vec![format!("{is} paused: {stage}; {begun}: {both}")],
        ),
        (
            [amid_filters(), vec![refused]].concat(),
            Holding::Nobody,
            vec![format!("{is} failed: {begun}: {both}"), "one: it failed here: denials".to_owned()],
        ),
        (
            [amid_filters(), back].concat(),
            Holding::Nobody,
            vec![
                format!(
                    "the rollout of revision 3, which goes back, stands still: subsets come everywhere; {begun}; nobody is at work any more: `isthmus rollout resume` goes on"
                ),
                "one: it failed here: denials".to_owned(),
            ],
        ),
        (all(), Holding::Nobody, Vec::new()),
    ] {
        let statuses = amid(record(&events), held);
        let rollout = Rollout::of(&statuses).expect("a record");
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
        assert_eq!(rollout.lines(now), wanted, "{events:?}");
    }

    // One that is behind is told so itself, and each with the revision that it has.
    let rest = vec![Event::Stuck(cluster("two"), "gone\u{7}".to_owned()), took("one")];
    let statuses = amid(record(&[amid_second(), rest].concat()), Holding::Nobody);
    let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a time");
    let text = text(&statuses, now, false);
    let wanted = format!(
        "\
CLUSTER  STATUS  WANTED        APPLIED       REVISION  OBJECTS  RUNNING  DRIFT  ISTIO   KUBERNETES  AGE
one      Behind  aaaaaaaaaaaa  aaaaaaaaaaaa  3         1/1      0/2      -      1.30.2  v1.34.2     0s
two      Behind  aaaaaaaaaaaa  aaaaaaaaaaaa  2->3      1/1      0/2      -      1.30.2  v1.34.2     0s
{is} incomplete: {begun}: {both}
one: p runs cccccccccccc at inbound, of revision 2, which is neither wanted nor applied
one: q runs dddddddddddd at inbound, which is neither wanted nor applied
two: p runs cccccccccccc at inbound, of revision 2, which is neither wanted nor applied
two: q runs dddddddddddd at inbound, which is neither wanted nor applied
two: takes no more part in the rollout: gone\\u{{7}}"
    );
    assert_eq!(text, wanted);
    let json = json(&statuses, now);
    assert_eq!(json["rollout"]["state"], "incomplete");
    assert_eq!(json["rollout"]["behind"][0]["cluster"], "two");
    let revision =
        serde_json::json!({"applied": 2, "recorded": 2, "wanted": null, "rollout": 3, "kept": [2, 3]});
    assert_eq!(json["items"][1]["revision"], revision);
    assert_eq!(json["items"][1]["proxies"][0]["revision"], 2);
}
