//! What is tried at each place: judged and counted beside what is in force.

use policy::evaluate::{self, Leaving};
use policy::name::{ClusterName, Service};
use policy::plan::GatewayPlan;
use policy::verdict::Verdict;

use crate::caller::Caller;
use crate::host::{Host, Level};
use crate::seen::Seen;
use crate::settings::Settings;
use crate::tell::{Count, Ends};
use crate::trial::Trial;

/// What is tried at the east-west gateway.
pub(super) fn at_gateway(settings: &Settings) -> Option<&GatewayPlan> {
    match &settings.trial {
        Some(Trial::Gateway(plan)) => Some(plan),
        Some(Trial::Outbound(_) | Trial::Inbound(_)) | None => None,
    }
}

/// Tries a request that leaves, of which the plan in force makes `verdict`.
pub(super) fn leaving(
    settings: &Settings,
    (service, leaving): (&Service, &Leaving<'_>),
    verdict: &Verdict<'_>,
    host: &impl Host,
) {
    if let Some(Trial::Outbound(plan)) = &settings.trial {
        let ends = Ends { source: Some(settings.home.cluster.as_str()), destination: None };
        tell(settings, host, ends, (verdict, &evaluate::outbound(plan, service, leaving).verdict));
    }
}

/// Tries a request that arrives, of which the plan in force makes `verdict`.
pub(super) fn arriving(
    settings: &Settings,
    (caller, seen): (&Caller, &Seen<'_>),
    verdict: &Verdict<'_>,
    host: &impl Host,
) {
    if let Some(Trial::Inbound(arriving)) = &settings.trial {
        let (source, tried) = arriving.judge(caller, seen, host);
        let source = source.named().map(ClusterName::as_str);
        let ends = Ends { source, destination: Some(settings.home.cluster.as_str()) };
        tell(settings, host, ends, (verdict, &tried));
    }
}

/// Counts what the plan on trial makes of something, and what it would refuse that the plan in force lets on.
pub(super) fn tell(
    settings: &Settings,
    host: &impl Host,
    ends: Ends<'_>,
    (verdict, tried): (&Verdict<'_>, &Verdict<'_>),
) {
    let told = settings.teller.count(host, Count::Tried, ends, tried);
    if tried.is_allow() == verdict.is_allow() {
        return;
    }
    if !tried.is_allow() {
        settings.teller.count(host, Count::TrialDenied, ends, tried);
    }
    host.set_state("isthmus.trial_verdict", tried.word());
    host.set_state("isthmus.trial_reason", &told.reason);
    settings.teller.line(host, Level::Info, || format!("on trial: {} by {}", tried.word(), told.reason));
}
