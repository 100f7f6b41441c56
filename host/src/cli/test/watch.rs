//! `isthmus test --watch`: again, whenever a file changes.
//!
//! The files are looked at a few times a second. There are some dozens of them, and looking costs less than a
//! millisecond; what the system could tell by itself it does not tell of a network's file systems and of containers'
//! volumes, and for an editor that puts a new file in the place of the old it has to be asked anew each time.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::{Common, Exit, Out};
use super::Test;
use crate::read;
use crate::render::counted;
use crate::runner;

/// How often the files are looked at.
const TICK: Duration = Duration::from_millis(200);
/// Clears a terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// When a file was changed last, and its length; `None`: it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// What a file looks like from outside.
fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

/// Runs the cases until the process is interrupted.
pub(super) fn run(test: &Test, common: &Common, out: &mut Out) -> anyhow::Result<Exit> {
    let terminal = std::io::stdout().is_terminal();
    let module = super::super::module(test.module.clone())?;
    loop {
        let mut roots = inputs(&test.files(common).unwrap_or_default());
        roots.push(module.clone());
        // What changes from here on is seen, whether the run has read it before or after.
        let before = seen(test, common, &roots);
        if let Err(error) = test.once(common, out) {
            out.say(&format!("error: {error:#}"));
        }
        out.say(&format!("watching {}; Ctrl-C ends it", counted(before.len(), "file")));
        let changed = loop {
            std::thread::sleep(TICK);
            if let Some(changed) = difference(&before, &seen(test, common, &roots)) {
                break changed;
            }
        };
        if terminal {
            out.print(CLEAR);
        } else {
            out.say(&format!("{} has changed", changed.display()));
        }
    }
}

/// What suites speak of, as far as they can be read.
fn inputs(cases: &[PathBuf]) -> Vec<PathBuf> {
    cases.iter().flat_map(|file| runner::inputs(file).unwrap_or_default()).collect()
}

/// Every file that a run reads, or would read if it could, as it is now.
fn seen(test: &Test, common: &Common, roots: &[PathBuf]) -> BTreeMap<PathBuf, Stamp> {
    let mut files = test.files(common).unwrap_or_else(|_none| test.cases.clone());
    for root in roots {
        files.extend(read::yaml_files(root).unwrap_or_else(|_absent| vec![root.clone()]));
    }
    files.into_iter().map(|file| (file.clone(), stamp(&file))).collect()
}

/// A file that is not what it was, or that is new or gone.
fn difference(before: &BTreeMap<PathBuf, Stamp>, now: &BTreeMap<PathBuf, Stamp>) -> Option<PathBuf> {
    let changed = now.iter().find(|(file, stamp)| before.get(*file) != Some(stamp));
    let gone = || before.iter().find(|(file, _)| !now.contains_key(*file));
    changed.or_else(gone).map(|(file, _)| file.clone())
}
