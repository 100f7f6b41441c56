//! The schedules that the machine alone is played, played with real servers: after each run of the program both clusters have
//! what the machine says, and their record says what its state does.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use isthmus::rollout::Phase;
use isthmus::rollout::machine::{End, Goal};
use isthmus_tests::cluster::{Fault, Faulty, Span};
use isthmus_tests::schedule::{FATES, Fate, Order, Played, Run, Schedule, Struck, World};
use serde_json::{Value, json};

use super::PATIENCE;
use super::rollout::{Ground, NAMES, PLUGINS, ROUTES, RULES, between, code, finished, stderr};
use super::waves::{LEASE, kill};

/// Nobody loses a lease on a machine that is busy; what a killed program holds is taken from it.
const LEASED: [&str; 2] = ["--lease", "120"];

/// The services that are pinned before and after, one instead of the other.
const SERVICES: [&str; 2] = ["cache", "helloworld"];

/// How many are played, unless `ISTHMUS_SCHEDULES` says how many.
const SCHEDULES: usize = 6;

fn policy(number: usize) -> String {
    let service = SERVICES[number];
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: sample}}\n\
         spec: {{services: [{service}], routing: {{pin: {{header: x-cell, to: {{a: cluster1, b: cluster2}}}}}}}}\n"
    )
}

/// How the write of a phase is asked for.
fn line(phase: Phase, goal: Goal) -> String {
    let (coming, going) = match goal {
        Goal::Old => (SERVICES[0], SERVICES[1]),
        Goal::New => (SERVICES[1], SERVICES[0]),
    };
    let of_sample = |verb: &str, kind: &str, service: &str| {
        format!("{verb} /apis/networking.istio.io/v1/namespaces/sample/{kind}/isthmus-{service}?")
    };
    match phase {
        Phase::SubsetsCome => of_sample("PATCH", "destinationrules", coming),
        Phase::RoutesCome => of_sample("PATCH", "virtualservices", coming),
        Phase::Shadow | Phase::Filters => {
            "PATCH /apis/extensions.istio.io/v1alpha1/namespaces/istio-system/wasmplugins/isthmus-outbound?"
                .to_owned()
        }
        Phase::RoutesGo => of_sample("DELETE", "virtualservices", going).replace('?', ""),
        Phase::SubsetsGo => of_sample("DELETE", "destinationrules", going).replace('?', ""),
    }
}

/// Has happen what a schedule says.
fn arm(proxy: &Faulty, Struck { strike, goal, after }: Struck) {
    let line = line(strike.phase, goal);
    for _ in 0..after {
        proxy.at(&line, Span::Once, Fault::Pass);
    }
    let fails = Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR, None, "etcd has lost its mind");
    let (span, fault) = match strike.fate {
        Fate::KilledBefore => (Span::Once, Fault::Hang),
        Fate::KilledAfter => (Span::Once, Fault::HangAfter),
        Fate::Fails => (Span::Once, fails),
        Fate::GoneBefore => (Span::Onward, Fault::Cut),
        Fate::GoneAfter => (Span::After, Fault::Cut),
    };
    proxy.at(&line, span, fault);
}

/// Waits until the write has come at which a program is to die.
async fn comes(proxy: &Faulty, Struck { strike, goal, after }: Struck, child: &mut Child) {
    let line = line(strike.phase, goal);
    let (what, count) = match strike.fate {
        Fate::KilledAfter => (format!("done: {line}"), 1),
        Fate::KilledBefore | Fate::Fails | Fate::GoneBefore | Fate::GoneAfter => (line, after + 1),
    };
    let (mut seen, deadline) = (0, Instant::now() + PATIENCE);
    while seen < count {
        seen += proxy.seen().iter().filter(|(_, line)| line.starts_with(&what)).count();
        assert!(child.try_wait().expect("a child").is_none(), "it has ended before {what}");
        assert!(Instant::now() < deadline, "nobody asks for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Ground {
    /// Runs the program as a schedule says, knowing what the machine makes of it; its exit code, unless it was killed.
    async fn play(&self, proxies: &[Faulty; 2], run: Run, played: Played, how: &[&str]) -> Option<i32> {
        for proxy in proxies {
            proxy.clear();
            proxy.seen();
        }
        if let Some(struck) = played.struck {
            arm(&proxies[struck.strike.cluster], struck);
        }
        let (verb, more) = match run.order {
            Order::RollOut => ("rollout", how),
            Order::Resume => ("rollout resume", &LEASED[..]),
            Order::Undo => ("rollout undo", &LEASED[..]),
        };
        let mut command = self.command_of(verb, &[more, &["--parallel", "1"]].concat());
        let ended = match (played.end, played.struck) {
            (None, Some(struck)) => {
                let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
                comes(&proxies[struck.strike.cluster], struck, &mut child).await;
                kill(child);
                None
            }
            _ => Some(finished(command).await),
        };
        proxies.iter().for_each(Faulty::clear);
        for name in NAMES {
            self.free(name).await;
        }
        ended.map(|output| code(&output).unwrap_or_else(|| panic!("{}", stderr(&output))))
    }

    /// Takes the lease of a cluster from whoever had it and cannot give it back.
    pub(super) async fn free(&self, cluster: &str) {
        let request = hyper::Request::patch(LEASE)
            .header("content-type", "application/merge-patch+json")
            .body(json!({"spec": {"holderIdentity": null}}).to_string().into_bytes())
            .expect("a request");
        self.clusters.client(cluster).await.request::<Value>(request).await.expect("the server agrees");
    }

    /// What a cluster has, in the words of the machine's world.
    async fn held(&self, cluster: &str, plans: &[Value; 2]) -> String {
        let mut sides = Vec::new();
        for path in [ROUTES, RULES] {
            let names: BTreeSet<String> = self
                .list(cluster, path)
                .await
                .iter()
                .map(|object| object["metadata"]["name"].as_str().expect("a name").to_owned())
                .collect();
            sides.push(SERVICES.map(|service| names.contains(&format!("isthmus-{service}"))));
        }
        let plugins = self.list(cluster, PLUGINS).await;
        let outbound =
            plugins.iter().find(|plugin| plugin["metadata"]["name"] == "isthmus-outbound").expect("a plugin");
        let configuration = &outbound["spec"]["pluginConfig"];
        let filter =
            plans.iter().position(|plan| *plan == configuration["digest"]).expect("a plan of one of them");
        told(filter, configuration["trial"].is_object(), &sides)
    }

    /// The digest of the plan for what leaves, in both clusters.
    async fn outbound(&self) -> [Value; 2] {
        let mut digests = Vec::new();
        for cluster in NAMES {
            let plugins = self.list(cluster, PLUGINS).await;
            let outbound = plugins.iter().find(|plugin| plugin["metadata"]["name"] == "isthmus-outbound");
            digests.push(outbound.expect("a plugin")["spec"]["pluginConfig"]["digest"].clone());
        }
        digests.try_into().expect("two")
    }

    /// Holds both clusters, and the record that they have, against the machine.
    async fn is_as(&self, world: &World, plans: &[[Value; 2]; 2], what: &str) {
        for (number, (name, held)) in world.held().enumerate() {
            let sides = [&held.routes, &held.subsets].map(|sides| [0, 1].map(|side| sides.contains(&side)));
            let own = [plans[0][number].clone(), plans[1][number].clone()];
            let wanted = told(held.filter, held.on_trial, &sides);
            assert_eq!(self.held(name.as_str(), &own).await, wanted, "{what}: {name}");
        }
        let kept = self.standing().await["record"]["state"].take();
        let wanted = serde_json::to_value(world.record()).expect("JSON");
        assert_eq!(without_words(kept), without_words(wanted), "{what}");
    }
}

fn told(filter: usize, on_trial: bool, sides: &[[bool; 2]]) -> String {
    format!("plan {filter}, trial {on_trial}, routes {:?}, subsets {:?}", sides[0], sides[1])
}

/// A state without what it says of why.
fn without_words(mut state: Value) -> Value {
    if let Some(clusters) = state["clusters"].as_object_mut() {
        clusters.values_mut().filter(|at| at["behind"].is_string()).for_each(|at| *at = json!("behind"));
    }
    if state["failure"].is_object() {
        state["failure"]["why"] = json!("");
    }
    state
}

/// With which exit codes a run ends: those of clusters that are behind say whether all are.
fn codes(run: Run, end: End) -> &'static [i32] {
    match end {
        End::Complete => &[0],
        End::Undone if run.order == Order::Undo => &[0],
        End::Undone | End::Failed => &[1],
        End::Incomplete => &[3, 4],
    }
}

/// Before the first schedule: both revisions are known, and the old one is there.
async fn set(ground: &Ground) -> [[Value; 2]; 2] {
    for name in ["ledger.yaml", "reports.yaml"] {
        std::fs::remove_file(ground.policy(name)).expect("removed");
    }
    let mut plans = Vec::new();
    let mut others = BTreeSet::new();
    for number in [0, 1, 0] {
        std::fs::write(ground.policy("cache.yaml"), policy(number)).expect("a file");
        let output = ground.roll(&LEASED).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        plans.push(ground.outbound().await);
        let says = ground.says().await;
        others.insert(
            says.into_iter()
                .filter(|line| line.contains("inbound") || line.contains("gateway"))
                .collect::<Vec<_>>(),
        );
    }
    std::fs::write(ground.policy("cache.yaml"), policy(1)).expect("a file");
    assert_eq!(others.len(), 1, "a phase of a cluster is one write: {others:#?}");
    [plans[0].clone(), plans[1].clone()]
}

/// One schedule; what happened in it, and what was asked for.
async fn play_all(
    ground: &Ground,
    proxies: &[Faulty; 2],
    plans: &[[Value; 2]; 2],
    (seed, schedule): (u64, &Schedule),
) -> (BTreeSet<Fate>, BTreeSet<Order>) {
    let (mut fates, mut orders) = (BTreeSet::new(), BTreeSet::new());
    let mut world = World::new(schedule);
    let undoes = if schedule.undoes { "Undo" } else { "Stop" };
    let tries = if schedule.tries { "  shadowFirst: 1s\n" } else { "" };
    let how = ground.canary("0s", &format!("  gates: {{applied: 1s}}\n  onFailure: {undoes}\n{tries}"));
    let how = [&[how[0].as_str(), how[1].as_str()], &LEASED[..]].concat();
    let last = Run { order: Order::Resume, strike: None };
    for run in schedule.runs.iter().chain([&last]) {
        if world.is_over() {
            break;
        }
        let played = world.play(*run);
        let what = format!("seed {seed}: {run:?} of {schedule:?}");
        let ended = ground.play(proxies, *run, played, &how).await;
        let is_so = ended.zip(played.end).is_none_or(|(code, end)| codes(*run, end).contains(&code));
        assert_eq!((is_so, ended.is_some()), (true, played.end.is_some()), "{what}: {ended:?} {played:?}");
        ground.is_as(&world, plans, &what).await;
        fates.extend(played.struck.map(|struck| struck.strike.fate));
        orders.insert(run.order);
    }
    assert!(world.is_over(), "seed {seed}");
    if world.is_at(End::Complete) {
        let output = ground.run("rollout rollback", &LEASED).await;
        assert_eq!(code(&output), Some(0), "{seed}: {}", stderr(&output));
    }
    (fates, orders)
}

#[tokio::test]
async fn what_is_played_to_the_machine_ends_with_real_servers_as_with_the_machine() {
    let Some(mut ground) = Ground::start().await else { return };
    let plans = set(&ground).await;
    let proxies = between(&mut ground).await;
    let said = std::env::var("ISTHMUS_SCHEDULES").ok().and_then(|count| count.parse().ok());
    let (mut fates, mut orders) = (BTreeSet::new(), BTreeSet::new());
    for (seed, schedule) in Schedule::telling(said.unwrap_or(SCHEDULES)) {
        let happened = play_all(&ground, &proxies, &plans, (seed, &schedule)).await;
        fates.extend(happened.0);
        orders.extend(happened.1);
    }
    assert_eq!((fates, orders.len()), (FATES.into(), 3), "each has happened");
}
