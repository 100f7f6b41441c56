//! The files that play a cluster's API server.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::PluginError;

/// Every YAML file of a directory by name; a file that is gone in between was never there.
pub(super) fn read_all(dir: &Path) -> Result<Vec<(PathBuf, String)>, PluginError> {
    let failed = |path: &Path, source| PluginError::File { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|source| failed(dir, source))? {
        let path = entry.map_err(|source| failed(dir, source))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || !path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml") {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(text) => files.push((path, text)),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(&path, source)),
        }
    }
    files.sort();
    Ok(files)
}
