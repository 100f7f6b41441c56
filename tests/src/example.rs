//! A mesh with policies and cases, and the module to run them through.
#![expect(clippy::expect_used, clippy::panic, reason = "a fixture that fails fails its test")]

use std::path::{Path, PathBuf};

use isthmus::case::Suite;
use isthmus::read::Project;
use policy::Mesh;

/// The module that `make build` writes, or the one that `ISTHMUS_WASM` names.
pub fn module() -> PathBuf {
    let built = super::repository().join("wasm/isthmus.wasm");
    let path = std::env::var_os("ISTHMUS_WASM").map_or(built, PathBuf::from);
    assert!(path.is_file(), "no module at {}: run `make build`", path.display());
    path
}

/// A directory with `mesh.yaml`, `policies/` and `cases.yaml`, read and found sound.
#[derive(Debug)]
pub struct Example {
    /// The mesh and its policies.
    pub project: Project,
    /// The cases.
    pub suite: Suite,
}

impl Example {
    /// Reads a directory, relative to the repository.
    pub fn read(directory: &str) -> Self {
        let directory = super::repository().join(directory);
        let project = Project::read(Some(&directory), Path::new(".")).expect("readable files");
        assert!(project.plans.is_some(), "{:#?}", project.findings);
        let file = directory.join("cases.yaml");
        let text = std::fs::read_to_string(&file).expect("a file of cases");
        let (suite, findings) = Suite::read(&file.display().to_string(), &text);
        let Some(suite) = suite else { panic!("{findings:#?}") };
        let example = Self { project, suite };
        let misfits = example.suite.check(example.mesh());
        assert!(misfits.is_empty(), "{misfits:#?}");
        example
    }

    /// The mesh.
    pub fn mesh(&self) -> &Mesh {
        self.project.mesh.as_ref().expect("a sound mesh")
    }
}
