//! `isthmus test` in real Envoys, and again whenever a file changes.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::{isthmus, run, stderr, stdout};

#[test]
fn a_wrong_expectation_fails_in_envoys_as_it_does_offline() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = super::suites::changed(dir.path(), "cases.yaml", |text| {
        let claimed = "  as: claimed\n  request: {host: ledger.payments, path: /v2/accounts}\n";
        let text = super::suites::wrong(text);
        text.replacen("  request: {host: ledger.payments, path: /v2/accounts}\n", claimed, 1)
    });
    let lab = dir.path().join("lab").display().to_string();
    let chosen = ["test", &file, "--filter", "treasury"];
    let real = run(&[&chosen[..], &["--on", "envoy", "--dir", &lab]].concat());
    assert_eq!(real.status.code(), Some(1), "{}", stderr(&real));
    let shown = stdout(&real);
    for line in [
        "      > verdict    allow                   | deny",
        "      > reason     ledger/treasury-reads   | ledger/no-rule-matched",
        "        level      verified by certificate | verified by certificate",
        "                  methods: POST, and wanted is GET",
        // What is known by its tag alone is not refused for the rules.
        "      > reason     ledger/no-rule-matched | ledger/source-unverified",
        "        level      -                      | claimed",
        "1 passed, 2 failed",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    assert_eq!(shown, stdout(&run(&chosen)), "the report is that of the sandbox");
    assert_eq!(super::envoys_of(std::path::Path::new(&lab)), 0);
}

/// Ends a process that waits for ever for a change that it did not see: a line that never comes is then a failure.
/// What is given back keeps the process from that when it is dropped.
fn bounded(process: u32) -> Sender<()> {
    let (keep, ended) = channel();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(120)) == Err(RecvTimeoutError::Timeout) {
            let killed = Command::new("kill").args(["-KILL", &process.to_string()]).status();
            assert!(killed.is_ok_and(|status| status.success()), "it could not be ended");
        }
    });
    keep
}

#[test]
fn watching_runs_again_after_each_change_until_it_is_ended() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = super::suites::changed(dir.path(), "cases.yaml", str::to_owned);
    let good = std::fs::read_to_string(&file).expect("cases");
    let mut watching = isthmus()
        .args(["test", &file, "--watch", "--filter", "treasury"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut results = BufReader::new(watching.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut talk = BufReader::new(watching.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let bound = bounded(watching.id());
    let mut said = |what: &str| assert!(talk.any(|line| line.contains(what)), "it never said {what:?}");
    let mut came = |what: &str| assert!(results.any(|line| line == what), "it never printed {what:?}");
    came("3 passed, 0 failed");
    said("watching 6 files; Ctrl-C ends it");
    std::fs::write(&file, super::suites::wrong(&good)).expect("a write");
    said("cases.yaml has changed");
    came("2 passed, 1 failed");
    said("watching ");
    // What cannot be read is told, and watched all the same.
    std::fs::write(&file, good.replacen("suite:", "suit:", 1)).expect("a write");
    said("error[ISM002]: suite has no key \"suit\"");
    said("watching ");
    std::fs::write(&file, &good).expect("a write");
    came("3 passed, 0 failed");
    said("watching ");
    // Not -INT, which whoever starts the tests in the background has ignored.
    let signal = Command::new("kill").args(["-TERM", &watching.id().to_string()]).status();
    assert!(signal.expect("kill runs").success());
    assert_eq!(watching.wait().expect("it ends").signal(), Some(15));
    drop(bound);
}

#[test]
fn the_proof_holds_between_real_envoys_and_leaves_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let lab = dir.path().join("lab").display().to_string();
    let proof =
        run(&["verify", "--lab", &lab, "--requests", "8", "-o", "json", "-f", "examples/two-clusters"]);
    let told: serde_json::Value =
        serde_json::from_slice(&proof.stdout).unwrap_or_else(|_| panic!("{}", stderr(&proof)));
    let items = told.get("items").and_then(serde_json::Value::as_array).expect("items");
    for (item, cluster) in items.iter().zip(["cluster1", "cluster2"]) {
        let count =
            |name: &str| item.pointer(&format!("/answers/{name}")).and_then(serde_json::Value::as_u64);
        let (one, two) = (count("cluster1").expect("a count"), count("cluster2").expect("a count"));
        assert!(one > 0 && two > 0 && one + two == 8, "{item:#}");
        assert_eq!(item.get("cluster").and_then(serde_json::Value::as_str), Some(cluster));
    }
    assert_eq!((items.len(), proof.status.code()), (2, Some(0)), "{told:#}");
    assert_eq!(super::envoys_of(std::path::Path::new(&lab)), 0);
}
