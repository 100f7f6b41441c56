use policy::plan::Role;

use super::*;
use crate::proxies::{Kind, Proxy, Reading, Silence};
use crate::rollout::{Placed, Standing, State};

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
    }
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
CLUSTER   STATUS       WANTED        APPLIED       OBJECTS  RUNNING  DRIFT  ISTIO   KUBERNETES  AGE
in-force  InForce      aaaaaaaaaaaa  aaaaaaaaaaaa  1/1      1/1      -      1.30.2  v1.34.2     7h1m
behind    Behind       aaaaaaaaaaaa  aaaaaaaaaaaa  1/1      0/13     -      1.30.2  v1.34.2     7h1m
unproven  Unproven     aaaaaaaaaaaa  aaaaaaaaaaaa  1/1      -        -      1.30.2  v1.34.2     7h1m
outdated  Outdated     aaaaaaaaaaaa  bbbbbbbbbbbb  1/2      0/0      -      1.30.2  v1.34.2     7h1m
silent    Behind       aaaaaaaaaaaa  aaaaaaaaaaaa  1/1      0/1      -      1.30.2  v1.34.2     7h1m
down      Unreachable  aaaaaaaaaaaa  -             -        -        -      -       -           -
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
