//! Who answers for the names of other control planes, in each of the three ways.

use std::net::IpAddr;

use policy::mesh::Dns;
use serde_json::Value;

use super::control::{injector_values, mesh_configs};
use super::imports::hosts;
use super::services::ready_endpoints;
use super::{Failure, Found, Kind, Object, Skip, Visit};
use crate::manifest::{ISTIO_NAMESPACE, Wanted};

const KUBE_SYSTEM: &str = "kube-system";

pub(super) fn answers(visit: &Visit<'_>) -> Found {
    let mesh = visit.mesh();
    let primary = mesh.primary(visit.cluster);
    let imports = visit.imports.into(&primary.name)?;
    let by_proxy = mesh.installation().dns_proxy;
    if imports.is_empty() && !by_proxy {
        return Err(Skip::idle("it calls no service of a control plane that its own does not know"));
    }
    let dns = mesh.global_names().map_or(Dns::Proxy, |names| names.dns);
    let mut failures = Vec::new();
    if by_proxy || dns == Dns::Proxy {
        failures.extend(proxies(visit, imports)?);
    }
    match dns {
        _ if imports.is_empty() => {}
        Dns::Proxy => {}
        Dns::CoreDns => failures.extend(core_dns(visit, imports)?),
        Dns::KubeDns => failures.extend(kube_dns(visit, imports)?),
    }
    if mesh.global_names().is_some() && !imports.is_empty() {
        failures.extend(search_domain(visit)?);
    }
    Ok(failures)
}

/// Sidecars answer if their control plane lets them.
fn proxies(visit: &Visit<'_>, imports: &[Wanted]) -> Found {
    let primary = visit.mesh().primary(visit.cluster);
    if primary.name != visit.cluster.name {
        return Err(Skip::idle(format!("the istiod of {} tells its sidecars", primary.name)));
    }
    let pointer = "/defaultConfig/proxyMetadata/ISTIO_META_DNS_CAPTURE";
    let is_on = |config: &Value| {
        let value = config.pointer(pointer);
        value.and_then(Value::as_bool).unwrap_or(value.and_then(Value::as_str) == Some("true"))
    };
    let example = imports.iter().find_map(|wanted| hosts(&wanted.entry).next());
    let example = example.unwrap_or("a service that only other clusters run");
    let failure = |shown: &String| {
        Failure::error(
            format!("{shown} does not let sidecars answer for names: {example} does not resolve"),
            "set defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE to \"true\", as `isthmus mesh render` does, and restart workloads",
        )
    };
    Ok(mesh_configs(visit)?
        .iter()
        .filter(|(_, config)| !is_on(config))
        .map(|(shown, _)| failure(shown))
        .collect())
}

fn map<'v>(visit: &Visit<'v>, namespace: &str, name: &str) -> Result<Option<&'v Object>, Skip> {
    let mut maps = visit.of(Kind::ConfigMap)?.iter();
    Ok(maps.find(|map| map.namespace() == namespace && map.name() == name))
}

/// The names that a text of CoreDNS does not give the address of their entries.
fn unanswered<'w>(corefile: &str, imports: &'w [Wanted]) -> Vec<(&'w str, &'w str)> {
    let pair = |wanted: &'w Wanted| {
        let address = wanted.entry.pointer("/spec/addresses/0").and_then(Value::as_str)?;
        Some((hosts(&wanted.entry).find(|host| host.ends_with(".global"))?, address))
    };
    let says = |(host, address): &(&str, &str)| {
        corefile.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(*address) && words.any(|word| word == *host)
        })
    };
    imports.iter().filter_map(pair).filter(|pair| !says(pair)).collect()
}

fn wrong_zone(place: &str, corefile: &str, imports: &[Wanted]) -> Vec<Failure> {
    let failure = |(host, address): (&str, &str)| {
        let message = format!(
            "{place} does not say that {host} is {address}: it does not resolve, or to another's address"
        );
        Failure::error(message, "`isthmus mesh apply` writes it as the ServiceEntry has it")
    };
    unanswered(corefile, imports).into_iter().map(failure).collect()
}

fn core_dns(visit: &Visit<'_>, imports: &[Wanted]) -> Found {
    let custom = map(visit, KUBE_SYSTEM, "coredns-custom")?;
    let zone = custom.map(|custom| {
        custom.keys().into_iter().filter_map(|key| custom.data(key)).collect::<Vec<_>>().join("\n")
    });
    let main = map(visit, KUBE_SYSTEM, "coredns")?.and_then(|map| map.data("Corefile"));
    // People without `coredns-custom` write the zone into the Corefile itself.
    let own = main.as_deref().filter(|corefile| corefile.contains("global"));
    let mut failures = match (&zone, own) {
        (None, None) => vec![Failure::error(
            format!("no ConfigMap {KUBE_SYSTEM}/coredns-custom: nobody answers for names in .global"),
            "`isthmus mesh apply` writes it",
        )],
        (None, Some(own)) => wrong_zone("the Corefile of CoreDNS", own, imports),
        (Some(zone), _) => wrong_zone("ConfigMap kube-system/coredns-custom", zone, imports),
    };
    let imports_it = |corefile: &str| {
        corefile.lines().any(|line| line.trim_start().starts_with("import ") && line.contains("custom"))
    };
    if zone.is_some() && main.as_deref().is_some_and(|main| !imports_it(main)) {
        failures.push(Failure::error(
            "the Corefile of CoreDNS does not import coredns-custom: nobody answers for names in .global",
            "add `import custom/*.server` to it, and the ConfigMap to CoreDNS as a volume",
        ));
    }
    Ok(failures)
}

fn kube_dns(visit: &Visit<'_>, imports: &[Wanted]) -> Found {
    const SERVER: &str = "isthmus-dns";
    let Some(server) = visit.cluster.whereabouts.dns_server else {
        return Err(Skip::unseen("mesh.yaml gives the cluster no dnsServer"));
    };
    let mut failures = Vec::new();
    let stubs = map(visit, KUBE_SYSTEM, "kube-dns")?.and_then(|map| map.data("stubDomains"));
    let stubs = stubs.and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
    let asked = stubs.get("global").and_then(Value::as_array).map_or(&[] as &[Value], Vec::as_slice);
    let is_server = |one: &Value| one.as_str().and_then(|text| text.parse::<IpAddr>().ok()) == Some(server);
    if !asked.iter().any(is_server) {
        failures.push(Failure::error(
            format!("ConfigMap {KUBE_SYSTEM}/kube-dns does not send the domain global to {server}: its names do not resolve"),
            format!("add to its stubDomains: {{\"global\": [\"{server}\"]}}"),
        ));
    }
    let zone = map(visit, ISTIO_NAMESPACE, SERVER)?.and_then(|map| map.data("Corefile")).unwrap_or_default();
    failures.extend(wrong_zone("ConfigMap istio-system/isthmus-dns", &zone, imports));
    let mut services = visit.of(Kind::Service)?.iter();
    let service = services.find(|service| service.namespace() == ISTIO_NAMESPACE && service.name() == SERVER);
    let there = service.and_then(|service| service.text("/spec/clusterIP")).unwrap_or("nowhere");
    if there.parse::<IpAddr>().ok() != Some(server) {
        failures.push(Failure::error(
            format!("Service {ISTIO_NAMESPACE}/{SERVER} is at {there}, and mesh.yaml says dnsServer {server}"),
            "`isthmus mesh apply` makes it there; the address of a Service that exists cannot be changed: delete it first",
        ));
    } else if ready_endpoints(visit, ISTIO_NAMESPACE, SERVER).is_ok_and(|ready| ready == 0) {
        failures.push(Failure::error(
            format!(
                "no pod behind Service {ISTIO_NAMESPACE}/{SERVER} is ready: names in .global do not resolve"
            ),
            format!("kubectl -n {ISTIO_NAMESPACE} describe pod -l app={SERVER}"),
        ));
    }
    Ok(failures)
}

/// By the search domain `bar.ns2` becomes `bar.ns2.global`.
fn search_domain(visit: &Visit<'_>) -> Found {
    let lacks = |values: &Value| {
        let domains = values.pointer("/global/podDNSSearchNamespaces").and_then(Value::as_array);
        !domains.is_some_and(|all| all.iter().any(|one| one.as_str() == Some("global")))
    };
    let failure = |shown: String| {
        Failure::warning(
            format!(
                "{shown} gives pods no search domain `global`: names resolve only when they end in .global"
            ),
            "set global.podDNSSearchNamespaces to [global], as `isthmus mesh render` does, and restart workloads",
        )
    };
    let values = injector_values(visit)?.into_iter();
    Ok(values.filter(|(_, values)| lacks(values)).map(|(shown, _)| failure(shown)).collect())
}
