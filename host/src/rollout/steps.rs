//! What has to be done in a cluster's directory, in an order in which no request is lost on the way.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use policy::plan::Role;
use serde_json::Value;

use super::{NAMESPACE, RolloutError, upstream_file, yaml};
use crate::native::{self, Kind};
use crate::plugin;

/// When a step is due: all clusters take theirs before any goes on to the next. A gateway of another cluster must know
/// a subset before the first request for it arrives there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    SubsetsCome,
    RoutesCome,
    Filters,
    RoutesGo,
    SubsetsGo,
}

impl Phase {
    fn coming(kind: Kind) -> Self {
        match kind {
            Kind::DestinationRule => Self::SubsetsCome,
            Kind::VirtualService => Self::RoutesCome,
        }
    }

    fn going(kind: Kind) -> Self {
        match kind {
            Kind::DestinationRule => Self::SubsetsGo,
            Kind::VirtualService => Self::RoutesGo,
        }
    }
}

/// One change of a directory.
pub(super) enum Step {
    Write(PathBuf, String),
    Remove(PathBuf),
}

/// What a cluster's directory should hold.
pub(super) struct Wanted {
    /// Each with its file.
    pub(super) objects: Vec<(Kind, PathBuf, Value)>,
    /// Each with its text, those of single namespaces first.
    pub(super) plugins: Vec<(PathBuf, String)>,
}

/// The steps to what is wanted, and how many files are as they should be already.
///
/// A subset is there before a route leads to it, and a route before a filter asks for it; what goes, goes the other
/// way round. So an object that loses something is written twice: wide before the filters change, narrow after.
pub(super) fn steps(directory: &Path, wanted: Wanted) -> Result<(Vec<(Phase, Step)>, usize), RolloutError> {
    let stale = stale(directory, &wanted)?;
    let mut steps = Vec::new();
    let mut unchanged = 0;
    for (kind, path, object) in wanted.objects {
        let text = yaml(&object, &path)?;
        let old = std::fs::read_to_string(&path).ok();
        if old.as_ref() == Some(&text) {
            unchanged += 1;
            continue;
        }
        let before: Option<Value> = old.and_then(|old| serde_saphyr::from_str(&old).ok());
        let wide = before.map(|before| native::widened(&before, &object)).filter(|wide| *wide != object);
        if let Some(wide) = wide {
            steps.push((Phase::coming(kind), Step::Write(path.clone(), yaml(&wide, &path)?)));
            steps.push((Phase::going(kind), Step::Write(path, text)));
        } else {
            steps.push((Phase::coming(kind), Step::Write(path, text)));
        }
    }
    for (path, text) in wanted.plugins {
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            unchanged += 1;
        } else {
            steps.push((Phase::Filters, Step::Write(path, text)));
        }
    }
    steps.extend(stale.plugins.into_iter().map(|path| (Phase::Filters, Step::Remove(path))));
    steps.extend(stale.objects.into_iter().map(|(kind, path)| (Phase::going(kind), Step::Remove(path))));
    steps.sort_by_key(|(phase, _)| *phase);
    Ok((steps, unchanged))
}

#[derive(Default)]
struct Stale {
    plugins: Vec<PathBuf>,
    objects: Vec<(Kind, PathBuf)>,
}

/// The files of ours that are wanted no more.
fn stale(directory: &Path, wanted: &Wanted) -> Result<Stale, RolloutError> {
    let fail = |source| RolloutError::Write { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stale::default()),
        entries => entries.map_err(fail)?,
    };
    let kept: BTreeSet<&PathBuf> = wanted
        .plugins
        .iter()
        .map(|(path, _)| path)
        .chain(wanted.objects.iter().map(|(_, path, _)| path))
        .collect();
    let mut stale = Stale::default();
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is = |what: &str| name.strip_prefix(what).is_some_and(|rest| rest.starts_with(NAMESPACE));
        if kept.contains(&path) {
            continue;
        }
        if is(&plugin::name(Role::Inbound)) || name == upstream_file() {
            stale.plugins.push(path);
        } else if let Some(kind) = Kind::ALL.into_iter().find(|kind| is(&stem(*kind))) {
            stale.objects.push((kind, path));
        }
    }
    stale.plugins.sort();
    stale.objects.sort();
    Ok(stale)
}

/// How the name of an object's file starts.
pub(super) fn stem(kind: Kind) -> String {
    format!("isthmus-{}", kind.as_str())
}

#[cfg(test)]
mod tests;
