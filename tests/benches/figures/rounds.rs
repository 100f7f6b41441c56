//! Rounds of everything in alternation, so that what slows the machine slows each alike.

use super::Outcome;
use super::figure::{Report, median};

/// The first two lanes of every measurement are one thing twice: nothing. Their difference is the noise.
pub(super) const NONE: [usize; 2] = [0, 1];

/// What was measured, lane by lane, round by round.
#[derive(Debug)]
pub(super) struct Measured(Vec<Vec<f64>>);

impl Measured {
    /// Measures every lane in every round, every other round backwards.
    pub(super) fn alternating(
        rounds: usize,
        lanes: usize,
        mut measure: impl FnMut(usize) -> Outcome<f64>,
    ) -> Outcome<Self> {
        let mut measured = vec![Vec::new(); lanes];
        for round in 0..rounds {
            for step in 0..lanes {
                let lane = if round % 2 == 0 { step } else { lanes - 1 - step };
                measured[lane].push(measure(lane)?);
            }
        }
        Ok(Self(measured))
    }

    /// The median of a lane.
    pub(super) fn of(&self, lane: usize) -> f64 {
        median(self.0[lane].clone())
    }

    /// What a lane takes more than nothing: the median of the differences within each round, as the machine is
    /// not equally quick in all of them.
    pub(super) fn added(&self, lane: usize) -> f64 {
        let [one, other] = NONE.map(|none| &self.0[none]);
        let nothing = one.iter().zip(other).map(|(one, other)| f64::midpoint(*one, *other));
        median(self.0[lane].iter().zip(nothing).map(|(value, nothing)| value - nothing).collect())
    }

    /// How far nothing is from itself.
    pub(super) fn noise(&self) -> f64 {
        let [one, other] = NONE.map(|none| &self.0[none]);
        median(one.iter().zip(other).map(|(one, other)| (one - other).abs()).collect())
    }

    /// Reports what nothing takes and how far it is from itself.
    pub(super) fn report_nothing(&self, report: &mut Report, name: &str, of: &str) {
        report.put(&format!("{name}.cpu_us"), self.of(NONE[0]), of);
        report.put(&format!("{name}.noise_us"), self.noise(), of);
    }
}
