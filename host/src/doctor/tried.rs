//! What is to be said of the ways by which clusters reach each other, after trying them from here.

use std::path::Path;

use base64ct::{Base64, Encoding as _};
use policy::mesh::ControlPlane;

use super::secrets::kubeconfigs;
use super::{Failure, Found, Inventory, Kind, Skip, Tried, Visit};
use crate::cert::{Certificate, judge};
use crate::manifest::ISTIO_NAMESPACE;
use crate::proxies::{Istiod, Reads};

pub(super) fn tried<'v>(visit: &Visit<'v>) -> Result<&'v Tried, Skip> {
    visit.inventory.tried.as_deref().ok_or_else(|| Skip::idle("nobody tried it: --probe does"))
}

pub(super) fn server(visit: &Visit<'_>) -> Found {
    let Some(said) = &visit.cluster.api_server else {
        return Err(Skip::idle("mesh.yaml gives it no apiServer"));
    };
    let Some(Err(why)) = &tried(visit)?.server else { return Ok(Vec::new()) };
    Ok(vec![Failure::error(
        format!("nothing answers at {said} as its API server does: {why}"),
        "say in mesh.yaml the address by which other clusters reach it, and make their remote secrets anew: `isthmus mesh secrets`; \
         if only this machine cannot reach it, all is well",
    )])
}

pub(super) fn secrets(visit: &Visit<'_>) -> Found {
    if let ControlPlane::RemoteOf(primary) = &visit.cluster.control_plane {
        return Err(Skip::idle(format!("{primary} reads what it needs itself")));
    }
    let failure = |(cluster, came): (&String, &Result<(), String>)| {
        let why = came.as_ref().err()?;
        Some(Failure::error(
            format!("its istiod cannot read {cluster} with the secret that it has: {why}"),
            "`isthmus mesh secrets` makes those anew that do not work; istiod takes them without a restart",
        ))
    };
    let tried = tried(visit)?;
    let failures: Vec<Failure> = tried.secrets.iter().filter_map(failure).collect();
    match tried.untried.iter().next().filter(|_| failures.is_empty()) {
        Some((cluster, why)) => Err(Skip::unseen(format!("that of {cluster} was not tried: {why}"))),
        None => Ok(failures),
    }
}

/// From where istiod stands: a firewall, or a name that only others know, is between it and a server and not between us.
pub(super) fn read(visit: &Visit<'_>) -> Found {
    if let ControlPlane::RemoteOf(primary) = &visit.cluster.control_plane {
        return Err(Skip::idle(format!("{primary} reads what it needs itself")));
    }
    let wanted: Vec<String> =
        kubeconfigs(visit.inventory, visit.root()).into_iter().map(|(name, _)| name).collect();
    let istiods = match &tried(visit)?.istiods {
        _ if wanted.is_empty() => return Err(Skip::idle("it has no remote secret")),
        Some(Ok(istiods)) if !istiods.is_empty() => istiods,
        Some(Err(why)) => return Err(Skip::unseen(why)),
        Some(Ok(_)) | None => return Err(Skip::unseen("no istiod runs here that could be asked")),
    };
    let mut failures = Vec::new();
    let mut unsaid = None;
    for istiod in istiods {
        match &istiod.said {
            Ok(Some(reads)) => failures.extend(wanted.iter().filter_map(|name| unread(istiod, name, reads))),
            Ok(None) => unsaid = Some(Skip::idle(format!("{} does not say it: newer ones do", istiod.pod))),
            Err(why) => unsaid = Some(Skip::unseen(format!("{} was not asked: {why}", istiod.pod))),
        }
    }
    match unsaid.filter(|_| failures.is_empty()) {
        Some(skip) => Err(skip),
        None => Ok(failures),
    }
}

fn unread(istiod: &Istiod, name: &str, reads: &Reads) -> Option<Failure> {
    let pod = &istiod.pod;
    let message = match reads.get(name).map(String::as_str) {
        Some("synced") => return None,
        Some(state) => format!("{pod} has not read {name}: it says {state}"),
        None => format!("{pod} does not read {name}, of which there is a remote secret"),
    };
    Some(Failure::error(
        message,
        format!(
            "its log says why: `kubectl -n {ISTIO_NAMESPACE} logs {pod}`; where ISD036 passes, the way is closed from its pod alone: a \
             network policy, a firewall, or a name that its DNS does not know"
        ),
    ))
}

pub(super) fn gateway(visit: &Visit<'_>) -> Found {
    let Some(came) = &tried(visit)?.gateway else { return Err(Skip::idle("it needs no gateway")) };
    let Some(gateway) = &visit.cluster.gateway else { return Ok(Vec::new()) };
    let failure = |why: &String| {
        Failure::error(
            format!("nothing listens at {}:{}: {why}", gateway.address, gateway.port),
            "other networks dial that address: look at the Service of the gateway, its load balancer, and firewalls; if only this \
             machine cannot reach it, all is well",
        )
    };
    Ok(came.as_ref().err().map(failure).into_iter().collect())
}

/// A machine beside the clusters has no pod's address.
pub(super) fn pods(_visit: &Visit<'_>) -> Found {
    Err(Skip::idle("only pods can try it: `isthmus verify` has them do it"))
}

pub(super) fn service(visit: &Visit<'_>) -> Found {
    let Some(answer) = &tried(visit)?.service else {
        return Err(Skip::idle("no service of it is listed that everybody may ask for"));
    };
    let sni = &answer.sni;
    let shown = match &answer.shown {
        Ok(shown) => shown,
        Err(why) => {
            return Ok(vec![Failure::error(
                format!("the gateway hands nobody on who asks for {sni}: {why}"),
                "it knows no such service: see the checks of the gateway and of services; or no pod of it is ready",
            )]);
        }
    };
    let chain: Option<Vec<Certificate>> = shown.iter().map(|der| certificate(der)).collect();
    let chain = chain.unwrap_or_default();
    let Some((leaf, presented)) = chain.split_first() else {
        let message = format!("what answers to {sni} shows no certificate that can be read");
        return Ok(vec![Failure::error(message, "behind the gateway there has to be a sidecar")]);
    };
    let mut failures = Vec::new();
    for other in visit.others().filter(|other| other.network != visit.cluster.network) {
        let Some(roots) = visit.other(&other.name).and_then(roots) else { continue };
        if let Err(why) = judge(leaf, presented, &roots, visit.all.now) {
            failures.push(Failure::error(
                format!("{} does not accept what answers to {sni}: {why}", other.name),
                "compare the CAs: `isthmus mesh trust`; a workload that was there before its CA changed needs a restart",
            ));
        }
    }
    Ok(failures)
}

/// The roots that workloads of a cluster are told to trust.
fn roots(inventory: &Inventory) -> Option<Vec<Certificate>> {
    let mut maps =
        inventory.of(Kind::ConfigMap).ok()?.iter().filter(|map| map.name() == "istio-ca-root-cert");
    Certificate::read_all(&maps.find_map(|map| map.data("root-cert.pem"))?, Path::new("root-cert.pem")).ok()
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    const MARK: &str = "-----";
    let text = Base64::encode_string(der);
    let mut pem = format!("{MARK}BEGIN CERTIFICATE{MARK}\n");
    for (at, character) in text.chars().enumerate() {
        pem.push(character);
        if at % 64 == 63 {
            pem.push('\n');
        }
    }
    pem += &format!("\n{MARK}END CERTIFICATE{MARK}\n");
    Certificate::read(&pem.replace("\n\n", "\n"), Path::new("what was shown")).ok()
}
