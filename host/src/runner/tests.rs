use std::path::{Path, PathBuf};

use super::{Collection, case_files};
use crate::read::ReadError;

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: m}
spec:
  clusters: [{name: c1, network: n1}]
  services: {s.a: {port: 80}}
";
const CASES: &str = "
suite: SUITE
mesh: mesh.yaml
cases:
- name: one
  from: {cluster: c1, namespace: a, serviceAccount: b}
  request: {host: s.a}
  expect: {verdict: allow}
";

fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn names(dir: &Path, paths: &[PathBuf]) -> Vec<String> {
    let files = case_files(paths).unwrap();
    files.iter().map(|file| file.strip_prefix(dir).unwrap().display().to_string()).collect()
}

#[test]
fn a_directory_is_every_file_of_cases_in_it_and_below() {
    let dir = written(&[
        ("b/cases.yaml", ""),
        ("a/ledger.cases.yml", ""),
        ("a/mesh.yaml", ""),
        ("a/.git/cases.yaml", ""),
        ("a/showcases.yaml", ""),
        ("empty/mesh.yaml", ""),
    ]);
    let at = |name: &str| dir.path().join(name);
    std::os::unix::fs::symlink(dir.path(), at("b/loop")).unwrap();
    assert_eq!(names(dir.path(), &[dir.path().to_owned()]), ["a/ledger.cases.yml", "b/cases.yaml"]);
    let twice = [at("b/cases.yaml"), dir.path().to_owned(), at("a/mesh.yaml")];
    assert_eq!(names(dir.path(), &twice), ["b/cases.yaml", "a/ledger.cases.yml", "a/mesh.yaml"]);
    assert!(matches!(case_files(&[at("empty")]), Err(ReadError::NoCases { path }) if path == at("empty")));
}

#[test]
fn suites_of_one_mesh_share_it_and_mistakes_of_all_files_are_found_in_one_run() {
    let broken = CASES.replace("host: s.a", "hots: s.a");
    let foreign = CASES.replace("cluster: c1", "cluster: c9");
    let dir = written(&[
        ("mesh.yaml", MESH),
        ("a.cases.yaml", CASES),
        ("b.cases.yaml", CASES),
        ("broken.cases.yaml", &broken),
        ("foreign.cases.yaml", &foreign),
    ]);
    let at = |name: &str| dir.path().join(name);
    let sound = Collection::read(&[at("a.cases.yaml"), at("b.cases.yaml")]).unwrap();
    assert_eq!((sound.findings.len(), sound.worlds.len(), sound.suites.len()), (0, 1, 2));
    assert!(sound.inputs.contains(&at("mesh.yaml")) && sound.inputs.contains(&at("b.cases.yaml")));
    assert_eq!(sound.jobs(&[]).len(), 2);
    assert_eq!(sound.jobs(&["SUI".to_owned()]).len(), 2);
    assert_eq!(sound.jobs(&["two".to_owned(), "on".to_owned()]).len(), 2);
    assert_eq!(sound.jobs(&["two".to_owned()]).len(), 0);
    let all = case_files(&[dir.path().to_owned()]).unwrap();
    let collection = Collection::read(&all).unwrap();
    assert!(collection.has_errors());
    let shown: Vec<String> = collection.findings.iter().map(ToString::to_string).collect();
    let shown = shown.join("\n").replace(&format!("{}/", dir.path().display()), "");
    assert_eq!(
        shown,
        "broken.cases.yaml:7:12: error[ISM003]: this request has no \"host\"\n\
         broken.cases.yaml:7:13: error[ISM002]: request has no key \"hots\"\n\
         foreign.cases.yaml:6:19: error[ISM012]: cluster \"c9\" is not in the mesh"
    );
}
