//! Cases of every kind in stock Envoys, and beside it what the module makes of them in wasmtime.

use std::collections::BTreeSet;

use isthmus::case::{Level, Way};
use isthmus::runner::{self, Collection, LabOptions, Options};
use isthmus::sandbox::Module;
use isthmus_tests::example::module;
use isthmus_tests::repository;

use super::envoy;

/// Every case of these files and directories, by both; all that is known of what came is compared.
async fn agree(places: &[&str]) {
    let places: Vec<_> = places.iter().map(|place| repository().join(place)).collect();
    let files = runner::case_files(&places).expect("files of cases");
    let collection = Collection::read(&files).expect("suites");
    assert!(!collection.has_errors(), "{:#?}", collection.findings);
    let jobs = collection.jobs(&[]);
    let now = time::OffsetDateTime::now_utc();
    let compiled = Module::compile(&std::fs::read(module()).expect("a module")).expect("a module");
    let offline =
        runner::run(&jobs, &compiled, Options { threads: None, fail_fast: false, now }).expect("a run");
    let dir = tempfile::tempdir().expect("a directory");
    let options = LabOptions { envoy: &envoy(), module: &module(), dir: dir.path(), fail_fast: false, now };
    let real = runner::on_envoy(&jobs, options).await.expect("a run");
    assert_eq!(real.len(), jobs.len());
    for ((job, offline), real) in jobs.iter().zip(offline).zip(real) {
        let what = format!("{}: {}", job.suite.file.display(), job.case.name.value);
        let (Some(offline), Some(real)) = (offline, real) else { panic!("not played: {what}") };
        assert!(real.failure.is_none(), "{what}: {:?}", real.failure);
        assert_eq!(offline.outcomes, real.outcomes, "wasmtime and Envoy: {what}");
    }
}

#[tokio::test]
async fn every_case_of_every_example_is_played_in_envoys_and_comes_out_as_offline() {
    agree(&["examples"]).await;
}

#[tokio::test]
async fn a_case_of_every_kind_is_played_in_envoys_and_comes_out_as_offline() {
    agree(&["tests/tests/lab/kinds"]).await;
}

#[test]
fn the_cases_of_every_kind_have_every_level_at_every_place() {
    let files = runner::case_files(&[repository().join("tests/tests/lab/kinds")]).expect("files of cases");
    let collection = Collection::read(&files).expect("suites");
    let jobs = collection.jobs(&[]);
    let calls = || jobs.iter().map(|job| &job.case.call);
    let kinds: BTreeSet<String> =
        calls().map(|call| format!("{:?} {}", call.way, call.level.word())).collect();
    let every = [Way::Sidecar, Way::Ingress, Way::Egress]
        .into_iter()
        .flat_map(|way| Level::WORDS.map(|(word, _)| format!("{way:?} {word}")));
    assert_eq!(kinds, every.collect());
    let astray: BTreeSet<String> =
        calls().filter(|call| call.misrouted).map(|call| format!("{:?}", call.way)).collect();
    assert_eq!(astray, BTreeSet::from(["Egress", "Ingress", "Sidecar"].map(str::to_owned)));
}
