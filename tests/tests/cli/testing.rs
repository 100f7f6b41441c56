//! `docs/testing.md`: its examples pass, and its tables hold every key.

use std::collections::BTreeSet;

use isthmus::case::Suite;
use isthmus::runner::{self, Collection, Options};
use isthmus::sandbox::Module;
use isthmus::walk::pure::Pure;
use isthmus_tests::repository;

use super::{run, stderr, stdout};

fn page() -> String {
    std::fs::read_to_string(repository().join("docs/testing.md")).expect("the page")
}

/// The examples that are files, by the name in their first line.
fn files(page: &str) -> Vec<(&str, &str)> {
    let blocks = page.split("```yaml\n# ").skip(1).filter_map(|block| block.split_once("\n```"));
    blocks.filter_map(|(block, _)| block.split_once('\n')).collect()
}

/// The examples in a directory.
fn written() -> tempfile::TempDir {
    let page = page();
    let dir = tempfile::tempdir().expect("a directory");
    let files = files(&page);
    assert_eq!(files.len(), 5);
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a write");
    }
    dir
}

#[test]
fn every_level_and_place_of_the_page_comes_out_alike_by_the_evaluator_and_by_the_module() {
    let dir = written();
    let files = runner::case_files(&[dir.path().to_owned()]).expect("files");
    let collection = Collection::read(&files).expect("suites");
    let jobs = collection.jobs(&[]);
    let wasm = std::fs::read(isthmus_tests::example::module()).expect("a module");
    let module = Module::compile(&wasm).expect("a module");
    let options = Options { threads: None, fail_fast: false, now: time::OffsetDateTime::now_utc() };
    let tested = runner::run(&jobs, &module, options).expect("a run");
    let mut seen = BTreeSet::new();
    for (job, tested) in jobs.iter().zip(tested) {
        let mut pure = Pure::new(&job.world.mesh, &job.world.plans);
        let outcomes = pure.outcomes(&job.case.call).expect("a walk");
        assert_eq!(tested.expect("a test").outcomes, outcomes, "{}", job.case.name.value);
        seen.insert(job.case.call.level.word());
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn every_example_of_the_page_passes_and_together_they_touch_every_rule() {
    let dir = written();
    let tested =
        run(&["test", "-f", &dir.path().display().to_string(), "-v", "--coverage-threshold", "rules=100"]);
    let shown = stdout(&tested);
    assert_eq!((tested.status.code(), stderr(&tested).as_str()), (Some(0), ""), "{shown}");
    for line in [
        "  ok    the ledger is read-only [eu-1, GET]",
        "  ok    the ledger is read-only [abroad, POST]",
        "  ok    the ledger is read-only [dump, eu-1, /dump/all]",
        "  ok    a cell is where its header says [z, us-1]",
        "32 passed, 0 failed",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
    }
}

/// The keys that a mapping of a case file has, as the finding about an unknown one lists them.
fn keys(what: &str, text: &str) -> BTreeSet<String> {
    let (_, findings) = Suite::read("cases.yaml", text);
    let start = format!("{what} has these: ");
    let hint = findings.iter().find_map(|finding| finding.hint.strip_prefix(&start));
    let hint = hint.unwrap_or_else(|| panic!("no keys of {what} in {findings:#?}"));
    hint.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_that_is_read_stands_in_the_tables_and_no_other_does() {
    const ODD: &str = "qqqqqqqqqqqq: 1";
    let case = |from: &str, request: &str, expect: &str, more: &str| {
        format!(
            "suite: s\nmesh: m\ncases:\n- name: n\n  from: {{{from}}}\n  request: {{{request}}}\n  expect: {{{expect}}}\n{more}"
        )
    };
    let workload = "cluster: a, namespace: b, serviceAccount: c";
    let good = |more: &str| case(workload, "host: h.n", "verdict: allow", more);
    let read: Vec<BTreeSet<String>> = vec![
        keys("suite", &good(ODD)),
        keys("case", &good(&format!("  {ODD}\n"))).into_iter().chain(["each".to_owned()]).collect(),
        keys("from", &case(&format!("{workload}, {ODD}"), "host: h.n", "verdict: allow", "")),
        keys("request", &case(workload, &format!("host: h.n, {ODD}"), "verdict: allow", "")),
        keys("expect", &case(workload, "host: h.n", &format!("verdict: allow, {ODD}"), "")),
    ];
    let page = page();
    let part = page.split("## A file of cases").nth(1).and_then(|rest| rest.split("## An example").next());
    let tables: Vec<BTreeSet<String>> = part
        .expect("the tables")
        .split("|---|---|\n")
        .skip(1)
        .map(|table| {
            let rows = table.lines().take_while(|line| line.starts_with('|'));
            rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect()
        })
        .collect();
    assert_eq!(tables, read);
}

#[test]
fn a_mesh_need_not_be_kept_in_the_checkout() {
    let dir = written();
    let elsewhere = |arguments: &[&str]| {
        let made = super::isthmus().current_dir(dir.path()).args(arguments).output();
        made.expect("it runs")
    };
    let tested = elsewhere(&["test"]);
    assert!(tested.status.success(), "{}{}", stdout(&tested), stderr(&tested));
    let said = stdout(&tested);
    assert!(said.contains(" passed, 0 failed") && !said.starts_with("0 passed"), "{said}");
}
