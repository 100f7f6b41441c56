//! What is told of two plans is so, and nothing is left out.

use std::cell::RefCell;
use std::collections::BTreeMap;

use policy::Guard;
use policy::evaluate::{self, Arrival, Leaving, Route};
use policy::meaning::{self, Change, Decision, Meaning, Running, Witness};
use policy::name::ClusterName;
use policy::plan::OutboundPlan;
use policy::source::{By, Evidence, Source};
use policy::verdict::Verdict;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::request::{Both, Request, request};
use super::world::{Compiled, World, world};
use super::yaml::{Dice, Yaml};

/// How one world becomes another.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Some of its policies go.
    Without(Vec<bool>),
    /// Some of its policies no longer act, or now do.
    Turned(Vec<bool>),
    /// Mesh and policies are others.
    Anew(Box<World>),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(any::<bool>(), 6).prop_map(Step::Without),
        3 => vec(any::<bool>(), 6).prop_map(Step::Turned),
        2 => world().prop_map(|world| Step::Anew(Box::new(world))),
    ]
}

impl Step {
    pub(crate) fn take(self, mut world: World) -> World {
        match self {
            Self::Anew(other) => return *other,
            Self::Without(gone) => {
                let mut gone = gone.into_iter();
                world.policies.retain(|_| !gone.next().unwrap_or_default());
            }
            Self::Turned(turned) => {
                for (policy, _) in world.policies.iter_mut().zip(turned).filter(|(_, turned)| *turned) {
                    turn(policy);
                }
            }
        }
        world
    }
}

/// From Shadow to Enforce, and the other way round.
fn turn(policy: &mut Yaml) {
    let Yaml::Map(document) = policy else { panic!("a document is a mapping") };
    for (_, spec) in document.iter_mut().filter(|(key, _)| *key == "spec") {
        let Yaml::Map(fields) = spec else { panic!("a spec is a mapping") };
        let had = fields.len();
        fields.retain(|(key, value)| *key != "mode" || matches!(value, Yaml::Text(mode) if mode != "Shadow"));
        if fields.len() == had && !fields.iter().any(|(key, _)| *key == "mode") {
            fields.push(("mode", Yaml::text("Shadow")));
        }
    }
}

type Told = BTreeMap<ClusterName, Meaning>;

fn told(before: &Compiled, after: &Compiled) -> Told {
    let both = before.plans.iter().filter_map(|(name, plans)| Some((name, plans, after.plans.get(name)?)));
    both.map(|(name, one, other)| {
        (name.clone(), meaning::compare(&Running::from(one), &Running::from(other)))
    })
    .collect()
}

fn decision((verdict, shadow): &Both, route: Option<String>) -> Decision {
    Decision {
        allow: verdict.0,
        reason: verdict.1.clone(),
        route: route.filter(|_| verdict.0),
        shadow: shadow.as_ref().filter(|shadow| shadow.0 != verdict.0).map(|shadow| shadow.1.clone()),
    }
}

/// A change that says of a place that this decision becomes that one.
fn says(meaning: &Meaning, at: fn(&Witness) -> bool, before: &Decision, after: &Decision) -> bool {
    let fits = |change: &&Change| at(&change.witness) && change.before == *before && change.after == *after;
    meaning.changes.iter().any(|change| fits(&change))
}

fn is_inbound(witness: &Witness) -> bool {
    matches!(witness, Witness::Inbound(_))
}

fn is_gateway(witness: &Witness) -> bool {
    matches!(witness, Witness::Gateway(_))
}

#[test]
fn whatever_is_decided_otherwise_is_told() {
    let seen: RefCell<BTreeMap<&'static str, u64>> = RefCell::default();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(60) });
    let outcome = runner.run(&(world(), step(), vec(request(), 24)), |(world, step, requests)| {
        let after = step.take(world.clone()).compiled(Dice::still());
        let before = world.compiled(Dice::still());
        let told = told(&before, &after);
        for request in requests {
            let name = &request.cluster(&before).name;
            let Some(meaning) = told.get(name) else { continue };
            let mut note = |what| *seen.borrow_mut().entry(what).or_default() += 1;
            let [one, other] = [&before, &after].map(|world| request.gateway_at(world, name));
            let (one, other) = (decision(&one, None), decision(&other, None));
            prop_assert!(
                one == other || says(meaning, is_gateway, &one, &other),
                "{one:?} {other:?} {meaning:#?}"
            );
            note(if one == other { "as before" } else { "gateway" });
            let departs = |world| {
                let (both, route) = request.outbound_at(world, name);
                decision(&both, Some(route))
            };
            let (one, other) = (departs(&before), departs(&after));
            let is_told = meaning.changes.iter().any(|change| matches!(change.witness, Witness::Outbound(_)));
            prop_assert!(one == other || is_told, "{one:?} {other:?} {meaning:#?}");
            note(if one == other { "as before" } else { "outbound" });
            arriving(&request, [&before, &after], (name, meaning), &mut note)?;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("{seen:?}");
    assert_eq!(seen.borrow().len(), 5, "{seen:?}");
}

fn arriving(
    request: &Request,
    [before, after]: [&Compiled; 2],
    (name, meaning): (&ClusterName, &Meaning),
    note: &mut dyn FnMut(&'static str),
) -> Result<(), TestCaseError> {
    // The issuer is one of the first mesh's, for both.
    let [one, other] = [before, after].map(|world| request.inbound_at(before, world, name));
    if one.0 != other.0 {
        let is_told = meaning.changes.iter().any(|change| matches!(change.witness, Witness::Proof(_)));
        prop_assert!(is_told, "{one:?} {other:?} {meaning:#?}");
        note("proof");
        return Ok(());
    }
    let (one, other) = (decision(&one.1, None), decision(&other.1, None));
    prop_assert!(one == other || says(meaning, is_inbound, &one, &other), "{one:?} {other:?} {meaning:#?}");
    note(if one == other { "as before" } else { "inbound" });
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn of_everything_that_is_told_there_is_a_request_that_shows_it(world in world(), step in step()) {
        let after = step.take(world.clone()).compiled(Dice::still());
        let before = world.compiled(Dice::still());
        for (name, meaning) in told(&before, &after) {
            for change in &meaning.changes {
                let [one, other] = [&before, &after].map(|world| witnessed(world, &name, &change.witness));
                prop_assert_ne!(&one, &other, "{}", change);
                for (told, found) in [(&change.before, &one), (&change.after, &other)] {
                    let together = told.route.as_ref().is_some_and(|route| route.contains(" % ") || route.contains("other requests"));
                    let route = if together { &told.route } else { &found.route };
                    prop_assert_eq!(told, &Decision { route: route.clone(), ..found.clone() }, "{}", change);
                }
                prop_assert!(!change.to_string().is_empty());
            }
        }
    }

    #[test]
    fn of_the_same_plans_nothing_is_told(world in world(), seed in 1..u64::MAX) {
        let (one, other) = (world.compiled(Dice::still()), world.compiled(Dice::new(seed)));
        for (name, meaning) in told(&one, &other) {
            prop_assert_eq!(meaning, Meaning::default(), "{}", name);
        }
    }
}

/// What a world's plans decide of a witness, by the evaluator.
fn witnessed(world: &Compiled, cluster: &ClusterName, witness: &Witness) -> Decision {
    let plans = &world.plans[cluster];
    let by = |verdict: &Verdict<'_>, shadow: Option<Verdict<'_>>, route| Decision {
        allow: verdict.is_allow(),
        reason: verdict.reason(),
        route,
        shadow: shadow.filter(|shadow| shadow.is_allow() != verdict.is_allow()).map(|shadow| shadow.reason()),
    };
    match witness {
        Witness::Inbound(request) => {
            let plan = plans.inbound_of(&request.namespace);
            let guard = Guard::new(plan, &request.namespace, &request.labels);
            let source = request.source.as_ref().and_then(|(cluster, proven)| {
                let at = plan.location(cluster)?;
                Some(if *proven { Source::Verified(at, By::Certificate) } else { Source::Claimed(at) })
            });
            let judgement = evaluate::inbound(
                &guard,
                &Arrival {
                    source: source.unwrap_or(Source::Unknown),
                    identity: request.identity.as_ref(),
                    port: request.port,
                    method: &request.method,
                    path: &request.path,
                    host: request.host.as_deref(),
                },
            );
            by(&judgement.verdict, judgement.shadow, None)
        }
        Witness::Gateway(request) => {
            let judgement =
                evaluate::gateway(&plans.gateway, &request.service, request.port, request.address);
            by(&judgement.verdict, judgement.shadow, None)
        }
        Witness::Outbound(request) => {
            let header = |name: &str| request.headers.get(name).cloned();
            let leaving = Leaving { header: &header, draw: request.draw };
            let departure = evaluate::outbound(&plans.outbound, &request.service, &leaving);
            let route = departure.verdict.is_allow().then(|| route(&plans.outbound, departure.route));
            by(&departure.verdict, departure.shadow, route)
        }
        Witness::Proof(evidence) => {
            let evidence = Evidence {
                peer: true,
                issuer: evidence.issuer.as_deref(),
                identity: evidence.identity.as_ref(),
                token: evidence.token.as_deref(),
                tag: evidence.tag.as_deref(),
            };
            let source = Source::of(&plans.inbound, evidence).to_string();
            Decision { allow: true, reason: source, route: None, shadow: None }
        }
    }
}

fn route(plan: &OutboundPlan, route: Route<'_>) -> String {
    match route {
        Route::Anywhere => "anywhere".to_owned(),
        Route::To(cluster) => format!("to {cluster}"),
        Route::Within(boundary) => {
            let inside = super::world::CLUSTERS.iter().filter_map(|name| name.parse().ok());
            let mut inside: Vec<String> = inside
                .filter(|name: &ClusterName| plan.has_inside(boundary, name))
                .map(|name| name.to_string())
                .collect();
            inside.sort();
            format!("within its {} ({})", format!("{boundary:?}").to_lowercase(), inside.join(", "))
        }
    }
}
