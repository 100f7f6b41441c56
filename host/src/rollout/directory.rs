//! A cluster that is a directory: an object, a file.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

use super::RolloutError;
use super::rendered::{Part, sort_of};
use super::steps::Step;

/// The files that are wanted or were written by an earlier rollout, which bear our label. One that nobody can read says
/// nothing.
pub(super) fn there(directory: &Path, wanted: &[Part]) -> Result<BTreeMap<String, Value>, RolloutError> {
    let fail = |source| RolloutError::Write { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        entries => entries.map_err(fail)?,
    };
    let mut there = BTreeMap::new();
    for entry in entries {
        let Ok(file) = entry.map_err(fail)?.file_name().into_string() else { continue };
        let is_wanted = wanted.iter().any(|part| part.file == file);
        if is_wanted || sort_of(&file).is_some() {
            let text = std::fs::read_to_string(directory.join(&file)).unwrap_or_default();
            let object: Value = serde_saphyr::from_str(&text).unwrap_or_default();
            if is_wanted || bears_label(&object) {
                there.insert(file, object);
            }
        }
    }
    Ok(there)
}

fn bears_label(object: &Value) -> bool {
    let label = object.pointer("/metadata/labels/app.kubernetes.io~1managed-by");
    label.is_some_and(|manager| manager == "isthmus")
}

/// Takes a step.
pub(super) fn take(directory: &Path, step: &Step) -> Result<(), RolloutError> {
    match step {
        Step::Write(file, object) => {
            let path = directory.join(file);
            let text = serde_saphyr::to_string(&object.open())
                .map_err(|source| RolloutError::Yaml { path: path.clone(), source: Box::new(source) })?;
            write(&path, &text)
        }
        Step::Remove(file) => {
            let path = directory.join(file);
            std::fs::remove_file(&path).map_err(|source| RolloutError::Write { path, source })
        }
    }
}

/// Writes a file so that a reader sees the old text or the new one, whole.
pub(super) fn write(path: &Path, text: &str) -> Result<(), RolloutError> {
    let write = || {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        set_readable(file.path())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source: io::Error| RolloutError::Write { path: path.to_owned(), source })
}

/// Temporary files are born private; what GitOps picks up is not.
#[cfg(unix)]
fn set_readable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_readable(_path: &Path) -> io::Result<()> {
    Ok(())
}
