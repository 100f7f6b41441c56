//! While a plan is tried, all is decided as it was, and counted as it will be.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use isthmus::rollout::gate::{Gate, Later, Verdict, Wanted};
use isthmus::rollout::machine::{End, Stage};
use isthmus::rollout::strategy::Strategy;
use isthmus::rollout::{Campaign, DryRun, Holder, How, Options, Origin, Target};
use policy::compile::{ClusterPlans, Plans};
use policy::name::{ClusterName, Namespace};
use policy::plan::{Configuration, InboundPlan, Plan, Role};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::meaning::{Step, step};
use super::request::{Request, request};
use super::world::{Compiled, World, world};
use super::yaml::Dice;

const ROOT: &str = "istio-system";

/// A gate that lets nothing go on.
#[derive(Debug)]
struct Shut;

impl Gate for Shut {
    fn name(&self) -> &'static str {
        "shut"
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    fn look<'g>(&'g self, _wanted: &'g Wanted) -> Later<'g, Verdict> {
        Box::pin(async { Verdict::Fail("nothing goes on".to_owned()) })
    }
}

/// Rolls out into directories, one for each cluster: to its end, or as far as it goes when plans are only tried.
async fn rolled_out(dir: &Path, world: &Compiled, is_tried: bool) -> Stage {
    let names = || world.mesh.clusters().map(|cluster| &cluster.name);
    let mut strategy = Strategy::all_at_once(names());
    strategy.waves[0].shadow = is_tried.then_some(60);
    let targets = names().map(|name| (name.clone(), Ok(Target::Directory(dir.join(name.as_str())))));
    let campaign = Campaign {
        root: ROOT.to_owned(),
        targets: targets.collect(),
        how: How { dry_run: DryRun::No, force: false, parallel: 8 },
        holder: Holder {
            name: "test".to_owned(),
            time: Duration::from_secs(15),
            clock: time::OffsetDateTime::now_utc,
        },
        gates: &move |_| if is_tried { vec![Arc::new(Shut) as Arc<dyn Gate>] } else { Vec::new() },
        history: 10,
        tell: &mut |_| {},
    };
    let url = "oci://registry.example/isthmus:v1".parse().expect("a URL");
    let options = Options { url: &url, upstream_check: false, dry_run: false };
    let origin = Origin::at(time::OffsetDateTime::now_utc());
    let report = campaign.roll_out((&world.mesh, &world.plans, options), strategy, origin).await;
    report.expect("a rollout").record.expect("a record").state.stage()
}

/// The plugins that a cluster has, by role and by the namespace that has its own.
type Plugins = BTreeMap<(Role, Option<Namespace>), Configuration>;

fn plugins(dir: &Path) -> Plugins {
    let mut plugins = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        let object: Value = serde_saphyr::from_str(&text).expect("YAML");
        if object["kind"] != "WasmPlugin" {
            continue;
        }
        let configuration = object["spec"]["pluginConfig"].to_string();
        let configuration = Configuration::read(configuration.as_bytes()).expect("a configuration");
        let namespace = object["metadata"]["namespace"].as_str().filter(|own| *own != ROOT);
        let namespace = namespace.map(|own| own.parse().expect("a namespace"));
        plugins.insert((configuration.role, namespace), configuration);
    }
    plugins
}

/// What these plugins judge by, or try.
fn made(plugins: &Plugins, is_tried: bool) -> ClusterPlans {
    let plan = |configuration: &Configuration| match &configuration.trial {
        Some(trial) if is_tried => trial.plan.clone(),
        Some(_) | None => configuration.plan.clone(),
    };
    let everywhere = |role| plan(&plugins[&(role, None)]);
    let (Plan::Outbound(outbound), Plan::Inbound(inbound), Plan::Gateway(gateway)) =
        (everywhere(Role::Outbound), everywhere(Role::Inbound), everywhere(Role::Gateway))
    else {
        panic!("a plugin has the plan of its role")
    };
    let apart = plugins.iter().filter_map(|((_, namespace), configuration)| {
        let Plan::Inbound(plan) = plan(configuration) else { return None };
        Some((namespace.clone()?, plan))
    });
    ClusterPlans { outbound, inbound, apart: apart.collect(), gateway, locality: BTreeMap::new() }
}

/// The same plans with a plan of its own for a namespace, as where so much is said that it is cut.
fn cut(plans: &mut Plans, namespace: &str) {
    for plans in plans.values_mut() {
        let mut whole: Value = serde_json::from_str(&plans.inbound.to_json().expect("JSON")).expect("JSON");
        plans.apart.insert(namespace.parse().expect("a namespace"), plans.inbound.clone());
        whole["apart"] = json!(plans.apart.keys().map(Namespace::as_str).collect::<Vec<_>>());
        plans.inbound = InboundPlan::read(whole.to_string().as_bytes()).expect("a plan");
    }
}

fn other(world: &Compiled, cluster: &ClusterName, plans: ClusterPlans) -> Compiled {
    Compiled { mesh: world.mesh.clone(), policies: Vec::new(), plans: [(cluster.clone(), plans)].into() }
}

/// Rolls out into clusters that have plans, and into those of which one has nothing yet.
#[test]
fn while_plans_are_tried_all_is_decided_as_it_was_and_what_is_tried_is_what_comes() {
    let seen: RefCell<BTreeMap<&'static str, u64>> = RefCell::default();
    for (cases, has_newcomer) in [(16, false), (8, true)] {
        let cases = Config { failure_persistence: None, ..Config::with_cases(cases) };
        let outcome = TestRunner::new(cases).run(&drawn(), |drawn| {
            let mut note = |what| *seen.borrow_mut().entry(what).or_default() += 1;
            tried(drawn, has_newcomer, &mut note)
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
    }
    let seen = seen.take();
    println!("{seen:?}");
    assert_eq!(seen.len(), 3, "{seen:?}");
}

type Cut = Option<&'static str>;
type Drawn = (World, Step, (Cut, Cut), Index, Vec<Request>);

fn drawn() -> impl proptest::strategy::Strategy<Value = Drawn> {
    let cuts = || option::weighted(0.4, select(&["payments", "shop"][..]));
    (world(), step(), (cuts(), cuts()), any::<Index>(), vec(request(), 24))
}

fn tried(
    (world, step, (cut_old, cut_new), newcomer, requests): Drawn,
    has_newcomer: bool,
    note: &mut dyn FnMut(&'static str),
) -> Result<(), TestCaseError> {
    let mut new = step.take(world.clone()).compiled(Dice::still());
    let mut old = world.compiled(Dice::still());
    cut_old.into_iter().for_each(|own| cut(&mut old.plans, own));
    cut_new.into_iter().for_each(|own| cut(&mut new.plans, own));
    let dir = tempfile::tempdir().expect("a directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stage = runtime.block_on(rolled_out(dir.path(), &old, false));
    prop_assert_eq!(stage, Stage::Ended(End::Complete));
    if has_newcomer {
        let names: Vec<&ClusterName> = new.plans.keys().collect();
        let name = *newcomer.get(&names);
        if old.plans.remove(name).is_some() {
            std::fs::remove_dir_all(dir.path().join(name.as_str())).expect("a directory");
        }
    }
    let stage = runtime.block_on(rolled_out(dir.path(), &new, true));
    prop_assert!(matches!(stage, Stage::Ended(End::Failed | End::Complete)), "{:?}", stage);
    for name in new.plans.keys() {
        let plugins = plugins(&dir.path().join(name.as_str()));
        let staged = other(&new, name, made(&plugins, false));
        let tried = other(&new, name, made(&plugins, true));
        none_is_tried_twice(&plugins)?;
        for request in &requests {
            let judged = |world| {
                let (source, arriving) = request.inbound_at(&new, world, name);
                let leaving = request.outbound_at(world, name);
                (request.gateway_at(world, name), leaving, source, arriving)
            };
            let (now, tried, to_come) = (judged(&staged), judged(&tried), judged(&new));
            let verdicts = |(gateway, (leaving, _), source, arriving): &(_, (_, _), String, _)| {
                let verdict = |both: &super::request::Both| both.0.clone();
                (verdict(gateway), verdict(leaving), source.clone(), verdict(arriving))
            };
            prop_assert_eq!(verdicts(&tried), verdicts(&to_come), "{}: {:?}", name, request);
            if old.plans.contains_key(name) {
                let was = judged(&old);
                prop_assert_eq!(&now, &was, "{}: {:?}", name, request);
                note(if verdicts(&was) == verdicts(&tried) { "as before" } else { "otherwise" });
            } else {
                let (gateway, leaving, _, arriving) = verdicts(&now);
                prop_assert!(gateway.0 && leaving.0 && arriving.0, "{}: {:?}", name, request);
                note("where nothing judged");
            }
        }
    }
    Ok(())
}

/// Of the two plugins that a request to a namespace with its own passes there, one tries it.
fn none_is_tried_twice(plugins: &Plugins) -> Result<(), TestCaseError> {
    for ((_, namespace), own) in plugins {
        let (Some(namespace), Some(_)) = (namespace, &own.trial) else { continue };
        let around = &plugins[&(Role::Inbound, None)];
        let leaves = |plan: &Plan| matches!(plan, Plan::Inbound(plan) if plan.leaves(namespace));
        let leaves_trial = around.trial.as_ref().is_none_or(|trial| leaves(&trial.plan));
        prop_assert!(leaves(&around.plan) || leaves_trial, "{}: tried twice", namespace);
    }
    Ok(())
}
