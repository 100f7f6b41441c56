//! Remote secrets: how the control plane of one cluster reads the API server of another.

use std::collections::BTreeMap;

use base64ct::Encoding as _;
use policy::mesh::{Cluster, ControlPlane};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::control::root_objects;
use super::{Failure, Found, Inventory, Kind, Object, Skip, Visit};
use crate::manifest::read_by;
use crate::remote::{READER, claims, ends, hangs_on, is_loopback};

/// The label of remote secrets; istiod takes every key of such a Secret for a cluster's name.
const LABEL: &str = "istio/multiCluster";
/// A token that ends sooner than this is told of, unless that is its way: what lives a day is renewed in time, or not, when a
/// quarter of the day is left.
const SOON: Duration = Duration::days(7);

/// A cluster as a Secret gives it to istiod.
struct Remote<'o> {
    secret: &'o Object,
    cluster: &'o str,
    kubeconfig: Result<Kubeconfig, String>,
}

/// What a kubeconfig comes to: the cluster and the user of its current context, and all its users, whom istiod looks
/// at alike.
struct Kubeconfig {
    cluster: Value,
    user: Value,
    users: Vec<Value>,
}

impl Kubeconfig {
    fn read(text: &str) -> Result<Self, String> {
        let config = super::object::documents(text).map_err(|why| format!("it is not YAML: {why}"))?;
        let config = config.into_iter().next().unwrap_or_default();
        let named = |list: &str, name: &str| {
            let entries = config.get(list).and_then(Value::as_array);
            let mut entries = entries.into_iter().flatten();
            entries.find(|entry| entry.get("name").and_then(Value::as_str) == Some(name)).cloned()
        };
        let current = config.get("current-context").and_then(Value::as_str).unwrap_or_default();
        let context = named("contexts", current)
            .ok_or_else(|| format!("it has no context {current:?}, which is its current one"))?;
        let of = |list: &str, key: &str| {
            let name =
                context.pointer(&format!("/context/{key}")).and_then(Value::as_str).unwrap_or_default();
            let found = named(list, name).and_then(|entry| entry.get(key).cloned());
            found.ok_or_else(|| format!("its current context is of {key} {name:?}, which it does not have"))
        };
        let users = config.get("users").and_then(Value::as_array).into_iter().flatten();
        let users = users.filter_map(|entry| entry.get("user").cloned()).collect();
        Ok(Self { cluster: of("clusters", "cluster")?, user: of("users", "user")?, users })
    }

    fn server(&self) -> &str {
        self.cluster.get("server").and_then(Value::as_str).unwrap_or_default()
    }

    fn token(&self) -> Option<&str> {
        self.user.get("token")?.as_str()
    }
}

/// Every cluster of every remote secret.
fn remotes<'v>(visit: &Visit<'v>) -> Result<Vec<Remote<'v>>, Skip> {
    let secrets = root_objects(visit, Kind::Secret)?.filter(|secret| secret.label(LABEL) == Some("true"));
    let remote = |secret: &'v Object| {
        secret.keys().into_iter().map(move |cluster| Remote {
            secret,
            cluster,
            kubeconfig: secret
                .data(cluster)
                .ok_or_else(|| "it is no text".to_owned())
                .and_then(|text| Kubeconfig::read(&text)),
        })
    };
    Ok(secrets.flat_map(remote).collect())
}

/// What a control plane has for other clusters: their names, and kubeconfigs.
pub(super) fn kubeconfigs(inventory: &Inventory, root: &str) -> Vec<(String, String)> {
    let Ok(secrets) = inventory.of(Kind::Secret) else { return Vec::new() };
    let remote = |secret: &&Object| secret.namespace() == root && secret.label(LABEL) == Some("true");
    let of = |secret: &Object| -> Vec<(String, String)> {
        let keys = secret.keys().into_iter();
        keys.filter_map(|cluster| Some((cluster.to_owned(), secret.data(cluster)?))).collect()
    };
    secrets.iter().filter(remote).flat_map(of).collect()
}

/// The kubeconfigs that can be read at all; what is wrong with the others, [`taken`] says.
fn readable<'v>(visit: &Visit<'v>) -> Result<Vec<(Remote<'v>, Kubeconfig)>, Skip> {
    let split = |mut remote: Remote<'v>| {
        let kubeconfig = std::mem::replace(&mut remote.kubeconfig, Err(String::new())).ok()?;
        Some((remote, kubeconfig))
    };
    leads(visit)?;
    Ok(remotes(visit)?.into_iter().filter_map(split).collect())
}

/// Only a control plane of its own reads remote secrets.
fn leads(visit: &Visit<'_>) -> Result<(), Skip> {
    match &visit.cluster.control_plane {
        ControlPlane::Primary => Ok(()),
        ControlPlane::RemoteOf(primary) => {
            Err(Skip::idle(format!("{primary} leads it, and reads what it needs itself")))
        }
    }
}

/// The clusters whose endpoints the control plane of a cluster has to know.
fn needed<'v>(visit: &Visit<'v>) -> impl Iterator<Item = &'v Cluster> {
    read_by(visit.mesh(), visit.cluster).into_iter()
}

pub(super) fn present(visit: &Visit<'_>) -> Found {
    leads(visit)?;
    let remotes = remotes(visit)?;
    let is_missing = |other: &&Cluster| remotes.iter().all(|remote| remote.cluster != other.name.as_str());
    let missing: Vec<&str> = needed(visit).filter(is_missing).map(|other| other.name.as_str()).collect();
    let failure = |first: &&str| {
        Failure::error(
            format!("no remote secret of {}: its istiod sees no endpoint there", missing.join(", ")),
            format!(
                "`isthmus mesh secrets` makes it, as `istioctl create-remote-secret --name {first}` does"
            ),
        )
    };
    Ok(missing.first().map(failure).into_iter().collect())
}

pub(super) fn named(visit: &Visit<'_>) -> Found {
    leads(visit)?;
    let remotes = remotes(visit)?;
    let mut by_cluster: BTreeMap<&str, Vec<&Remote<'_>>> = BTreeMap::new();
    for remote in &remotes {
        by_cluster.entry(remote.cluster).or_default().push(remote);
    }
    let mut failures = Vec::new();
    for (cluster, all) in by_cluster {
        let secrets: Vec<String> = all.iter().map(|remote| remote.secret.shown()).collect();
        if all.len() > 1 {
            failures.push(Failure::error(
                format!(
                    "{} are both of {cluster}: istiod takes one of them and ignores the others",
                    secrets.join(" and ")
                ),
                "keep the newer one and delete the others",
            ));
        }
        let shown = secrets.first().map_or("", String::as_str);
        if cluster == visit.cluster.name.as_str() {
            failures.push(Failure::warning(
                format!("{shown} is of {cluster} itself: istiod ignores it"),
                "delete it; if it is of another cluster, its key has to be that cluster's name",
            ));
        } else if visit.mesh().clusters().any(|other| other.name.as_str() == cluster) {
            if !needed(visit).any(|other| other.name.as_str() == cluster) {
                failures.push(Failure::warning(
                    format!("{shown} is of {cluster}, whose API server mesh.yaml has no other control plane read"),
                    "delete it, or istiod takes endpoints there for reachable; `isthmus mesh secrets` deletes those that it made",
                ));
            }
        } else {
            failures.push(Failure::error(
                format!("{shown} is of {cluster:?}, and the mesh has no such cluster"),
                "its key has to be the name that mesh.yaml gives the cluster, which its own istiod has as CLUSTER_ID; \
                 if the cluster is gone, delete the secret",
            ));
        }
        for remote in all {
            let said = remote.secret.annotation("networking.istio.io/cluster");
            if let Some(said) = said.filter(|said| *said != cluster && remote.secret.keys().len() == 1) {
                failures.push(Failure::warning(
                    format!("{shown} has the key {cluster:?} and says that it is of {said:?}"),
                    "istiod goes by the key; make the secret anew, so that people are told the same",
                ));
            }
        }
    }
    Ok(failures)
}

pub(super) fn server(visit: &Visit<'_>) -> Found {
    let mut failures = Vec::new();
    for (remote, kubeconfig) in readable(visit)? {
        let (shown, server) = (remote.secret.shown(), kubeconfig.server());
        let wanted = needed(visit)
            .find(|other| other.name.as_str() == remote.cluster)
            .and_then(|other| other.api_server.as_deref());
        let hint = "make the secret anew with the address at which this cluster reaches that one; istiod takes it without \
                    a restart";
        if is_loopback(server) {
            failures.push(Failure::error(
                format!("{shown} leads to {server}, which inside a pod is the pod itself"),
                hint,
            ));
        } else if let Some(wanted) = wanted.filter(|wanted| !same(wanted, server)) {
            failures.push(Failure::error(
                format!(
                    "{shown} leads to {server}, and mesh.yaml says that {} answers at {wanted}",
                    remote.cluster
                ),
                hint,
            ));
        }
        failures.extend(authority(visit, &remote, &kubeconfig));
    }
    Ok(failures)
}

/// Whether the CA of a kubeconfig is that of the cluster, where that was seen: a cluster that was made anew has another.
fn authority(visit: &Visit<'_>, remote: &Remote<'_>, kubeconfig: &Kubeconfig) -> Option<Failure> {
    let given = kubeconfig.cluster.get("certificate-authority-data")?.as_str()?;
    let given = String::from_utf8(base64ct::Base64::decode_vec(given).ok()?).ok()?;
    let other = visit.other(&remote.cluster.parse().ok()?)?;
    let mut maps = other.of(Kind::ConfigMap).ok()?.iter().filter(|map| map.name() == "kube-root-ca.crt");
    let real = maps.find_map(|map| map.data("ca.crt"))?;
    (given.trim() != real.trim()).then(|| {
        Failure::error(
            format!(
                "{} trusts another CA than {} has: its API server is refused",
                remote.secret.shown(),
                remote.cluster
            ),
            "the secret is of a cluster that was made anew since: make the secret anew",
        )
    })
}

/// What istiod refuses in a kubeconfig: whatever would run or read something in its own pod.
pub(super) fn taken(visit: &Visit<'_>) -> Found {
    leads(visit)?;
    let mut failures = Vec::new();
    for remote in remotes(visit)? {
        let shown = remote.secret.shown();
        let kubeconfig = match &remote.kubeconfig {
            Ok(kubeconfig) => kubeconfig,
            Err(why) => {
                let message = format!("{shown} has no kubeconfig for {}: {why}", remote.cluster);
                failures.push(Failure::error(message, "make the secret anew"));
                continue;
            }
        };
        let is_said = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
        for user in &kubeconfig.users {
            let keys = ["exec", "client-key", "client-certificate", "tokenFile"].into_iter();
            failures.extend(keys.filter(|key| is_said(user.get(key))).map(|key| refused(&shown, key)));
            let provider = user.pointer("/auth-provider/name").and_then(Value::as_str);
            if let Some(provider) = provider.filter(|provider| *provider != "oidc") {
                failures.push(refused(&shown, &format!("auth-provider {provider}")));
            }
        }
        if is_said(kubeconfig.cluster.get("certificate-authority")) {
            failures.push(Failure::error(
                format!("{shown} names a file as certificate-authority, which istiod's pod does not have"),
                "put the CA itself into certificate-authority-data",
            ));
        }
    }
    Ok(failures)
}

fn refused(secret: &str, what: &str) -> Failure {
    Failure::error(
        format!(
            "{secret} uses {what}, which istiod refuses: a remote secret could make it run or read anything"
        ),
        "make the secret with a token; PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS of istiod lets single ones through",
    )
}

pub(super) fn token(visit: &Visit<'_>) -> Found {
    let mut failures = Vec::new();
    for (remote, kubeconfig) in readable(visit)? {
        let Some(claims) = kubeconfig.token().and_then(claims) else { continue };
        let shown = remote.secret.shown();
        let hint = "make the secret anew; istiod takes it without a restart";
        if let Some(end) = ends(&claims) {
            let left = end - visit.all.now;
            if left <= Duration::ZERO {
                let message =
                    format!("the token of {shown} ended {} ago: {} refuses it", age(-left), remote.cluster);
                failures.push(Failure::error(message, hint));
            } else if left < SOON.min(lifetime(&claims, end) / 4) {
                failures.push(Failure::warning(format!("the token of {shown} ends in {}", age(left)), hint));
            }
        }
        failures.extend(revoked(visit, &remote, &claims).map(|message| Failure::error(message, hint)));
    }
    Ok(failures)
}

/// How long a token lives in all; one that does not say when it began lives long.
fn lifetime(claims: &Value, end: OffsetDateTime) -> Duration {
    let begin = claims.get("iat").and_then(Value::as_i64);
    let begin = begin.and_then(|begin| OffsetDateTime::from_unix_timestamp(begin).ok());
    begin.map_or(Duration::MAX, |begin| end - begin)
}

/// Whether a token that is kept in a Secret is there no more: then its cluster refuses it.
fn revoked(visit: &Visit<'_>, remote: &Remote<'_>, claims: &Value) -> Option<String> {
    let (namespace, secret) = hangs_on(claims)?;
    let other = visit.other(&remote.cluster.parse().ok()?)?;
    let mut secrets = other.of(Kind::Secret).ok()?.iter();
    let there = secrets.any(|kept| kept.namespace() == namespace && kept.name() == secret);
    (!there).then(|| {
        let shown = remote.secret.shown();
        format!(
            "the token of {shown} was that of {namespace}/{secret} in {}, which is gone: it is refused",
            remote.cluster
        )
    })
}

/// The account that other control planes read this cluster as.
pub(super) fn reader(visit: &Visit<'_>) -> Found {
    let own = &visit.cluster.name;
    let is_read =
        visit.others().any(|other| read_by(visit.mesh(), other).iter().any(|read| read.name == *own));
    if !is_read {
        return Err(Skip::idle("no other control plane reads it"));
    }
    let there = root_objects(visit, Kind::ServiceAccount)?.any(|account| account.name() == READER);
    let failure = || {
        Failure::error(
            format!(
                "no service account {}/{READER}: no token can be made for other control planes",
                visit.root()
            ),
            "Istio's base chart and `istioctl install` bring it; `isthmus mesh apply` makes it",
        )
    };
    Ok((!there).then(failure).into_iter().collect())
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

/// A duration as people say it.
fn age(duration: Duration) -> String {
    match (duration.whole_days(), duration.whole_hours()) {
        (0, 0) => format!("{} minutes", duration.whole_minutes()),
        (0, hours) => format!("{hours} hours"),
        (days, _) => format!("{days} days"),
    }
}
