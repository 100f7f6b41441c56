//! Findings as a person reads them: where, what, the line itself, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::Finding;
use policy::finding::Severity;
use serde_json::{Value, json};

/// Writes findings with the lines that they point at.
///
/// ```text
/// policies/ledger.yaml:14:9: error[ISM012]: cluster "eu-3" is not in the mesh
///    14 |   - from: [{clusters: [eu-3]}]
///       |                        ^^^^
///    hint: the mesh has eu-1, eu-2
/// ```
pub fn findings(findings: &[Finding], sources: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for finding in findings {
        let at = &finding.at;
        let _infallible = writeln!(out, "{finding}");
        let line = sources.get(&*at.file).and_then(|text| text.lines().nth(at.line.saturating_sub(1)));
        if let Some(line) = line {
            // A tab takes one column, as it does in the place.
            let lead: String = line
                .chars()
                .take(at.column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let carets =
                "^".repeat(at.width.min(line.chars().count().saturating_sub(lead.chars().count())).max(1));
            let _infallible = writeln!(out, "{:5} | {line}\n      | {lead}{carets}", at.line);
        }
        let _infallible = writeln!(out, "  hint: {}\n", finding.hint);
    }
    out
}

/// How many errors and warnings there are, as one line says it.
pub fn summary(findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.code.severity() == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"))
}

/// A number of things, with the word for them.
pub fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// Findings as JSON, for programs.
pub fn findings_json(findings: &[Finding]) -> Value {
    let items: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "file": &*finding.at.file,
                "line": finding.at.line,
                "column": finding.at.column,
                "width": finding.at.width,
                "code": finding.code.to_string(),
                "severity": finding.code.severity().to_string(),
                "message": finding.message,
                "hint": finding.hint,
            })
        })
        .collect();
    json!({"apiVersion": policy::API_VERSION, "kind": "Findings", "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_its_line_underlined() {
        let text = "kind: Mush\n";
        let (_, found) = policy::Mesh::read("mesh.yaml", text);
        let sources = [("mesh.yaml".to_owned(), text.to_owned())].into();
        let wrong_kind: Vec<Finding> = found.into_iter().filter(|finding| finding.at.column == 7).collect();
        let shown = findings(&wrong_kind, &sources);
        assert_eq!(
            shown,
            "mesh.yaml:1:7: error[ISM006]: kind must be Mesh, and this is \"Mush\"\n    1 | kind: Mush\n      |       ^^^^\n  hint: write kind: Mesh\n\n"
        );
    }
}
