//! `isthmus mesh apply` that is killed at each of its steps, and two of them at once; `isthmus mesh delete` without a cluster.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use isthmus_tests::cluster::Faulty;

use super::PATIENCE;
use super::apply::{Istio, certify, command, is_sound, objects, ours, stays, verb_by};
use super::mesh::{Mesh, told};

/// In which cluster, and at what. The installer of Istio is a step of its own, which goes on when we are killed.
const STEPS: [(usize, &str); 8] = [
    (0, "PATCH /api/v1/namespaces/istio-system?"),
    (1, "PATCH /api/v1/namespaces/istio-system/secrets/cacerts?"),
    (0, "/namespaces/istio-system/deployments/istiod"),
    (1, "/namespaces/istio-system/services/istio-eastwestgateway"),
    (0, "/gateways/cross-network-gateway?"),
    (1, "PATCH /api/v1/namespaces/istio-system/secrets/istio-remote-token-"),
    (0, "PATCH /api/v1/namespaces/istio-system/secrets/istio-remote-secret-"),
    (1, "PATCH /api/v1/namespaces/payments/services/ledger"),
];

/// Waits until a proxy is asked for what it never answers.
async fn is_asked(proxy: &Faulty, what: &str, child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    while !proxy.seen().iter().any(|(_, line)| line.contains(what)) {
        assert!(matches!(child.try_wait(), Ok(None)), "it has ended, and nobody asked for {what}");
        assert!(Instant::now() < deadline, "nobody asks for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The Secrets in a cluster that tokens of another control plane hang on.
async fn tokens(mesh: &Mesh, cluster: &str) -> Vec<String> {
    let all = objects(mesh, cluster).await.into_keys();
    all.filter(|name| name.contains("/istio-remote-token-")).collect()
}

#[tokio::test]
async fn a_mesh_whose_making_is_killed_at_each_of_its_steps_is_made_by_the_next_run() {
    let (Some(istio), Some(mesh)) = (Istio::find(), Mesh::start("examples/two-clusters").await) else {
        return;
    };
    certify(&mesh).await;
    let controllers = mesh.controllers().await;
    let mut proxies = Vec::new();
    for name in &mesh.names {
        proxies.push(Faulty::before(mesh.clusters.client(name).await).await);
    }
    let entries: Vec<(&str, &str, &str)> =
        mesh.names.iter().zip(&proxies).map(|(name, proxy)| (name.as_str(), proxy.url(), "nobody")).collect();
    let kubeconfig = mesh.clusters.kubeconfig_with(&entries);
    for (cluster, what) in STEPS {
        let proxy = &proxies[cluster];
        proxy.seen();
        proxy.hang_at(what);
        let mut child = command(&mesh, &istio, &kubeconfig, ("apply", &[]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        is_asked(proxy, what, &mut child).await;
        child.kill().and_then(|()| child.wait()).expect("it is killed");
        proxy.clear();
    }
    let (code, out, err) = verb_by(&mesh, &istio, &kubeconfig, ("apply", &[])).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    is_sound(&mesh).await;
    stays(&mesh, &istio).await;
    for name in &mesh.names {
        let tokens = tokens(&mesh, name).await;
        assert_eq!(tokens.len(), 1, "what was never used has gone: {tokens:?}");
    }
    drop(controllers);
}

#[tokio::test]
async fn of_two_that_make_a_mesh_at_once_both_end_and_every_secret_works() {
    let (Some(istio), Some(mesh)) = (Istio::find(), Mesh::start("examples/one-network").await) else {
        return;
    };
    certify(&mesh).await;
    let controllers = mesh.controllers().await;
    let kubeconfig = mesh.clusters.kubeconfig();
    let apply = || verb_by(&mesh, &istio, &kubeconfig, ("apply", &[]));
    let (one, two) = tokio::join!(apply(), apply());
    assert_eq!((one.0, two.0), (Some(0), Some(0)), "{}\n{}", one.2, two.2);
    is_sound(&mesh).await;
    stays(&mesh, &istio).await;

    let rotate = || mesh.run("secrets", &["--rotate", "--token-lifetime", "24"]);
    for _ in 0..3 {
        let (one, two, three) = tokio::join!(rotate(), rotate(), rotate());
        for output in [one, two, three] {
            let (code, _, err) = told(&output);
            let is_told = err.contains("somebody else makes the remote secret of ");
            assert!(code == Some(0) || is_told, "{err}");
        }
        // The doctor looks whether what each token hangs on is there.
        is_sound(&mesh).await;
    }
    drop(controllers);
}

#[tokio::test]
async fn a_mesh_goes_where_it_can_and_from_a_cluster_that_was_down_by_the_next_run() {
    let (Some(istio), Some(mut mesh)) = (Istio::find(), Mesh::start("examples/two-clusters").await) else {
        return;
    };
    certify(&mesh).await;
    let controllers = mesh.controllers().await;
    let kubeconfig = mesh.clusters.kubeconfig();
    let (code, out, err) = verb_by(&mesh, &istio, &kubeconfig, ("apply", &[])).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    mesh.clusters.server_mut("cluster2").stop();
    let delete = |mesh: &Mesh| {
        let mut command =
            command(mesh, &istio, Path::new(&kubeconfig), ("delete", &["--yes", "--timeout", "5"]));
        command.stdin(Stdio::null());
        super::mesh::run(command)
    };
    let (code, out, err) = told(&delete(&mesh).await);
    assert!(out.contains("cluster1: done, ") && out.contains("cluster2: not done, "), "{out}\n{err}");
    assert!(err.contains("error: cluster2: ") && err.contains("the API server cannot be reached"), "{err}");
    assert_eq!(code, Some(4), "{err}");
    mesh.clusters.server_mut("cluster2").resume().await;
    let (code, out, err) = told(&delete(&mesh).await);
    assert_eq!(code, Some(0), "{out}\n{err}");
    for name in &mesh.names {
        assert_eq!(ours(&objects(&mesh, name).await), [""; 0], "{name}");
    }
    drop(controllers);
}
