//! How sidecars get into pods.

use std::collections::BTreeSet;

use policy::mesh::ControlPlane;
use serde_json::Value;

use super::services::ready_endpoints;
use super::{Failure, Found, Kind, Object, Skip, Visit};

/// A webhook of the injector, of any revision or of a tag.
fn injectors<'v>(visit: &Visit<'v>) -> Result<Vec<&'v Object>, Skip> {
    let names = ["istio-sidecar-injector", "istio-revision-tag-"];
    let all = visit.of(Kind::Webhook)?.iter();
    Ok(all.filter(|webhook| names.iter().any(|name| webhook.name().starts_with(name))).collect())
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
    for (injector, webhook) in each(&injectors) {
        // Files have no CA in it: istiod writes it when it runs.
        let unsigned = (visit.inventory.server.is_some() && is_unsigned(webhook))
            .then(|| "it trusts no CA: istiod has not written its own there".to_owned());
        for why in lost(visit, webhook)?.into_iter().chain(unsigned).filter(|why| told.insert(why.clone())) {
            failures.push(Failure::error(
                format!("webhook {} leads nowhere: {why}; no pod of an injected namespace starts", injector.name()),
                "install the cluster anew as `isthmus mesh render` says; or delete the webhook, if Istio is gone from here",
            ));
        }
    }
    Ok(failures)
}

/// What judges objects of Istio before the API server takes them. One that leads nowhere refuses them all, unless it says
/// that it may be passed over, as it does until istiod runs.
pub(super) fn validation(visit: &Visit<'_>) -> Found {
    let is_one = |name: &str| name.starts_with("istio-validator") || name == "istiod-default-validator";
    let validators: Vec<&Object> =
        visit.of(Kind::Validator)?.iter().filter(|webhook| is_one(webhook.name())).collect();
    if validators.is_empty() {
        return Err(Skip::idle("no webhook judges Istio's objects"));
    }
    let mut failures = Vec::new();
    let mut told = BTreeSet::new();
    for (validator, webhook) in each(&validators) {
        let may_be_passed = webhook.get("failurePolicy").and_then(Value::as_str) == Some("Ignore");
        let Some(why) = lost(visit, webhook)?.filter(|_| !may_be_passed) else { continue };
        if told.insert(why.clone()) {
            let name = validator.name();
            failures.push(Failure::error(
                format!("webhook {name} leads nowhere: {why}; the API server refuses every object of Istio"),
                format!("let istiod run; or, if Istio is gone from here: kubectl delete validatingwebhookconfiguration {name}"),
            ));
        }
    }
    Ok(failures)
}

/// The webhooks of each configuration.
fn each<'o>(configurations: &[&'o Object]) -> Vec<(&'o Object, &'o Value)> {
    configurations.iter().flat_map(|one| one.list("/webhooks").iter().map(move |each| (*one, each))).collect()
}

/// Why a webhook leads nowhere, if it does.
fn lost(visit: &Visit<'_>, webhook: &Value) -> Result<Option<String>, Skip> {
    let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
    match (config.get("url").and_then(Value::as_str), config.get("service")) {
        (Some(url), _) => Ok(foreign(visit, url)),
        (None, Some(service)) => local(visit, service),
        (None, None) => Ok(Some("it names neither a Service nor a URL".to_owned())),
    }
}

fn is_unsigned(webhook: &Value) -> bool {
    webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str).unwrap_or_default().is_empty()
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
    let leader = visit.mesh().cluster(primary)?;
    let own = leader.whereabouts.istiod.as_deref();
    let wanted = own.or_else(|| Some(leader.gateway.as_ref()?.address.as_str()))?;
    let place = if own.is_some() { "istiod" } else { "gateway" };
    let host = url.split_once("://")?.1.split(['/', ':']).next()?;
    // A name may lead to the address; only two addresses can be compared.
    let both = host.parse::<std::net::IpAddr>().is_ok() && wanted.parse::<std::net::IpAddr>().is_ok();
    (both && host != wanted)
        .then(|| format!("it leads to {host}, and the {place} of {primary} is at {wanted}"))
}

pub(super) fn injection(visit: &Visit<'_>) -> Found {
    let here = &visit.cluster.name;
    let listed = visit.mesh().services().filter(|(_, listing)| listing.clusters.contains(here));
    let namespaces: BTreeSet<_> = listed.map(|(service, _)| service.namespace.as_str()).collect();
    let seen: BTreeSet<&str> = visit.of(Kind::Namespace)?.iter().map(Object::name).collect();
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
    // A server that has no such namespace has no such Service either, which is told of. Files need not have all.
    let unseen = namespaces
        .difference(&seen)
        .next()
        .filter(|_| failures.is_empty() && visit.inventory.server.is_none());
    match unseen {
        Some(name) => Err(Skip::unseen(format!("the directory has no Namespace {name}"))),
        None => Ok(failures),
    }
}
