//! Where a cluster keeps what is known of rollouts: `ConfigMap`s in the root namespace, or files beside its objects.

use std::sync::Arc;

use serde_json::{Value, json};
use serde_saphyr::{Budget, Options};

use super::directory;
use super::rendered::{Part, is_made_by_rollouts};
use super::steps::Step;
use super::{RolloutError, Target, Trouble};
use crate::kube::{Apply, Cluster, Id, Kind, MANAGER};

/// The name of the object that has the record of the last rollout.
pub(super) const RECORD: &str = "isthmus-rollout";
/// What the names of those that have a revision begin with.
pub(super) const REVISIONS: &str = "isthmus-revision-";

/// The label of all that is kept here, beside that of all our objects.
const PART: &str = "isthmus.dev/part";
const OF_ROLLOUT: &str = "rollout";

/// One cluster's.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    target: Target,
    root: String,
}

impl Shelf {
    pub(super) fn new(target: Target, root: &str) -> Self {
        Self { target, root: root.to_owned() }
    }

    /// Whether an object that was kept is one to bring back.
    pub(super) fn takes(&self, part: &Part) -> bool {
        is_made_by_rollouts(part, &self.root)
    }

    /// A `ConfigMap` to be kept here, as far as all are alike.
    pub(super) fn object(&self, name: &str, annotations: &Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "namespace": self.root,
                "labels": {"app.kubernetes.io/managed-by": MANAGER, PART: OF_ROLLOUT},
                "annotations": annotations,
            },
        })
    }

    /// All that is kept here, as far as names and annotations tell it.
    pub(super) async fn list(&self) -> Result<Vec<Value>, Trouble> {
        let objects = match &self.target {
            Target::Cluster(server) => server.metadata(&kind(), &self.root).await?,
            Target::Directory(path) => {
                let mut objects = Vec::new();
                let entries = match std::fs::read_dir(path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(objects),
                    entries => entries.map_err(|source| unreadable(path, source))?,
                };
                for entry in entries {
                    let entry = entry.map_err(|source| unreadable(path, source))?;
                    let Ok(file) = entry.file_name().into_string() else { continue };
                    let name = file.strip_suffix(".yaml").filter(|name| is_ours(name));
                    if let Some(name) = name
                        && let Some(object) = self.get(name).await?
                    {
                        objects.push(object);
                    }
                }
                objects
            }
        };
        let is_of_rollouts = |object: &Value| {
            let label = object.pointer("/metadata/labels").and_then(|labels| labels.get(PART));
            label.and_then(Value::as_str) == Some(OF_ROLLOUT)
        };
        Ok(objects.into_iter().filter(is_of_rollouts).collect())
    }

    /// One of them, whole.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Value>, Trouble> {
        match &self.target {
            Target::Cluster(server) => Ok(server.get(&self.id(name)).await?),
            Target::Directory(path) => {
                let path = path.join(format!("{name}.yaml"));
                let text = match std::fs::read_to_string(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    text => text.map_err(|source| unreadable(&path, source))?,
                };
                // What is put here is JSON: what is kept for a thousand clusters takes long to read as YAML. Others may have
                // made YAML of it.
                let object = serde_json::from_str(&text).or_else(|_| {
                    let first = |error: String| error.lines().next().unwrap_or_default().to_owned();
                    serde_saphyr::from_str_with_options(&text, options())
                        .map_err(|error| first(error.to_string()))
                });
                object.map(Some).map_err(|why| Trouble::Record { place: path.display().to_string(), why })
            }
        }
    }

    /// Keeps one, in place of what it was. One that says which version it was read at is kept only if that still is
    /// the one that is there.
    pub(super) async fn put(&self, name: &str, object: &Value) -> Result<Value, Trouble> {
        match &self.target {
            Target::Cluster(server) => {
                Ok(server.apply(object, Apply { dry_run: false, force: true }).await?)
            }
            Target::Directory(path) => {
                directory::write(&path.join(format!("{name}.yaml")), &format!("{object:#}\n"))?;
                Ok(object.clone())
            }
        }
    }

    /// Throws one away.
    pub(super) async fn remove(&self, seen: &Value) -> Result<(), Trouble> {
        match &self.target {
            Target::Cluster(server) => {
                server.delete(&named(seen), false).await?;
            }
            Target::Directory(path) => {
                let name = seen.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                directory::take(path, &Step::Remove(format!("{name}.yaml")))?;
            }
        }
        Ok(())
    }

    fn id(&self, name: &str) -> Id {
        Id { kind: kind(), namespace: Some(self.root.clone()), name: name.to_owned() }
    }

    /// How its cluster is told in messages.
    pub(super) fn place(&self, name: &str) -> String {
        match &self.target {
            Target::Cluster(server) => format!("{}: ConfigMap {}/{name}", context(server), self.root),
            Target::Directory(path) => path.join(format!("{name}.yaml")).display().to_string(),
        }
    }
}

fn context(server: &Arc<Cluster>) -> &str {
    server.context()
}

fn kind() -> Kind {
    Kind::new("v1", "ConfigMap")
}

/// A list of names and labels does not say what they are of.
fn named(seen: &Value) -> Value {
    let mut object = seen.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), "v1".into());
        fields.insert("kind".to_owned(), "ConfigMap".into());
    }
    object
}

fn is_ours(name: &str) -> bool {
    name == RECORD || name.starts_with(REVISIONS)
}

fn unreadable(path: &std::path::Path, source: std::io::Error) -> RolloutError {
    RolloutError::Read { path: path.to_owned(), source }
}

/// A snapshot is one long text.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_total_scalar_bytes = 1 << 26;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.with_snippet = false;
    options
}
