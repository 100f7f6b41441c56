//! A plan that is tried: it judges what the plan in force judges, is counted, and nothing is done by it.
//!
//! It knows sources by its own list of clusters, issuers and keys, so that what it makes of a request is what it would make of
//! it if it were in force, also where the mesh has changed with it.

use policy::Guard;
use policy::evaluate;
use policy::name::Namespace;
use policy::plan::{GatewayPlan, InboundPlan, OutboundPlan, Plan, Role};
use policy::source::{Evidence, Source};
use policy::verdict::Verdict;

use crate::caller::{Caller, evidence};
use crate::host::{Host, SECOND};
use crate::seen::Seen;
use crate::token::Verifier;

/// A plan on trial, with what it needs at its place.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of them for each configuration")]
pub enum Trial {
    /// At the proxy that a request leaves by.
    Outbound(OutboundPlan),
    /// At the sidecar that a request arrives at.
    Inbound(Arriving),
    /// At the east-west gateway.
    Gateway(GatewayPlan),
}

/// What would judge the requests to this proxy's own workload.
#[derive(Debug)]
pub struct Arriving {
    plan: InboundPlan,
    guard: Guard,
    verifier: Option<Verifier>,
}

impl Trial {
    /// One of a plan, and of what it says of this proxy's workload; `None` where it leaves the namespace to a plugin of its
    /// own, which tries it then.
    pub fn new(
        role: Role,
        plan: Plan,
        namespace: &Namespace,
        guard: impl FnOnce(&InboundPlan) -> Guard,
    ) -> Option<Self> {
        match plan {
            Plan::Outbound(_) if role == Role::Upstream => None,
            Plan::Outbound(plan) => Some(Self::Outbound(plan)),
            Plan::Inbound(plan) if plan.leaves(namespace) => None,
            Plan::Inbound(plan) => {
                let guard = guard(&plan);
                let verifier = plan.tokens().map(|keys| Verifier::new(keys.clone(), namespace.clone()));
                Some(Self::Inbound(Arriving { plan, guard, verifier }))
            }
            Plan::Gateway(plan) => Some(Self::Gateway(plan)),
        }
    }

    /// Whether it asks for the workload's port.
    pub fn asks_port(&self) -> bool {
        match self {
            Self::Inbound(arriving) => arriving.guard.needs().port,
            Self::Outbound(_) | Self::Gateway(_) => false,
        }
    }
}

impl Arriving {
    /// What it makes of a request, and where that comes from by it.
    pub fn judge<'a>(
        &'a self,
        caller: &'a Caller,
        seen: &Seen<'a>,
        host: &impl Host,
    ) -> (Source<'a>, Verdict<'a>) {
        let source = self.source(caller, seen, host);
        let arrival = seen.arrival(caller, source, self.guard.needs());
        (source, evaluate::inbound(&self.guard, &arrival).verdict)
    }

    fn source(&self, caller: &Caller, seen: &Seen<'_>, host: &impl Host) -> Source<'_> {
        let shown = evidence(caller.peer.as_deref());
        let proven = Source::of(&self.plan, shown);
        if matches!(proven, Source::Verified(..)) {
            return proven;
        }
        // What is wrong with a token, the plan in force says.
        let verified = self.verifier.as_ref().zip(seen.token.first()).zip(shown.identity);
        let verified = verified.and_then(|((verifier, token), identity)| {
            verifier.verify(token, identity, host.now() / SECOND).ok()
        });
        let token = verified.as_ref().map(|token| token.cluster.as_str());
        Source::of(&self.plan, Evidence { token, tag: seen.cluster.text(), ..shown })
    }
}
