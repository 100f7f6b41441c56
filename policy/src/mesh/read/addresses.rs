//! Addresses that clusters are to reach each other by, and those of their pods.

use std::net::{IpAddr, Ipv6Addr};

use super::Draft;
use crate::cidr::Cidr;
use crate::document::{Fields, Located};
use crate::finding::{Code, Finding, Place};
use crate::mesh::Target;
use crate::name::{Port, is_dns_name};

/// Who answers at an address. Two ways of writing one are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl Host {
    fn read(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        // A last label of digits alone is an address gone wrong: there is no such top-level domain.
        let last = name.rsplit('.').next().unwrap_or_default();
        let digits = last.bytes().all(|byte| byte.is_ascii_digit());
        (is_dns_name(&name) && !digits).then_some(Self::Name(name))
    }

    /// Whether every cluster that asks for it finds itself, or nobody.
    fn is_ones_own(&self) -> bool {
        match self {
            Self::Address(IpAddr::V4(address)) => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_link_local()
                    || address.is_multicast()
                    || address.is_broadcast()
            }
            Self::Address(IpAddr::V6(address)) => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
            }
            // The names of Kubernetes' own DNS lead to the services of whichever cluster asks.
            Self::Name(name) => {
                name == "kubernetes.default"
                    || ["localhost", "svc", "svc.cluster.local"].iter().any(|own| {
                        name.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    })
            }
        }
    }
}

/// The host, the port and the path of an `https` URL.
fn server(url: &str) -> Option<(Host, u16, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (Host::Address(host.parse::<Ipv6Addr>().ok()?.into()), port)
        }
        None => {
            let (host, port) = authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?;
            (Host::read(host)?, port)
        }
    };
    let port = if port.is_empty() { 443 } else { port.strip_prefix(':')?.parse::<Port>().ok()?.number() };
    scheme.eq_ignore_ascii_case("https").then_some((host, port, path.trim_end_matches('/')))
}

/// Takes `podCidr`; a range that pods cannot have is a finding and `None`.
pub(super) fn pods(fields: &mut Fields<'_>) -> Option<Located<Cidr>> {
    let pods = fields.optional_value::<Cidr>("podCidr")?;
    let (message, hint) = if pods.value.prefix() == 0 {
        (
            format!("podCidr: {} takes in every address there is", pods.value),
            "write the range of this cluster's pods alone",
        )
    } else if Host::Address(pods.value.address(0)).is_ones_own() {
        (
            format!("podCidr: no pod can have an address of {}", pods.value),
            "write the range that the cluster gives its pods",
        )
    } else {
        return Some(pods);
    };
    fields.findings().push(Finding { at: pods.at, code: Code::BadValue, message, hint: hint.to_owned() });
    None
}

/// What is wrong with the addresses of one cluster, by themselves and beside those of others.
pub(super) fn check(draft: &Draft, drafts: &[Draft], before: &[Draft], findings: &mut Vec<Finding>) {
    if let Some(said) = &draft.api_server {
        match server(&said.value) {
            Some((host, ..)) => findings.extend(out_of_reach(draft, drafts, "API server", &said.at, &host)),
            None => findings.push(Finding {
                at: said.at.clone(),
                code: Code::UnreachableAddress,
                message: format!("no cluster reaches an API server at {:?}", said.value),
                hint: "write its URL as the other clusters reach it, such as https://192.0.2.10:6443"
                    .to_owned(),
            }),
        }
    }
    if let Some(said) = &draft.gateway {
        match Host::read(&said.value.address) {
            Some(host) => findings.extend(out_of_reach(draft, drafts, "gateway", &said.at, &host)),
            None => findings.push(Finding {
                at: said.at.clone(),
                code: Code::BadValue,
                message: format!("address: {:?} is neither an address nor a name", said.value.address),
                hint: "write it without scheme and port, such as 192.0.2.1 or gateway.example; the port goes to port"
                    .to_owned(),
            }),
        }
    }
    if let Some(said) = &draft.istiod {
        match Host::read(&said.value) {
            Some(host) => findings.extend(out_of_reach(draft, drafts, "istiod", &said.at, &host)),
            None => findings.push(Finding {
                at: said.at.clone(),
                code: Code::BadValue,
                message: format!("address: {:?} is neither an address nor a name", said.value),
                hint: "write it without scheme and port, such as 192.0.2.1 or istiod.example; its ports are 15012 and 15017".to_owned(),
            }),
        }
    }
    shared(draft, before, findings);
}

/// A kubeconfig made on the cluster's own machine has such a server, and every other cluster then asks itself.
fn out_of_reach(draft: &Draft, drafts: &[Draft], what: &str, at: &Place, host: &Host) -> Option<Finding> {
    let shown = match host {
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    let (message, hint) = if host.is_ones_own() {
        (
            format!("{shown} means another machine to each cluster that looks for the {what} there"),
            "write the address by which the other clusters reach it".to_owned(),
        )
    } else {
        let Host::Address(address) = host else { return None };
        let holds =
            |other: &&Draft| other.pod_cidr.as_ref().is_some_and(|pods| pods.value.contains(*address));
        let own = Some(draft).filter(holds);
        let other = own.or_else(|| drafts.iter().find(holds))?;
        (
            format!(
                "{shown}, the {what} of {}, is an address of {}'s pods",
                draft.name.value, other.name.value
            ),
            format!(
                "whoever looks for the {what} there asks those pods: write another address, or mend podCidr of {}",
                other.name.value
            ),
        )
    };
    Some(Finding { at: at.clone(), code: Code::UnreachableAddress, message, hint })
}

/// What two clusters cannot both have.
fn shared(draft: &Draft, before: &[Draft], findings: &mut Vec<Finding>) {
    let mut clash = |what: &str, at: &Place, said: &str, same: &dyn Fn(&Draft) -> bool| {
        if let Some(other) = before.iter().find(|other| same(other)) {
            findings.push(Finding {
                at: at.clone(),
                code: Code::SharedAddress,
                message: format!("{} and {} have one {what}, {said:?}", draft.name.value, other.name.value),
                hint: format!("whatever is meant for one would reach the other: give each its own {what}"),
            });
        }
    };
    if let Some(said) = &draft.api_server {
        let ours = server(&said.value);
        clash("API server", &said.at, &said.value, &|other| {
            ours.is_some() && other.api_server.as_ref().is_some_and(|theirs| server(&theirs.value) == ours)
        });
    }
    if let (Some(said), Some(target)) = (&draft.target, &draft.cluster.target) {
        clash(of(target), &said.at, &said.value, &|other| {
            other.cluster.target.as_ref().is_some_and(|theirs| same(theirs, target))
        });
    }
    if let Some(said) = &draft.gateway {
        let ours = Host::read(&said.value.address);
        clash("gateway", &said.at, &said.value.address, &|other| {
            other.network.value != draft.network.value
                && other.gateway.as_ref().is_some_and(|theirs| {
                    theirs.value.port == said.value.port
                        && ours.is_some()
                        && Host::read(&theirs.value.address) == ours
                })
        });
    }
}

fn of(target: &Target) -> &'static str {
    match target {
        Target::Context(_) => "context",
        Target::Directory(_) => "directory",
    }
}

fn same(one: &Target, other: &Target) -> bool {
    match (one, other) {
        (Target::Context(one), Target::Context(other)) => one == other,
        (Target::Directory(one), Target::Directory(other)) => {
            one.starts_with('/') == other.starts_with('/') && steps(one).eq(steps(other))
        }
        (Target::Context(_), Target::Directory(_)) | (Target::Directory(_), Target::Context(_)) => false,
    }
}

/// The parts of a path that lead anywhere.
fn steps(directory: &str) -> impl Iterator<Item = &str> {
    directory.split('/').filter(|part| !matches!(*part, "" | "."))
}
