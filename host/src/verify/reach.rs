//! Whether pods of one network reach each other's addresses, as one network means. Only a pod can try it, and one without a
//! sidecar, which would take the connection itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use policy::Mesh;
use policy::name::ClusterName;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{NAMESPACE, TICK, VerifyError, What, expected, last_words, objects};
use crate::doctor::Code;
use crate::kube::{Apply, Cluster, Kind};

/// The check that this is: whoever asks the doctor is sent here.
pub const CODE: Code = Code::PodsReach;

/// The way from the pods of a cluster to one of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The other cluster.
    pub to: ClusterName,
    /// The address of its pod.
    pub address: IpAddr,
    /// What came of it.
    pub came: Came,
}

/// What came of trying an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// The pod took the connection.
    Reached,
    /// A pod of another cluster answered.
    Stranger(String),
    /// Nobody took the connection.
    Lost(String),
}

impl Way {
    /// What is wrong with it, and what to do; `None` where nothing is.
    pub fn failure(&self) -> Option<(String, &'static str)> {
        let Self { to, address, came } = self;
        match came {
            Came::Reached => None,
            Came::Stranger(who) => Some((
                format!("at {address}, a pod of {to}, one of {who} answers: both have this address"),
                "give the clusters pod CIDRs of their own, or networks of their own with a gateway for each",
            )),
            Came::Lost(why) => Some((
                format!("its pods do not reach those of {to}: {address}: {why}"),
                "on one network pods dial each other: join the networks by routes or a tunnel and open firewalls between them; or give \
                 the clusters networks of their own, with a gateway for each",
            )),
        }
    }
}

/// The clusters whose pods those of one dial: on its network, and known to its control plane.
pub(super) fn neighbours(mesh: &Mesh, caller: &ClusterName) -> Vec<ClusterName> {
    let network = |name: &ClusterName| mesh.cluster(name).map(|cluster| &cluster.network);
    let is_near = |other: &ClusterName| other != caller && network(other) == network(caller);
    expected(mesh, caller).into_iter().filter(is_near).collect()
}

/// The address of a pod of the service, once there is one.
pub(super) async fn address(at: &Cluster, patience: Duration) -> Result<IpAddr, VerifyError> {
    let serves = |pod: &&Value| {
        pod.pointer("/metadata/labels/app").and_then(Value::as_str) == Some(objects::SERVICE)
            && pod.pointer("/metadata/deletionTimestamp").is_none()
    };
    let deadline = Instant::now() + patience;
    loop {
        let pods = at.survey(&Kind::new("v1", "Pod"), Some(NAMESPACE), None).await?;
        let mut addresses =
            pods.iter().filter(serves).filter_map(|pod| pod.pointer("/status/podIP")?.as_str()?.parse().ok());
        if let Some(address) = addresses.next() {
            return Ok(address);
        }
        if Instant::now() >= deadline {
            let (what, context) = ("no pod of the service has an address", at.context().to_owned());
            return Err(VerifyError::TimedOut { what, after: patience, context, why: String::new() });
        }
        sleep(TICK.min(patience)).await;
    }
}

/// Tries the pods of a cluster's neighbours from a pod in it.
pub(super) async fn reach(
    mesh: &Mesh,
    (name, at): (&ClusterName, &Cluster),
    addresses: &BTreeMap<ClusterName, IpAddr>,
    what: &What,
) -> Result<Vec<Way>, VerifyError> {
    let known = |to: ClusterName| addresses.get(&to).map(|address| (to, *address));
    let targets: Vec<(ClusterName, IpAddr)> = neighbours(mesh, name).into_iter().filter_map(known).collect();
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    at.apply(&objects::neighbour(&what.caller, &targets), Apply::default()).await?;
    let told = last_words(at, objects::NEIGHBOUR, ("the pod that tries others has not ended", what.patience))
        .await?;
    Ok(targets.into_iter().map(|(to, address)| Way { came: came(&to, &told), to, address }).collect())
}

/// What the pod says of a cluster: a line `NAME CODE SECONDS VERSION WHY`, by curl's exit code and the seconds until it
/// was connected.
pub(super) fn came(to: &ClusterName, told: &str) -> Came {
    let line = told.lines().find_map(|line| line.strip_prefix(to.as_str())?.strip_prefix(' '));
    let mut words = line.unwrap_or_default().splitn(4, ' ');
    let (code, seconds) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (version, why) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim());
    let is_connected = seconds.parse::<f64>().is_ok_and(|seconds| seconds > 0.0);
    match version {
        _ if line.is_none() => Came::Lost("the pod that tried it said nothing of it".to_owned()),
        _ if !is_connected && why.is_empty() => Came::Lost(format!("curl ended with {code}")),
        _ if !is_connected => Came::Lost(why.to_owned()),
        "-" | "" => Came::Reached,
        version if version == to.as_str() => Came::Reached,
        other => Came::Stranger(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_says_of_others_is_read() {
        let told = "eu-2 7 0.000000 - Failed to connect to 10.20.1.4 port 5000 after 3 ms: Could not connect to server\n\
                    eu-3 0 0.002121 eu-3 \neu-4 56 0.003000 - Recv failure: Connection reset by peer\n\
                    eu-5 0 0.000700 eu-1 \neu-6 28 0.000000 - \n";
        let of = |name: &str| came(&name.parse().unwrap(), told);
        let lost = |why: &str| Came::Lost(why.to_owned());
        assert_eq!(
            of("eu-2"),
            lost("Failed to connect to 10.20.1.4 port 5000 after 3 ms: Could not connect to server")
        );
        assert_eq!((of("eu-3"), of("eu-4")), (Came::Reached, Came::Reached), "a reset comes from somebody");
        assert_eq!(of("eu-5"), Came::Stranger("eu-1".to_owned()));
        assert_eq!(of("eu-6"), lost("curl ended with 28"));
        assert_eq!(of("eu"), lost("the pod that tried it said nothing of it"));
    }
}
