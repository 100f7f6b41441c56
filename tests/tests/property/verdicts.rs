//! The compiled verdict is the plain one, and the laws that hold of it.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;

use policy::explain::Outcome;
use policy::source::{By, Evidence, Source};
use policy::verdict::RESERVED;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::oracle;
use super::request::{Both, request};
use super::world::{document, world};
use super::yaml::{Dice, Yaml};

/// Requests for each world.
const REQUESTS: u32 = 8;

/// A number that the environment sets, for a long run or to repeat one.
fn said(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_error| panic!("{variable}={text:?} is not a number")))
}

/// `make nightly` asks for a million pairs of a world and a request; every run says its seed.
#[test]
fn the_compiled_verdict_is_the_one_that_the_table_gives() {
    let pairs = u32::try_from(said("PAIRS").unwrap_or(20_000)).expect("a number of pairs");
    let seed = said("SEED").unwrap_or_else(|| RandomState::new().hash_one(pairs));
    println!("SEED={seed} PAIRS={pairs}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(pairs.div_ceil(REQUESTS)) };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let seen: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let requests = vec(request(), usize::try_from(REQUESTS).expect("a few"));
    let outcome = runner.run(&(world(), requests), |(world, requests)| {
        let world = world.compiled(Dice::still());
        for request in requests {
            let departure = request.outbound(&world);
            prop_assert_eq!(&departure, &oracle::outbound(&world, &request), "outbound {:?}", request);
            let passage = request.gateway(&world);
            prop_assert_eq!(&passage, &oracle::gateway(&world, &request), "gateway {:?}", request);
            let source = request.source(&world);
            prop_assert_eq!(&source, &oracle::source(&world, &request), "source {:?}", request);
            let arrival = request.inbound(&world);
            prop_assert_eq!(&arrival, &oracle::inbound(&world, &request), "inbound {:?}", request);
            let mut seen = seen.borrow_mut();
            *seen.entry(format!("source: {}", level(&source))).or_default() += 1;
            for (place, (verdict, shadow)) in
                [("source", departure.0), ("gateway", passage), ("destination", arrival)]
            {
                *seen.entry(format!("{place}: {}", kind(&verdict.1))).or_default() += 1;
                if shadow.is_some_and(|shadow| shadow.0 != verdict.0) {
                    *seen.entry(format!("{place}: otherwise with the policies in shadow")).or_default() += 1;
                }
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("with SEED={seed}: {error}");
    }
    let lines = seen.take();
    println!(
        "{} pairs of a world and a request, judged at three places:",
        pairs.div_ceil(REQUESTS) * REQUESTS
    );
    lines.into_iter().for_each(|(kind, count)| println!("{count:>9} {kind}"));
}

/// A reason without the names of policies and rules.
fn kind(reason: &str) -> String {
    match reason.rsplit_once('/') {
        Some((_, rule)) if rule.starts_with("yes-") => "an allow rule".to_owned(),
        Some((_, rule)) if rule.starts_with("no-") && rule != "no-rule-matched" => "a deny rule".to_owned(),
        Some((_, built_in)) => built_in.to_owned(),
        None => reason.to_owned(),
    }
}

/// How well a source is known, without its name.
fn level(source: &str) -> &str {
    source.rsplit(", ").next().unwrap_or_default()
}

#[test]
fn the_random_worlds_show_every_kind_of_verdict() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for _ in 0..500 {
        let (world, request) = (world(), request()).new_tree(&mut runner).expect("a world").current();
        let world = world.compiled(Dice::still());
        for (verdict, _) in [request.outbound(&world).0, request.gateway(&world), request.inbound(&world)] {
            seen.insert(kind(&verdict.1));
        }
        seen.insert(level(&request.source(&world)).to_owned());
    }
    let levels =
        ["unknown", "claimed", "verified by token", "verified by trust domain", "verified by certificate"];
    let wanted = RESERVED.iter().copied().chain(["a deny rule", "an allow rule"]).chain(levels);
    let missing: Vec<&str> = wanted.filter(|kind| !seen.contains(*kind)).collect();
    assert_eq!(missing, [""; 0], "seen: {seen:?}");
}

type Fields = Vec<(&'static str, Yaml)>;

/// Changes what a policy says.
fn edit(policy: &mut Yaml, change: &mut dyn FnMut(&mut Fields)) {
    let Yaml::Map(document) = policy else { panic!("a document is a mapping") };
    for (_, spec) in document.iter_mut().filter(|(key, _)| *key == "spec") {
        let Yaml::Map(spec) = spec else { panic!("a spec is a mapping") };
        change(spec);
    }
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
            let ((allowed, reason), _) = request.inbound(&denying);
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
    fn policies_in_shadow_never_act(world in world(), requests in vec(request(), 6)) {
        let mut acting = world.clone();
        acting.policies.retain(|policy| !policy.flow(&mut Dice::still()).contains("\"Shadow\""));
        let (world, acting) = (world.compiled(Dice::still()), acting.compiled(Dice::still()));
        for request in requests {
            let (departure, route) = request.outbound(&world);
            let without = request.outbound(&acting);
            prop_assert_eq!((departure.0, route), (without.0.0, without.1));
            prop_assert_eq!(request.gateway(&world).0, request.gateway(&acting).0);
            prop_assert_eq!(request.inbound(&world).0, request.inbound(&acting).0);
        }
    }

    #[test]
    fn what_shadow_foretells_comes_when_it_acts(world in world(), requests in vec(request(), 6)) {
        let mut acting = world.clone();
        acting.policies.iter_mut().for_each(|policy| edit(policy, &mut |spec| spec.retain(|(key, _)| *key != "mode")));
        let (world, acting) = (world.compiled(Dice::still()), acting.compiled(Dice::still()));
        for request in requests {
            let foretold = |(verdict, shadow): Both| shadow.unwrap_or(verdict);
            prop_assert_eq!(foretold(request.outbound(&world).0), request.outbound(&acting).0.0);
            prop_assert_eq!(foretold(request.gateway(&world)), request.gateway(&acting).0);
            prop_assert_eq!(foretold(request.inbound(&world)), request.inbound(&acting).0);
        }
    }

    #[test]
    fn one_more_allow_rule_refuses_no_one(world in world(), requests in vec(request(), 6)) {
        let mut wider = world.clone();
        for policy in &mut wider.policies {
            edit(policy, &mut |spec| {
                let access = spec.iter_mut().filter(|(key, _)| *key == "access");
                for (_, access) in access {
                    let Yaml::Map(access) = access else { continue };
                    for (_, allow) in access.iter_mut().filter(|(key, _)| *key == "allow") {
                        let Yaml::List(rules) = allow else { continue };
                        let from = Yaml::List(vec![Yaml::Map(vec![("clusters", Yaml::texts(["*"]))])]);
                        rules.push(Yaml::Map(vec![("name", Yaml::text("yes-all")), ("from", from)]));
                    }
                }
            });
        }
        let (world, wider) = (world.compiled(Dice::still()), wider.compiled(Dice::still()));
        for request in requests {
            let ((before, _), (after, reason)) = (request.inbound(&world).0, request.inbound(&wider).0);
            prop_assert!(after || !before, "{} for {:?}", reason, request);
        }
    }

    #[test]
    fn an_explanation_ends_in_the_verdict_that_its_rules_give(world in world(), requests in vec(request(), 6)) {
        let world = world.compiled(Dice::still());
        for request in requests {
            let (verdict, shadow) = request.inbound(&world);
            let walk = request.explained(&world);
            prop_assert_eq!((walk.verdict == "allow", walk.reason.clone()), verdict.clone());
            // What the sections are shown to do is what all policies together do.
            let (allowed, reason) = shadow.unwrap_or(verdict);
            let rules = || walk.sections.iter().flat_map(|section| section.rules.iter().map(move |rule| (section, rule)));
            let held = |effect: &str| {
                let mut holding = rules().filter(|(_, rule)| rule.holds && rule.effect == effect);
                holding.next().map(|(section, rule)| format!("{}/{}", section.policy, rule.rule))
            };
            let stopped = walk.boundaries.iter().any(|boundary| !boundary.holds)
                || walk.sections.iter().any(|section| section.outcome == Outcome::SourceUnverified);
            if stopped {
                prop_assert!(!allowed, "{:?}", walk);
            } else if let Some(denying) = held("deny") {
                prop_assert_eq!((allowed, reason), (false, denying));
            } else if let Some(allowing) = held("allow") {
                prop_assert_eq!((allowed, reason), (true, allowing));
            } else {
                let lists = walk.sections.iter().any(|section| section.outcome == Outcome::NoRuleMatched);
                prop_assert_eq!(allowed, !lists, "{:?}", walk);
            }
            for (_, rule) in rules() {
                prop_assert_eq!(rule.holds, rule.failing.is_empty(), "{:?}", rule);
            }
        }
    }

    #[test]
    fn a_forged_tag_never_changes_a_verified_source(world in world(), tag in "(eu-1|us-1|asia|\\PC{0,12})") {
        let world = world.compiled(Dice::still());
        for plan in world.plans.values().map(|plans| &plans.inbound) {
            for cluster in world.mesh.clusters() {
                let identity = format!("spiffe://{}/ns/a/sa/b", cluster.trust_domain).parse().expect("an identity");
                let identity = Some(&identity);
                for issuer in cluster.issuers.iter().map(|issuer| Some(issuer.as_str())) {
                    let proven = Source::of(plan, Evidence { peer: true, issuer, identity, token: None, tag: Some(&tag) });
                    prop_assert!(matches!(proven, Source::Verified(location, By::Certificate) if location.name == cluster.name));
                    let unseen = Source::of(plan, Evidence { peer: false, issuer, identity, token: Some(&tag), tag: Some(&tag) });
                    prop_assert_eq!(unseen, Source::Unknown);
                }
            }
            let claimed = Source::of(plan, Evidence { peer: true, tag: Some(&tag), ..Evidence::default() });
            prop_assert!(!matches!(claimed, Source::Verified(..)), "{:?}", claimed);
        }
    }
}
