//! What was wanted beside what came.

use policy::name::ClusterName;

use super::{Outcome, Outcomes};
use crate::case::{Case, Expectation};

/// What one cluster made of a case, beside what was wanted, where they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The cluster that was to answer.
    pub cluster: ClusterName,
    /// Everything that is known of it, the differences among it.
    pub rows: Vec<Row>,
}

/// One thing that was wanted, and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// As a case names it.
    pub field: &'static str,
    /// What is wanted; `None`: nothing is said of it.
    pub wanted: Option<String>,
    /// What came; `None`: nothing is known of it.
    pub got: Option<String>,
}

impl Row {
    /// Whether something is wanted and another thing came.
    pub fn differs(&self) -> bool {
        self.wanted.is_some() && self.wanted != self.got
    }
}

impl Outcome {
    /// What was expected, line by line, beside what came.
    pub fn beside(&self, expected: &Expectation) -> Vec<Row> {
        let row = |field, wanted: Option<String>, got: Option<String>| Row { field, wanted, got };
        vec![
            row("verdict", Some(expected.verdict.to_owned()), Some(self.verdict.clone())),
            row("reason", expected.reason.clone(), Some(self.reason.clone())),
            row("status", expected.status.map(|status| status.to_string()), Some(self.status.to_string())),
            row("source", expected.source.clone(), self.source.clone()),
            row("level", expected.level.clone(), self.level.clone()),
        ]
    }

    /// Whether all that is expected is so.
    pub fn meets(&self, expected: &Expectation) -> bool {
        !self.beside(expected).iter().any(Row::differs)
    }
}

/// What is wrong with the outcomes of a case; `None` when they are as expected.
pub fn judge(case: &Case, outcomes: &Outcomes) -> Option<Vec<Compared>> {
    let wrong: Vec<Compared> = outcomes
        .iter()
        .map(|(cluster, outcome)| Compared { cluster: cluster.clone(), rows: outcome.beside(&case.expect) })
        .filter(|compared| compared.rows.iter().any(Row::differs))
        .collect();
    (!wrong.is_empty()).then_some(wrong)
}
