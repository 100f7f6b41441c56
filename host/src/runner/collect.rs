//! From paths to suites with their meshes and policies, and everything that is wrong with any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use policy::compile::Plans;
use policy::finding::has_errors;
use policy::name::ClusterName;
use policy::{Finding, Mesh};

use crate::case::Suite;
use crate::cert::{CertError, TokenKey};
use crate::read::{Project, ReadError};

/// Suites, found sound or not.
#[derive(Debug, Default)]
pub struct Collection {
    /// Those without errors, in the order of their files.
    pub suites: Vec<Loaded>,
    /// The meshes and policies that they speak of, each read and compiled once.
    pub worlds: Vec<World>,
    /// What is wrong, in the order of the files.
    pub findings: Vec<Finding>,
    /// The texts, by the names that findings give.
    pub sources: BTreeMap<String, String>,
    /// Every file and directory that the suites were read from.
    pub inputs: BTreeSet<PathBuf>,
}

/// A suite, and the number of the world that it speaks of.
#[derive(Debug)]
pub struct Loaded {
    /// Its file.
    pub file: PathBuf,
    /// Its cases.
    pub suite: Suite,
    /// Which of [`Collection::worlds`] it speaks of.
    pub world: usize,
}

/// A mesh with policies, compiled for a CA and for keys that the runner makes itself.
#[derive(Debug)]
pub struct World {
    /// What was read.
    pub project: Project,
    /// The mesh with a CA of its own.
    pub mesh: Mesh,
    /// Its plans.
    pub plans: Plans,
    /// The keys that its clusters sign tokens with, in the place of those whose secrets are theirs alone.
    pub keys: BTreeMap<ClusterName, TokenKey>,
}

impl World {
    /// Compiles a project that has no errors; `None` where it has some.
    pub fn of(project: Project) -> Result<Option<Self>, CertError> {
        let Some(mesh) = project.mesh.clone() else { return Ok(None) };
        let mut keys = BTreeMap::new();
        for cluster in mesh.clusters() {
            if let Some(id) = cluster.token_keys.keys().next() {
                keys.insert(cluster.name.clone(), TokenKey::generate(id.clone())?);
            }
        }
        let public = keys.iter().map(|(name, key)| (name.clone(), (key.id().clone(), key.public())));
        let mesh = mesh.with_own_ca().with_token_keys(&public.collect());
        let plans = policy::compile(&mesh, &project.policies).0;
        Ok(plans.map(|plans| Self { project, mesh, plans, keys }))
    }
}

/// Why cases could not be read at all; what is wrong in them is a [`Finding`].
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A key for tokens cannot be made.
    #[error("cannot make the keys that tokens are signed with")]
    Key(#[from] CertError),
}

/// What a suite speaks of, so that those who speak of the same share it.
type Key = (PathBuf, Vec<PathBuf>);

#[derive(Default)]
struct Collecting {
    collection: Collection,
    worlds: BTreeMap<Key, Option<usize>>,
}

impl Collection {
    /// Reads files of cases with all that they speak of.
    pub fn read(files: &[PathBuf]) -> Result<Self, CollectError> {
        let mut collecting = Collecting::default();
        for file in files {
            collecting.take(file)?;
        }
        let mut collection = collecting.collection;
        collection.findings.sort();
        collection.findings.dedup();
        Ok(collection)
    }

    /// Whether anything stands in the way of running the cases.
    pub fn has_errors(&self) -> bool {
        has_errors(&self.findings)
    }
}

impl Collecting {
    fn take(&mut self, file: &Path) -> Result<(), CollectError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ReadError::Io { path: file.to_owned(), source })?;
        let name = file.display().to_string();
        let (suite, findings) = Suite::read(&name, &text);
        self.collection.findings.extend(findings);
        self.collection.sources.insert(name, text);
        self.collection.inputs.insert(file.to_owned());
        let Some(suite) = suite else { return Ok(()) };
        let base = file.parent().unwrap_or(Path::new("."));
        let policies: Vec<PathBuf> = suite.policies.iter().map(|path| base.join(path)).collect();
        let Some(world) = self.world(&base.join(&suite.mesh), &policies)? else { return Ok(()) };
        if let Some(known) = self.collection.worlds.get(world) {
            self.collection.findings.extend(suite.check(&known.mesh));
        }
        self.collection.suites.push(Loaded { file: file.to_owned(), suite, world });
        Ok(())
    }

    fn world(&mut self, mesh: &Path, policies: &[PathBuf]) -> Result<Option<usize>, CollectError> {
        let same = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_absent| path.to_owned());
        let key = (same(mesh), policies.iter().map(|path| same(path)).collect());
        if let Some(known) = self.worlds.get(&key) {
            return Ok(*known);
        }
        self.collection.inputs.insert(mesh.to_owned());
        self.collection.inputs.extend(policies.iter().cloned());
        let project = Project::with_policies(mesh, policies)?;
        self.collection.findings.extend(project.findings.iter().cloned());
        self.collection.sources.extend(project.sources.clone());
        let number = World::of(project)?.map(|world| {
            self.collection.worlds.push(world);
            self.collection.worlds.len() - 1
        });
        self.worlds.insert(key, number);
        Ok(number)
    }
}

/// The mesh and the policies that a file of cases speaks of; nothing where it cannot be made out.
pub fn inputs(file: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ReadError::Io { path: file.to_owned(), source })?;
    let base = file.parent().unwrap_or(Path::new("."));
    Ok(Suite::speaks_of(&text).into_iter().map(|path| base.join(path)).collect())
}

/// The files of cases that paths name: a file is itself, a directory is every `cases.yaml` and `*.cases.yaml` in it and
/// below, by name. Hidden directories are left out.
pub fn case_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ReadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            below(path, &mut files)?;
            if files.len() == before {
                return Err(ReadError::NoCases { path: path.clone() });
            }
        } else {
            files.push(path.clone());
        }
    }
    let mut seen = BTreeSet::new();
    files.retain(|file| seen.insert(file.clone()));
    Ok(files)
}

fn below(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    let fail = |source| ReadError::Io { path: directory.to_owned(), source };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // A link to a directory may lead back to where it stands, so that none is followed.
        let is_directory = entry.file_type().map_err(fail)?.is_dir();
        entries.push((entry.path(), is_directory));
    }
    entries.sort();
    for (path, is_directory) in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if is_directory && !name.starts_with('.') {
            below(&path, files)?;
        } else if !is_directory && holds_cases(&name) {
            files.push(path);
        }
    }
    Ok(())
}

fn holds_cases(name: &str) -> bool {
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"));
    stem.is_some_and(|stem| stem == "cases" || stem.ends_with(".cases"))
}
