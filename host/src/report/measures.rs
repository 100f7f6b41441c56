//! How good the cases are: what they have touched, and what they would notice.

use std::fmt::Write as _;

use policy::finding::Place;
use serde_json::{Value, json};

use super::Report;
use crate::coverage::{Coverage, Kind, Point};
use crate::mutate::{Fate, Mutant, Mutation};

impl Report<'_> {
    pub(super) fn measures(&self, out: &mut String) {
        if let Some(coverage) = self.coverage {
            let shares = Kind::ALL.map(|kind| format!("{} {}", kind.as_str(), coverage.share(kind)));
            let _infallible = writeln!(out, "coverage: {}", shares.join(", "));
            for point in coverage.untouched() {
                let _infallible = writeln!(out, "  never: {}: {}", place(point), point.name);
            }
        }
        if let Some(mutation) = self.mutation {
            let _infallible = writeln!(out, "mutants: {} noticed", mutation.share());
            for Mutant { at, what, .. } in mutation.survivors() {
                let _infallible = writeln!(out, "  survived: {at}: {what}, and no case fails");
            }
        }
    }

    pub(super) fn coverage_json(&self) -> Value {
        let of = |coverage: &Coverage| {
            let shares = Kind::ALL.map(|kind| {
                let points = coverage.points().filter(|(point, _)| point.kind == kind);
                let points: Vec<Value> = points.map(|(point, cases)| point_json(point, cases)).collect();
                let share = coverage.share(kind);
                let whole = json!({
                    "touched": share.touched, "total": share.total, "percent": share.percent(), "items": points,
                });
                (kind.as_str().to_owned(), whole)
            });
            Value::Object(shares.into_iter().collect())
        };
        self.coverage.map_or(Value::Null, of)
    }

    pub(super) fn mutation_json(&self) -> Value {
        let of = |mutation: &Mutation| {
            let share = mutation.share();
            let mutants: Vec<Value> = mutation.mutants.iter().map(mutant_json).collect();
            json!({"noticed": share.touched, "total": share.total, "percent": share.percent(), "items": mutants})
        };
        self.mutation.map_or(Value::Null, of)
    }
}

fn place(point: &Point) -> String {
    point.at.as_ref().map_or_else(|| point.file.clone(), Place::to_string)
}

fn point_json(point: &Point, cases: usize) -> Value {
    let at = point.at.as_ref();
    json!({
        "name": point.name, "file": point.file, "line": at.map(|at| at.line), "column": at.map(|at| at.column),
        "cases": cases,
    })
}

fn mutant_json((mutant, fate): &(Mutant, Fate)) -> Value {
    let (fate, by) = match fate {
        Fate::Noticed(case) => ("noticed", Some(case)),
        Fate::Survived => ("survived", None),
        Fate::Refused => ("refused", None),
    };
    json!({
        "what": mutant.what, "file": &*mutant.at.file, "line": mutant.at.line, "column": mutant.at.column,
        "fate": fate, "by": by,
    })
}
