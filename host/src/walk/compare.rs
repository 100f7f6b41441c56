//! What was wanted beside what came.

use policy::name::ClusterName;

use super::{Outcome, Outcomes, Stop};
use crate::case::{Case, Expectation, TagsWanted};

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
        let none = || "none".to_owned();
        let judged = self.at == Stop::Destination;
        let mut rows = vec![
            row("verdict", Some(expected.verdict.to_owned()), Some(self.verdict.clone())),
            row("reason", expected.reason.clone(), Some(self.reason.clone())),
            row("status", expected.status.map(|status| status.to_string()), Some(self.status.to_string())),
            row("source", expected.source.clone(), self.source.clone().or_else(|| judged.then(none))),
            row("level", expected.level.clone(), self.level.clone()),
        ];
        rows.extend(self.tag_rows(expected.tags.as_ref()));
        if let Some(wanted) = &expected.served_by {
            let got = self.served_by.clone().unwrap_or_else(none);
            let is_one = wanted.iter().any(|cluster| cluster.as_str() == got);
            let names: Vec<&str> = wanted.iter().map(ClusterName::as_str).collect();
            let wanted = if is_one { got.clone() } else { names.join(" or ") };
            rows.push(row("servedBy", Some(wanted), Some(got)));
        }
        let shadow = self.shadow.as_ref();
        if expected.shadow.is_some() || shadow.is_some() {
            let wanted = expected.shadow.as_ref();
            let verdict = shadow.map_or_else(none, |(verdict, _)| verdict.clone());
            rows.push(row("shadow", wanted.map(|wanted| wanted.verdict.to_owned()), Some(verdict)));
            let reason = shadow.map(|(_, reason)| reason.clone());
            rows.push(row("  by", wanted.and_then(|wanted| wanted.reason.clone()), reason));
        }
        if expected.breach.is_some() || self.breach.is_some() {
            let wanted = expected.breach.map(|breach| breach.to_string());
            rows.push(row("breach", wanted, Some(self.breach.is_some().to_string())));
        }
        rows
    }

    fn tag_rows(&self, wanted: Option<&TagsWanted>) -> Vec<Row> {
        let none = || Some("none".to_owned());
        let (cluster, network) = match wanted {
            None => return Vec::new(),
            Some(TagsWanted::None) => (none(), none()),
            Some(TagsWanted::Some { cluster, network }) => (cluster.clone(), network.clone()),
        };
        // Of a request that never comes the application sees nothing, and so no tags either.
        let tags = self.tags.clone().unwrap_or_default();
        vec![
            Row { field: "tag", wanted: cluster, got: tags.cluster.or_else(none) },
            Row { field: "network", wanted: network, got: tags.network.or_else(none) },
        ]
    }

    /// Whether all that is expected is so.
    pub fn meets(&self, expected: &Expectation) -> bool {
        !self.beside(expected).iter().any(Row::differs)
    }
}

/// What is wrong with the outcomes of a case; `None` when they are as expected.
pub fn judge(case: &Case, outcomes: &Outcomes) -> Option<Vec<Compared>> {
    let mut wrong: Vec<Compared> = outcomes
        .iter()
        .map(|(cluster, outcome)| Compared { cluster: cluster.clone(), rows: outcome.beside(&case.expect) })
        .filter(|compared| compared.rows.iter().any(Row::differs))
        .collect();
    let answers = |cluster: &&ClusterName| {
        outcomes.iter().any(|(_, outcome)| outcome.served_by.as_deref() == Some(cluster.as_str()))
    };
    let silent = case.expect.served_by.iter().flatten().filter(|cluster| !answers(cluster));
    wrong.extend(silent.map(|cluster| {
        let row = Row { field: "servedBy", wanted: Some(cluster.to_string()), got: Some("never".to_owned()) };
        Compared { cluster: cluster.clone(), rows: vec![row] }
    }));
    (!wrong.is_empty()).then_some(wrong)
}
