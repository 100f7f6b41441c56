//! Rollouts in waves to two real API servers, and everything that stops, kills or overtakes them.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use isthmus_tests::cluster::{Fault, Faulty, Pod, Pods};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::rollout::{ALL, Ground, NAMES, PLUGINS, RULES, SHORT, between, code, is_asked, stderr, stdout};
use super::{PATIENCE, get, namespace, post};

pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases";
pub(super) const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/isthmus-rollout";
pub(super) const RECORD: &str = "/api/v1/namespaces/istio-system/configmaps/isthmus-rollout";

impl Ground {
    /// A strategy with the second cluster as canary, as arguments.
    pub(super) fn canary(&self, bake: &str, more: &str) -> Vec<String> {
        let path = self.mesh.path().join("strategy.yaml");
        let text = format!(
            "apiVersion: isthmus.dev/v1alpha1\nkind: RolloutStrategy\nmetadata: {{name: careful}}\nspec:\n  waves:\n  \
             - {{name: canary, clusters: [cluster2], bake: {bake}}}\n  - {{name: rest, clusters: ['*']}}\n{more}"
        );
        std::fs::write(&path, text).expect("a file");
        [&["--strategy", &path.display().to_string()], &SHORT[..]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// What the plugins of both clusters and the subsets of one say, in short.
    pub(super) async fn says(&self) -> Vec<String> {
        let mut specs = Vec::new();
        for (cluster, path) in [("cluster1", PLUGINS), ("cluster2", PLUGINS), ("cluster1", RULES)] {
            let short = |object: Value| {
                let name = object["metadata"]["name"].as_str().expect("a name");
                format!("{cluster}/{name} {:.8}", isthmus::digest::sha256(object["spec"].to_string()))
            };
            specs.extend(self.list(cluster, path).await.into_iter().map(short));
        }
        specs
    }

    pub(super) async fn standing(&self) -> Value {
        let output = self.run("rollout status", &["-o", "json"]).await;
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Begins something that will be stopped, and waits until a proxy is asked for what it will never give.
    pub(super) async fn hang(&self, verb: &str, more: &[String], proxy: &Faulty, what: &str) -> Child {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        proxy.seen();
        proxy.hang_at(what);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut command = self.command_of(verb, &more);
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
            if is_asked(proxy, what, &mut child).await {
                return child;
            }
            // What one that was killed had under way may arrive after its end: its lease is seen to change once more.
            let output = child.wait_with_output().expect("it has ended");
            assert_eq!(code(&output), Some(5), "{what}: {}", stderr(&output));
            assert!(Instant::now() < deadline, "{what}: {}", stderr(&output));
        }
    }
}

pub(super) fn kill(mut child: Child) {
    child.kill().expect("kill -9");
    child.wait().expect("reaped");
}

/// Somebody else writes the lease of a cluster.
async fn seize(ground: &Ground, cluster: &str, lease: &Value) {
    let request = hyper::Request::patch(LEASE)
        .header("content-type", "application/merge-patch+json")
        .body(json!({"spec": lease["spec"]}).to_string().into_bytes())
        .expect("a request");
    ground.clusters.client(cluster).await.request::<Value>(request).await.expect("the server agrees");
}

/// Waits for a program to end by itself while the servers of this process go on.
pub(super) async fn ended(child: Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output().expect("it ends")).await.expect("it ends")
}

fn short() -> Vec<String> {
    SHORT.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn of_two_rollouts_at_once_the_second_says_who_is_at_it_and_changes_nothing() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    let first = ground.hang("rollout", &short(), &proxies[0], "wasmplugins/isthmus-gateway").await;
    let before = get(&ground.clusters.client("cluster2").await, RECORD).await;
    let second = ground.roll(&[&SHORT[..], &["--author", "second"]].concat()).await;
    assert_eq!(code(&second), Some(5), "{}", stderr(&second));
    let told = stderr(&second);
    assert!(told.starts_with("error: cluster1: ") && told.contains(" rolls out here since 20"), "{told}");
    assert_eq!(stdout(&second), "");
    kill(first);
    let record = get(&ground.clusters.client("cluster2").await, RECORD).await;
    assert_eq!(record, before);
}

#[tokio::test]
async fn a_rollout_that_is_killed_at_each_of_its_steps_is_resumed_and_ends_the_same() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    let canary = ground.canary("1s", "");
    for (step, (cluster, what)) in [
        (0, "/leases/isthmus-rollout?"),
        (1, "configmaps/isthmus-revision-2?"),
        (0, "configmaps/isthmus-rollout?"),
        (1, "wasmplugins/isthmus-outbound?"),
        (0, "wasmplugins/isthmus-outbound?"),
        (1, "virtualservices/isthmus-cache"),
        (0, "destinationrules/isthmus-cache"),
    ]
    .into_iter()
    .enumerate()
    {
        // Until the record is somewhere, nobody knows that there is anything to go on with: the third may have died before
        // the other cluster had it.
        let (verb, more) = if step < 4 { ("rollout", &canary) } else { ("rollout resume", &short()) };
        kill(ground.hang(verb, more, &proxies[cluster], what).await);
    }
    assert_eq!(ground.standing().await["end"], "under way");
    let output = ground.run("rollout resume", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for cluster in NAMES {
        assert_eq!(ground.names(cluster).await, ALL[..3], "{cluster}");
    }
    let standing = ground.standing().await;
    assert_eq!(standing["end"], "complete");
    // A number is passed over when whoever took it died before its record was kept: here that may be so twice.
    let revision = &standing["record"]["revision"];
    assert!((2..=4).contains(&revision.as_u64().expect("a number")), "{revision}");
    assert!(standing["items"].as_array().expect("a list").iter().all(|item| item["revision"] == *revision));
    let output = ground.run("rollout resume", &SHORT).await;
    assert_eq!(code(&output), Some(1));
    assert!(stderr(&output).contains(&format!("revision {revision} is over")), "{}", stderr(&output));
}

#[tokio::test]
async fn what_a_killed_rollout_has_touched_goes_back() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let before = ground.says().await;
    std::fs::remove_file(ground.policy("cache.yaml")).expect("removed");
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    let canary = ground.canary("0s", "");
    kill(ground.hang("rollout", &canary, &proxies[0], "wasmplugins/isthmus-outbound?").await);
    assert_ne!(ground.says().await, before, "the canary has changed");
    // The policies that it came from may be gone.
    std::fs::remove_dir_all(ground.policy("")).expect("removed");
    let output = ground.run("rollout undo", &SHORT).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert_eq!(ground.says().await, before);
    assert_eq!(ground.standing().await["end"], "undone");
}

#[tokio::test]
async fn a_cluster_that_was_down_is_caught_up_and_an_earlier_revision_comes_back() {
    let Some(mut ground) = Ground::start().await else { return };
    assert_eq!(code(&ground.roll(&["--message", "the first"]).await), Some(0));
    let first = ground.says().await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    ground.clusters.server_mut("cluster2").stop();
    let output = ground.roll(&["--timeout", "5"]).await;
    assert_eq!(code(&output), Some(4), "{}", stderr(&output));
    assert!(stdout(&output).contains("revision 2: incomplete\n"), "{}", stdout(&output));
    ground.clusters.server_mut("cluster2").resume().await;
    // It was not there to be told what it is to have: the same rollout tells it.
    let output = ground.run("rollout resume", &[]).await;
    assert_eq!(code(&output), Some(4));
    assert!(
        stderr(&output).contains("and keeps no revision 2: the same rollout again tells it"),
        "{}",
        stderr(&output)
    );
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    let second = ground.says().await;
    assert_ne!(second, first);

    let output = ground.run("rollout rollback", &[]).await;
    assert_eq!((code(&output), stderr(&output).as_str()), (Some(0), ""));
    assert!(stdout(&output).contains("revision 3: complete\n"), "{}", stdout(&output));
    assert_eq!(ground.says().await, first);
    let history = stdout(&ground.run("rollout history", &[]).await);
    let lines: Vec<&str> = history.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("1 rollout by ") && lines[0].ends_with(": the first"), "{history}");
    assert!(lines[2].starts_with("3 rollback to 1 by "), "{history}");
    assert!(history.ends_with("  kept in cluster1 cluster2\n  now in cluster1 cluster2\n"), "{history}");
    goes_back_without(&mut ground, (&first, &second)).await;
}

/// A rollback says of a cluster that is down that it is behind, and the same again brings it back too.
async fn goes_back_without(ground: &mut Ground, (first, second): (&[String], &[String])) {
    pretends(ground, first).await;
    ground.clusters.server_mut("cluster2").stop();
    let output = ground.run("rollout rollback 2", &["--timeout", "5"]).await;
    let told =
        ["revision 4: incomplete\n", "cluster2: 0 written, 0 unchanged, not done\n", "error: cluster2: "];
    is_told(&output, 4, &told);
    ground.clusters.server_mut("cluster2").resume().await;
    let output = ground.run("rollout resume", &[]).await;
    let told = ["cluster2: it has not heard of rollout ", ": `isthmus rollout rollback 2` again tells it"];
    is_told(&output, 4, &told);
    is_told(&ground.run("rollout rollback 2", &[]).await, 0, &["revision 4: complete\n"]);
    assert_eq!(ground.says().await, second);
}

/// It ended so, and said all of this.
fn is_told(output: &Output, wanted: i32, told: &[&str]) {
    let all = stdout(output) + &stderr(output);
    assert_eq!(code(output), Some(wanted), "{all}");
    for line in told {
        assert!(all.contains(line), "{line}: {all}");
    }
}

/// What a rollback would do is told, and nothing is done.
async fn pretends(ground: &Ground, first: &[String]) {
    for dry in ["--dry-run", "--dry-run=server"] {
        let output = ground.run("rollout rollback 2", &[dry]).await;
        is_told(
            &output,
            0,
            &["cluster1: plan ", "cluster2: plan ", "\n  + WasmPlugin istio-system/isthmus-gateway\n"],
        );
        assert_eq!((stderr(&output).as_str(), ground.says().await.as_slice()), ("", first), "{dry}");
    }
}

#[tokio::test]
async fn a_rollout_pauses_when_it_is_told_to_and_nobody_begins_another_meanwhile() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let before = ground.says().await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    let nobody = ground.run("rollout pause", &[]).await;
    assert_eq!((code(&nobody), stderr(&nobody).contains("nobody rolls out")), (Some(1), true));

    proxies[1].seen();
    let canary = ground.canary("1h", "");
    let more: Vec<&str> = canary.iter().map(String::as_str).collect();
    let mut command = ground.command(&more);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    assert!(is_asked(&proxies[1], "wasmplugins/isthmus-gateway?", &mut child).await, "it has ended");
    let output = ground.run("rollout pause", &[]).await;
    assert_eq!(
        (code(&output), stdout(&output).as_str()),
        (Some(0), "asked to pause, in cluster1 cluster2\n")
    );
    let output = ended(child).await;
    assert_eq!(code(&output), Some(4), "{}", stderr(&output));
    assert!(stdout(&output).ends_with("revision 2: paused\n"), "{}", stdout(&output));

    let refused = ground.roll(&SHORT).await;
    assert_eq!(code(&refused), Some(1));
    assert!(
        stderr(&refused).contains(" is paused: go on with `isthmus rollout resume`"),
        "{}",
        stderr(&refused)
    );
    let undone = ground.run("rollout undo", &SHORT).await;
    assert_eq!(code(&undone), Some(0), "{}", stderr(&undone));
    assert_eq!(ground.says().await, before);
}

/// Interrupts a program.
fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).expect("it is told");
}

#[tokio::test]
async fn a_rollout_that_is_interrupted_stops_where_it_is_and_one_that_is_told_twice_ends_at_once() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    // No machine is so busy that a lease of this length is lost.
    assert_eq!(code(&ground.roll(&[]).await), Some(0));
    let before = ground.says().await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    proxies[1].seen();
    let canary = ground.canary("1h", "");
    let mut command = ground.command(&[&canary[0], &canary[1]]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    assert!(is_asked(&proxies[1], "wasmplugins/isthmus-gateway?", &mut child).await, "it has ended");
    interrupt(&child);
    let output = ended(child).await;
    is_told(
        &output,
        4,
        &["interrupted: it stops where it is", "isthmus rollout resume", "revision 2: paused\n"],
    );
    for name in NAMES {
        let lease = get(&ground.clusters.client(name).await, LEASE).await;
        assert_eq!(lease["spec"]["holderIdentity"], Value::Null, "{name}");
    }

    // In the middle of a call that nobody answers.
    let mut child = ground.hang("rollout resume", &[], &proxies[0], "configmaps/isthmus-rollout?").await;
    let stderr = child.stderr.take().expect("its words");
    interrupt(&child);
    let said = tokio::task::spawn_blocking(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).find(|line| line.starts_with("interrupted: "))
    });
    assert!(said.await.expect("it is read").is_some(), "it says that it has heard");
    interrupt(&child);
    assert_eq!(ended(child).await.status.signal(), Some(9));
    for name in NAMES {
        ground.free(name).await;
    }
    let undone = ground.run("rollout undo", &[]).await;
    is_told(&undone, 0, &["revision 2: undone\n"]);
    assert_eq!(ground.says().await, before);
}

/// A lease that somebody has, whose clock says what it likes.
fn held(renewed: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "isthmus-rollout", "namespace": "istio-system"},
        "spec": {
            "holderIdentity": "them\u{1b}[2J",
            "leaseDurationSeconds": 2,
            "acquireTime": renewed,
            "renewTime": renewed,
        },
    })
}

#[tokio::test]
async fn whether_a_holder_lives_is_seen_and_not_read_off_its_clock() {
    let Some(ground) = Ground::start().await else { return };
    // One is long dead, and its clock is a century ahead.
    post(&ground.clusters.client("cluster1").await, LEASES, &held("2126-01-01T00:00:00.000000Z")).await;
    assert_eq!(code(&ground.roll(&["--lease", "2"]).await), Some(0));

    // One lives, and its clock stands in the past.
    let lives = async {
        for second in (0..60).cycle() {
            let lease = held(&format!("1980-01-01T00:00:{second:02}.000000Z"));
            seize(&ground, "cluster1", &lease).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    let output = tokio::select! {
        output = ground.roll(&["--lease", "2"]) => output,
        () = lives => panic!("it never ends"),
    };
    assert_eq!(code(&output), Some(5));
    let told = stderr(&output);
    assert!(told.contains("them\\u{1b}[2J rolls out here since 1980-01-01"), "{told}");
}

#[tokio::test]
async fn who_has_lost_a_lease_writes_nothing_more() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    let child = ground.hang("rollout", &short(), &proxies[0], "virtualservices/isthmus-cache").await;
    seize(&ground, "cluster1", &held("2026-01-01T00:00:00.000000Z")).await;
    let output = ended(child).await;
    assert_eq!(code(&output), Some(3));
    assert!(stderr(&output).contains("cluster1: somebody else has taken over here"), "{}", stderr(&output));
    assert_eq!(ground.names("cluster1").await, ALL[3..4], "no filter came, nor a route");
    // What others hold is not given back, and what was ours is.
    let holder = |lease: Value| lease["spec"]["holderIdentity"].clone();
    assert_eq!(holder(get(&ground.clusters.client("cluster1").await, LEASE).await), "them\u{1b}[2J");
    assert_eq!(holder(get(&ground.clusters.client("cluster2").await, LEASE).await), Value::Null);
}

/// Lets an account do what rules say, in all namespaces.
async fn grant(ground: &Ground, cluster: &str, account: &str, rules: Value) {
    let client = ground.clusters.client(cluster).await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let metadata = json!({"name": account});
    post(&client, &format!("{rbac}/clusterroles"), &json!({"metadata": metadata, "rules": rules})).await;
    let binding = json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": account},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": account}],
    });
    post(&client, &format!("{rbac}/clusterrolebindings"), &binding).await;
}

#[tokio::test]
async fn with_the_rights_that_the_page_names_it_works_and_each_that_is_missing_is_told() {
    let Some(mut ground) = Ground::start().await else { return };
    let rule = |group: &str, resources: Value, verbs: Value| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let natives = json!(["destinationrules", "virtualservices", "envoyfilters"]);
    let all = json!(["list", "create", "patch", "delete"]);
    let objects = [
        rule("extensions.istio.io", json!(["wasmplugins", "trafficextensions"]), all.clone()),
        rule("networking.istio.io", natives, all),
    ];
    let leases = rule("coordination.k8s.io", json!(["leases"]), json!(["get", "create", "update"]));
    let maps = rule("", json!(["configmaps"]), json!(["get", "list", "create", "patch", "delete"]));
    let [one, two] = NAMES.map(|name| ground.clusters.server(name).url());
    let admin = ground.clusters.server("cluster1").token().to_owned();
    for (account, rules, missing) in [
        ("no-leases", json!(objects), "may not get leases.coordination.k8s.io in namespace istio-system"),
        (
            "no-maps",
            json!([objects[0], objects[1], leases]),
            "may not get configmaps in namespace istio-system",
        ),
        ("enough", json!([objects[0], objects[1], leases, maps]), ""),
    ] {
        let token = super::account(&ground.clusters.client("cluster2").await, account).await;
        grant(&ground, "cluster2", account, rules).await;
        ground.kubeconfig =
            ground.clusters.kubeconfig_with(&[("cluster1", &one, &admin), ("cluster2", &two, &token)]);
        // The server hears of new rights by a watch of its own.
        let deadline = Instant::now() + PATIENCE;
        let output = loop {
            let output = ground.roll(&SHORT).await;
            let is_so =
                if missing.is_empty() { code(&output) == Some(0) } else { stderr(&output).contains(missing) };
            if is_so || Instant::now() > deadline {
                break output;
            }
        };
        assert!(stderr(&output).contains(missing), "{account}: {}", stderr(&output));
        let is_well = ground.names("cluster2").await == ALL;
        assert_eq!(
            (code(&output) == Some(0), is_well),
            (missing.is_empty(), missing.is_empty()),
            "{account}"
        );
    }
}

/// Numbers that look random, the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn fault(&mut self) -> Fault {
        match self.roll(9) {
            0 => Fault::Cut,
            1 => Fault::CutAfter,
            2 => Fault::Answer(StatusCode::SERVICE_UNAVAILABLE, None, ""),
            3 => Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR, None, "etcd has lost its mind"),
            4 => Fault::Answer(StatusCode::TOO_MANY_REQUESTS, Some(0), "later"),
            _ => Fault::Pass,
        }
    }
}

#[tokio::test]
async fn whatever_servers_do_a_rollout_ends_where_it_would_have_or_goes_back() {
    let Some(mut ground) = Ground::start().await else { return };
    let proxies = between(&mut ground).await;
    namespace(&ground.clusters.client("cluster1").await, "payments").await;
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let first = ground.says().await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let second = ground.says().await;
    assert_eq!(code(&ground.run("rollout rollback", &SHORT).await), Some(0));
    for seed in 1..=4 {
        // Every other one tries its plans first.
        let canary = ground.canary("0s", if seed % 2 == 0 { "  shadowFirst: 1s\n" } else { "" });
        let canary: Vec<&str> = canary.iter().map(String::as_str).chain(["--timeout", "3"]).collect();
        let mut dice = Dice(seed);
        for proxy in &proxies {
            let count = dice.roll(60);
            proxy.next((0..count).map(|_| dice.fault()).collect::<Vec<_>>());
        }
        // However it ends, it says so and its exit code does.
        let output = ground.roll(&canary).await;
        assert!([0, 1, 3, 4].contains(&code(&output).expect("a code")), "{seed}: {}", stderr(&output));
        if code(&output) != Some(0) {
            assert!(stderr(&output).contains("error: "), "{seed}: {}", stderr(&output));
        }
        // What no call has used up is no fault of what comes next.
        for proxy in &proxies {
            proxy.clear();
        }
        let is_over = ground.standing().await["end"] == "complete";
        if dice.roll(2) == 0 && !is_over && ground.standing().await["record"]["state"]["goal"] == "new" {
            let output = ground.run("rollout undo", &SHORT).await;
            // It may have died before it kept that it began.
            if code(&output) == Some(0) {
                assert_eq!(ground.says().await, first, "{seed}");
            }
        }
        let output = ground.roll(&canary).await;
        assert_eq!(code(&output), Some(0), "{seed}: {}", stderr(&output));
        assert_eq!(ground.says().await, second, "{seed}");
        let output = ground.run("rollout rollback", &SHORT).await;
        assert_eq!(code(&output), Some(0), "{seed}: {}", stderr(&output));
        let history = stdout(&ground.run("rollout history", &[]).await);
        assert_eq!(ground.says().await, first, "{seed}: {history}");
    }
}

#[tokio::test]
async fn whoever_waits_is_told_which_proxies_do_not_run_what_was_rolled_out() {
    let Some(ground) = Ground::start().await else { return };
    // Without it, a rollout is complete when the objects are there.
    assert_eq!(code(&ground.roll(&SHORT).await), Some(0));
    let Some(mut pods) = Pods::of(ground.clusters.client("cluster1").await) else { return };
    let admin = "127.0.0.1:1".parse().expect("an address");
    pods.add(Pod { namespace: "payments", name: "ledger", role: "sidecar", istio: None, admin }).await;
    std::fs::remove_file(ground.policy("reports.yaml")).expect("removed");
    let output = ground.roll(&[&SHORT[..], &["--wait=2s"]].concat()).await;
    assert_eq!(code(&output), Some(1), "{}{}", stdout(&output), stderr(&output));
    let told = stdout(&output) + &stderr(&output);
    assert!(
        told.contains("cluster1: proxies: 0 of 1 proxies run the plan, 1 do not answer; not payments/ledger"),
        "{told}"
    );
    assert!(told.contains("revision 2: failed"), "{told}");
    // What was asked for is kept with the rollout, for whoever goes on with it.
    assert_eq!(ground.standing().await["record"]["gates"]["running"]["within"]["secs"], 2);
}
