//! The form of the source: where unsafe code stands, how long a file is, what is left undone.

use super::{none, text, tracked};

/// Product files that may be longer, and why.
const LONG: [(&str, &str); 0] = [];

const LONGEST: usize = 400;

/// The product's source: not what tests it.
fn product() -> Vec<String> {
    let all = tracked(&["policy/src/*.rs", "filter/src/*.rs", "host/src/*.rs"]);
    let files: Vec<String> =
        all.into_iter().filter(|path| !path.ends_with("/tests.rs") && !path.contains("/tests/")).collect();
    assert!(files.len() > 20, "the product is not where it was: {files:?}");
    files
}

/// The code of a file up to its unit tests.
fn without_tests(source: &str) -> Vec<&str> {
    source.lines().take_while(|line| *line != "#[cfg(test)]").collect()
}

/// The lines of a file that hold a word in code, not in a comment.
fn lines_with<'s>(source: &[&'s str], word: &str) -> Vec<(usize, &'s str)> {
    let code = |line: &'s str| line.split("//").next().unwrap_or_default();
    let numbered = source.iter().enumerate().map(|(index, line)| (index + 1, code(line)));
    numbered.filter(|(_, line)| line.contains(word)).collect()
}

#[test]
fn unsafe_code_stands_in_one_file_only() {
    let word = ["un", "safe"].concat();
    let forms = [format!("{word} "), format!("#[{word}("), format!("{word}{{")];
    let mut mistakes = Vec::new();
    let mut hostcalls = 0;
    for path in tracked(&["*.rs"]) {
        let source = text(&path);
        let lines: Vec<&str> = source.lines().collect();
        let found: Vec<_> = forms.iter().flat_map(|form| lines_with(&lines, form)).collect();
        if path == "filter/src/envoy.rs" {
            hostcalls = found.len();
        } else {
            mistakes.extend(found.iter().map(|(line, code)| format!("{path}:{line}: {}", code.trim())));
        }
    }
    assert!(hostcalls > 0, "filter/src/envoy.rs makes no hostcalls: where do they stand now?");
    none(&mistakes);
}

#[test]
fn every_crate_forbids_unsafe_code_and_the_filter_excepts_one_file() {
    for root in ["policy/src/lib.rs", "host/src/lib.rs", "tests/src/lib.rs"] {
        assert!(text(root).lines().any(|line| line == "#![forbid(unsafe_code)]"), "{root}");
    }
    assert!(text("Cargo.toml").contains("unsafe_code = \"deny\""), "Cargo.toml");
    for manifest in tracked(&["*/Cargo.toml"]) {
        assert!(text(&manifest).contains("[lints]\nworkspace = true"), "{manifest}");
    }
    let exception = ["expect(un", "safe_code"].concat();
    let excepting = |path: &String| text(path).contains(&exception);
    assert_eq!(tracked(&["*.rs"]).into_iter().filter(excepting).collect::<Vec<_>>(), ["filter/src/envoy.rs"]);
}

#[test]
fn a_product_file_is_short_enough_to_read() {
    let mut mistakes = Vec::new();
    for path in product() {
        let source = text(&path);
        let lines = without_tests(&source).len();
        match LONG.iter().find(|(long, _)| *long == path) {
            Some((_, reason)) if lines <= LONGEST => {
                mistakes.push(format!("{path} is no longer long: take it off the list ({reason})"));
            }
            None if lines > LONGEST => {
                mistakes.push(format!("{path} has {lines} lines, more than {LONGEST}"));
            }
            Some(_) | None => {}
        }
    }
    none(&mistakes);
}

#[test]
fn nothing_is_left_undone() {
    let product: Vec<String> = product();
    let unfinished = ["todo!(", "unimplemented!(", "FIXME"];
    let mut mistakes = Vec::new();
    for path in &product {
        for (line, code) in text(path).lines().enumerate() {
            if unfinished.iter().any(|word| code.contains(word)) {
                mistakes.push(format!("{path}:{}: {}", line + 1, code.trim()));
            }
        }
    }
    none(&mistakes);
}

#[test]
fn no_test_is_ignored() {
    let mark = ["#[", "ignore"].concat();
    let ignored = |path: &String| text(path).lines().any(|line| line.trim_start().starts_with(&mark));
    none(&tracked(&["*.rs"]).into_iter().filter(ignored).collect::<Vec<_>>());
}
