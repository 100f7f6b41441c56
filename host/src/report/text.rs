//! For people: what failed, what was wanted beside what came, and why it came so.

use std::fmt::Write as _;

use super::{Counts, Report};
use crate::render::counted;
use crate::runner::{Failure, Job, Tested};
use crate::walk::{self, Compared};

impl Report<'_> {
    /// The report as text; with `all`, the cases that passed are named too.
    pub fn text(&self, all: bool) -> String {
        let mut out = String::new();
        for suite in self.suites() {
            let Some(first) = suite.jobs.first() else { continue };
            let (file, name) = (first.suite.file.display(), &first.suite.suite.name);
            let _infallible = writeln!(out, "{file}: {name}: {}", said(suite.counts()));
            for (job, tested) in suite.pairs() {
                match tested {
                    Some(tested) => case(job, tested, all, &mut out),
                    None if all => {
                        let _infallible = writeln!(out, "  --    {}", job.case.name.value);
                    }
                    None => {}
                }
            }
        }
        self.measures(&mut out);
        let _infallible = writeln!(out, "{}", said(self.counts()));
        out
    }

    /// What is told of a case that failed.
    pub(super) fn failed(job: &Job<'_>, tested: &Tested) -> String {
        let mut out = String::new();
        case(job, tested, false, &mut out);
        out
    }
}

fn said(counts: Counts) -> String {
    let Counts { passed, failed, not_run } = counts;
    let rest = if not_run > 0 { format!(", {not_run} not run") } else { String::new() };
    format!("{passed} passed, {failed} failed{rest}")
}

fn case(job: &Job<'_>, tested: &Tested, all: bool, out: &mut String) {
    let name = &job.case.name;
    let Some(failure) = &tested.failure else {
        if all {
            let _infallible = writeln!(out, "  ok    {}", name.value);
        }
        return;
    };
    let _infallible = writeln!(out, "  FAIL  {}\n        {}\n        {}", name.value, name.at, job.case.call);
    match failure {
        Failure::Different(clusters) => {
            for compared in clusters {
                columns(compared, out);
                why(job, compared, out);
            }
            let others = tested.outcomes.len().saturating_sub(clusters.len());
            if others > 0 {
                let others = counted(others, "other cluster");
                let _infallible = writeln!(out, "        ({others} did as expected: say to: CLUSTER)");
            }
        }
        Failure::NoPath(none) => {
            let _infallible = writeln!(out, "        {none}");
        }
        Failure::Broken(why) => {
            let _infallible = writeln!(out, "        {why}");
        }
    }
}

/// What was wanted, beside what came.
fn columns(compared: &Compared, out: &mut String) {
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let widest = compared.rows.iter().map(|row| shown(&row.wanted).chars().count()).max().unwrap_or_default();
    let width = widest.max("wanted".len());
    let _infallible = writeln!(out, "        {:10} {:width$} | in {}", "", "wanted", compared.cluster);
    for row in &compared.rows {
        let mark = if row.differs() { '>' } else { ' ' };
        let (wanted, got) = (shown(&row.wanted), shown(&row.got));
        if wanted != "-" || got != "-" {
            let _infallible = writeln!(out, "      {mark} {:10} {wanted:width$} | {got}", row.field);
        }
    }
}

/// The steps of the place that decided.
fn why(job: &Job<'_>, compared: &Compared, out: &mut String) {
    let (mesh, plans) = (&job.world.mesh, &job.world.plans);
    let Ok(journeys) = walk::journeys(mesh, plans, &job.case.call) else { return };
    let Some(journey) = journeys.iter().find(|journey| journey.destination.name == compared.cluster) else {
        return;
    };
    let Ok(explained) = walk::explain::walk(mesh, plans, journey) else { return };
    if let Some(step) = explained.steps.last() {
        for line in step.to_string().lines() {
            let _infallible = writeln!(out, "        {line}");
        }
    }
}
