//! A mesh and its policies, read from files: the only reader of what users write.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use policy::compile::Plans;
use policy::mesh::Draft;
use policy::name::Namespace;
use policy::{Finding, Mesh, Policy};

/// The name of a mesh's file, and of the directory of policies beside it.
const MESH: &str = "mesh.yaml";
const POLICIES: &str = "policies";

/// Why files could not be read at all; what is wrong in them is a [`Finding`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No `mesh.yaml` here or in any directory above.
    #[error("there is no mesh.yaml in {from} or above: name one with -f, or try -f examples/two-clusters")]
    NoMesh {
        /// Where the search began.
        from: PathBuf,
    },
    /// A directory without a file of cases.
    #[error(
        "there is no cases.yaml and no *.cases.yaml in {path} or below: name a file of cases, or another directory"
    )]
    NoCases {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory that cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A mesh, its policies, and everything that is wrong with them.
#[derive(Debug)]
pub struct Project {
    /// The mesh's file.
    pub file: PathBuf,
    /// The mesh, if neither it nor its policies have errors.
    pub mesh: Option<Mesh>,
    /// The policies that could be read.
    pub policies: Vec<Policy>,
    /// The plan of each cluster, if nothing stands in the way.
    pub plans: Option<Plans>,
    /// What is wrong, in the order of the files.
    pub findings: Vec<Finding>,
    /// The texts, by the names that findings give.
    pub sources: BTreeMap<String, String>,
}

impl Project {
    /// Reads the mesh at `path` (a file, or a directory with a `mesh.yaml`), or the nearest one above `from`,
    /// with the policies in the directory beside it.
    pub fn read(path: Option<&Path>, from: &Path) -> Result<Self, ReadError> {
        let file = mesh_file(path, from)?;
        let beside =
            file.parent().map(|directory| directory.join(POLICIES)).filter(|directory| directory.is_dir());
        Self::with_policies(&file, &beside.into_iter().collect::<Vec<_>>())
    }

    /// Reads the mesh in `file` with the policies in `policies`, each a file or a directory.
    pub fn with_policies(file: &Path, policies: &[PathBuf]) -> Result<Self, ReadError> {
        let mut sources = BTreeMap::new();
        let mut text = |path: &Path| {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
            sources.insert(path.display().to_string(), text.clone());
            Ok::<String, ReadError>(text)
        };
        let (draft, mut findings) = Draft::read(&file.display().to_string(), &text(file)?);
        let root =
            draft.as_ref().map_or_else(Namespace::istio_system, |draft| draft.root_namespace().clone());
        let mut read = Vec::new();
        for path in policies {
            for path in yaml_files(path)? {
                let (found, wrong) = Policy::read(&path.display().to_string(), &text(&path)?, &root);
                read.extend(found);
                findings.extend(wrong);
            }
        }
        if let Some(draft) = &draft {
            findings.extend(policy::compile::check(draft, &read));
        }
        findings.sort();
        let mesh = draft.and_then(|draft| draft.sound(&findings));
        let plans = mesh.as_ref().and_then(|mesh| policy::compile(mesh, &read).0);
        Ok(Self { file: file.to_owned(), mesh, policies: read, plans, findings, sources })
    }
}

/// The file of the mesh at `path` (a file, or a directory with a `mesh.yaml`), or of the nearest one above `from`.
pub fn mesh_file(path: Option<&Path>, from: &Path) -> Result<PathBuf, ReadError> {
    match path {
        Some(path) if path.is_dir() => Ok(path.join(MESH)),
        Some(path) => Ok(path.to_owned()),
        None => nearest(from),
    }
}

fn nearest(from: &Path) -> Result<PathBuf, ReadError> {
    let found = from.ancestors().map(|directory| directory.join(MESH)).find(|file| file.is_file());
    found.ok_or_else(|| ReadError::NoMesh { from: from.to_owned() })
}

/// The YAML files of a directory and those below it, by name; a file is itself.
pub(crate) fn yaml_files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let fail = |source| ReadError::Io { path: path.to_owned(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        entries.push(entry.map_err(fail)?.path());
    }
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if entry.is_dir() {
            files.extend(yaml_files(&entry)?);
        } else if entry.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(entry);
        }
    }
    Ok(files)
}
