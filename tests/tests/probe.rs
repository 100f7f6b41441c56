//! The probe tier: what a module sees in the sandbox is what it sees in a stock Envoy.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a fixture that fails fails its test"
)]

#[path = "probe/compare.rs"]
mod compare;
#[path = "probe/envoy.rs"]
mod envoy;
#[path = "probe/foreign.rs"]
mod foreign;
#[path = "probe/grpc.rs"]
mod grpc;
#[path = "probe/http2.rs"]
mod http2;
#[path = "probe/keys.rs"]
mod keys;
#[path = "probe/module.rs"]
mod module;
#[path = "probe/offline.rs"]
mod offline;
#[path = "probe/script.rs"]
mod script;
#[path = "probe/tls.rs"]
mod tls;

use std::time::Duration;

use compare::Difference;
use isthmus::envoy::{Envoy, FETCHED, TRIED, Version};
use isthmus::workspace::Workspace;
use isthmus_tests::repository;
use script::{Mark, Scenario};
use serde_json::{Value, json};

const VM_CONFIGURATION: &str = "for the vm";
const PLUGIN_CONFIGURATION: &str = "for the plugin";

/// How long ago a guest was made that Envoy makes anew, at least.
const RELOAD_INTERVAL: Duration = Duration::from_millis(200);

/// The files whose scenarios are played in older Envoys too: 1.38 does not survive all of them.
const OF_EVERY_VERSION: [&str; 10] = [
    "calls",
    "expressions",
    "foreign",
    "headers",
    "http2",
    "plugins",
    "properties",
    "tls",
    "updates",
    "workers",
];

/// The fewest observations that count as a comparison.
const FEWEST: usize = 300;

/// The proxy, to both.
fn node() -> Value {
    json!({
        "id": "n1",
        "cluster": "c1",
        "metadata": {
            "CLUSTER_ID": "east", "SIZE": 7, "YES": true, "NO": null, "LIST": ["x", "y"], "EMPTY": {}, "NONE": [],
            "LABELS": {"topology.istio.io/network": "west"},
        },
    })
}

/// What the endpoint says of itself, to both.
fn upstream_host_metadata() -> Value {
    json!({"filter_metadata": {"istio": {"workload": "w;n;s;v1;east"}}})
}

/// Whether a message goes in chunks: one without a body says its length, or nothing.
fn is_chunked(message: &script::Message) -> bool {
    !message.chunks.is_empty() || !message.trailers.is_empty()
}

/// A message as one line; what says when and by whom, and how its end is found, is left out.
fn shown(head: &str, body: &[u8]) -> String {
    let dropped = ["date:", "server:", "content-length:", "transfer-encoding:", "connection:"];
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let first = first
        .strip_prefix("HTTP/1.1 ")
        .map(|status| status.split(' ').next().unwrap_or_default())
        .unwrap_or(first);
    let first = first.strip_suffix(" HTTP/1.1").unwrap_or(first).to_owned();
    let headers = lines.filter(|line| !dropped.iter().any(|name| line.starts_with(name))).map(str::to_owned);
    let body = (!body.is_empty()).then(|| match body.len() {
        long @ 200.. => format!("{long} bytes"),
        _ => format!("{:?}", String::from_utf8_lossy(body)),
    });
    std::iter::once(first).chain(headers).chain(body).collect::<Vec<_>>().join("; ")
}

/// What an end of a TCP connection got.
fn shown_bytes(bytes: &[u8], closed: bool) -> String {
    format!("{:?}{}", String::from_utf8_lossy(bytes), if closed { ", then the end" } else { "" })
}

fn scenarios() -> Vec<Scenario> {
    let mut files: Vec<_> = std::fs::read_dir(repository().join("tests/probe"))
        .expect("scripts")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        script::read(&name, &std::fs::read_to_string(path).expect("a script"))
    };
    files.iter().flat_map(read).collect()
}

#[expect(clippy::print_stdout, reason = "who runs the tier is told how much was compared")]
fn say(text: &str) {
    println!("{text}");
}

/// What came of playing scenarios in both: how much was compared, and what differs.
#[derive(Default)]
struct Played {
    compared: usize,
    found: Vec<Difference>,
}

impl Played {
    /// Plays scenarios in an Envoy of this version, and in the sandbox as such a one.
    fn in_both(version: Version, scenarios: Vec<Scenario>, shows: bool) -> Self {
        let workspace = Workspace::find(&repository()).expect("the checkout");
        let binary = Envoy::fetch(&workspace, version, &mut |_what| ()).expect("an Envoy");
        let mut played = Self::default();
        let (refused, served): (Vec<_>, Vec<_>) =
            scenarios.into_iter().partition(|scenario| scenario.is(Mark::Ends));
        for scenario in &refused {
            let dir = tempfile::tempdir().expect("dir");
            let seen = envoy::Envoy::refused(&binary, dir.path(), scenario);
            played.compare(scenario, &seen, &offline::play(scenario, version, &[], None), shows);
        }
        let (several, one): (Vec<_>, Vec<_>) =
            served.into_iter().partition(|scenario| scenario.is(Mark::Workers));
        for scenarios in [one, several].iter().filter(|scenarios| !scenarios.is_empty()) {
            let dir = tempfile::tempdir().expect("dir");
            let mut envoy = envoy::Envoy::start(&binary, dir.path(), scenarios);
            for (index, scenario) in scenarios.iter().enumerate() {
                let seen = envoy.play(index, scenario);
                let offline = offline::play(scenario, version, &seen.ends, Some(envoy.identities()));
                played.compare(scenario, &seen.lines, &offline, shows);
            }
        }
        played
    }

    fn compare(&mut self, scenario: &Scenario, seen: &[String], offline: &[String], shows: bool) {
        if shows {
            say(&seen.join("\n"));
        }
        self.compared += seen.len().max(offline.len());
        self.found.extend(compare::differences(&scenario.name, seen, offline));
    }

    /// Fails for what no row of the page explains and, where `all` was played, for rows that explain nothing.
    fn agrees_with_the_page(&self, all: bool) {
        let page =
            std::fs::read_to_string(repository().join("docs/sandbox-differences.md")).expect("the page");
        let mistakes = compare::unexplained(&compare::rows(&page), &self.found, all);
        assert!(mistakes.is_empty(), "docs/sandbox-differences.md does not agree:\n{}", mistakes.join("\n"));
    }
}

#[test]
fn a_module_sees_in_the_sandbox_what_it_sees_in_envoy() {
    let only = std::env::var("SCENARIO").ok();
    let mut scenarios = scenarios();
    let (others, missed) = foreign::scenarios();
    missed.iter().for_each(|missed| say(&format!("NOT RUN: {missed}")));
    scenarios.extend(others);
    scenarios.retain(|scenario| only.as_ref().is_none_or(|only| scenario.name.starts_with(only)));
    let count = scenarios.len();
    let played = Played::in_both(FETCHED, scenarios, only.is_some());
    played.agrees_with_the_page(only.is_none());
    let (compared, explained) = (played.compared, played.found.len());
    say(&format!("{compared} observations in {count} scenarios, {explained} of them differ as explained"));
    assert!(only.is_some() || compared >= FEWEST, "{compared} observations are too few");
}

/// Plays what depends on the version in an older Envoy; in the page, its scenarios have that version before their names.
fn agrees(version: Version) {
    let only = std::env::var("SCENARIO").ok();
    let mut scenarios = scenarios();
    scenarios.retain(|scenario| {
        OF_EVERY_VERSION.iter().any(|file| scenario.name.starts_with(&format!("{file}.")))
            && only.as_ref().is_none_or(|only| scenario.name.starts_with(only))
    });
    let count = scenarios.len();
    let mut played = Played::in_both(version, scenarios, false);
    let (compared, explained) = (played.compared, played.found.len());
    say(&format!(
        "Envoy {version}: {compared} observations in {count} scenarios, {explained} of them differ as explained"
    ));
    assert!(only.is_some() || compared >= FEWEST, "{compared} observations are too few");
    for found in &mut played.found {
        found.scenario = format!("{}.{} {}", version.major, version.minor, found.scenario);
    }
    played.agrees_with_the_page(false);
}

#[test]
fn a_module_sees_in_the_sandbox_what_it_sees_in_envoy_1_36() {
    agrees(TRIED[0]);
}

#[test]
fn a_module_sees_in_the_sandbox_what_it_sees_in_envoy_1_37() {
    agrees(TRIED[1]);
}

#[test]
fn a_module_sees_in_the_sandbox_what_it_sees_in_envoy_1_38() {
    agrees(TRIED[2]);
}

#[test]
fn a_module_sees_in_the_sandbox_what_it_sees_in_envoy_1_39() {
    agrees(TRIED[3]);
}
