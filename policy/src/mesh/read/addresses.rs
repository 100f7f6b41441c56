//! Addresses that clusters are to reach each other by.

use std::net::IpAddr;

use super::Draft;
use crate::document::Located;
use crate::finding::{Code, Finding};

/// What is wrong with the addresses of one cluster, by themselves and beside those of the clusters before it.
pub(super) fn check(draft: &Draft, before: &[Draft], findings: &mut Vec<Finding>) {
    if let Some(server) = &draft.api_server {
        findings.extend(api_server(server));
    }
    if let Some(gateway) = &draft.gateway {
        let address = Located { at: gateway.at.clone(), value: gateway.value.address.clone() };
        findings.extend(host(&address).or_else(|| unreachable(&address, &address.value, "gateway")));
        findings.extend(inside_pods(draft, &address));
    }
    shared(draft, before, findings);
}

/// A kubeconfig made on the cluster's own machine has such a server, and every other cluster then asks itself.
fn api_server(server: &Located<String>) -> Option<Finding> {
    let host = server.value.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
    let host = host.map(|authority| match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _port)| host),
    });
    match host.filter(|host| !host.is_empty()) {
        Some(host) => unreachable(server, host, "API server"),
        None => Some(Finding {
            at: server.at.clone(),
            code: Code::UnreachableAddress,
            message: format!("no cluster reaches an API server at {:?}", server.value),
            hint: "write its URL as the other clusters reach it, such as https://192.0.2.10:6443".to_owned(),
        }),
    }
}

fn unreachable(at: &Located<String>, host: &str, what: &str) -> Option<Finding> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let own = match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            address.is_loopback() || address.is_unspecified() || address.is_link_local()
        }
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unspecified() || address.is_unicast_link_local()
        }
        Err(_name) => {
            host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
        }
    };
    own.then(|| Finding {
        at: at.at.clone(),
        code: Code::UnreachableAddress,
        message: format!("{host} means another machine to each cluster that looks for the {what} there"),
        hint: "write the address by which the other clusters reach it".to_owned(),
    })
}

/// A gateway's address with what stands elsewhere.
fn host(address: &Located<String>) -> Option<Finding> {
    let text = &address.value;
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if text.parse::<IpAddr>().is_ok() || name.parse::<crate::name::TrustDomain>().is_ok() {
        return None;
    }
    Some(Finding {
        at: address.at.clone(),
        code: Code::BadValue,
        message: format!("address: {text:?} is neither an address nor a name"),
        hint: "write it without scheme and port, such as 192.0.2.1 or gateway.example; the port goes to port"
            .to_owned(),
    })
}

fn inside_pods(draft: &Draft, address: &Located<String>) -> Option<Finding> {
    let pods = draft.pod_cidr.as_ref()?;
    let inside = address.value.parse().is_ok_and(|address| pods.value.contains(address));
    inside.then(|| Finding {
        at: address.at.clone(),
        code: Code::UnreachableAddress,
        message: format!(
            "{} is an address of {}'s own pods, which other networks do not reach",
            address.value, draft.name.value
        ),
        hint: "write the address of the gateway's load balancer".to_owned(),
    })
}

/// What two clusters cannot both have.
fn shared(draft: &Draft, before: &[Draft], findings: &mut Vec<Finding>) {
    let mut clash = |what: &str, at: &Located<String>, same: &dyn Fn(&Draft) -> bool| {
        if let Some(other) = before.iter().find(|other| same(other)) {
            findings.push(Finding {
                at: at.at.clone(),
                code: Code::SharedAddress,
                message: format!(
                    "{} and {} have one {what}, {:?}",
                    draft.name.value, other.name.value, at.value
                ),
                hint: format!("whatever is meant for one would reach the other: give each its own {what}"),
            });
        }
    };
    if let Some(server) = &draft.api_server {
        let plain = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
        clash("API server", server, &|other| {
            other.api_server.as_ref().is_some_and(|theirs| plain(&theirs.value) == plain(&server.value))
        });
    }
    if let Some(target) = &draft.target {
        clash("context or directory", target, &|other| other.cluster.target == draft.cluster.target);
    }
    if let Some(gateway) = &draft.gateway {
        let address = Located { at: gateway.at.clone(), value: gateway.value.address.clone() };
        clash("gateway", &address, &|other| {
            other.network.value != draft.network.value
                && other.gateway.as_ref().is_some_and(|theirs| theirs.value == gateway.value)
        });
    }
}
