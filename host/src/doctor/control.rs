//! Control planes: whether they run, of which version, and what they were told.

use policy::mesh::{ControlPlane, Extension};
use serde_json::Value;

use super::{Failure, Found, Kind, Object, Skip, Visit};

/// The Kubernetes versions (1.x) that each Istio (1.x) is supported on, by its release notes.
const SUPPORTED: &[(u16, (u32, u32))] =
    &[(27, (29, 33)), (28, (30, 34)), (29, (31, 35)), (30, (32, 36)), (31, (32, 36))];

pub(super) fn kubernetes(visit: &Visit<'_>) -> Found {
    let server = visit.inventory.server.as_deref().ok_or_else(|| Skip::idle("files have no server"))?;
    let istio = visit
        .mesh()
        .installation()
        .version
        .ok_or_else(|| Skip::unseen("mesh.yaml says no version of Istio"))?;
    let minor = minor(server).ok_or_else(|| Skip::unseen(format!("{server} is no version that is known")))?;
    let known = SUPPORTED.iter().find(|(version, _)| (1, *version) == (istio.major(), istio.minor()));
    let Some((_, (oldest, newest))) = known else {
        return Err(Skip::unseen(format!("which Kubernetes Istio {istio} supports is not known here")));
    };
    let bad = !(*oldest..=*newest).contains(&minor);
    Ok(bad
        .then(|| {
            Failure::warning(
                format!("Kubernetes is {server}: Istio {istio} is tested on 1.{oldest} to 1.{newest}"),
                "upgrade the older of the two; between them Istio may miss what it relies on",
            )
        })
        .into_iter()
        .collect())
}

pub(super) fn control_plane(visit: &Visit<'_>) -> Found {
    let istiods = istiods(visit)?;
    let ready = |istiod: &&&Object| {
        istiod.at("/status/readyReplicas").and_then(Value::as_u64).is_some_and(|ready| ready > 0)
    };
    let name = &visit.cluster.name;
    let failure = match &visit.cluster.control_plane {
        ControlPlane::Primary if istiods.is_empty() => Failure::error(
            format!("no istiod: mesh.yaml says that {name} is a primary"),
            format!(
                "`isthmus mesh render` writes what installs it; or say `controlPlane: {{remoteOf: ...}}` of {name}"
            ),
        ),
        // Files say what is wanted, not what runs.
        ControlPlane::Primary if visit.inventory.server.is_none() => return Ok(Vec::new()),
        ControlPlane::Primary if istiods.iter().filter(ready).count() == 0 => Failure::error(
            format!(
                "no pod of {} is ready",
                istiods.first().map(|istiod| istiod.shown()).unwrap_or_default()
            ),
            format!("`kubectl -n {} describe pod -l app=istiod` says why", visit.root()),
        ),
        ControlPlane::RemoteOf(primary) if !istiods.is_empty() => Failure::error(
            format!("an istiod of its own: mesh.yaml says that {name} is run by that of {primary}"),
            "two control planes would lead the same proxies: remove this one, or make the cluster a primary",
        ),
        ControlPlane::Primary | ControlPlane::RemoteOf(_) => return Ok(Vec::new()),
    };
    Ok(vec![failure])
}

pub(super) fn istio_version(visit: &Visit<'_>) -> Found {
    let Some(wanted) = visit.mesh().installation().version else { return skew(visit) };
    let mut failures = Vec::new();
    for istiod in istiods(visit)? {
        let Some(found) = version(istiod) else { continue };
        let same = found.split('.').take(2).eq(wanted.to_string().split('.'));
        if !same {
            failures.push(Failure::warning(
                format!("{} is Istio {found}, and mesh.yaml says {wanted}", istiod.shown()),
                "plans and objects are made for the version of mesh.yaml: what an older Istio does not know it refuses \
                 or leaves out",
            ));
        }
    }
    Ok(failures)
}

/// Where mesh.yaml says no version, control planes are compared with each other: those that read each other's clusters are
/// of neighbouring versions.
fn skew(visit: &Visit<'_>) -> Found {
    let minor_of = |istiod: &&Object| {
        let found = version(istiod)?;
        Some((minor(&found)?, found))
    };
    let own = istiods(visit)?.into_iter().find_map(|istiod| minor_of(&istiod));
    let Some((own, found)) = own else {
        return Err(Skip::unseen("mesh.yaml says no version of Istio, and no istiod does"));
    };
    let mut failures = Vec::new();
    for other in visit.others().filter(|other| other.name > visit.cluster.name) {
        let deployments = visit.other(&other.name).and_then(|seen| seen.of(Kind::Deployment).ok());
        let mut theirs =
            deployments.into_iter().flatten().filter(|object| object.label("app") == Some("istiod"));
        let Some((far, theirs)) = theirs.find_map(|istiod| minor_of(&istiod)) else { continue };
        if own.abs_diff(far) > 1 {
            failures.push(Failure::warning(
                format!("its istiod is Istio {found}, and that of {} is {theirs}", other.name),
                "Istio is tested with control planes one minor version apart: upgrade the older one",
            ));
        }
    }
    Ok(failures)
}

/// The names under which istiod knows the cluster: what certificates, endpoints and remote secrets are matched by.
pub(super) fn settings(visit: &Visit<'_>) -> Found {
    let cluster = visit.cluster;
    let mut failures = Vec::new();
    let wanted = [
        ("/global/multiCluster/clusterName", "CLUSTER_ID", cluster.name.as_str()),
        ("/global/network", "NETWORK", cluster.network.as_str()),
        ("/global/meshID", "MESH_ID", cluster.mesh.as_str()),
    ];
    let hint = "give it the values of `isthmus mesh render`, and restart istiod and then the workloads";
    for (shown, values) in injector_values(visit)? {
        for (pointer, _, wanted) in wanted {
            let found = values.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            if found != wanted {
                let key = pointer.trim_start_matches('/').replace('/', ".");
                let message = format!("{shown} gives proxies {key} {found:?}, and mesh.yaml says {wanted:?}");
                failures.push(Failure::error(message, hint));
            }
        }
    }
    for istiod in istiods(visit)? {
        let (_, variable, wanted) = wanted[0];
        let found = environment(istiod, variable).unwrap_or("Kubernetes");
        if found != wanted {
            let message = format!(
                "{} takes its own cluster for {found:?}, and mesh.yaml says {wanted:?}",
                istiod.shown()
            );
            failures.push(Failure::error(message, hint));
        }
    }
    Ok(failures)
}

pub(super) fn trust_domain(visit: &Visit<'_>) -> Found {
    let is_led = visit.cluster.control_plane != ControlPlane::Primary;
    if is_led && mesh_configs(visit).is_err() {
        return Err(Skip::idle("the istiod that leads it says it"));
    }
    let wanted = visit.cluster.trust_domain.as_str();
    let mut failures = Vec::new();
    for (shown, config) in mesh_configs(visit)? {
        let found = config.get("trustDomain").and_then(Value::as_str).unwrap_or("cluster.local");
        if found != wanted {
            failures.push(Failure::error(
                format!("{shown} says trust domain {found:?}, and mesh.yaml says {wanted:?}"),
                "no identity would be what policies and peers expect: make them the same, and restart the workloads",
            ));
        }
    }
    Ok(failures)
}

/// Where the Service istiod of a remote cluster leads: to the gateway of the cluster that leads it, whose address lasts
/// longer than that of a pod.
pub(super) fn way_to_istiod(visit: &Visit<'_>) -> Found {
    let ControlPlane::RemoteOf(primary) = &visit.cluster.control_plane else {
        return Err(Skip::idle("its istiod is its own"));
    };
    let leader = visit.mesh().cluster(primary);
    let gateway = || Some(&leader?.gateway.as_ref()?.address);
    let own = leader.and_then(|leader| leader.whereabouts.istiod.as_ref());
    let place = if own.is_some() { "istiod" } else { "gateway" };
    let address =
        own.or_else(gateway).ok_or_else(|| Skip::idle(format!("mesh.yaml gives {primary} no gateway")))?;
    let hint =
        format!("install it anew with remotePilotAddress {address}, as `isthmus mesh render` writes it");
    let Some(service) = root_objects(visit, Kind::Service)?.find(|service| service.name() == "istiod") else {
        visit.inventory.lacks("the Service istiod")?;
        let message =
            format!("no Service {}/istiod: its sidecars do not find the istiod of {primary}", visit.root());
        return Ok(vec![Failure::error(message, hint)]);
    };
    let mut found: Vec<&str> = service.text("/spec/externalName").into_iter().collect();
    if found.is_empty() {
        let slices = root_objects(visit, Kind::EndpointSlice)?
            .filter(|slice| slice.label("kubernetes.io/service-name") == Some("istiod"));
        let endpoints = slices.flat_map(|slice| slice.list("/endpoints"));
        let addresses = endpoints.filter_map(|endpoint| endpoint.get("addresses")?.as_array()).flatten();
        found.extend(addresses.filter_map(Value::as_str));
    }
    let failure = || {
        let shown = if found.is_empty() { "nowhere".to_owned() } else { format!("to {}", found.join(", ")) };
        let message = format!(
            "Service {} leads {shown}, and the {place} of {primary} is at {address}: sidecars get no configuration",
            service.shown(),
        );
        Failure::error(message, hint.clone())
    };
    Ok((!found.contains(&address.as_str())).then(failure).into_iter().collect())
}

pub(super) fn definitions(visit: &Visit<'_>) -> Found {
    if visit.inventory.server.is_none() {
        return Err(Skip::idle("files have no server"));
    }
    let failure = |kind: &Kind| {
        let (name, group, version, _) = kind.names();
        Failure::error(
            format!("it knows no {name} of {group}/{version}: nothing of that kind can be there"),
            "install Istio's definitions: the chart `base` or `istioctl install`; of Istio the release channel `stable` \
             leaves WasmPlugin and TrafficExtension out",
        )
    };
    // Istio has it since 1.30, and only who asks for it needs it.
    let is_asked_for = |kind: &&Kind| {
        **kind != Kind::TrafficExtension
            || visit.mesh().installation().extension == Extension::TrafficExtension
    };
    Ok(visit.inventory.unknown.iter().filter(is_asked_for).map(failure).collect())
}

/// The objects of a kind in Istio's namespace.
pub(super) fn root_objects<'v>(
    visit: &Visit<'v>,
    kind: Kind,
) -> Result<impl Iterator<Item = &'v Object> + use<'v>, Skip> {
    let root = visit.root();
    Ok(visit.of(kind)?.iter().filter(move |object| object.namespace() == root))
}

/// The mesh configurations of the cluster's control plane, each with what it is called.
pub(super) fn mesh_configs(visit: &Visit<'_>) -> Result<Vec<(String, Value)>, Skip> {
    let mut found = Vec::new();
    for map in root_objects(visit, Kind::ConfigMap)?.filter(|map| is_mesh_config(map)) {
        let Some(config) = map.data("mesh") else { continue };
        let config = super::object::documents(&config).map_err(|why| {
            Skip::unseen(format!("{} has no readable mesh configuration: {why}", map.shown()))
        })?;
        found.push((map.shown(), config.into_iter().next().unwrap_or_default()));
    }
    if found.is_empty() {
        return Err(Skip::unseen(format!("there is no mesh configuration in {}", visit.root())));
    }
    Ok(found)
}

/// What injectors of the cluster are told, each with what it is called.
pub(super) fn injector_values(visit: &Visit<'_>) -> Result<Vec<(String, Value)>, Skip> {
    let injectors = root_objects(visit, Kind::ConfigMap)?.filter(|map| is_injector(map));
    let values = |map: &Object| Some((map.shown(), serde_json::from_str(&map.data("values")?).ok()?));
    Ok(injectors.filter_map(values).collect())
}

pub(super) fn istiods<'v>(visit: &Visit<'v>) -> Result<Vec<&'v Object>, Skip> {
    Ok(root_objects(visit, Kind::Deployment)?
        .filter(|object| object.label("app") == Some("istiod"))
        .collect())
}

/// The injector's settings of any revision: `istio-sidecar-injector` or `istio-sidecar-injector-REVISION`.
fn is_injector(map: &Object) -> bool {
    map.name().starts_with("istio-sidecar-injector")
}

/// The mesh configuration of any revision: `istio` or `istio-REVISION`.
fn is_mesh_config(map: &Object) -> bool {
    (map.name() == "istio" || map.name().starts_with("istio-")) && map.data("mesh").is_some()
}

/// What an istiod says of its version: its chart's label, else its image's tag.
fn version(istiod: &Object) -> Option<String> {
    let label = istiod.label("app.kubernetes.io/version").map(str::to_owned);
    let image = istiod.list("/spec/template/spec/containers").iter().find_map(|container| {
        let tag = container.get("image")?.as_str()?.rsplit_once(':')?.1;
        tag.starts_with(|first: char| first.is_ascii_digit()).then(|| tag.to_owned())
    });
    label.or(image)
}

pub(super) fn environment<'o>(istiod: &'o Object, variable: &str) -> Option<&'o str> {
    let containers = istiod.list("/spec/template/spec/containers").iter();
    let mut variables = containers.filter_map(|container| container.get("env")?.as_array()).flatten();
    variables
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(variable))?
        .get("value")?
        .as_str()
}

/// The minor of a Kubernetes version such as `v1.34.2`.
fn minor(version: &str) -> Option<u32> {
    version.trim_start_matches('v').split('.').nth(1)?.parse().ok()
}
