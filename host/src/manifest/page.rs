//! The page that says what to run, in which order.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use policy::Mesh;
use policy::mesh::{Cluster, Installer, Target};

use super::istio::charts;
use super::{Content, Item, Manifest, Phase, order, steps};

/// How an object reaches a cluster.
const APPLY: &str = "kubectl apply --server-side --field-manager=isthmus-mesh";

pub(super) fn page(mesh: &Mesh, manifest: &Manifest) -> String {
    let mut page = format!(
        "# Mesh {}: {}\n\nRendered by `isthmus mesh render`. A directory is a cluster; what is in it comes in this order. `isthmus mesh apply` does all \
         of it.\n{}",
        mesh.name(),
        mesh.model(),
        needs(mesh)
    );
    let mut number = 0;
    for step in steps(mesh) {
        let mut commands = Vec::new();
        for cluster in step.clusters.iter().filter_map(|name| mesh.cluster(name)) {
            if let Some(items) = manifest.get(&cluster.name) {
                commands.extend(of(mesh, cluster, items, step.phase));
            }
        }
        if commands.is_empty() {
            continue;
        }
        number += 1;
        let (title, why) = said(step.phase);
        let commands = commands.join("\n");
        // Writing to a text does not fail.
        let _written = write!(page, "\n## {number}. {title}\n\n{why}\n\n```console\n{commands}\n```\n");
    }
    page
}

/// What must be there before the first step.
fn needs(mesh: &Mesh) -> String {
    let installation = mesh.installation();
    let version = installation.version.map_or_else(String::new, |version| format!(" {version}"));
    let with = match installation.installer {
        Installer::Istioctl => format!("`istioctl` of Istio{version}"),
        Installer::Helm => format!("`helm`, which gets the charts of Istio{version}"),
    };
    let routes =
        if installation.is_at_least(30) { "1.5 (standard channel)" } else { "1.4 (experimental channel)" };
    let gateways = if installation.gateway_api {
        format!(", and in each cluster the definitions of the Gateway API {routes}")
    } else {
        String::new()
    };
    format!("Needed: `kubectl`, {with}{gateways}.\n")
}

fn said(phase: Phase) -> (&'static str, &'static str) {
    match phase {
        Phase::Namespace => ("Namespaces", "Istio's namespace says which network the cluster is on."),
        Phase::Trust => (
            "Trust",
            "Before Istio starts, or it makes a CA of its own that no other cluster trusts. `isthmus mesh certs --secrets` makes these files, in certs/ \
             beside `mesh.yaml`. A remote has no CA: its workloads have their certificates from its primary.",
        ),
        Phase::ControlPlane => ("Istio", "Workloads that were there before are restarted afterwards."),
        Phase::Gateway => (
            "East-west gateways",
            "Wait until each has the address that `mesh.yaml` says; if it gets another, say that one there and render anew.",
        ),
        Phase::Exposure => ("Exposure", "What the gateways pass on."),
        Phase::Secrets => {
            ("Secrets", "Each control plane reads the API servers of the clusters that it knows services of.")
        }
        Phase::Names => ("Names", "The services of other clusters, by the names that they are called by."),
    }
}

/// The commands of a phase in a cluster.
fn of(mesh: &Mesh, cluster: &Cluster, items: &[Item], phase: Phase) -> Vec<String> {
    if phase == Phase::Trust {
        let file = format!("certs/cacerts.secrets/{}.yaml", cluster.name);
        return vec![format!("$ {APPLY} --context={} -f {file}", context(cluster))];
    }
    if phase == Phase::Secrets {
        return secrets(mesh, cluster);
    }
    let mut seen = BTreeSet::new();
    let items = items.iter().filter(|item| item.phase == phase);
    items.filter(|item| seen.insert(item.file_name())).map(|item| command(mesh, cluster, item)).collect()
}

fn command(mesh: &Mesh, cluster: &Cluster, item: &Item) -> String {
    let (context, file) = (context(cluster), format!("{}/{}", cluster.name, item.file_name()));
    match &item.content {
        Content::Object(_) => {
            format!("$ {APPLY} --context={context} -f {file}")
        }
        Content::IstioOperator(_) => format!("$ istioctl install -y --context={context} -f {file}"),
        Content::Helm(release) => {
            let chart = release.chart.rsplit('/').next().unwrap_or(release.chart);
            let version = release
                .version
                .as_ref()
                .map_or_else(String::new, |version| format!(" --version '{version}'"));
            format!(
                "$ helm upgrade --install {} {chart} --repo {}{version} -n {} --kube-context {context} --wait -f {file}",
                release.name,
                charts(mesh.installation()),
                release.namespace
            )
        }
    }
}

/// What gives the control plane of a cluster the access that it needs.
fn secrets(mesh: &Mesh, primary: &Cluster) -> Vec<String> {
    let read = order::read_by(mesh, primary).into_iter();
    read.map(|cluster| {
        let server =
            cluster.api_server.as_ref().map_or_else(String::new, |server| format!(" --server={server}"));
        format!(
            "$ istioctl create-remote-secret --context={} --name={}{server} | kubectl apply -f - --context={}",
            context(cluster),
            cluster.name,
            context(primary)
        )
    })
    .collect()
}

/// The kubeconfig context of a cluster; its name where GitOps applies what it gets.
fn context(cluster: &Cluster) -> &str {
    match &cluster.target {
        Some(Target::Context(context)) => context,
        Some(Target::Directory(_)) | None => cluster.name.as_str(),
    }
}
