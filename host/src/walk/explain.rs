//! The walk of one request, told step by step: what each proxy knew, what it asked, and why it decided so.

use std::fmt;

use policy::compile::Plans;
use policy::evaluate::{self, Route};
use policy::explain::{self, Outcome, RuleWalk, SectionWalk, Walk};
use policy::plan::Location;
use policy::source::Source;
use policy::verdict::{Judgement, Verdict};
use policy::{Guard, Mesh};
use serde::Serialize;

use super::{Journey, NoPath, Stop};

/// What became of a request on the way to one cluster, and why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The cluster that it was on the way to.
    pub destination: String,
    /// `allow` or `deny`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// Where it was decided: `source`, `gateway` or `destination`.
    pub at: String,
    /// The proxies that it passed, the one that decided last.
    pub steps: Vec<Step>,
}

/// What one proxy made of it.
#[derive(Debug, Serialize)]
#[serde(tag = "place", rename_all = "camelCase")]
pub enum Step {
    /// The sidecar that it leaves by.
    Source {
        /// The cluster.
        cluster: String,
        /// What was decided.
        decision: Decision,
        /// Where it may go.
        route: String,
    },
    /// The east-west gateway of its destination.
    Gateway {
        /// The cluster.
        cluster: String,
        /// The network that it comes from.
        from: String,
        /// What was decided.
        decision: Decision,
    },
    /// The sidecar that it arrives at.
    Destination {
        /// The cluster.
        cluster: String,
        /// The source cluster that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<String>,
        /// How well it is known.
        level: String,
        /// Every section and rule that was asked.
        walk: Walk,
    },
}

/// What was decided, and what would be if the policies in shadow acted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// `allow` or `deny`.
    pub verdict: String,
    /// Why.
    pub reason: String,
    /// The same with the policies in shadow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<explain::Shadow>,
}

impl Decision {
    fn of(judgement: Judgement<'_>) -> Self {
        let shadow = |verdict: Verdict<'_>| explain::Shadow {
            verdict: verdict.word().to_owned(),
            reason: verdict.reason(),
        };
        Self {
            verdict: judgement.verdict.word().to_owned(),
            reason: judgement.verdict.reason(),
            shadow: judgement.shadow.map(shadow),
        }
    }

    fn is_allow(&self) -> bool {
        self.verdict == "allow"
    }
}

/// Explains one journey.
pub fn walk(mesh: &Mesh, plans: &Plans, journey: &Journey<'_>) -> Result<Explanation, NoPath> {
    let (here, there) = journey.plans(plans).ok_or(NoPath::Misfit)?;
    let mut steps = Vec::new();
    let departure = journey.call.departure(&here.outbound, &journey.service, 0);
    let decision = Decision::of(Judgement { verdict: departure.verdict, shadow: departure.shadow });
    let ends = |at: Stop, decision: &Decision, steps| Explanation {
        destination: journey.destination.name.to_string(),
        verdict: decision.verdict.clone(),
        reason: decision.reason.clone(),
        at: at.to_string(),
        steps,
    };
    let ended = (!decision.is_allow()).then(|| ends(Stop::Source, &decision, Vec::new()));
    let (cluster, route) = (journey.source.name.to_string(), route(departure.route, journey));
    steps.push(Step::Source { cluster, decision, route });
    if let Some(ended) = ended {
        return Ok(Explanation { steps, ..ended });
    }
    if journey.crosses_networks() {
        let (port, address) = (Some(journey.port), journey.address());
        let decision = Decision::of(evaluate::gateway(&there.gateway, &journey.service, port, address));
        let ended = (!decision.is_allow()).then(|| ends(Stop::Gateway, &decision, Vec::new()));
        let cluster = journey.destination.name.to_string();
        steps.push(Step::Gateway { cluster, from: journey.source.network.to_string(), decision });
        if let Some(ended) = ended {
            return Ok(Explanation { steps, ..ended });
        }
    }
    let plan = there.inbound_of(&journey.service.namespace);
    let guard = Guard::new(plan, &journey.service.namespace, &journey.labels(mesh));
    let evidence = journey.evidence();
    let (identity, source) = (evidence.identity, Source::of(plan, evidence));
    let arrival = journey.arrival(source, identity);
    let walk = explain::inbound(plan, &guard, &arrival);
    let decision =
        Decision { verdict: walk.verdict.clone(), reason: walk.reason.clone(), shadow: walk.shadow.clone() };
    steps.push(Step::Destination {
        cluster: journey.destination.name.to_string(),
        source: source.location().map(|location: &Location| location.name.to_string()),
        level: source.level().to_owned(),
        walk,
    });
    Ok(ends(Stop::Destination, &decision, steps))
}

fn route(route: Route<'_>, journey: &Journey<'_>) -> String {
    match route {
        Route::Anywhere => "wherever the service runs".to_owned(),
        Route::Within(boundary) => format!("not out of the {}", format!("{boundary:?}").to_lowercase()),
        // Of a split that is not sticky this is the share that was asked for, not the one that was drawn.
        Route::To(_) => format!("to {} alone", journey.destination.name),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            step.fmt(out)?;
        }
        writeln!(out, "{} by {}, at the {}", self.verdict, self.reason, self.at)
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} by {}", self.verdict, self.reason)?;
        match &self.shadow {
            Some(shadow) => {
                write!(out, " (with the policies in shadow: {} by {})", shadow.verdict, shadow.reason)
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source { cluster, decision, route } => {
                writeln!(out, "leaves {cluster}: {decision}")?;
                if decision.is_allow() { writeln!(out, "  it may go {route}") } else { Ok(()) }
            }
            Self::Gateway { cluster, from, decision } => {
                writeln!(out, "passes the gateway of {cluster}, from {from}: {decision}")
            }
            Self::Destination { cluster, source, level, walk } => {
                let from = source.as_deref().map_or_else(String::new, |source| format!("{source}, "));
                writeln!(out, "arrives in {cluster}, from {from}{level}")?;
                for boundary in &walk.boundaries {
                    let (is, clusters) =
                        (if boundary.holds { "inside" } else { "outside" }, boundary.clusters.join(", "));
                    writeln!(out, "  {is} the boundary of {}: {clusters}", boundary.policy)?;
                }
                for section in &walk.sections {
                    section_text(section, out)?;
                }
                match &walk.shadow {
                    Some(shadow) => {
                        writeln!(
                            out,
                            "  with the policies in shadow: {} by {}",
                            shadow.verdict, shadow.reason
                        )
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

fn section_text(section: &SectionWalk, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let outcome = match section.outcome {
        Outcome::PassedOver => "judges other clusters only",
        Outcome::SourceUnverified => "demands a source that is better known",
        Outcome::Denied => "denies",
        Outcome::Allowed => "allows",
        Outcome::NoRuleMatched => "lists whom it allows, and not this",
        Outcome::NotDenied => "does not deny, and lists no one",
    };
    writeln!(out, "  policy {} {outcome}", section.policy)?;
    section.rules.iter().try_for_each(|rule| rule_text(rule, out))
}

fn rule_text(rule: &RuleWalk, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let holds = if rule.holds { "holds" } else { "does not hold" };
    writeln!(out, "    {:5} {}: {holds}", rule.effect, rule.rule)?;
    for failing in &rule.failing {
        let value = failing.value.as_deref().unwrap_or("not known");
        writeln!(out, "          {}: {value}, and wanted is {}", failing.field, failing.wanted.join(" or "))?;
    }
    Ok(())
}
