//! For programs.

use serde_json::{Value, json};

use super::{Report, headline};
use crate::runner::{Job, Tested};

impl Report<'_> {
    /// The report as JSON.
    pub fn json(&self) -> Value {
        let counts = self.counts();
        let suites: Vec<Value> = self.suites().iter().map(Report::suite).collect();
        json!({
            "apiVersion": policy::API_VERSION, "kind": "TestReport",
            "passed": counts.passed, "failed": counts.failed, "notRun": counts.not_run, "suites": suites,
            "coverage": self.coverage_json(), "mutation": self.mutation_json(),
        })
    }

    fn suite(&self) -> Value {
        let first = self.jobs.first();
        let cases: Vec<Value> = self.pairs().map(|(job, tested)| case(job, tested.as_ref())).collect();
        json!({
            "file": first.map(|job| job.suite.file.display().to_string()),
            "suite": first.map(|job| &job.suite.suite.name),
            "cases": cases,
        })
    }
}

fn case(job: &Job<'_>, tested: Option<&Tested>) -> Value {
    let name = &job.case.name;
    let failure = tested.and_then(|tested| tested.failure.as_ref());
    let outcomes: Vec<Value> = tested
        .iter()
        .flat_map(|tested| &tested.outcomes)
        .map(|(cluster, outcome)| {
            let differs: Vec<Value> = outcome
                .beside(&job.case.expect)
                .iter()
                .filter(|row| row.differs())
                .map(|row| json!({"field": row.field, "wanted": row.wanted, "got": row.got}))
                .collect();
            json!({
                "destination": cluster.as_str(), "verdict": outcome.verdict, "reason": outcome.reason,
                "at": outcome.at.to_string(), "status": outcome.status,
                "source": outcome.source, "level": outcome.level,
                "tags": outcome.tags.as_ref().map(|tags| json!({"cluster": tags.cluster, "network": tags.network})),
                "servedBy": outcome.served_by, "breach": outcome.breach,
                "shadow": outcome.shadow.as_ref().map(|(verdict, reason)| json!({"verdict": verdict, "reason": reason})),
                "differs": differs,
            })
        })
        .collect();
    json!({
        "name": name.value, "line": name.at.line, "column": name.at.column,
        "run": tested.is_some(), "passed": tested.is_some() && failure.is_none(),
        "wrong": failure.map(headline), "outcomes": outcomes,
    })
}
