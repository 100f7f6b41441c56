//! Mesh and policies in, the plans of each cluster out, with everything that cannot be meant.

mod check;
mod cut;
mod ground;
mod locality;
mod oversized;
mod scopes;
mod tables;

use std::collections::BTreeMap;

use crate::finding::{Finding, has_errors};
use crate::mesh::{Draft, Mesh};
use crate::name::{ClusterName, Namespace, Service};
use crate::plan::{GatewayPlan, InboundPlan, OutboundPlan, Plan, Role};
use crate::rule::Policy;
use ground::Ground;
pub use locality::{Area, Locality};
use scopes::Said;

/// The plans of each cluster.
pub type Plans = BTreeMap<ClusterName, ClusterPlans>;

/// What the proxies of one cluster run, place by place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterPlans {
    /// For the sidecars of all clients.
    pub outbound: OutboundPlan,
    /// For the sidecars of all servers but those of the namespaces in `apart`.
    pub inbound: InboundPlan,
    /// For the servers of namespaces of which so much is said that they have a plan of their own.
    pub apart: BTreeMap<Namespace, InboundPlan>,
    /// For the east-west gateway.
    pub gateway: GatewayPlan,
    /// What Istio itself does for the services that a preference or a failover is said of: no filter needs it.
    pub locality: BTreeMap<Service, Locality>,
}

impl ClusterPlans {
    /// The plan that judges what arrives at the workloads of a namespace.
    pub fn inbound_of(&self, namespace: &Namespace) -> &InboundPlan {
        self.apart.get(namespace).unwrap_or(&self.inbound)
    }

    /// The plan that a proxy of a namespace runs at one of its places.
    pub fn at(&self, role: Role, namespace: &Namespace) -> Plan {
        match role {
            Role::Outbound | Role::Upstream => Plan::Outbound(self.outbound.clone()),
            Role::Inbound => Plan::Inbound(self.inbound_of(namespace).clone()),
            Role::Gateway => Plan::Gateway(self.gateway.clone()),
        }
    }

    /// What each plugin runs, with the namespace whose proxies alone have it; `None`: those of all namespaces do.
    pub fn parts(&self) -> Vec<(Role, Option<&Namespace>, Plan)> {
        let inbound = |plan: &InboundPlan| Plan::Inbound(plan.clone());
        let apart =
            self.apart.iter().map(|(namespace, plan)| (Role::Inbound, Some(namespace), inbound(plan)));
        let everywhere = [
            (Role::Outbound, None, Plan::Outbound(self.outbound.clone())),
            (Role::Inbound, None, inbound(&self.inbound)),
            (Role::Gateway, None, Plan::Gateway(self.gateway.clone())),
        ];
        everywhere.into_iter().chain(apart).collect()
    }
}

/// Compiles policies for a mesh. Without errors among the findings there are plans.
///
/// The order of `policies`, of their rules and of everything in them that has no order never shows in a plan.
pub fn compile(mesh: &Mesh, policies: &[Policy]) -> (Option<Plans>, Vec<Finding>) {
    let ground = Ground::of(mesh);
    let said = Said::new(&ground, policies);
    let mut findings = Vec::new();
    check::policies(&ground, &said, &mut findings);
    let mut plans = Plans::new();
    let mut too_large = oversized::TooLarge::new();
    let asked = locality::asked(&ground, &said);
    locality::check(&ground, &asked, &mut findings);
    if !has_errors(&findings) {
        let mut localities: BTreeMap<&ClusterName, BTreeMap<Service, Locality>> = BTreeMap::new();
        for (_, led) in mesh.control_planes() {
            let locality = locality::of(&ground, &led, &asked);
            localities.extend(led.iter().map(|cluster| (&cluster.name, locality.clone())));
        }
        for (number, cluster) in ground.clusters.iter().enumerate() {
            let (whole, lengths) = tables::plans(&ground, number, cluster, &said);
            let (mut cut, sizes) = cut::cut(whole, &lengths);
            cut.locality = localities.remove(&cluster.name).unwrap_or_default();
            oversized::note(sizes, cluster, &mut too_large);
            plans.insert(cluster.name.clone(), cut);
        }
        findings.extend(oversized::findings(too_large, &said));
    }
    findings.sort();
    findings.dedup();
    let plans = (!has_errors(&findings)).then_some(plans);
    (plans, findings)
}

/// What cannot be meant in policies, as far as a mesh that may have errors of its own can tell.
pub fn check(mesh: &Draft, policies: &[Policy]) -> Vec<Finding> {
    let ground = Ground::of(&mesh.0);
    let said = Said::new(&ground, policies);
    let mut findings = Vec::new();
    check::policies(&ground, &said, &mut findings);
    locality::check(&ground, &locality::asked(&ground, &said), &mut findings);
    findings.sort();
    findings
}

#[cfg(test)]
mod tests;
