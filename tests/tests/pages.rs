//! The pages tier: every finding has a page, and what the page says is so.

#![expect(clippy::expect_used, reason = "a page that cannot be read fails its test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use isthmus_tests::repository;
use policy::Policy;
use policy::finding::{Code, Finding, Severity};
use policy::mesh::Draft;

/// A part that no test can run: it would be a megabyte.
const FRAGMENT: &str = "yaml-fragment";

/// A page: its title, and under each heading the fenced blocks as (what is said after the fence, text).
struct Page {
    code: String,
    title: String,
    text: String,
    blocks: BTreeMap<String, Vec<(String, String)>>,
}

fn pages() -> Vec<Page> {
    let directory = repository().join("docs/findings");
    let mut paths: Vec<_> = fs::read_dir(&directory)
        .expect("a directory of pages")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ISM")))
        .collect();
    paths.sort();
    paths.iter().map(|path| page(path)).collect()
}

fn page(path: &Path) -> Page {
    let text = fs::read_to_string(path).expect("a page");
    let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut lines = text.lines();
    let title = lines.next().and_then(|line| line.strip_prefix(&format!("# {name}: "))).unwrap_or_default();
    let (title, mut heading) = (title.to_owned(), String::new());
    let mut blocks: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut open: Option<(String, String)> = None;
    for line in lines {
        match (&mut open, line.strip_prefix("```"), line.strip_prefix("## ")) {
            (None, Some(info), _) => open = Some((info.to_owned(), String::new())),
            (None, None, Some(found)) => found.clone_into(&mut heading),
            (None, None, None) => {}
            (Some(_), Some(_), _) => blocks.entry(heading.clone()).or_default().extend(open.take()),
            (Some((_, text)), None, _) => *text += &format!("{line}\n"),
        }
    }
    Page { code: name, title, text, blocks }
}

/// What `isthmus check` finds in the documents of a section.
fn findings(blocks: &[(String, String)]) -> Vec<Finding> {
    let files: Vec<(&str, &str)> =
        blocks.iter().filter_map(|(info, text)| Some((info.strip_prefix("yaml ")?, text.as_str()))).collect();
    let common = fs::read_to_string(repository().join("docs/findings/mesh.yaml")).expect("the common mesh");
    let mesh = files.iter().find(|(file, _)| *file == "mesh.yaml").map_or(common.as_str(), |(_, text)| *text);
    let (draft, mut findings) = Draft::read("mesh.yaml", mesh);
    let root = draft
        .as_ref()
        .map_or_else(|| "istio-system".parse().expect("a name"), |draft| draft.root_namespace().clone());
    let mut policies = Vec::new();
    for (file, text) in files.iter().filter(|(file, _)| *file != "mesh.yaml") {
        let (read, found) = Policy::read(file, text, &root);
        policies.extend(read);
        findings.extend(found);
    }
    findings.extend(draft.iter().flat_map(|draft| policy::compile::check(draft, &policies)));
    findings.sort();
    findings
}

fn runs(page: &Page) -> bool {
    !page.blocks.values().flatten().any(|(info, _)| info == FRAGMENT)
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let codes: Vec<String> = Code::ALL.iter().map(ToString::to_string).collect();
    let mut sorted = codes.clone();
    sorted.sort();
    assert_eq!(pages().iter().map(|page| page.code.clone()).collect::<Vec<_>>(), sorted);
    for page in pages() {
        assert!(!page.title.is_empty(), "{} begins with `# {}: ` and a title", page.code, page.code);
        let code = Code::ALL.iter().find(|code| code.to_string() == page.code).expect("a code");
        let said = match code.severity() {
            Severity::Error => "An error: ",
            Severity::Warning => "A warning: ",
        };
        assert!(page.text.contains(said), "{} says its severity: {said}", page.code);
    }
    let unrun: Vec<String> =
        pages().iter().filter(|page| !runs(page)).map(|page| page.code.clone()).collect();
    assert_eq!(unrun, ["ISM024"], "only what is too large to show is not run");
}

#[test]
fn what_a_page_shows_as_wrong_gives_its_finding_as_it_is_printed() {
    for page in pages().iter().filter(|page| runs(page)) {
        let blocks = page.blocks.get("Wrong").unwrap_or_else(|| panic!("{} shows nothing wrong", page.code));
        let found = findings(blocks);
        assert!(
            found.iter().any(|finding| finding.code.to_string() == page.code),
            "{}: {found:?}",
            page.code
        );
        let is_other = |f: &&Finding| f.code.severity() == Severity::Error && f.code.to_string() != page.code;
        assert!(!found.iter().any(|finding| is_other(&finding)), "{}: {found:?}", page.code);
        let printed: String = found.iter().map(|f| format!("{f}\n  hint: {}\n", f.hint)).collect();
        let shown = blocks.iter().find(|(info, _)| info == "text").map(|(_, text)| text.as_str());
        assert_eq!(shown, Some(printed.as_str()), "{}", page.code);
    }
}

#[test]
fn what_a_page_shows_as_right_gives_no_finding_at_all() {
    for page in pages().iter().filter(|page| runs(page)) {
        let blocks = page.blocks.get("Right").unwrap_or_else(|| panic!("{} shows nothing right", page.code));
        assert_eq!(findings(blocks), [], "{}", page.code);
    }
}

#[test]
fn the_index_lists_every_page_with_its_severity_and_title() {
    let index = fs::read_to_string(repository().join("docs/findings/README.md")).expect("an index");
    let rows: Vec<&str> = index.lines().filter(|line| line.starts_with("| [ISM")).collect();
    let wanted: Vec<String> = pages()
        .iter()
        .map(|page| {
            let code = Code::ALL.iter().find(|code| code.to_string() == page.code).expect("a code");
            format!("| [{0}]({0}.md) | {1} | {2} |", page.code, code.severity(), page.title)
        })
        .collect();
    assert_eq!(rows, wanted);
}
