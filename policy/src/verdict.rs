//! What a decision says: yes or no, and always why.

use std::fmt;

/// The second halves of reasons that are isthmus' own, so that no rule may be called so.
pub const RESERVED: &[&str] = &[
    "same-cluster",
    "no-policy",
    "not-denied",
    "no-rule-matched",
    "source-unverified",
    "boundary",
    "not-exposed",
    "pin",
    "split",
    "unreachable",
];

/// A decision. Its reason is the metric label, the log field and the header of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// The request goes on.
    Allow(AllowedBy<'p>),
    /// The request ends here.
    Deny(DeniedBy<'p>),
}

impl Verdict<'_> {
    /// Whether the request goes on.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// `allow` or `deny`.
    pub fn word(&self) -> &'static str {
        if self.is_allow() { "allow" } else { "deny" }
    }

    /// The stable name of why: `POLICY/RULE`, or one of isthmus' own reasons.
    pub fn reason(&self) -> String {
        match self {
            Self::Allow(by) => by.to_string(),
            Self::Deny(by) => by.to_string(),
        }
    }
}

/// A decision, and what it would be if the policies in shadow acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement<'p> {
    /// What is done.
    pub verdict: Verdict<'p>,
    /// What would be done; `None` where no policy in shadow speaks.
    pub shadow: Option<Verdict<'p>>,
}

impl<'p> Judgement<'p> {
    /// The verdict of the policies in shadow, where it would change what is done.
    pub fn dissent(&self) -> Option<Verdict<'p>> {
        self.shadow.filter(|shadow| shadow.is_allow() != self.verdict.is_allow())
    }
}

/// Why a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedBy<'p> {
    /// No policy speaks of the service.
    NoPolicy,
    /// It is proven to come from the same cluster.
    SameCluster,
    /// Policies speak of the service; none denies, and none demands a rule.
    NotDenied,
    /// A rule allows it.
    Rule {
        /// The rule's policy.
        policy: &'p str,
        /// The rule.
        rule: &'p str,
    },
    /// A header pins it to a cluster.
    Pin {
        /// The policy.
        policy: &'p str,
    },
    /// A split sends it to a cluster.
    Split {
        /// The policy.
        policy: &'p str,
    },
}

impl fmt::Display for AllowedBy<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => out.write_str("no-policy"),
            Self::SameCluster => out.write_str("same-cluster"),
            Self::NotDenied => out.write_str("not-denied"),
            Self::Rule { policy, rule } => write!(out, "{policy}/{rule}"),
            Self::Pin { policy } => write!(out, "{policy}/pin"),
            Self::Split { policy } => write!(out, "{policy}/split"),
        }
    }
}

/// Why a request ends here, and by which policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeniedBy<'p> {
    /// A rule denies it.
    Rule {
        /// The rule's policy.
        policy: &'p str,
        /// The rule.
        rule: &'p str,
    },
    /// The policy lists who may come in, and no list has it.
    NoRuleMatched {
        /// The policy.
        policy: &'p str,
    },
    /// Where it comes from is not known as well as the policy demands.
    SourceUnverified {
        /// The policy.
        policy: &'p str,
    },
    /// It would cross, or has crossed, a boundary.
    Boundary {
        /// The policy.
        policy: &'p str,
    },
    /// A pin or a split sends it where it cannot go: out of a boundary, or to clusters that do not run the service.
    Unreachable {
        /// The policy.
        policy: &'p str,
    },
    /// The gateway does not show the service to the network that asks.
    NotExposed {
        /// The policy.
        policy: &'p str,
    },
}

impl fmt::Display for DeniedBy<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { policy, rule } => write!(out, "{policy}/{rule}"),
            Self::NoRuleMatched { policy } => write!(out, "{policy}/no-rule-matched"),
            Self::SourceUnverified { policy } => write!(out, "{policy}/source-unverified"),
            Self::Boundary { policy } => write!(out, "{policy}/boundary"),
            Self::Unreachable { policy } => write!(out, "{policy}/unreachable"),
            Self::NotExposed { policy } => write!(out, "{policy}/not-exposed"),
        }
    }
}
