//! `isthmus test`: what it runs, what it says, and what its exit code means.

use std::path::Path;

use isthmus_tests::repository;
use roxmltree::{Document, Node};
use serde_json::Value;

use super::{run, stderr, stdout};

/// The example's cases in a directory of their own, changed, and the mesh and policies that they speak of where they are.
pub(super) fn changed(dir: &Path, name: &str, change: impl Fn(&str) -> String) -> String {
    let example = repository().join("examples/two-clusters");
    let text = std::fs::read_to_string(example.join("cases.yaml")).expect("cases");
    let at = |name: &str| example.join(name).display().to_string();
    let text = text
        .replace("mesh: mesh.yaml", &format!("mesh: {}", at("mesh.yaml")))
        .replace("policies: [policies]", &format!("policies: [{}]", at("policies")));
    let file = dir.join(name);
    std::fs::write(&file, change(&text)).expect("a write");
    file.display().to_string()
}

/// The treasury's write is expected to be let in.
pub(super) fn wrong(text: &str) -> String {
    let denied = "verdict: deny, reason: ledger/no-rule-matched";
    text.replacen(denied, "verdict: allow, reason: ledger/treasury-reads", 1)
}

#[test]
fn the_cases_of_the_example_pass_and_are_named_when_asked() {
    let good = run(&["test", "examples/two-clusters/cases.yaml"]);
    assert_eq!(good.status.code(), Some(0), "{}", stderr(&good));
    assert_eq!(
        stdout(&good),
        "examples/two-clusters/cases.yaml: two clusters, two networks: 16 passed, 0 failed\n16 passed, 0 failed\n"
    );
    let some = run(&["test", "-f", "examples/two-clusters", "--filter", "the cache", "-v", "--jobs", "1"]);
    let wanted = "  ok    the cache answers from the caller's own network, cluster1\n  \
                  ok    the cache answers from the caller's own network, cluster2\n2 passed, 0 failed\n";
    assert!(stdout(&some).ends_with(wanted), "{}{}", stdout(&some), stderr(&some));
}

#[test]
fn what_fails_is_shown_with_what_was_wanted_beside_what_came_and_with_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = changed(dir.path(), "cases.yaml", wrong);
    let bad = run(&["test", &file]);
    assert_eq!((bad.status.code(), stderr(&bad).as_str()), (Some(1), ""));
    let shown = stdout(&bad).replace(&file, "cases.yaml");
    let wanted = "\
cases.yaml: two clusters, two networks: 15 passed, 1 failed
  FAIL  the treasury may not write
        cases.yaml:39:9
        POST ledger.payments/v1/accounts from cluster2/treasury/teller
                   wanted                  | in cluster1
      > verdict    allow                   | deny
      > reason     ledger/treasury-reads   | ledger/no-rule-matched
        status     403                     | 403
        source     cluster2                | cluster2
        level      verified by certificate | verified by certificate
        arrives in cluster1, from cluster2, verified by certificate
          policy ledger lists whom it allows, and not this
            deny  no-dumps: does not hold
                  paths: /v1/accounts, and wanted is /v1/dump*
            allow treasury-reads: does not hold
                  methods: POST, and wanted is GET
15 passed, 1 failed
";
    assert_eq!(shown, wanted);
}

#[test]
fn several_files_and_directories_are_run_as_one() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("below")).expect("a directory");
    changed(dir.path(), "a.cases.yaml", str::to_owned);
    changed(&dir.path().join("below"), "cases.yaml", wrong);
    let whole = dir.path().display().to_string();
    let bad = run(&["test", &whole, "examples/two-clusters/cases.yaml", "-o", "json"]);
    assert_eq!(bad.status.code(), Some(1), "{}", stderr(&bad));
    let report: Value = serde_json::from_slice(&bad.stdout).expect("JSON");
    let counts = ["passed", "failed", "notRun"].map(|key| report[key].as_u64());
    assert_eq!(counts, [Some(47), Some(1), Some(0)]);
    let suites = report["suites"].as_array().expect("suites");
    assert_eq!(suites.len(), 3);
    assert!(suites[1]["file"].as_str().is_some_and(|file| file.ends_with("below/cases.yaml")));
    let failed: Vec<&Value> = suites
        .iter()
        .flat_map(|suite| suite["cases"].as_array())
        .flatten()
        .filter(|case| case["passed"] == false)
        .collect();
    let [failed] = failed[..] else { panic!("{failed:#?}") };
    assert_eq!((&failed["name"], &failed["line"]), (&"the treasury may not write".into(), &39.into()));
    assert_eq!(
        failed["wrong"],
        "cluster1: verdict is deny, not allow, reason is ledger/no-rule-matched, not ledger/treasury-reads"
    );
    let verdict = serde_json::json!({"field": "verdict", "wanted": "allow", "got": "deny"});
    assert_eq!(failed["outcomes"][0]["differs"][0], verdict);
}

#[test]
fn after_a_failure_no_case_is_begun_where_that_is_asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = changed(dir.path(), "cases.yaml", wrong);
    let bad = run(&["test", &file, "--fail-fast", "--jobs", "1", "-v"]);
    assert_eq!(bad.status.code(), Some(1));
    let shown = stdout(&bad);
    assert!(shown.contains("\n  --    the treasury may not read elsewhere\n"), "{shown}");
    assert!(shown.ends_with("\n7 passed, 1 failed, 8 not run\n"), "{shown}");
}

#[test]
fn files_that_are_wrong_are_said_all_at_once_and_nothing_is_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let one = changed(dir.path(), "one.cases.yaml", |text| text.replacen("path: /hello", "pth: /hello", 1));
    let two = changed(dir.path(), "two.cases.yaml", |text| {
        text.replacen("cluster: cluster1", "cluster: cluster9", 1)
    });
    let bad = run(&["test", &dir.path().display().to_string()]);
    assert_eq!((bad.status.code(), stdout(&bad).as_str()), (Some(2), ""));
    let said = stderr(&bad);
    assert!(said.contains(&format!("{one}:10:45: error[ISM002]: request has no key \"pth\"")), "{said}");
    assert!(said.contains("hint: did you mean \"path\"?"), "{said}");
    assert!(
        said.contains(&format!("{two}:8:19: error[ISM012]: cluster \"cluster9\" is not in the mesh")),
        "{said}"
    );
    assert!(said.ends_with("2 errors, 0 warnings\n"), "{said}");
    for (arguments, why) in [
        (&["test", "examples/two-clusters", "--filter", "nobody"][..], "no case has nobody in its name"),
        (&["test", "docs"], "there is no cases.yaml and no *.cases.yaml in docs or below"),
        (&["check", "-f", "examples/two-clusters", "-o", "junit"], "-o junit is for `isthmus test`"),
    ] {
        let bad = run(arguments);
        assert_eq!((bad.status.code(), stdout(&bad).as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr(&bad).contains(why), "{}", stderr(&bad));
    }
}

#[test]
fn a_module_that_traps_fails_its_case_and_says_where() {
    let dir = tempfile::tempdir().expect("a directory");
    let module = dir.path().join("trap.wasm");
    let wat = r#"(module (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 0))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable))"#;
    std::fs::write(&module, wat::parse_str(wat).expect("a module")).expect("a write");
    let module = module.display().to_string();
    let bad = run(&["test", "examples/two-clusters", "--module", &module, "--filter", "helloworld"]);
    assert_eq!(bad.status.code(), Some(1), "{}", stderr(&bad));
    let why = "the module trapped: proxy_on_request_headers trapped";
    let shown = stdout(&bad);
    assert_eq!((shown.matches(why).count(), shown.matches("`unreachable`").count()), (3, 3), "{shown}");
}

/// The children of an element, in the order of JUnit's schema: a child that it does not have there is `None`.
fn order(parent: &str, child: &str) -> Option<usize> {
    let children: &[&str] = match parent {
        "testsuites" => &["testsuite"],
        "testsuite" => &["properties", "testcase", "system-out", "system-err"],
        "testcase" => &["skipped", "error", "failure", "system-out", "system-err"],
        _ => &[],
    };
    children.iter().position(|known| *known == child)
}

fn follows_the_schema(element: Node<'_, '_>) {
    let name = element.tag_name().name();
    let children: Vec<&str> =
        element.children().filter(Node::is_element).map(|child| child.tag_name().name()).collect();
    let places: Vec<Option<usize>> = children.iter().map(|child| order(name, child)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{name} has {children:?}");
    let required: &[&str] = match name {
        "testsuite" => &["name", "tests", "failures", "errors", "skipped", "time"],
        "testcase" => &["name", "classname", "time"],
        "failure" | "error" => &["message", "type"],
        _ => &[],
    };
    assert!(required.iter().all(|key| element.has_attribute(*key)), "{name} lacks one of {required:?}");
    element.children().filter(Node::is_element).for_each(follows_the_schema);
}

#[test]
fn a_junit_report_follows_the_schema_and_holds_any_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = changed(dir.path(), "cases.yaml", |text| {
        wrong(text).replace("name: the treasury may not write", r#"name: "<w> & \"x\" \x01 ]]> ÿ""#)
    });
    let bad = run(&["test", &file, "-o", "junit", "--fail-fast", "--jobs", "1"]);
    assert_eq!(bad.status.code(), Some(1), "{}", stderr(&bad));
    let xml = stdout(&bad);
    let document = Document::parse(&xml).expect("XML");
    follows_the_schema(document.root_element());
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).expect("a suite");
    let counts = ["tests", "failures", "errors", "skipped"].map(|key| suite.attribute(key));
    assert_eq!(counts, [Some("16"), Some("1"), Some("0"), Some("8")]);
    let failed = document.descendants().find(|node| node.has_tag_name("failure")).expect("a failure");
    let case = failed.parent().expect("a case");
    assert_eq!(case.attribute("name"), Some("<w> & \"x\" \u{fffd} ]]> ÿ"));
    assert_eq!((case.attribute("file"), case.attribute("line")), (Some(file.as_str()), Some("39")));
    assert!(failed.text().is_some_and(|text| text.contains("methods: POST, and wanted is GET")), "{xml}");
}

#[test]
fn what_cases_do_not_touch_and_would_not_notice_is_said_and_can_be_bounded() {
    let within =
        ["--coverage-threshold", "rules=100", "--coverage-threshold", "62.5", "--mutate-threshold", "71.4"];
    let good = run(&[&["test", "examples/two-clusters"][..], &within].concat());
    assert_eq!((good.status.code(), stderr(&good).as_str()), (Some(0), ""));
    let shown = stdout(&good);
    for line in [
        "coverage: rules 2 of 2 (100.0 %), reasons 5 of 8 (62.5 %), pairs 4 of 4 (100.0 %)",
        "  never: examples/two-clusters/policies/ledger.yaml:4:18: ledger/source-unverified",
        "mutants: 10 of 14 (71.4 %) noticed",
        "  survived: examples/two-clusters/policies/ledger.yaml:14:13: policy ledger, rule treasury-reads: without its ports \
         clause, and no case fails",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
    let short = run(&[
        "test",
        "examples/two-clusters",
        "--coverage-threshold",
        "62.51",
        "--mutate-threshold",
        "71.43",
        "-o",
        "json",
    ]);
    assert_eq!(short.status.code(), Some(1));
    let wanted = "error: coverage: reasons 5 of 8 (62.5 %), less than 62.51 %\n\
                  error: mutants: 10 of 14 (71.4 %) noticed, less than 71.43 %\n";
    assert_eq!(stderr(&short), wanted);
    let report: Value = serde_json::from_slice(&short.stdout).expect("JSON");
    assert_eq!(report["coverage"]["reasons"]["percent"], 62.5);
    assert_eq!(report["mutation"]["noticed"], 10);
    let dumps = report["mutation"]["items"].as_array().into_iter().flatten();
    let dumps = dumps.filter(|mutant| mutant["what"] == "policy ledger, rule no-dumps: left out");
    let by: Vec<&Value> = dumps.map(|mutant| &mutant["by"]).collect();
    assert_eq!(by, ["no one dumps the ledger from elsewhere, whatever else allows it"]);
}
