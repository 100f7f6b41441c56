//! Whether clusters can be looked at.

use policy::mesh::{Cluster, Target};

use super::{Failure, Found, Visit};

/// What is wrong with a cluster that does not answer.
pub(super) fn unreachable(cluster: &Cluster, why: &str) -> Failure {
    let hint = match &cluster.target {
        Some(Target::Context(context)) => {
            format!(
                "try `kubectl --context {context} get --raw /readyz`, which asks the same server with the same account"
            )
        }
        Some(Target::Directory(_)) | None => {
            "say in mesh.yaml by which `context` of the kubeconfig it is reached".to_owned()
        }
    };
    Failure::error(format!("nothing was seen of it: {why}"), hint)
}

/// What is wrong with a cluster of which there are no files.
pub(super) fn absent(why: &str) -> Failure {
    let hint = "write there what the cluster has (`kubectl get -A -o yaml`) or is to have; or leave --from out, to look at the cluster itself";
    Failure::error(format!("nothing was seen of it: {why}"), hint)
}

pub(super) fn readable(visit: &Visit<'_>) -> Found {
    if visit.inventory.server.is_none() {
        return Err(super::Skip::idle("these are files, which need no permission"));
    }
    let failure = |(kind, why): (super::Kind, &str)| {
        let (name, group, _, plural) = kind.names();
        let resource = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        Failure::warning(
            format!("no {name} could be looked at: {why}"),
            format!(
                "`kubectl auth can-i list {resource} -A` says whether the account may; what needs them is skipped"
            ),
        )
    };
    Ok(visit.inventory.gaps().map(failure).collect())
}
