//! Meshes with roots of their own: whether sidecars here accept those of the others.

use std::path::Path;

use policy::mesh::{ControlPlane, Federated};
use serde_json::Value;

use super::authority::{mesh_of, side_of};
use super::control::{environment, istiods, mesh_configs};
use super::{Failure, Found, Skip, Visit};
use crate::cert::Certificate;

pub(super) fn trusted(visit: &Visit<'_>) -> Found {
    if let ControlPlane::RemoteOf(primary) = &visit.cluster.control_plane {
        return Err(Skip::idle(format!("the istiod of {primary} tells its sidecars")));
    }
    let own = mesh_of(visit, visit.cluster);
    let foreign: Vec<&Federated> =
        visit.mesh().meshes().filter(|mesh| own.is_some_and(|own| own.root != mesh.root)).collect();
    if foreign.is_empty() {
        return Err(Skip::idle("one root signs for all"));
    }
    let mut failures = Vec::new();
    for (shown, config) in mesh_configs(visit)? {
        for mesh in &foreign {
            failures.extend(unknown_root(visit, &shown, &config, mesh));
            failures.extend(equal_names(&shown, &config, mesh));
        }
        if said(&config, "/defaultConfig/proxyMetadata/PROXY_CONFIG_XDS_AGENT") != "true" {
            failures.push(Failure::error(
                format!("{shown} does not let agents ask for roots: those of other meshes reach no sidecar"),
                "set defaultConfig.proxyMetadata.PROXY_CONFIG_XDS_AGENT to \"true\", as `isthmus mesh render` does, and restart workloads",
            ));
        }
    }
    failures.extend(environments(visit, &foreign)?);
    Ok(failures)
}

/// A setting as text, whether it was said as one or as a boolean.
fn said(config: &Value, pointer: &str) -> String {
    match config.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(is_so)) => is_so.to_string(),
        Some(_) | None => String::new(),
    }
}

/// The roots that a mesh configuration gives for a trust domain.
fn given(config: &Value, domain: &str) -> Vec<Certificate> {
    let entries = config.get("caCertificates").and_then(Value::as_array).into_iter().flatten();
    let is_for = |entry: &&Value| {
        let domains = entry.get("trustDomains").and_then(Value::as_array);
        domains.is_none_or(|all| all.is_empty() || all.iter().any(|one| one.as_str() == Some(domain)))
    };
    let pems = entries.filter(is_for).filter_map(|entry| entry.get("pem")?.as_str());
    pems.flat_map(|pem| Certificate::read_all(pem, Path::new("caCertificates")).unwrap_or_default()).collect()
}

/// What is wrong with the roots by which workloads of a mesh would be accepted.
fn unknown_root(visit: &Visit<'_>, shown: &str, config: &Value, mesh: &Federated) -> Vec<Failure> {
    let domain = mesh.trust_domain.as_str();
    let roots = given(config, domain);
    let hint = "put the root's certificate into roots/ beside mesh.yaml, and run `isthmus mesh apply`; sidecars take it without a restart";
    if roots.is_empty() {
        let message = format!(
            "{shown} has no caCertificates for {domain}: sidecars refuse every workload of mesh {}",
            mesh.name
        );
        return vec![Failure::error(message, hint)];
    }
    let clusters = visit.others().filter(|other| other.mesh == mesh.name);
    let refused = clusters.filter_map(|other| {
        let side = side_of(visit, other)?;
        let why = side.is_accepted_by(&roots, visit.all.now).err()?;
        let message =
            format!("the caCertificates of {shown} do not let in workloads of {}: {why}", other.name);
        Some(Failure::error(message, hint))
    });
    refused.collect()
}

/// An alias makes identities of two roots the same.
fn equal_names(shown: &str, config: &Value, mesh: &Federated) -> Option<Failure> {
    let domain = mesh.trust_domain.as_str();
    let aliases = config.get("trustDomainAliases").and_then(Value::as_array)?;
    aliases.iter().any(|alias| alias.as_str() == Some(domain)).then(|| {
        Failure::warning(
            format!("{shown} has {domain} among trustDomainAliases: what an AuthorizationPolicy lets through of this mesh it lets through of {} too", mesh.name),
            "`isthmus mesh render` lets identities of other meshes through without: PILOT_SKIP_VALIDATE_TRUST_DOMAIN",
        )
    })
}

/// What istiod is told when it starts.
fn environments(visit: &Visit<'_>, foreign: &[&Federated]) -> Found {
    let mut failures = Vec::new();
    let Ok(istiods) = istiods(visit) else { return Ok(failures) };
    for istiod in istiods {
        for (variable, consequence) in [
            ("ISTIO_MULTIROOT_MESH", "sidecars get no root but their own"),
            ("PILOT_SKIP_VALIDATE_TRUST_DOMAIN", "sidecars refuse identities of other trust domains"),
        ] {
            let aliased = variable.starts_with("PILOT") && all_aliased(visit, foreign);
            if environment(istiod, variable) != Some("true") && !aliased {
                failures.push(Failure::error(
                    format!("{} does not have {variable}=true: {consequence}", istiod.shown()),
                    "give it the values of `isthmus mesh render`",
                ));
            }
        }
    }
    Ok(failures)
}

/// Whether aliases let through what else the trust domain would keep out.
fn all_aliased(visit: &Visit<'_>, foreign: &[&Federated]) -> bool {
    let Ok(configs) = mesh_configs(visit) else { return false };
    let has = |config: &Value, mesh: &Federated| {
        let aliases = config.get("trustDomainAliases").and_then(Value::as_array);
        aliases.is_some_and(|all| all.iter().any(|alias| alias.as_str() == Some(mesh.trust_domain.as_str())))
    };
    configs.iter().all(|(_, config)| foreign.iter().all(|mesh| has(config, mesh)))
}
