//! The compiled verdict is the plain one, and the laws that hold of it.

use std::collections::BTreeSet;

use policy::source::{Evidence, Source};
use policy::verdict::RESERVED;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::oracle;
use super::request::request;
use super::world::{document, world};
use super::yaml::{Dice, Yaml};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_compiled_verdict_is_the_one_that_the_table_gives(world in world(), requests in vec(request(), 6)) {
        let world = world.compiled(Dice::still());
        for request in requests {
            prop_assert_eq!(request.outbound(&world), oracle::outbound(&world, &request), "outbound {:?}", request);
            prop_assert_eq!(request.gateway(&world), oracle::gateway(&world, &request), "gateway {:?}", request);
            prop_assert_eq!(request.inbound(&world), oracle::inbound(&world, &request), "inbound {:?}", request);
        }
    }
}

#[test]
fn the_random_worlds_show_every_kind_of_verdict() {
    let kinds = |reason: &str| match reason.rsplit_once('/') {
        Some((_, rule)) if rule.starts_with("yes-") => "an allow rule".to_owned(),
        Some((_, rule)) if rule.starts_with("no-") && rule != "no-rule-matched" => "a deny rule".to_owned(),
        Some((_, built_in)) => built_in.to_owned(),
        None => reason.to_owned(),
    };
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for _ in 0..500 {
        let (world, request) = (world(), request()).new_tree(&mut runner).expect("a world").current();
        let world = world.compiled(Dice::still());
        let reasons = [request.outbound(&world).0.1, request.gateway(&world).1, request.inbound(&world).1];
        seen.extend(reasons.iter().map(|reason| kinds(reason)));
    }
    let wanted = RESERVED.iter().copied().chain(["a deny rule", "an allow rule"]);
    let missing: Vec<&str> = wanted.filter(|kind| !seen.contains(*kind)).collect();
    assert_eq!(missing, [""; 0], "seen: {seen:?}");
}

/// A policy of the root namespace that denies everyone everything.
fn no_one() -> Yaml {
    let everyone = Yaml::Map(vec![("clusters", Yaml::texts(["*"]))]);
    let rule = Yaml::Map(vec![("name", Yaml::text("everyone")), ("from", Yaml::List(vec![everyone]))]);
    let access = vec![("scope", Yaml::text("All")), ("deny", Yaml::List(vec![rule]))];
    document("zulu", "istio-system", vec![("services", Yaml::texts(["*"])), ("access", Yaml::Map(access))])
}

/// A policy for a service that no request of these tests asks for.
fn elsewhere() -> Yaml {
    let spec = vec![
        ("services", Yaml::texts(["attic", "*"])),
        ("access", Yaml::Map(vec![("allow", Yaml::List(Vec::new()))])),
        ("routing", Yaml::Map(vec![("boundary", Yaml::text("Cluster"))])),
        ("exposure", Yaml::Map(vec![("to", Yaml::Map(vec![("networks", Yaml::List(Vec::new()))]))])),
    ];
    document("aaa", "elsewhere", spec)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn deny_beats_allow(world in world(), requests in vec(request(), 6)) {
        let mut denying = world;
        denying.policies.push(no_one());
        let denying = denying.compiled(Dice::still());
        for request in requests {
            let (allowed, reason) = request.inbound(&denying);
            prop_assert!(!allowed, "{} for {:?}", reason, request);
        }
    }

    #[test]
    fn a_policy_for_another_namespace_changes_no_verdict(world in world(), requests in vec(request(), 6)) {
        let mut more = world.clone();
        more.policies.push(elsewhere());
        let (world, more) = (world.compiled(Dice::still()), more.compiled(Dice::still()));
        for request in requests {
            prop_assert_eq!(request.outbound(&world), request.outbound(&more));
            prop_assert_eq!(request.gateway(&world), request.gateway(&more));
            prop_assert_eq!(request.inbound(&world), request.inbound(&more));
        }
    }

    #[test]
    fn a_forged_tag_never_changes_a_verified_source(world in world(), tag in "(eu-1|us-1|asia|\\PC{0,12})") {
        let world = world.compiled(Dice::still());
        for plan in world.plans.values() {
            for cluster in world.mesh.clusters() {
                for issuer in cluster.issuers.iter().map(|issuer| Some(issuer.as_str())) {
                    let proven = Source::of(plan, Evidence { peer: true, issuer, tag: Some(&tag) });
                    prop_assert_eq!(proven, Source::Verified(&cluster.name));
                    let unseen = Source::of(plan, Evidence { peer: false, issuer, tag: Some(&tag) });
                    prop_assert_eq!(unseen, Source::Unknown);
                }
            }
            let claimed = Source::of(plan, Evidence { peer: true, issuer: None, tag: Some(&tag) });
            prop_assert!(!matches!(claimed, Source::Verified(_)), "{:?}", claimed);
        }
    }
}
