//! The decisions, one for each place a request passes. Total, without clock or memory of earlier requests.
//!
//! At the destination, [`inbound`]; the first row that fits decides:
//!
//! | what is said of the workload | what is known of the request | verdict |
//! |---|---|---|
//! | nothing | anything | allow, `no-policy` |
//! | a boundary | source not verified | deny, `POLICY/source-unverified` |
//! | a boundary | source outside it | deny, `POLICY/boundary` |
//! | access, no `scope: All` | source is this cluster | the section is passed over |
//! | access | source not known as well as `source:` demands | deny, `POLICY/source-unverified` |
//! | access | a deny rule holds, in any policy | deny, `POLICY/RULE` |
//! | access, some `allow` | an allow rule holds, in any policy | allow, `POLICY/RULE` |
//! | access, some `allow` | no allow rule holds | deny, `POLICY/no-rule-matched` |
//! | access, no `allow` | no deny rule holds | allow, `not-denied` |
//! | access that names a service, where `mesh.yaml` does not list the service | | as if its `allow` were empty |
//! | every section passed over | | allow, `same-cluster` |
//! | a boundary and no access | source inside it | allow, `not-denied` |
//!
//! At the source, [`outbound`]:
//!
//! | what is said of the service | the request | verdict | route |
//! |---|---|---|---|
//! | nothing | any | allow, `no-policy` | anywhere |
//! | a boundary without an endpoint inside | any | deny, `POLICY/boundary` | |
//! | a pin | its header has a value of the pin | allow, `POLICY/pin` | to that cluster |
//! | a pin to where no request from here may go | its header has that value | deny, `POLICY/unreachable` | |
//! | a split | any that is not pinned | allow, `POLICY/split` | to the cluster of its share |
//! | a split without a cluster that may be reached | any that is not pinned | deny, `POLICY/unreachable` | |
//! | a boundary, or a pin | any that is not pinned | allow, `not-denied` | within the boundary |
//!
//! At the east-west gateway, [`gateway`]:
//!
//! | what is said of the service | the connection | verdict |
//! |---|---|---|
//! | nothing | any | allow, `no-policy` |
//! | exposures | one does not show the port to the network that it comes from | deny, `POLICY/not-exposed` |
//! | exposures | all show it | allow, `not-denied` |
//!
//! Where several policies give a reason, it is that of the first by namespace and name, and of its first rule by
//! name; of the boundaries of a workload behind several services, that of the first service by name. Whether one
//! allows or denies never hangs on that. Policies in shadow never decide: what they would decide,
//! together with all others, stands beside the verdict.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub use crate::facts::Arrival;
use crate::facts::Facts;
use crate::guard::{Group, Guard, Judge};
use crate::name::{ClusterName, NetworkName, Port, Service};
use crate::plan::{Exposure, GatewayPlan, Outbound, OutboundPlan, Split};
use crate::rule::{Boundary, HashOn, Judged};
use crate::set::Set;
use crate::source::Source;
use crate::verdict::{AllowedBy, DeniedBy, Judgement, Verdict};

/// What a source's sidecar knows of a request.
pub struct Leaving<'r> {
    /// The first value of a header, by its name in lower case.
    pub header: &'r dyn Fn(&str) -> Option<String>,
    /// A number drawn for this request, for a split that is not sticky.
    pub draw: u64,
}

impl std::fmt::Debug for Leaving<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Leaving").field("draw", &self.draw).finish_non_exhaustive()
    }
}

/// What a source's sidecar decides of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure<'p> {
    /// Whether it may start.
    pub verdict: Verdict<'p>,
    /// Where it may go, if it may start.
    pub route: Route<'p>,
    /// What the policies in shadow would make of it, with all others.
    pub shadow: Option<Verdict<'p>>,
}

/// The request header that carries where a request may go from the filter to the routes of its sidecar.
pub const ROUTE_HEADER: &str = "x-isthmus-route";

/// Where a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route<'p> {
    /// Wherever the service runs.
    Anywhere,
    /// Not out of the boundary.
    Within(Boundary),
    /// To this cluster alone.
    To(&'p ClusterName),
}

impl Route<'_> {
    /// The value of [`ROUTE_HEADER`] that says it; none where there is nothing to say.
    pub fn header(self) -> Option<Cow<'static, str>> {
        match self {
            Self::Within(Boundary::Cluster) => Some(Cow::Borrowed("cluster")),
            Self::Within(Boundary::Network) => Some(Cow::Borrowed("network")),
            Self::Within(Boundary::Region) => Some(Cow::Borrowed("region")),
            Self::Within(Boundary::Mesh) | Self::Anywhere => None,
            Self::To(cluster) => Some(Cow::Owned(format!("cluster={cluster}"))),
        }
    }
}

/// Every route that [`outbound`] can give a request to a service, but for [`Route::Anywhere`].
pub fn routes<'p>(plan: &'p OutboundPlan, service: &Service) -> BTreeSet<Route<'p>> {
    let Some(said) = plan.enforced.narrowest(service) else { return BTreeSet::new() };
    if said.bound.as_ref().is_some_and(|bound| !bound.open) {
        return BTreeSet::new();
    }
    let pinned = said.pin.iter().flat_map(|pin| pin.to.values().flatten());
    let shared = said.split.iter().flat_map(|split| split.legs.iter().map(|(cluster, _)| cluster));
    let within =
        said.bound.as_ref().filter(|_| said.split.is_none()).map(|bound| Route::Within(bound.within));
    pinned.chain(shared).map(Route::To).chain(within).collect()
}

/// Judges a request where it starts.
pub fn outbound<'p>(plan: &'p OutboundPlan, service: &Service, request: &Leaving<'_>) -> Departure<'p> {
    let (verdict, route) = departure(plan.enforced.narrowest(service), request);
    let shadow = plan.shadow.narrowest(service).map(|all| departure(Some(all), request).0);
    Departure { verdict, route, shadow }
}

fn departure<'p>(said: Option<&'p Outbound>, request: &Leaving<'_>) -> (Verdict<'p>, Route<'p>) {
    let Some(said) = said else {
        return (Verdict::Allow(AllowedBy::NoPolicy), Route::Anywhere);
    };
    if let Some(bound) = said.bound.as_ref().filter(|bound| !bound.open) {
        return (Verdict::Deny(DeniedBy::Boundary { policy: &bound.policy }), Route::Within(bound.within));
    }
    let within = said.bound.as_ref().map_or(Route::Anywhere, |bound| Route::Within(bound.within));
    let pinned = said.pin.as_ref().and_then(|pin| {
        let value = (request.header)(pin.header.as_str())?;
        Some((pin.policy.as_str(), pin.to.get(&value)?))
    });
    match (pinned, &said.split) {
        (Some((policy, Some(to))), _) => (Verdict::Allow(AllowedBy::Pin { policy }), Route::To(to)),
        (Some((policy, None)), _) => (Verdict::Deny(DeniedBy::Unreachable { policy }), within),
        (None, Some(split)) => match share(split, request) {
            Some(to) => (Verdict::Allow(AllowedBy::Split { policy: &split.policy }), Route::To(to)),
            None => (Verdict::Deny(DeniedBy::Unreachable { policy: &split.policy }), within),
        },
        (None, None) => (Verdict::Allow(AllowedBy::NotDenied), within),
    }
}

/// The cluster into whose share a request falls.
fn share<'p>(split: &'p Split, request: &Leaving<'_>) -> Option<&'p ClusterName> {
    let value = split.hash_on.as_ref().and_then(|hash_on| match hash_on {
        HashOn::Header(name) => (request.header)(name.as_str()),
        HashOn::Cookie(name) => cookie(&(request.header)("cookie")?, name.as_str()).map(str::to_owned),
    });
    let point = value.map_or(request.draw, |value| point(&value));
    let whole: u64 = split.legs.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = point.checked_rem(whole)?;
    split.legs.iter().find_map(|(cluster, weight)| match left.checked_sub(u64::from(*weight)) {
        None => Some(cluster),
        Some(beyond) => {
            left = beyond;
            None
        }
    })
}

/// The value of a cookie (RFC 6265, 4.2).
fn cookie<'c>(header: &'c str, name: &str) -> Option<&'c str> {
    let pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Where a value falls among the shares of a sticky split, modulo their sum. The same for ever: a release that
/// changed it would move every session. FNV-1a, its bits mixed once more since few of them are used.
pub fn point(value: &str) -> u64 {
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Judges a connection at the east-west gateway, by the service and port that its SNI names and by its address:
/// whether the service is shown to the network that it comes from.
pub fn gateway<'p>(
    plan: &'p GatewayPlan,
    service: &Service,
    port: Option<u16>,
    source: Option<IpAddr>,
) -> Judgement<'p> {
    let network = source.and_then(|address| plan.network_of(address));
    let port = port.and_then(Port::new);
    let shows = |exposure: &&Exposure| {
        let seen = |networks: &Set<NetworkName>| network.is_some_and(|network| networks.contains(network));
        exposure.networks.as_ref().is_none_or(seen)
            && (exposure.ports.is_empty() || port.is_some_and(|port| exposure.ports.contains(&port)))
    };
    let judge = |exposures: &'p Vec<Exposure>| match exposures.iter().find(|exposure| !shows(exposure)) {
        Some(hiding) => Verdict::Deny(DeniedBy::NotExposed { policy: &hiding.policy }),
        None => Verdict::Allow(AllowedBy::NotDenied),
    };
    Judgement {
        verdict: plan.enforced.narrowest(service).map_or(Verdict::Allow(AllowedBy::NoPolicy), judge),
        shadow: plan.shadow.narrowest(service).map(judge),
    }
}

/// Judges a request where its mTLS ends.
pub fn inbound<'g>(guard: &'g Guard, arrival: &Arrival<'_>) -> Judgement<'g> {
    let facts = LazyCell::new(|| Facts::of(arrival, guard.needs()));
    Judgement {
        verdict: arriving(&guard.enforced, guard.home, arrival.source, &facts),
        shadow: guard.shadow.as_ref().map(|all| arriving(all, guard.home, arrival.source, &facts)),
    }
}

fn arriving<'g, 'r>(
    judge: &'g Judge,
    home: usize,
    source: Source<'_>,
    facts: &LazyCell<Facts<'r>, impl FnOnce() -> Facts<'r>>,
) -> Verdict<'g> {
    if judge.is_empty() {
        return Verdict::Allow(AllowedBy::NoPolicy);
    }
    for within in &judge.within {
        let policy = within.policy.as_str();
        match source {
            Source::Verified(location) if within.clusters.contains(location.number) => {}
            Source::Verified(_) => return Verdict::Deny(DeniedBy::Boundary { policy }),
            Source::Claimed(_) | Source::Unknown => {
                return Verdict::Deny(DeniedBy::SourceUnverified { policy });
            }
        }
    }
    if judge.sections.is_empty() {
        return Verdict::Allow(AllowedBy::NotDenied);
    }
    let known = |group: &Group| source.known(group.source);
    let judged = |group: &&Group| {
        group.scope == Judged::All || known(group).is_none_or(|location| location.number != home)
    };
    let judging = || judge.groups.iter().filter(judged);
    let policy =
        |at: usize| judge.sections.get(at).map(|section| section.policy.as_str()).unwrap_or_default();
    if let Some(first) = judging().filter(|group| known(group).is_none()).map(|group| group.first).min() {
        return Verdict::Deny(DeniedBy::SourceUnverified { policy: policy(first) });
    }
    if judging().next().is_none() {
        return Verdict::Allow(AllowedBy::SameCluster);
    }
    let denying = judging().filter_map(|group| group.deny.first(&judge.sections, facts));
    if let Some(((at, _), rule)) = denying.min_by_key(|(line, _)| *line) {
        return Verdict::Deny(DeniedBy::Rule { policy: policy(at), rule: &rule.name });
    }
    let Some(first) = judging().filter_map(|group| group.first_allowing).min() else {
        return Verdict::Allow(AllowedBy::NotDenied);
    };
    let allowing = judging().filter_map(|group| group.allow.first(&judge.sections, facts));
    match allowing.min_by_key(|(line, _)| *line) {
        Some(((at, _), rule)) => Verdict::Allow(AllowedBy::Rule { policy: policy(at), rule: &rule.name }),
        None => Verdict::Deny(DeniedBy::NoRuleMatched { policy: policy(first) }),
    }
}

#[cfg(test)]
mod tests;
