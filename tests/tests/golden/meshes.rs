//! What every cluster of a mesh needs: each example, and each case with a directory `rendered`, gives the folder that was
//! blessed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use isthmus::manifest::{self, Content, Manifest, ManifestError, Options, folder};
use isthmus::read::Project;
use isthmus_tests::repository;
use policy::Mesh;
use policy::name::ClusterName;
use serde_json::Value;

use super::{difference, listed, name, read};

/// The directory of what is rendered, beside the mesh.
const RENDERED: &str = "rendered";

/// A certificate that no one has the key of: what is rendered holds it as it is.
const ROOT: &str =
    "-----BEGIN CERTIFICATE-----\nbm90aGluZyB0aGF0IGEgcHJvZ3JhbSByZWFkcw==\n-----END CERTIFICATE-----\n";

fn examples() -> Vec<PathBuf> {
    let mut examples = listed(&repository().join("examples"));
    examples.retain(|path| path.join("mesh.yaml").is_file());
    examples
}

/// Every example, and every golden case that has something rendered.
fn meshes() -> Vec<PathBuf> {
    let cases = super::cases().into_iter().filter(|case| case.join(RENDERED).is_dir());
    examples().into_iter().chain(cases).collect()
}

/// What a mesh gives, or why nothing; `None` where it has errors.
fn tried(directory: &Path) -> Option<(Mesh, Result<Manifest, ManifestError>)> {
    let project = Project::read(Some(directory), directory).expect("a readable mesh");
    let (mesh, plans) = (project.mesh?, project.plans?);
    let root = |mesh: &policy::mesh::Federated| {
        let path = directory.join("roots").join(format!("{}.pem", mesh.root));
        (mesh.root.clone(), fs::read_to_string(path).unwrap_or_else(|_| ROOT.to_owned()))
    };
    let options = Options {
        book: folder::book(&directory.join(RENDERED)).expect("a book"),
        roots: mesh.meshes().map(root).collect(),
        ..Options::default()
    };
    let manifest = manifest::render(&mesh, &plans, &options);
    Some((mesh, manifest))
}

fn rendered(directory: &Path) -> Option<(Mesh, Manifest)> {
    tried(directory).map(|(mesh, manifest)| (mesh, manifest.expect("a manifest")))
}

/// Every object of a mesh that is for an API server, and in which cluster.
pub(super) fn objects(directory: &Path) -> Vec<(ClusterName, Value)> {
    let mut objects = Vec::new();
    for (cluster, items) in rendered(directory).map(|(_, manifest)| manifest).into_iter().flatten() {
        for item in items {
            if let Content::Object(object) = item.content {
                objects.push((cluster.clone(), object));
            }
        }
    }
    objects
}

/// Every directory with a mesh that can be rendered: examples and cases, whether a golden folder stands there or not.
pub(super) fn all() -> Vec<PathBuf> {
    let sound = |directory: &PathBuf| tried(directory).is_some_and(|(_, manifest)| manifest.is_ok());
    examples().into_iter().chain(super::cases()).filter(sound).collect()
}

/// The files of a folder and those below it, by their path in it.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for path in listed(folder) {
        if path.is_dir() {
            let inside = self::files(&path).into_iter();
            files.extend(inside.map(|(file, text)| (format!("{}/{file}", name(&path)), text)));
        } else {
            files.insert(name(&path).to_owned(), read(&path));
        }
    }
    files
}

#[test]
fn every_example_and_many_a_case_gives_the_folder_that_was_blessed() {
    let meshes = meshes();
    assert!(meshes.len() >= 12, "meshes are missing: {meshes:?}");
    let mut mismatches = Vec::new();
    for directory in meshes {
        let (mesh, manifest) = rendered(&directory).expect("a sound mesh");
        let given = folder::files(&mesh, &manifest).expect("YAML");
        let path = directory.join(RENDERED);
        if std::env::var_os("BLESS").is_some() {
            fs::remove_dir_all(&path).expect("what was blessed before is removed");
            folder::write(&path, &given).expect("a folder");
        }
        let blessed = files(&path);
        let all = blessed.keys().chain(given.keys().filter(|file| !blessed.contains_key(*file)));
        for file in all.filter(|file| blessed.get(*file) != given.get(*file)) {
            let difference = difference(blessed.get(file), given.get(file));
            mismatches.push(format!("{}/{file}: {difference}", name(&directory)));
        }
    }
    assert!(
        mismatches.is_empty(),
        "BLESS=1 writes them anew; then read the diff:\n{}",
        mismatches.join("\n")
    );
}

#[test]
fn a_remote_that_cannot_find_its_control_plane_is_not_rendered() {
    let case = repository().join("tests/golden/istiod-nowhere");
    let (_, manifest) = tried(&case).expect("a mesh that only warnings are said of");
    let error = manifest.expect_err("nothing leads to istiod").to_string();
    assert!(error.contains("west finds the istiod of east"), "{error}");
}

#[test]
fn the_examples_are_of_all_eight_models() {
    let mesh = |directory: &PathBuf| Mesh::read("mesh.yaml", &read(&directory.join("mesh.yaml"))).0;
    let models =
        examples().into_iter().filter_map(|directory| mesh(&directory)).map(|mesh| mesh.model().to_string());
    let models: std::collections::BTreeSet<String> = models.collect();
    assert_eq!(models.len(), 8, "{models:?}");
}

#[test]
fn every_file_that_is_rendered_says_what_the_object_does() {
    for directory in meshes() {
        let (mesh, manifest) = rendered(&directory).expect("a sound mesh");
        let files = folder::files(&mesh, &manifest).expect("YAML");
        for (cluster, items) in &manifest {
            let mut read: BTreeMap<String, std::vec::IntoIter<Value>> = BTreeMap::new();
            for item in items {
                let file = format!("{cluster}/{}", item.file_name());
                let text = &files[&file];
                let values = read.entry(file).or_insert_with(|| {
                    let values: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
                    values.into_iter()
                });
                let (Content::Object(wanted) | Content::IstioOperator(wanted)) = &item.content else {
                    continue;
                };
                assert_eq!(values.next().as_ref(), Some(wanted), "{} {cluster}", directory.display());
            }
        }
    }
}
