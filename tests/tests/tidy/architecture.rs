//! Every invariant of ARCHITECTURE.md is held by a test that exists.

use super::{none, text};
use isthmus_tests::repository;

/// The numbered invariants of a text: each paragraph that begins with a number and bold words.
fn invariants(markdown: &str) -> Vec<String> {
    let begins =
        |line: &str| line.split_once(". **").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        if begins(line) {
            inside = true;
            found.push(line.to_owned());
        } else if line.trim().is_empty() || line.starts_with('#') {
            inside = false;
        } else if let Some(invariant) = found.last_mut().filter(|_| inside) {
            invariant.push(' ');
            invariant.push_str(line.trim());
        }
    }
    found
}

/// The tests that an invariant names after `Held by`: functions, each with the file that is named next.
fn holders(invariant: &str) -> Vec<(String, String)> {
    let Some((_, held)) = invariant.split_once("Held by") else { return Vec::new() };
    let mut functions = Vec::new();
    let mut found = Vec::new();
    for quoted in held.split('`').skip(1).step_by(2) {
        if quoted.ends_with(".rs") {
            found.extend(functions.drain(..).map(|function| (function, quoted.to_owned())));
        } else {
            functions.push(quoted.to_owned());
        }
    }
    found.extend(functions.into_iter().map(|function| (function, String::new())));
    found
}

/// What is wrong with an invariant, if anything is.
fn mistake(invariant: &str, exists: impl Fn(&str, &str) -> bool) -> Option<String> {
    let holders = holders(invariant);
    if holders.is_empty() {
        return Some(format!("no test is named: {invariant}"));
    }
    let missing = holders.into_iter().find(|(function, file)| !exists(function, file));
    missing.map(|(function, file)| format!("no test {function} in {file:?}: {invariant}"))
}

fn exists(function: &str, file: &str) -> bool {
    let test = format!("fn {function}(");
    repository().join(file).is_file() && text(file).contains(&test)
}

#[test]
fn every_invariant_is_held_by_a_test_that_exists() {
    let found = invariants(&text("ARCHITECTURE.md"));
    assert!(!found.is_empty(), "ARCHITECTURE.md has no numbered invariants");
    none(&found.iter().filter_map(|invariant| mistake(invariant, exists)).collect::<Vec<_>>());
}

#[test]
fn an_invariant_without_its_test_is_found() {
    let markdown = "# A\n1. **One.** Why.\n   Held by `a` and `b` in `t.rs`.\n2. **Two.** Held by nobody.\n\ntext\n3. **Three.** Held by `a` in `u.rs`.\n";
    let found = invariants(markdown);
    let there = |function: &str, file: &str| file == "t.rs" && ["a", "b"].contains(&function);
    let mistakes: Vec<bool> = found.iter().map(|invariant| mistake(invariant, there).is_some()).collect();
    assert_eq!(mistakes, [false, true, true]);
}
