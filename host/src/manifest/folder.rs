//! A manifest as a folder: a directory for each cluster, and a page that says what to do with them, in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use policy::Mesh;
use serde_json::{Value, json};

use super::addresses::{Book, BookError};
use super::{Content, Item, Manifest, page};

/// The file of the book of addresses.
const BOOK: &str = "70-addresses.yaml";

/// What `kubectl apply -k` and GitOps read.
const KUSTOMIZATION: &str = "kustomization.yaml";

/// The page at the top.
const PAGE: &str = "README.md";

/// The first line of every file that is written, by which it is known for ours.
const HEADER: &str = "# Rendered by `isthmus mesh render`: what is changed here is lost with the next.\n";

/// Why a folder cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file.
    #[error("cannot {verb} {path}")]
    Io {
        /// What could not be done.
        verb: &'static str,
        /// With which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A book that is no YAML.
    #[error("cannot read {path} as YAML")]
    Yaml {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<serde_saphyr::Error>,
    },
    /// A thing that has no YAML.
    #[error("cannot write {file} as YAML")]
    NoYaml {
        /// The file that it should stand in.
        file: String,
        /// Why.
        source: Box<serde_saphyr::SerializeError>,
    },
    /// A book that makes no sense.
    #[error("{path} is not a book of addresses")]
    Book {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<BookError>,
    },
}

/// The text of every file, by its path in the folder; the page only where all clusters are rendered.
pub fn files(mesh: &Mesh, manifest: &Manifest) -> Result<BTreeMap<String, String>, FolderError> {
    let mut files = BTreeMap::new();
    for (cluster, items) in manifest {
        let mut objects = BTreeSet::new();
        for item in items {
            let name = item.file_name();
            let text = files.entry(format!("{cluster}/{name}")).or_insert_with(|| HEADER.to_owned());
            if matches!(item.content, Content::Object(_)) {
                objects.insert(name);
                if text != HEADER {
                    *text += "---\n";
                }
            }
            *text += &document(item)?;
        }
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": objects,
        });
        let text = yaml(&kustomization, KUSTOMIZATION)?;
        files.insert(format!("{cluster}/{KUSTOMIZATION}"), HEADER.to_owned() + &text);
    }
    // Of some clusters alone it would say half of the way.
    if mesh.clusters().all(|cluster| manifest.contains_key(&cluster.name)) {
        files.insert(PAGE.to_owned(), page::page(mesh, manifest));
    }
    Ok(files)
}

/// An item as YAML: an object, or the input of an installer.
pub fn document(item: &Item) -> Result<String, FolderError> {
    let value = match &item.content {
        Content::Object(value) | Content::IstioOperator(value) => value,
        Content::Helm(release) => &release.values,
    };
    yaml(value, &item.file_name())
}

fn yaml(value: &Value, file: &str) -> Result<String, FolderError> {
    serde_saphyr::to_string(value)
        .map_err(|source| FolderError::NoYaml { file: file.to_owned(), source: Box::new(source) })
}

/// Writes the files that differ, takes away those that an earlier run wrote and this one does not, and says how many of
/// each.
pub fn write(directory: &Path, files: &BTreeMap<String, String>) -> Result<(usize, usize), FolderError> {
    let mut written = 0;
    for (name, text) in files {
        let path = directory.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == *text) {
            continue;
        }
        let parent = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).map_err(|source| io_error("make", parent, source))?;
        std::fs::write(&path, text).map_err(|source| io_error("write", &path, source))?;
        written += 1;
    }
    let clusters: BTreeSet<&str> =
        files.keys().filter_map(|name| name.split_once('/')).map(|(cluster, _)| cluster).collect();
    let mut removed = 0;
    for cluster in clusters {
        for path in entries(&directory.join(cluster))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ours = || std::fs::read_to_string(&path).is_ok_and(|text| text.starts_with(HEADER));
            if !files.contains_key(&format!("{cluster}/{name}")) && ours() {
                std::fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
                removed += 1;
            }
        }
    }
    Ok((written, removed))
}

/// The addresses that an earlier run gave, as the clusters of a folder have them; none if there was no earlier run.
pub fn book(directory: &Path) -> Result<Book, FolderError> {
    let mut book = Book::default();
    if !directory.is_dir() {
        return Ok(book);
    }
    for cluster in entries(directory)? {
        let path = cluster.join(BOOK);
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|source| io_error("read", &path, source))?;
        let object: Value = serde_saphyr::from_str(&text)
            .map_err(|source| FolderError::Yaml { path: path.clone(), source: Box::new(source) })?;
        book = Book::read(&object)
            .and_then(|read| book.merge(&read))
            .map_err(|source| FolderError::Book { path: path.clone(), source: Box::new(source) })?;
    }
    Ok(book)
}

/// What stands in a directory, by name.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    };
    list().map_err(|source| io_error("list", directory, source))
}

fn io_error(verb: &'static str, path: &Path, source: io::Error) -> FolderError {
    FolderError::Io { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
