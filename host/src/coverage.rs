//! What cases have touched of the policies and of the mesh, and what no case has.

mod points;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use policy::finding::Place;

use crate::runner::{Job, Tested, World};
use crate::walk;
use crate::walk::pure::Pure;

/// What there is to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A rule that decides.
    Rule,
    /// A reason of isthmus' own that a policy can give, or that there is without one.
    Reason,
    /// A cluster that requests come from, with one that they go to.
    Pair,
}

impl Kind {
    /// Every kind, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Rule, Self::Reason, Self::Pair];

    /// As reports name several of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rules",
            Self::Reason => "reasons",
            Self::Pair => "pairs",
        }
    }
}

/// One thing that a case can touch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// What it is.
    pub kind: Kind,
    /// The file that it is of: that of the policy, or of the mesh.
    pub file: String,
    /// Where it stands, if anywhere.
    pub at: Option<Place>,
    /// `POLICY/RULE`, a reason, or `SOURCE -> DESTINATION`.
    pub name: String,
}

/// How many cases have touched each point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage(BTreeMap<Point, usize>);

/// How much of a kind has been touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What was touched.
    pub touched: usize,
    /// What there is.
    pub total: usize,
}

impl Share {
    /// In hundredths, of which nothing is all.
    pub fn percent(self) -> f64 {
        if self.total == 0 { 100.0 } else { self.touched as f64 * 100.0 / self.total as f64 }
    }

    /// Whether it is no less than so many hundredths; nothing is rounded.
    pub fn reaches(self, percent: f64) -> bool {
        self.touched as f64 * 100.0 >= percent * self.total as f64
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {} ({:.1} %)", self.touched, self.total, self.percent())
    }
}

impl Coverage {
    /// What the cases that were run have touched.
    pub fn of(jobs: &[Job<'_>], tested: &[Option<Tested>]) -> Self {
        let mut points = BTreeMap::new();
        let mut worlds: BTreeMap<usize, Pure<'_>> = BTreeMap::new();
        for job in jobs {
            worlds.entry(job.suite.world).or_insert_with(|| {
                points.extend(points::of(job.world).into_iter().map(|point| (point, 0)));
                Pure::new(&job.world.mesh, &job.world.plans)
            });
        }
        for (job, tested) in jobs.iter().zip(tested) {
            let was_run = tested.as_ref().is_some_and(|tested| !tested.outcomes.is_empty());
            if let (true, Some(pure)) = (was_run, worlds.get_mut(&job.suite.world)) {
                for point in touched(job, pure) {
                    if let Some(count) = points.get_mut(&point) {
                        *count += 1;
                    }
                }
            }
        }
        Self(points)
    }

    /// How much of a kind has been touched.
    pub fn share(&self, kind: Kind) -> Share {
        let of_kind = || self.0.iter().filter(|(point, _)| point.kind == kind);
        Share { touched: of_kind().filter(|(_, count)| **count > 0).count(), total: of_kind().count() }
    }

    /// Every point with the number of cases that have touched it.
    pub fn points(&self) -> impl Iterator<Item = (&Point, usize)> {
        self.0.iter().map(|(point, count)| (point, *count))
    }

    /// What no case has touched.
    pub fn untouched(&self) -> impl Iterator<Item = &Point> {
        self.points().filter(|(_, count)| *count == 0).map(|(point, _)| point)
    }
}

/// What one case touches, each once: what the module has decided is what the evaluator decides, place by place.
fn touched(job: &Job<'_>, pure: &mut Pure<'_>) -> BTreeSet<Point> {
    let World { mesh, plans, .. } = job.world;
    let mut touched = BTreeSet::new();
    for journey in walk::journeys(mesh, plans, &job.case.call).unwrap_or_default() {
        let decisions = pure.decisions(&journey).unwrap_or_default();
        for decided in decisions {
            for reason in std::iter::once(decided.reason).chain(decided.shadow) {
                touched.extend(points::giving(job.world, &journey.service, &reason));
            }
        }
        touched.insert(points::pair(job.world, &journey.source.name, &journey.destination.name));
    }
    touched
}

/// How much must be touched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    kind: Option<Kind>,
    percent: f64,
}

impl Threshold {
    /// The kinds of which less has been touched.
    pub fn missed(self, coverage: &Coverage) -> Vec<String> {
        let asked = Kind::ALL.into_iter().filter(|kind| self.kind.is_none_or(|only| only == *kind));
        let short = asked.filter(|kind| !coverage.share(*kind).reaches(self.percent));
        short
            .map(|kind| format!("{} {}, less than {} %", kind.as_str(), coverage.share(kind), self.percent))
            .collect()
    }
}

/// A text is no threshold.
#[derive(Debug, thiserror::Error)]
#[error("write a number from 0 to 100, or rules=, reasons= or pairs= and such a number")]
pub struct ThresholdError;

/// Reads a number of hundredths.
pub fn percent(text: &str) -> Result<f64, ThresholdError> {
    let number: f64 = text.trim_end_matches('%').parse().map_err(|_digits| ThresholdError)?;
    if (0.0..=100.0).contains(&number) { Ok(number) } else { Err(ThresholdError) }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let Some((name, number)) = text.split_once('=') else {
            return Ok(Self { kind: None, percent: percent(text)? });
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(ThresholdError)?;
        Ok(Self { kind: Some(kind), percent: percent(number)? })
    }
}
