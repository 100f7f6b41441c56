//! Checks as people and programs read them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use policy::finding::Severity;
use serde_json::{Value, json};

use super::{Check, Code, Failure, Outcome, Skip};
use crate::render::counted;

/// How many checks came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Things that are wrong.
    pub errors: usize,
    /// Things that may be.
    pub warnings: usize,
    /// Checks that passed.
    pub passed: usize,
    /// Checks that could not be made.
    pub skipped: usize,
}

impl Tally {
    /// Counts checks.
    pub fn of(checks: &[Check]) -> Self {
        let mut tally = Self::default();
        for check in checks {
            match &check.outcome {
                Outcome::Passed => tally.passed += 1,
                Outcome::Skipped(Skip::Idle(_)) => {}
                Outcome::Skipped(Skip::Unseen(_)) => tally.skipped += 1,
                Outcome::Failed(failures) => {
                    let errors = failures.iter().filter(|one| one.severity == Severity::Error).count();
                    tally.errors += errors;
                    tally.warnings += failures.len() - errors;
                }
            }
        }
        tally
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { errors, warnings, passed, skipped } = self;
        let (errors, warnings) = (counted(*errors, "error"), counted(*warnings, "warning"));
        write!(out, "{errors}, {warnings}; {passed} passed, {skipped} skipped")
    }
}

/// Every check under the headline of its category; clusters that came to the same share a line.
///
/// ```text
/// networks
///   ok    cluster1, cluster3: Istio's namespace says the network
///   error cluster2: namespace istio-system says network "network1", and mesh.yaml says "network2" [ISD040]
///         hint: kubectl label namespace istio-system topology.istio.io/network=network2 --overwrite
/// ```
pub fn text(checks: &[Check]) -> String {
    let mut out = String::new();
    let mut headline = None;
    for code in Code::ALL {
        let told = told(*code, checks);
        if told.is_empty() {
            continue;
        }
        let category = code.category();
        if headline.replace(category) != Some(category) {
            let gap = if out.is_empty() { "" } else { "\n" };
            let _infallible = writeln!(out, "{gap}{}", category.as_str());
        }
        out.push_str(&told);
    }
    out
}

/// The lines of one check; none where it concerns no cluster.
fn told(code: Code, checks: &[Check]) -> String {
    let (mut passed, mut unseen) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
    let mut wrong = String::new();
    for check in checks.iter().filter(|check| check.code == code) {
        match &check.outcome {
            Outcome::Passed => passed.push(check.cluster.as_str()),
            Outcome::Skipped(Skip::Idle(_)) => {}
            Outcome::Skipped(Skip::Unseen(why)) => {
                unseen.entry(why).or_default().push(check.cluster.as_str());
            }
            Outcome::Failed(failures) => {
                failures.iter().for_each(|failure| failed(&mut wrong, check, failure));
            }
        }
    }
    let mut out = String::new();
    if !passed.is_empty() {
        let _infallible = writeln!(out, "  ok    {}: {}", passed.join(", "), code.title());
    }
    for (why, clusters) in unseen {
        let _infallible = writeln!(out, "  skip  {}: {}: {why}", clusters.join(", "), code.title());
    }
    out + &wrong
}

fn failed(out: &mut String, check: &Check, failure: &Failure) {
    let mark = match failure.severity {
        Severity::Error => "error",
        Severity::Warning => "warn ",
    };
    let Failure { message, hint, .. } = failure;
    let _infallible =
        writeln!(out, "  {mark} {}: {message} [{}]\n        hint: {hint}", check.cluster, check.code);
}

/// What is wrong and nothing else, a line each: `cluster2: error[ISD040]: ...`.
pub fn short(checks: &[Check]) -> String {
    let mut out = String::new();
    for (check, failure) in failures(checks) {
        let Failure { severity, message, .. } = failure;
        let _infallible = writeln!(out, "{}: {severity}[{}]: {message}", check.cluster, check.code);
    }
    out
}

fn failures(checks: &[Check]) -> impl Iterator<Item = (&Check, &Failure)> {
    checks.iter().flat_map(|check| {
        let failures = match &check.outcome {
            Outcome::Failed(failures) => failures.as_slice(),
            Outcome::Passed | Outcome::Skipped(_) => &[],
        };
        failures.iter().map(move |failure| (check, failure))
    })
}

/// Every check as JSON, for programs: one item for each that passed or was skipped, and for each thing that is wrong.
pub fn json(checks: &[Check]) -> Value {
    let mut items = Vec::new();
    for check in checks {
        let item = |result: &str, more: Value| {
            let mut item = json!({
                "code": check.code.to_string(),
                "category": check.code.category().as_str(),
                "check": check.code.title(),
                "cluster": check.cluster,
                "result": result,
            });
            if let (Some(item), Value::Object(more)) = (item.as_object_mut(), more) {
                item.extend(more);
            }
            item
        };
        match &check.outcome {
            Outcome::Passed => items.push(item("passed", Value::Null)),
            Outcome::Skipped(Skip::Idle(why)) => items.push(item("idle", json!({"message": why}))),
            Outcome::Skipped(Skip::Unseen(why)) => items.push(item("skipped", json!({"message": why}))),
            Outcome::Failed(failures) => items.extend(failures.iter().map(|failure| {
                let more = json!({"message": failure.message, "hint": failure.hint});
                item(&failure.severity.to_string(), more)
            })),
        }
    }
    let Tally { errors, warnings, passed, skipped } = Tally::of(checks);
    json!({
        "apiVersion": "isthmus.dev/v1alpha1",
        "kind": "Diagnosis",
        "summary": {"errors": errors, "warnings": warnings, "passed": passed, "skipped": skipped},
        "items": items,
    })
}
