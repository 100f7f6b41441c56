//! The documents name nothing that is not there.

use std::path::{Component, Path, PathBuf};
use std::process::Command;

use isthmus_tests::repository;

use super::{none, text, tracked};

const ROOMS: [&str; 9] =
    ["policy/", "filter/", "host/", "tests/", "examples/", "docs/", "wasm/", ".ci/", ".github/"];

/// What a Markdown text names: in backticks, outside blocks of code, and as targets of links.
fn named(markdown: &str) -> (Vec<&str>, Vec<&str>) {
    let mut quoted = Vec::new();
    let mut linked = Vec::new();
    let mut in_block = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            quoted.extend(line.split('`').skip(1).step_by(2));
            let targets = line.split("](").skip(1);
            linked.extend(targets.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target));
        }
    }
    (quoted, linked)
}

/// A path that something in backticks means, if it means one: placeholders, globs and commands do not.
fn path_of(quoted: &str) -> Option<&str> {
    let odd = |sign: char| "<>{}*$ |\"'…".contains(sign);
    let path = quoted.split("::").next()?.split(':').next()?;
    let of_room = ROOMS.iter().any(|room| path.starts_with(room));
    let top =
        !path.contains('/') && path.contains('.') && tracked(&[":(glob)*"]).iter().any(|file| file == path);
    ((of_room || top) && !path.contains(odd) && !path.contains("...")).then_some(path)
}

/// Whether a path is in the repository, or is one that the build makes there and git ignores.
fn there(path: &Path) -> bool {
    let ignored = || {
        let git = Command::new("git")
            .args(["check-ignore", "-q", "--"])
            .arg(path)
            .current_dir(repository())
            .status();
        git.expect("git runs").success()
    };
    repository().join(path).exists() || ignored()
}

/// A link's target seen from the repository, without `..`.
fn resolved(document: &str, target: &str) -> PathBuf {
    let mut path = Path::new(document).parent().map(Path::to_path_buf).unwrap_or_default();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path
}

#[test]
fn every_path_that_a_document_names_exists() {
    let mut mistakes = Vec::new();
    let mut seen = 0;
    for document in tracked(&["*.md"]) {
        let markdown = text(&document);
        let (quoted, linked) = named(&markdown);
        let quoted = quoted.into_iter().filter_map(path_of).map(PathBuf::from);
        let local = |target: &&str| {
            !target.contains("://") && !target.starts_with(['#', '<']) && !target.starts_with("mailto:")
        };
        let linked = linked
            .into_iter()
            .filter(local)
            .map(|target| resolved(&document, target.split(['#', ' ']).next().unwrap_or_default()));
        for path in quoted.chain(linked) {
            seen += 1;
            if !there(&path) {
                mistakes.push(format!("{document} names {}, which is not there", path.display()));
            }
        }
    }
    assert!(seen > 0, "no document names a path: the reader of documents is broken");
    none(&mistakes);
}

#[test]
fn the_reader_of_documents_tells_paths_from_other_words() {
    let (quoted, linked) =
        named("see `host/src/lab.rs:12`, `cargo test`, [x](../a.md#b)\n```\n`no`\n```\n`docs/<x>`");
    assert_eq!(quoted, ["host/src/lab.rs:12", "cargo test", "docs/<x>"]);
    assert_eq!(quoted.into_iter().filter_map(path_of).collect::<Vec<_>>(), ["host/src/lab.rs"]);
    assert_eq!(linked, ["../a.md#b"]);
    assert_eq!(resolved("docs/adr/1.md", "../a.md"), Path::new("docs/a.md"));
    assert!(!there(Path::new("docs/nowhere.md")));
}
