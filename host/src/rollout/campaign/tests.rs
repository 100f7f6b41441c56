use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::sample::subsequence;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::kube::{Kubeconfig, KubeconfigError};
use crate::rollout::drive::Progress;
use crate::rollout::gate;
use crate::rollout::machine::{End, OnFailure, Stage, Wave};

const MESH: &str = "\
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters:
  - {name: east, network: one, gateway: {address: 10.0.0.1}}
  - {name: west, network: two, gateway: {address: 10.0.0.2}}
  - {name: north, network: three, gateway: {address: 10.0.0.3}}
  services:
    ledger.payments: {port: 80, clusters: [east, west, north]}
";

static NOW: AtomicU64 = AtomicU64::new(0);

/// What sends requests to a cluster, or to each of two; without a cluster, what sends them nowhere.
fn policy(clusters: &str) -> String {
    let pins: Vec<String> = ["a", "b"]
        .iter()
        .zip(clusters.split_terminator(' '))
        .map(|(value, to)| format!("{value}: {to}"))
        .collect();
    if pins.is_empty() {
        return String::new();
    }
    let pins = pins.join(", ");
    format!(
        "apiVersion: isthmus.dev/v1alpha1\nkind: CrossClusterPolicy\nmetadata: {{name: p, namespace: payments}}\n\
         spec:\n  services: [ledger]\n  routing:\n    pin: {{header: x-cell, to: {{{pins}}}}}\n"
    )
}

/// What a rollout does beside bringing what it brings.
struct Manner<'m> {
    /// Who cannot be reached.
    down: &'m [&'m str],
    /// A cluster for each wave, and all others in the last; none: all at once.
    waves: &'m [&'m str],
    on_failure: OnFailure,
    /// Where a gate says no.
    refuses: Option<&'static str>,
    history: usize,
}

const PLAIN: Manner<'static> =
    Manner { down: &[], waves: &[], on_failure: OnFailure::Stop, refuses: None, history: 10 };

/// A gate that is shut for one cluster.
#[derive(Debug)]
struct Shut(Option<&'static str>);

impl Gate for Shut {
    fn name(&self) -> &'static str {
        "shut"
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn look<'g>(&'g self, wanted: &'g gate::Wanted) -> gate::Later<'g, gate::Verdict> {
        let is_shut = self.0 == Some(wanted.cluster.as_str());
        Box::pin(async move {
            if is_shut { gate::Verdict::Fail("it denies".to_owned()) } else { gate::Verdict::Pass }
        })
    }
}

fn mesh() -> Mesh {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    mesh.unwrap_or_else(|| panic!("{findings:#?}"))
}

/// Does something with the clusters of a directory.
async fn with<T, F: Future<Output = T>>(
    dir: &Path,
    manner: &Manner<'_>,
    work: impl FnOnce(Campaign<'static>, &'static Mesh) -> F,
) -> T {
    let mesh: &'static Mesh = Box::leak(Box::new(mesh()));
    let mut targets = BTreeMap::new();
    for cluster in mesh.clusters() {
        let name = cluster.name.as_str();
        let target = match manner.down.contains(&name) {
            true => Err(nowhere(dir).await),
            false => Ok(Target::Directory(dir.join(name))),
        };
        targets.insert(cluster.name.clone(), target);
    }
    let holder = Holder {
        name: "test".to_owned(),
        time: Duration::from_secs(15),
        // No two rollouts begin at the same time.
        clock: || OffsetDateTime::UNIX_EPOCH + Duration::from_micros(NOW.fetch_add(1, Ordering::Relaxed)),
    };
    let refuses = manner.refuses;
    let campaign = Campaign {
        root: "istio-system".to_owned(),
        targets,
        how: How { dry_run: DryRun::No, force: false, parallel: 2 },
        holder,
        gates: Box::leak(Box::new(move |_: &Limits| vec![Arc::new(Shut(refuses)) as Arc<dyn Gate>])),
        history: manner.history,
        tell: Box::leak(Box::new(|_: &Progress| {})),
    };
    work(campaign, mesh).await
}

fn strategy(mesh: &Mesh, manner: &Manner<'_>) -> Strategy {
    let mut strategy = Strategy::all_at_once(mesh.clusters().map(|cluster| &cluster.name));
    strategy.on_failure = manner.on_failure;
    let mut rest = strategy.waves.remove(0);
    for name in manner.waves {
        let name: ClusterName = name.parse().unwrap();
        rest.clusters.remove(&name);
        let clusters = [name.clone()].into();
        strategy.waves.push(Wave { name: name.to_string(), clusters, at_once: 1, bake: 0, shadow: None });
    }
    strategy.waves.push(rest);
    strategy
}

/// Rolls out what sends requests to a cluster, into directories.
async fn reported(dir: &Path, to: &str, manner: &Manner<'_>) -> Result<Report, Refused> {
    with(dir, manner, async |campaign, mesh| {
        let (policies, findings) = policy::Policy::read("policy.yaml", &policy(to), mesh.root_namespace());
        assert!(findings.is_empty(), "{findings:#?}");
        let (plans, findings) = policy::compile(mesh, &policies);
        let plans = plans.unwrap_or_else(|| panic!("{findings:#?}"));
        let url = "oci://registry.example/isthmus:v1".parse().unwrap();
        let options = Options { url: &url, upstream_check: false, dry_run: false };
        let origin = Origin { reason: "rollout".to_owned(), ..Origin::default() };
        campaign.roll_out((mesh, &plans, options), strategy(mesh, manner), origin).await
    })
    .await
}

/// The same, `down` cannot be reached, and nobody minds.
async fn rolled(dir: &Path, to: &str, down: &[&str]) -> Vec<Outcome> {
    reported(dir, to, &Manner { down, ..PLAIN }).await.unwrap().outcomes
}

/// The error of a cluster that cannot be reached.
async fn nowhere(dir: &Path) -> ClusterError {
    let path = dir.join("kubeconfig");
    std::fs::write(&path, json!({"contexts": []}).to_string()).unwrap();
    let kubeconfig: Result<Kubeconfig, KubeconfigError> = Kubeconfig::read(Some(&path), None, None);
    kubeconfig.unwrap().cluster("nowhere", Duration::from_secs(1)).await.unwrap_err()
}

fn file(dir: &Path, cluster: &str, file: &str) -> String {
    std::fs::read_to_string(dir.join(cluster).join(file)).unwrap_or_default()
}

const RULE: &str = "isthmus-destination@payments.ledger.yaml";
const ROUTE: &str = "isthmus-route@payments.ledger.yaml";
const FILTER: &str = "isthmus-outbound.yaml";

#[tokio::test]
async fn who_would_send_requests_through_a_cluster_that_is_down_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let outcomes = rolled(dir, "west", &["west"]).await;
    let [east, _, west] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(west.trouble.as_ref().is_some_and(|trouble| trouble.to_string().contains("nowhere")), "{west:?}");
    let told = east.trouble.as_ref().expect("it waits").to_string();
    assert!(told.starts_with("east: waits for west") && told.contains("payments.ledger"), "{told}");
    assert!(file(dir, "east", RULE).contains("isthmus-cluster-west"), "a subset harms nobody");
    assert_eq!(file(dir, "east", ROUTE) + &file(dir, "east", FILTER), "");

    // When it is up again, the same rollout catches up.
    let outcomes = rolled(dir, "west", &[]).await;
    assert!(outcomes.iter().all(|outcome| outcome.trouble.is_none()), "{outcomes:?}");
    assert!(file(dir, "east", ROUTE).contains("isthmus-cluster-west"));
    assert!(file(dir, "west", RULE).contains("isthmus-cluster-west"));
}

#[tokio::test]
async fn a_subset_stays_as_long_as_a_cluster_that_is_down_may_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    let outcomes = rolled(dir, "", &["east"]).await;
    let west = &outcomes[2];
    assert!(west.trouble.is_none(), "{west:?}");
    assert_eq!(west.change.left, [dir.join("west").join(RULE).display().to_string()]);
    assert!(file(dir, "west", RULE).contains("isthmus-cluster-west"));
    assert_eq!(file(dir, "west", ROUTE), "", "its own filter asks for no route any more");

    let outcomes = rolled(dir, "", &[]).await;
    assert!(outcomes.iter().all(|outcome| outcome.trouble.is_none()), "{outcomes:?}");
    assert_eq!(file(dir, "west", RULE) + &file(dir, "east", RULE), "");
}

#[tokio::test]
async fn a_cluster_that_needs_nothing_of_one_that_is_down_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    std::fs::write(dir.join("west").join(FILTER), "an older one").unwrap();
    let outcomes = rolled(dir, "west", &["east"]).await;
    assert!(outcomes[2].trouble.is_none(), "{outcomes:?}");
    assert_eq!(outcomes[2].change.written, [dir.join("west").join(FILTER).display().to_string()]);
}

const CLUSTERS: [&str; 3] = ["east", "north", "west"];
const SENT: [&str; 6] = ["", "east", "west", "east west", "north east", "west north"];

/// What each cluster's filter says, for everything that may be sent.
async fn filters(dir: &Path) -> BTreeMap<(&'static str, String), &'static str> {
    let mut filters = BTreeMap::new();
    for (number, to) in SENT.into_iter().enumerate() {
        let dir = dir.join(number.to_string());
        std::fs::create_dir(&dir).unwrap();
        rolled(&dir, to, &[]).await;
        filters.extend(CLUSTERS.map(|cluster| ((cluster, file(&dir, cluster, FILTER)), to)));
    }
    filters
}

/// The clusters that a text names the subsets of.
fn subsets(text: &str) -> BTreeSet<String> {
    let rest = text.split("isthmus-cluster-").skip(1);
    rest.map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
}

/// Nothing that a filter may ask for is lost, wherever a cluster stands.
fn check(dir: &Path, filters: &BTreeMap<(&'static str, String), &'static str>) {
    let subsets_of = |cluster: &str| subsets(&file(dir, cluster, RULE));
    for cluster in CLUSTERS {
        let routes = subsets(&file(dir, cluster, ROUTE));
        let filter = file(dir, cluster, FILTER);
        if !filter.is_empty() {
            let asked = filters.get(&(cluster, filter)).expect("a filter that was rolled out");
            for to in asked.split_terminator(' ') {
                assert!(
                    routes.contains(to),
                    "the filter of {cluster} asks for {to}, and its routes know {routes:?}"
                );
            }
        }
        for to in &routes {
            assert!(subsets_of(cluster).contains(to), "{cluster} sends to {to}, a subset that it lacks");
            assert!(subsets_of(to).contains(to), "{cluster} sends to {to}, whose gateways lack the subset");
        }
    }
}

#[test]
fn whatever_is_rolled_out_and_whoever_is_down_no_route_leads_nowhere() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let known = tempfile::tempdir().unwrap();
    let known = known.path();
    let filters = runtime.block_on(filters(known));
    let verb = (0..8_usize, 0..SENT.len(), subsequence(CLUSTERS.to_vec(), 0..3));
    let schedule = (vec(verb, 1..8), 0..SENT.len());
    let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
    type Verb<'v> = (usize, usize, Vec<&'v str>);
    let run = |(verbs, last): (Vec<Verb<'_>>, usize)| {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (verb, to, down) in verbs {
            let manner = Manner { down: &down, refuses: [Some("north"), None][verb % 2], ..PLAIN };
            // What there is nothing of to go on with or to go back to is refused, and nothing is done.
            let _refused = runtime.block_on(async {
                match verb {
                    0 | 1 => rolled_back_as(dir, Some(to as u64 + 1), &manner).await.is_err(),
                    2 => undone(dir, &manner).await.is_err(),
                    3 => resumed(dir, &manner).await.is_err(),
                    _ => reported(dir, SENT[to], &manner).await.is_err(),
                }
            });
            check(dir, &filters);
        }
        // Once all can be reached, nothing is left of what was before.
        runtime.block_on(rolled(dir, SENT[last], &[]));
        for (cluster, name) in
            CLUSTERS.iter().flat_map(|cluster| [RULE, ROUTE, FILTER].map(|name| (cluster, name)))
        {
            assert_eq!(file(dir, cluster, name), file(&known.join(last.to_string()), cluster, name));
        }
        Ok(())
    };
    TestRunner::new(config).run(&schedule, run).unwrap();
}

/// Everything that lies in the directories but what is kept of rollouts.
fn objects(dir: &Path) -> BTreeMap<String, String> {
    let mut objects = BTreeMap::new();
    for cluster in CLUSTERS {
        let entries = std::fs::read_dir(dir.join(cluster)).into_iter().flatten();
        for entry in entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
            if !entry.starts_with("isthmus-rollout") && !entry.starts_with("isthmus-revision-") {
                objects.insert(format!("{cluster}/{entry}"), file(dir, cluster, &entry));
            }
        }
    }
    objects
}

fn stage(report: &Report) -> Stage {
    report.record.as_ref().unwrap().state.stage()
}

async fn undone(dir: &Path, manner: &Manner<'_>) -> Result<Report, Refused> {
    with(dir, manner, async |campaign, _| campaign.undo().await).await
}

async fn resumed(dir: &Path, manner: &Manner<'_>) -> Result<Report, Refused> {
    with(dir, manner, async |campaign, _| campaign.resume().await).await
}

async fn rolled_back(dir: &Path, number: Option<u64>) -> Result<Report, Refused> {
    rolled_back_as(dir, number, &PLAIN).await
}

async fn rolled_back_as(dir: &Path, number: Option<u64>, manner: &Manner<'_>) -> Result<Report, Refused> {
    let origin = Origin { reason: "rollback".to_owned(), ..Origin::default() };
    with(dir, manner, async |campaign, mesh| campaign.roll_back(number, strategy(mesh, manner), origin).await)
        .await
}

/// What is told of a cluster, if anything went wrong there.
fn trouble(report: &Report, cluster: &str) -> String {
    let outcome = report.outcomes.iter().find(|outcome| outcome.change.cluster.as_str() == cluster);
    outcome.expect("it is told of").trouble.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn what_goes_back_while_a_cluster_is_away_says_so_and_leaves_what_that_may_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "", &PLAIN).await.unwrap();
    let first = objects(dir);
    reported(dir, "west", &PLAIN).await.unwrap();
    let second = objects(dir);
    let report = rolled_back_as(dir, Some(1), &Manner { down: &["east"], ..PLAIN }).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Incomplete));
    assert!(trouble(&report, "east").contains("nowhere"), "{report:?}");
    assert!(file(dir, "west", RULE).contains("isthmus-cluster-west"), "east may still send there");
    assert_eq!(file(dir, "west", FILTER), first[&format!("west/{FILTER}")]);

    // When it is there again, it is told how it hears of it, and does.
    let report = resumed(dir, &PLAIN).await.unwrap();
    assert!(trouble(&report, "east").ends_with("`isthmus rollout rollback 1` again tells it"), "{report:?}");
    let report = rolled_back(dir, Some(1)).await.unwrap();
    assert_eq!((stage(&report), report.record.unwrap().revision), (Stage::Ended(End::Complete), 3));
    assert_eq!(objects(dir), first);

    // Routes to one that is away wait for it, as nobody knows whether its gateways know them.
    let report = rolled_back_as(dir, Some(2), &Manner { down: &["west"], ..PLAIN }).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Incomplete));
    assert!(trouble(&report, "east").starts_with("east: waits for west"), "{report:?}");
    assert_eq!(file(dir, "east", ROUTE), "");
    rolled_back(dir, Some(2)).await.unwrap();
    assert_eq!(objects(dir), second);

    // One that keeps it no more is told apart from those that do.
    for entry in std::fs::read_dir(dir.join("north")).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_str().unwrap().starts_with("isthmus-revision-1.") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let report = rolled_back(dir, Some(1)).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Incomplete));
    assert!(trouble(&report, "north").starts_with("north: revision 1 is not kept here: "), "{report:?}");
}

#[tokio::test]
async fn a_rollback_that_only_pretends_holds_nothing_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "east", &PLAIN).await.unwrap();
    reported(dir, "west", &PLAIN).await.unwrap();
    let all = || {
        let files =
            |cluster: &&str| std::fs::read_dir(dir.join(cluster)).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: std::path::PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
        CLUSTERS.iter().flat_map(files).map(read).collect::<BTreeMap<_, _>>()
    };
    let before = all();
    let report = with(dir, &PLAIN, async |campaign, mesh| {
        let how = How { dry_run: DryRun::Client, ..campaign.how };
        let campaign = Campaign { how, ..campaign };
        campaign.roll_back(None, strategy(mesh, &PLAIN), Origin::default()).await
    })
    .await
    .unwrap();
    assert!(report.record.is_none());
    assert!(report.outcomes.iter().all(|outcome| !outcome.change.written.is_empty()), "{report:?}");
    assert_eq!(all(), before);
}

async fn history(dir: &Path) -> Vec<(u64, String)> {
    let (history, troubles) = with(dir, &PLAIN, async |campaign, _| campaign.history().await).await;
    assert!(troubles.is_empty(), "{troubles:?}");
    history.into_iter().map(|kept| (kept.revision.number, kept.revision.origin.reason)).collect()
}

#[tokio::test]
async fn a_gate_that_says_no_stops_before_the_next_wave_and_what_was_touched_goes_back_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "east", &PLAIN).await.unwrap();
    let before = objects(dir);
    let canary = Manner { waves: &["west"], refuses: Some("west"), ..PLAIN };
    let report = reported(dir, "north", &canary).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Failed));
    let record = report.record.unwrap();
    assert_eq!(record.state.failure().unwrap().why, "shut: it denies");
    assert_eq!(file(dir, "east", FILTER), before[&format!("east/{FILTER}")], "a later wave");
    assert_ne!(file(dir, "west", FILTER), before[&format!("west/{FILTER}")]);

    let report = undone(dir, &canary).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Undone));
    assert_eq!(objects(dir), before);
    assert!(matches!(undone(dir, &PLAIN).await, Err(Refused::Over { revision: 2, .. })));

    let undoes = Manner { on_failure: OnFailure::Undo, ..canary };
    let report = reported(dir, "north", &undoes).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Undone));
    assert_eq!(objects(dir), before);
}

#[tokio::test]
async fn the_first_rollout_of_all_goes_back_to_nothing_or_to_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let undoes = Manner { on_failure: OnFailure::Undo, refuses: Some("east"), ..PLAIN };
    let report = reported(dir, "north", &undoes).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Undone));
    assert_eq!(objects(dir), BTreeMap::new());

    // What an earlier isthmus has written, which kept nothing.
    reported(dir, "east", &PLAIN).await.unwrap();
    let before = objects(dir);
    for cluster in CLUSTERS {
        for entry in std::fs::read_dir(dir.join(cluster)).unwrap().map(|entry| entry.unwrap()) {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("isthmus-rollout") || name.starts_with("isthmus-revision-") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    }
    let report = reported(dir, "west", &undoes).await.unwrap();
    assert_eq!((stage(&report), report.record.unwrap().revision), (Stage::Ended(End::Undone), 2));
    assert_eq!(objects(dir), before);
    assert_eq!(history(dir).await, [(1, "found".to_owned()), (2, "rollout".to_owned())]);
}

#[tokio::test]
async fn an_earlier_revision_comes_back_as_a_new_one_and_no_policy_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut states = Vec::new();
    for to in ["east", "west", ""] {
        reported(dir, to, &PLAIN).await.unwrap();
        states.push(objects(dir));
    }
    let report = rolled_back(dir, Some(1)).await.unwrap();
    assert_eq!((stage(&report), report.record.unwrap().revision), (Stage::Ended(End::Complete), 4));
    assert_eq!(objects(dir), states[0]);
    // Without a number it is the one that was there before.
    rolled_back(dir, None).await.unwrap();
    assert_eq!(objects(dir), states[2]);
    let told: Vec<String> =
        history(dir).await.into_iter().map(|(number, reason)| format!("{number} {reason}")).collect();
    assert_eq!(told, ["1 rollout", "2 rollout", "3 rollout", "4 rollback to 1", "5 rollback to 3"]);
    assert!(matches!(rolled_back(dir, Some(17)).await, Err(Refused::NoRevision(17))));
}

#[tokio::test]
async fn the_same_again_is_no_new_revision_and_what_somebody_changed_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "east", &PLAIN).await.unwrap();
    let before = objects(dir);
    let record = file(dir, "east", "isthmus-rollout.yaml");
    let report = reported(dir, "east", &PLAIN).await.unwrap();
    assert!(report.outcomes.iter().all(|outcome| outcome.change.written.is_empty()));
    assert_eq!(file(dir, "east", "isthmus-rollout.yaml"), record, "nothing is written for nothing");
    std::fs::write(dir.join("west").join(FILTER), "mine").unwrap();
    let report = reported(dir, "east", &PLAIN).await.unwrap();
    assert_eq!((stage(&report), report.record.unwrap().revision), (Stage::Ended(End::Complete), 1));
    assert_eq!(objects(dir), before);
    assert_eq!(history(dir).await.len(), 1);
}

#[tokio::test]
async fn old_revisions_go_but_never_the_one_that_is_there_or_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (number, to) in SENT.into_iter().enumerate() {
        let history = if number < 5 { 3 } else { 1 };
        reported(dir, to, &Manner { history, ..PLAIN }).await.unwrap();
    }
    assert_eq!(history(dir).await.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [5, 6]);
}

#[tokio::test]
async fn a_cluster_that_was_down_goes_back_to_what_it_had_itself() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "east", &PLAIN).await.unwrap();
    let first = objects(dir);
    // It misses one that nobody needs it for.
    let report = reported(dir, "", &Manner { down: &["north"], ..PLAIN }).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Incomplete));
    let second = objects(dir);
    let report = reported(dir, "west", &Manner { refuses: Some("north"), ..PLAIN }).await.unwrap();
    assert_eq!(report.record.as_ref().unwrap().before[&"north".parse().unwrap()], Some(1));
    assert_eq!(report.record.as_ref().unwrap().before[&"west".parse().unwrap()], Some(2));
    undone(dir, &PLAIN).await.unwrap();
    let of = |all: &BTreeMap<String, String>, cluster: &str| {
        let own = all.iter().filter(|(path, _)| path.starts_with(cluster) && path.ends_with(FILTER));
        own.map(|(_, text)| text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&objects(dir), "north"), of(&first, "north"));
    assert_eq!(of(&objects(dir), "west"), of(&second, "west"));
}

#[tokio::test]
async fn what_left_a_cluster_behind_is_resumed_when_it_is_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "", &PLAIN).await.unwrap();
    let report = reported(dir, "east", &Manner { refuses: Some("north"), ..PLAIN }).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Failed));
    let report = resumed(dir, &Manner { down: &["north"], ..PLAIN }).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Incomplete));
    let report = resumed(dir, &PLAIN).await.unwrap();
    assert_eq!((stage(&report), report.record.unwrap().revision), (Stage::Ended(End::Complete), 2));
    let known = tempfile::tempdir().unwrap();
    reported(known.path(), "east", &PLAIN).await.unwrap();
    assert_eq!(objects(dir), objects(known.path()));
    assert!(matches!(resumed(dir, &PLAIN).await, Err(Refused::Over { .. })));
}

#[tokio::test]
async fn what_a_cluster_had_that_could_not_be_asked_is_not_taken_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    reported(dir, "east", &PLAIN).await.unwrap();
    let before = objects(dir);
    let north: ClusterName = "north".parse().unwrap();
    let away = Manner { down: &["north"], refuses: Some("east"), ..PLAIN };
    let report = reported(dir, "", &away).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Failed));
    assert_eq!(report.record.unwrap().before.get(&north), None, "nobody knows");
    // It is there again: the same rollout tells it what it is to have, and then it goes back to what it had.
    let report = reported(dir, "", &Manner { refuses: Some("north"), ..PLAIN }).await.unwrap();
    let record = report.record.unwrap();
    assert_eq!((record.revision, record.before[&north]), (2, Some(1)));
    assert_eq!(stage(&undone(dir, &PLAIN).await.unwrap()), Stage::Ended(End::Undone));
    assert_eq!(objects(dir), before);
}

/// What the copy of a cluster says is made something else.
fn forge(dir: &Path, cluster: &str, forge: impl FnOnce(&mut Record)) {
    let path = dir.join(cluster).join("isthmus-rollout.yaml");
    let mut object: serde_json::Value =
        serde_saphyr::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let said = object.pointer_mut("/data/rollout.json").unwrap();
    let mut record = serde_json::from_str(said.as_str().unwrap()).unwrap();
    forge(&mut record);
    *said = serde_json::to_string(&record).unwrap().into();
    std::fs::write(&path, object.to_string()).unwrap();
}

/// Everything of all clusters but one.
fn others(dir: &Path, cluster: &str) -> BTreeMap<String, String> {
    let mut objects = objects(dir);
    objects.retain(|name, _| !name.starts_with(cluster));
    objects
}

#[tokio::test]
async fn whoever_rules_one_cluster_brings_no_other_back_to_what_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    rolled(dir, "east", &[]).await;
    let rolled_out = others(dir, "west");
    let stopped = Manner { refuses: Some("north"), ..PLAIN };
    assert_eq!(stage(&reported(dir, "east west", &stopped).await.unwrap()), Stage::Ended(End::Failed));
    assert_eq!(stage(&undone(dir, &PLAIN).await.unwrap()), Stage::Ended(End::Undone));
    assert_eq!(others(dir, "west"), rolled_out);

    // A rollout that nobody has begun, and that had all others at the first revision.
    let first: BTreeMap<ClusterName, Option<u64>> =
        CLUSTERS.map(|cluster| (cluster.parse().unwrap(), Some(1))).into();
    forge(dir, "west", |record| {
        (record.id, record.revision, record.before) = ("forged".to_owned(), 9, first.clone());
        record.state = State::new(record.state.waves().to_vec(), OnFailure::Stop);
        record.state.step(Event::Begin);
        let taken = CLUSTERS.map(|cluster| Event::Taken(cluster.parse().unwrap(), false));
        taken.into_iter().for_each(|event| drop(record.state.step(event)));
    });
    let report = undone(dir, &PLAIN).await.unwrap();
    let told = |cluster: &str| {
        let outcome = report.outcomes.iter().find(|outcome| outcome.change.cluster.as_str() == cluster);
        outcome.and_then(|outcome| outcome.trouble.as_ref()).map(ToString::to_string).unwrap_or_default()
    };
    for cluster in ["east", "north"] {
        assert!(told(cluster).contains("has not heard of rollout forged"), "{}", told(cluster));
    }
    assert_eq!(others(dir, "west"), rolled_out);
    resumed(dir, &PLAIN).await.map(drop).unwrap_or_default();
    assert_eq!(others(dir, "west"), rolled_out);

    // The next rollout is one as ever, and so is taking it back.
    assert_eq!(stage(&reported(dir, "east west", &stopped).await.unwrap()), Stage::Ended(End::Failed));
    assert_eq!(stage(&undone(dir, &PLAIN).await.unwrap()), Stage::Ended(End::Undone));
    assert_eq!(others(dir, "west"), rolled_out);
}

#[tokio::test]
async fn whoever_rules_one_cluster_takes_no_gates_from_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    let stopped = Manner { waves: &["east"], refuses: Some("east"), ..PLAIN };
    assert_eq!(stage(&reported(dir, "east", &stopped).await.unwrap()), Stage::Ended(End::Failed));
    let before = others(dir, "west");
    forge(dir, "west", |record| {
        record.generation += 1;
        record.gates.traps = Some(99);
    });
    let (standings, _) = with(dir, &PLAIN, async |campaign, _| (campaign.standings().await, ())).await;
    let west: ClusterName = "west".parse().unwrap();
    assert!(standings.apart[&west].contains("somebody has changed it"), "{:?}", standings.apart);
    assert_eq!(standings.record.unwrap().gates.traps, None);
    let report = resumed(dir, &stopped).await.unwrap();
    assert_eq!(stage(&report), Stage::Ended(End::Failed), "the gate of east is asked as before");
    assert_eq!(others(dir, "west"), before);

    // Where two say one thing and two another, nobody knows.
    std::fs::remove_file(dir.join("north").join("isthmus-rollout.yaml")).unwrap();
    forge(dir, "west", |record| record.gates.traps = Some(7));
    let refused = resumed(dir, &stopped).await.unwrap_err();
    assert!(matches!(refused, Refused::Torn { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_number_after_which_there_is_none_is_told_with_who_says_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    rolled(dir, "west", &[]).await;
    forge(dir, "west", |record| {
        (record.id, record.revision, record.generation) = ("forged".to_owned(), u64::MAX, u64::MAX);
    });
    let told = reported(dir, "east", &PLAIN).await.unwrap_err().to_string();
    assert!(told.starts_with("west: revision 18446744073709551615 is kept here"), "{told}");
    std::fs::remove_file(dir.join("west").join("isthmus-rollout.yaml")).unwrap();
    assert_eq!(stage(&reported(dir, "east", &PLAIN).await.unwrap()), Stage::Ended(End::Complete));
}
