//! Behind the load balancer, where the endpoint is known that a request goes to.

use policy::name::Service;
use policy::plan::OutboundPlan;
use policy::verdict::{AllowedBy, DeniedBy, Judgement, Verdict};

use super::act::{Next, act};
use super::outbound::chosen;
use crate::host::Host;
use crate::refusal::Origin;
use crate::settings::{Settings, service_of_cluster};
use crate::tell::Ends;

/// Refuses a request whose endpoint lies outside the boundary of its service, or nobody knows where.
pub(super) fn request(settings: &Settings, plan: &OutboundPlan, host: &impl Host) -> Next {
    let bound = service_of_cluster(host).and_then(|service: Service| plan.of(&service)?.bound.as_ref());
    let Some(bound) = bound else { return Next::Continue };
    let cluster = chosen(plan, host);
    let verdict = if cluster.is_some_and(|cluster| plan.has_inside(bound.within, cluster)) {
        Verdict::Allow(AllowedBy::NotDenied)
    } else {
        Verdict::Deny(DeniedBy::Boundary { policy: &bound.policy })
    };
    let own = settings.home.cluster.as_str();
    let ends = Ends { source: Some(own), destination: cluster.map(|cluster| cluster.as_str()) };
    let origin = Origin::own(own);
    act(settings, host, (ends, origin), &Judgement { verdict, shadow: None })
}
