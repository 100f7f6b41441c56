//! What east-west gateways decide otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Change, Decision, Kind, Meaning, Passing, Running, Witness, leaving};
use crate::evaluate;
use crate::name::{NetworkName, Service};
use crate::plan::{Exposure, GatewayPlan};

/// The networks by which one plan and another know an address.
type Networks<'p> = (Option<&'p NetworkName>, Option<&'p NetworkName>);

pub(super) fn compare(before: &Running, after: &Running, meaning: &mut Meaning) {
    let plans = [before.gateway.as_ref(), after.gateway.as_ref()];
    let both = || plans.into_iter().flatten();
    let addresses = addresses(plans);
    let scopes =
        both().flat_map(|plan| plan.enforced.iter().chain(plan.shadow.iter()).map(|(scope, _)| scope));
    for (service, subject) in leaving::services(&scopes.cloned().collect()) {
        let said =
            both().flat_map(|plan| [plan.enforced.narrowest(&service), plan.shadow.narrowest(&service)]);
        let ports = ports(said.flatten().flatten());
        let mut found: BTreeMap<(Decision, Decision, BTreeSet<usize>), Vec<&Networks<'_>>> = BTreeMap::new();
        for (networks, address) in &addresses {
            let mut row: BTreeMap<(Decision, Decision), BTreeSet<usize>> = BTreeMap::new();
            for (number, port) in ports.iter().enumerate() {
                let [before, after] = plans.map(|plan| decide(plan, &service, *port, *address));
                if before != after {
                    row.entry((before, after)).or_default().insert(number);
                }
            }
            for ((before, after), ports) in row {
                found.entry((before, after, ports)).or_default().push(networks);
            }
        }
        for ((before, after, chosen), networks) in found {
            let first = networks.first().and_then(|first| addresses.get(*first)).copied().flatten();
            let port = chosen.first().and_then(|number| ports.get(*number)).copied().flatten();
            let kind = match (before.allow, after.allow) {
                (false, true) => Kind::Shows,
                (true, false) => Kind::Hides,
                (true, true) | (false, false) => Kind::of(&before, &after),
            };
            meaning.changes.push(Change {
                kind,
                subject: subject.clone(),
                who: if networks.len() == addresses.len() { Vec::new() } else { who(&networks) },
                what: what(&ports, &chosen),
                before,
                after,
                witness: Witness::Gateway(Passing { service: service.clone(), port, address: first }),
            });
        }
    }
}

fn decide(
    plan: Option<&GatewayPlan>,
    service: &Service,
    port: Option<u16>,
    address: Option<IpAddr>,
) -> Decision {
    let none = || Decision { allow: true, reason: "no-policy".to_owned(), route: None, shadow: None };
    plan.map_or_else(none, |plan| Decision::of(&evaluate::gateway(plan, service, port, address)))
}

/// An address for every two networks that two plans know one by: the networks of addresses change only where a range of
/// either begins, or right after it ends.
fn addresses<'p>(plans: [Option<&'p GatewayPlan>; 2]) -> BTreeMap<Networks<'p>, Option<IpAddr>> {
    let ranges = || plans.into_iter().flatten().flat_map(|plan| &plan.ranges);
    let edges = ranges().flat_map(|range| {
        let first = range.cidr.address(0);
        [Some(first), after(first, range.cidr.prefix())]
    });
    let ends = ["0.0.0.0", "::"].map(|first| first.parse().ok());
    let known = edges.chain(ends).flatten().map(|address: IpAddr| {
        let [before, after] = plans.map(|plan| plan.and_then(|plan| plan.network_of(address)));
        ((before, after), Some(address))
    });
    let mut addresses: BTreeMap<_, _> = known.collect();
    addresses.insert((None, None), None);
    addresses
}

/// The address that follows a range.
fn after(first: IpAddr, prefix: u8) -> Option<IpAddr> {
    match first {
        IpAddr::V4(first) => {
            let size = 1_u32.checked_shl(32_u32.checked_sub(u32::from(prefix))?)?;
            first.to_bits().checked_add(size).map(|bits| IpAddr::V4(bits.into()))
        }
        IpAddr::V6(first) => {
            let size = 1_u128.checked_shl(128_u32.checked_sub(u32::from(prefix))?)?;
            first.to_bits().checked_add(size).map(|bits| IpAddr::V6(bits.into()))
        }
    }
}

/// The ports that exposures tell apart: what is no port, each that they name, and another.
fn ports<'p>(exposures: impl Iterator<Item = &'p Exposure>) -> Vec<Option<u16>> {
    let named: BTreeSet<u16> =
        exposures.flat_map(|exposure| exposure.ports.iter()).map(|port| port.number()).collect();
    let other = (1..=u16::MAX).rev().find(|port| !named.contains(port));
    [None].into_iter().chain(named.into_iter().map(Some)).chain([other]).collect()
}

fn who(networks: &[&Networks<'_>]) -> Vec<String> {
    let words = |networks: &&Networks<'_>| match **networks {
        (None, None) => "what is of no known network".to_owned(),
        (Some(one), Some(other)) if one == other => format!("network {one}"),
        (before, after) => {
            let name =
                |network: Option<&NetworkName>| network.map_or("no network", NetworkName::as_str).to_owned();
            format!("addresses of {}, from now on of {}", name(before), name(after))
        }
    };
    networks.iter().map(words).collect()
}

fn what(ports: &[Option<u16>], chosen: &BTreeSet<usize>) -> Vec<String> {
    if chosen.len() == ports.len() {
        return Vec::new();
    }
    let other = ports.len().saturating_sub(1);
    let named = |is_in: bool| {
        let numbers = (1..other).filter(move |number| chosen.contains(number) == is_in);
        let named = numbers.filter_map(|number| ports.get(number).copied().flatten());
        named.map(|port| port.to_string()).collect::<Vec<_>>().join(", ")
    };
    match (chosen.contains(&other), named(false).is_empty()) {
        (true, true) => vec!["any port".to_owned()],
        (true, false) => vec![format!("ports but {}", named(false))],
        (false, _) if named(true).is_empty() => vec!["no port".to_owned()],
        (false, _) => vec![format!("port {}", named(true))],
    }
}
