//! How sidecars get into pods.

use std::collections::BTreeSet;

use policy::mesh::ControlPlane;
use serde_json::Value;

use super::services::ready_endpoints;
use super::{Failure, Found, Kind, Object, Skip, Visit};

/// A webhook of the injector, of any revision.
fn injectors<'v>(visit: &Visit<'v>) -> Result<Vec<&'v Object>, Skip> {
    let all = visit.of(Kind::Webhook)?.iter();
    Ok(all.filter(|webhook| webhook.name().starts_with("istio-sidecar-injector")).collect())
}

pub(super) fn leads_somewhere(visit: &Visit<'_>) -> Found {
    let injectors = injectors(visit)?;
    if injectors.is_empty() {
        return Ok(vec![Failure::error(
            "no webhook injects sidecars: pods start without one, outside the mesh",
            "`isthmus mesh render` writes what installs it",
        )]);
    }
    let mut failures = Vec::new();
    let mut told = BTreeSet::new();
    for (injector, webhook) in
        injectors.iter().flat_map(|one| one.list("/webhooks").iter().map(move |each| (*one, each)))
    {
        let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
        let found = match (config.get("url").and_then(Value::as_str), config.get("service")) {
            (Some(url), _) => foreign(visit, url),
            (None, Some(service)) => local(visit, service)?,
            (None, None) => Some("it names neither a Service nor a URL".to_owned()),
        };
        let unsigned = config.get("caBundle").and_then(Value::as_str).unwrap_or_default().is_empty();
        // Files have it empty: istiod writes it when it runs.
        let unsigned = (unsigned && visit.inventory.server.is_some())
            .then(|| "it trusts no CA: istiod has not written its own there".to_owned());
        for why in found.into_iter().chain(unsigned).filter(|why| told.insert(why.clone())) {
            failures.push(Failure::error(
                format!("webhook {} leads nowhere: {why}; no pod of an injected namespace starts", injector.name()),
                "install the cluster anew as `isthmus mesh render` says; or delete the webhook, if Istio is gone from here",
            ));
        }
    }
    Ok(failures)
}

/// A Service of the cluster: it has to be there, with something behind it.
fn local(visit: &Visit<'_>, service: &Value) -> Result<Option<String>, Skip> {
    let text = |key: &str| service.get(key).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let mut services = visit.of(Kind::Service)?.iter();
    if !services.any(|one| one.namespace() == namespace && one.name() == name) {
        return Ok(Some(format!("there is no Service {namespace}/{name}")));
    }
    Ok(match ready_endpoints(visit, namespace, name) {
        Ok(0) => Some(format!("nothing is ready behind Service {namespace}/{name}")),
        Ok(_) | Err(_) => None,
    })
}

/// A URL: that of the control plane that leads the cluster, where its address is known.
fn foreign(visit: &Visit<'_>, url: &str) -> Option<String> {
    let ControlPlane::RemoteOf(primary) = &visit.cluster.control_plane else { return None };
    let gateway = visit.mesh().cluster(primary)?.gateway.as_ref()?;
    let host = url.split_once("://")?.1.split(['/', ':']).next()?;
    let wanted = gateway.address.as_str();
    // A name may lead to the address; only two addresses can be compared.
    let both = host.parse::<std::net::IpAddr>().is_ok() && wanted.parse::<std::net::IpAddr>().is_ok();
    (both && host != wanted)
        .then(|| format!("it leads to {host}, and the gateway of {primary} is at {wanted}"))
}

pub(super) fn injection(visit: &Visit<'_>) -> Found {
    let here = &visit.cluster.name;
    let listed = visit.mesh().services().filter(|(_, listing)| listing.clusters.contains(here));
    let namespaces: BTreeSet<_> = listed.map(|(service, _)| service.namespace.as_str()).collect();
    let mut failures = Vec::new();
    for namespace in visit.of(Kind::Namespace)?.iter().filter(|one| namespaces.contains(one.name())) {
        let injected = namespace.label("istio-injection") == Some("enabled")
            || namespace.label("istio.io/rev").is_some();
        if !injected {
            let name = namespace.name();
            failures.push(Failure::warning(
                format!(
                    "pods of namespace {name} get no sidecar: no policy holds there, and no tag is believed"
                ),
                format!("kubectl label namespace {name} istio-injection=enabled, and restart its workloads"),
            ));
        }
    }
    Ok(failures)
}
