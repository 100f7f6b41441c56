//! What is told of a judgement: metrics, filter state for the access log, lines of the log.
//!
//! The names of metrics are made as Istio's own are, each tag as `TAG=.=VALUE;.;` before the name, so that Envoy's
//! stat tags split them (docs/operations.md). All values come from the plan, so there are no more than it has.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;

use policy::map::Map;
use policy::plan::Role;
use policy::verdict::{AllowedBy, DeniedBy, Judgement, Verdict};

use crate::host::{Host, Kind, Level, Metric, SECOND};

/// What an unknown cluster is called in a metric.
const UNKNOWN: &str = "unknown";

/// Tells of what one plugin judges.
#[derive(Debug)]
pub struct Teller {
    role: Role,
    known: RefCell<Map<Key, Rc<Told>>>,
    lines: Lines,
}

/// What is the same for all judgements alike, worked out once.
#[derive(Debug)]
pub struct Told {
    /// The stable name of why.
    pub reason: String,
    counter: Option<Metric>,
}

/// Between which clusters a request goes, as far as is known here, by names of the plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends<'p> {
    /// Where it comes from.
    pub source: Option<&'p str>,
    /// Where it goes.
    pub destination: Option<&'p str>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Requests and connections, each with its verdict.
    Requests,
    /// Those that policies in shadow would have refused.
    ShadowDenied,
    /// Answers from outside the boundary of their requests.
    Breaches,
    /// Requests and connections, each with what the plan on trial makes of it.
    Tried,
    /// Those that were let on, and that the plan on trial would have refused.
    TrialDenied,
}

impl Count {
    fn name(self) -> &'static str {
        match self {
            Self::Requests => "isthmus_requests_total",
            Self::ShadowDenied => "isthmus_shadow_denied_total",
            Self::Breaches => "isthmus_breaches_total",
            Self::Tried => "isthmus_trial_requests_total",
            Self::TrialDenied => "isthmus_trial_denied_total",
        }
    }
}

impl Teller {
    /// One for a plugin of a role.
    pub fn new(role: Role) -> Self {
        Self { role, known: RefCell::default(), lines: Lines::default() }
    }

    /// Says which plan runs: the first 48 bits of its digest, which any metrics system holds exactly.
    ///
    /// The digest is the value and not a tag, as Envoy keeps every metric that it was ever told of.
    pub fn plan(&self, host: &impl Host, digest: &str) {
        self.info(host, "isthmus_plan_info", number(digest));
    }

    /// Says which plan is tried beside it; 0 is none, as a metric that is there stays.
    pub fn trial(&self, host: &impl Host, digest: Option<&str>) {
        self.info(host, "isthmus_trial_info", digest.map_or(Some(0), number));
    }

    fn info(&self, host: &impl Host, metric: &str, number: Option<u64>) {
        let name = format!("direction=.={};.;{metric}", self.role.as_str());
        if let (Some(number), Some(gauge)) = (number, host.metric(Kind::Gauge, &name)) {
            host.gauge(gauge, number);
        }
    }

    /// Counts a verdict, and gives what is the same for all like it.
    pub fn count(&self, host: &impl Host, count: Count, ends: Ends<'_>, verdict: &Verdict<'_>) -> Rc<Told> {
        let told = self.told(host, count, ends, verdict);
        if let Some(counter) = told.counter {
            host.count(counter);
        }
        told
    }

    /// Tells what the policies in shadow would have made of it, where that is another thing.
    pub fn dissent(&self, host: &impl Host, ends: Ends<'_>, judgement: &Judgement<'_>) {
        let Some(dissent) = judgement.dissent() else { return };
        let told = if dissent.is_allow() {
            self.told(host, Count::Requests, ends, &dissent)
        } else {
            self.count(host, Count::ShadowDenied, ends, &dissent)
        };
        host.set_state("isthmus.shadow_verdict", dissent.word());
        host.set_state("isthmus.shadow_reason", &told.reason);
        self.line(host, Level::Info, || format!("in shadow: {} by {}", dissent.word(), told.reason));
    }

    /// Writes a line to the log, unless there were too many just now.
    pub fn line(&self, host: &impl Host, level: Level, line: impl FnOnce() -> String) {
        let Some(left_out) = self.lines.admit(host.now()) else { return };
        let mut line = line();
        if left_out > 0 {
            let _infallible = write!(line, " ({left_out} lines before this one were left out)");
        }
        host.log(level, &line);
    }

    fn told(&self, host: &impl Host, count: Count, ends: Ends<'_>, verdict: &Verdict<'_>) -> Rc<Told> {
        let key = Key::of(count, ends, verdict);
        if let Some(known) = self.known.try_borrow().ok().and_then(|known| known.get(&key).cloned()) {
            return known;
        }
        let reason = verdict.reason();
        let name = format!(
            "direction=.={};.;source_cluster=.={};.;destination_cluster=.={};.;verdict=.={};.;reason=.={reason};.;{}",
            self.role.as_str(),
            ends.source.unwrap_or(UNKNOWN),
            ends.destination.unwrap_or(UNKNOWN),
            verdict.word(),
            count.name(),
        );
        let told = Rc::new(Told { counter: host.metric(Kind::Counter, &name), reason });
        if let Ok(mut known) = self.known.try_borrow_mut() {
            known.insert(key, Rc::clone(&told));
        }
        told
    }
}

fn number(digest: &str) -> Option<u64> {
    digest.get(..12).and_then(|start| u64::from_str_radix(start, 16).ok())
}

/// Judgements alike, by the addresses of their names: those are in the plan, and stay where they are.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: u32,
    names: [usize; 4],
}

impl Key {
    fn of(count: Count, ends: Ends<'_>, verdict: &Verdict<'_>) -> Self {
        let (variant, policy, rule) = match *verdict {
            Verdict::Allow(AllowedBy::NoPolicy) => (0, "", ""),
            Verdict::Allow(AllowedBy::SameCluster) => (1, "", ""),
            Verdict::Allow(AllowedBy::NotDenied) => (2, "", ""),
            Verdict::Allow(AllowedBy::Rule { policy, rule }) => (3, policy, rule),
            Verdict::Allow(AllowedBy::Pin { policy }) => (4, policy, ""),
            Verdict::Allow(AllowedBy::Split { policy }) => (5, policy, ""),
            Verdict::Deny(DeniedBy::Rule { policy, rule }) => (6, policy, rule),
            Verdict::Deny(DeniedBy::NoRuleMatched { policy }) => (7, policy, ""),
            Verdict::Deny(DeniedBy::SourceUnverified { policy }) => (8, policy, ""),
            Verdict::Deny(DeniedBy::Boundary { policy }) => (9, policy, ""),
            Verdict::Deny(DeniedBy::Unreachable { policy }) => (10, policy, ""),
            Verdict::Deny(DeniedBy::NotExposed { policy }) => (11, policy, ""),
        };
        let end = |end: Option<&str>| end.map_or(0, |name| name.as_ptr().addr());
        let name = |name: &str| if name.is_empty() { 0 } else { name.as_ptr().addr() };
        Self {
            kind: variant << 3 | count as u32,
            names: [end(ends.source), end(ends.destination), name(policy), name(rule)],
        }
    }
}

/// How many lines a log may still take: so many at once, and one more each second.
#[derive(Debug)]
struct Lines {
    left: Cell<u64>,
    counted: Cell<u64>,
    left_out: Cell<u64>,
}

const AT_ONCE: u64 = 10;

impl Default for Lines {
    fn default() -> Self {
        Self { left: Cell::new(AT_ONCE), counted: Cell::new(0), left_out: Cell::new(0) }
    }
}

impl Lines {
    /// Whether a line may be written now, in nanoseconds; and how many before it may not.
    fn admit(&self, now: u64) -> Option<u64> {
        let passed = now.saturating_sub(self.counted.get()) / SECOND;
        if passed > 0 {
            self.counted.set(now);
            self.left.set(self.left.get().saturating_add(passed).min(AT_ONCE));
        }
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Some(self.left_out.replace(0))
            }
            None => {
                self.left_out.set(self.left_out.get().saturating_add(1));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_takes_ten_lines_at_once_and_one_a_second_and_says_how_many_it_left_out() {
        let lines = Lines::default();
        let now = 1_700_000_000 * SECOND;
        let admitted = (0..100).filter(|n| lines.admit(now + n).is_some()).count();
        assert_eq!(admitted, 10);
        assert_eq!(lines.admit(now + SECOND), Some(90));
        assert_eq!(lines.admit(now + SECOND), None);
        // An hour of silence earns no more than the first moment did.
        let later = now + 3600 * SECOND;
        assert_eq!((0..100).filter(|_| lines.admit(later).is_some()).count(), 10);
        // A clock that is set back neither opens it nor closes it for ever.
        assert_eq!(lines.admit(now), None);
        assert!(lines.admit(later + SECOND).is_some());
    }
}
