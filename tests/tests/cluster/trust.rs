//! CAs in real clusters: who accepts whom there, and that nobody puts one there by which that ends.

use serde_json::Value;

use super::apply::certify;
use super::mesh::{Mesh, isthmus, run, told};

const SECRET: &str = "/api/v1/namespaces/istio-system/secrets/cacerts";

/// Applies what lies here; nothing installs Istio, so that it always ends with waiting for that.
async fn apply(mesh: &Mesh, more: &[&str]) -> (String, String) {
    let usual = ["--skip-install", "--wait", "1"];
    let (_, out, err) = told(&mesh.run("apply", &[&usual[..], more].concat()).await);
    (out, err)
}

async fn rotate(mesh: &Mesh, more: &[&str]) {
    let mut command = isthmus();
    command.args(["mesh", "rotate", "root", "--key", "p256", "-f"]).arg(mesh.directory()).args(more);
    let (code, _, err) = told(&run(command).await);
    assert_eq!(code, Some(0), "{err}");
}

/// What every cluster has for its CA.
async fn kept(mesh: &Mesh) -> Vec<Value> {
    let mut kept = Vec::new();
    for name in &mesh.names {
        kept.push(mesh.get(name, SECRET).await["data"].clone());
    }
    kept
}

/// Who accepts whom by what the clusters have.
async fn live(mesh: &Mesh) -> (Option<i32>, usize, String) {
    let (code, out, err) = told(&mesh.run("trust", &["--live"]).await);
    (code, out.matches("yes").count(), err)
}

#[tokio::test]
async fn a_ca_by_which_workloads_would_refuse_each_other_is_not_put_into_a_cluster() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    let (code, _, err) = live(&mesh).await;
    assert!(
        code == Some(3) && err.contains("no cluster's CA is there: `isthmus mesh apply` brings it there"),
        "{err}"
    );
    certify(&mesh).await;
    let (out, err) = apply(&mesh, &[]).await;
    assert_eq!(out.matches("made: Secret istio-system/cacerts").count(), 2, "{out}{err}");
    assert_eq!(live(&mesh).await, (Some(0), 4, String::new()));
    let first = kept(&mesh).await;

    // Somebody has lost the directory and makes another root.
    std::fs::rename(mesh.directory().join("certs"), mesh.directory().join("lost")).expect("moved");
    certify(&mesh).await;
    for more in [&[][..], &["--dry-run"]] {
        let (out, err) = apply(&mesh, more).await;
        let told = "error: cluster1: the CA that lies here would break trust, and was not put there: workloads of cluster1 would refuse \
                    new ones of cluster1; new workloads of cluster1 would refuse those of cluster1; workloads of cluster2 would refuse";
        assert!(err.contains(told) && err.contains("--replace-ca"), "{err}");
        assert!(!out.contains("cacerts"), "{out}");
        assert_eq!(kept(&mesh).await, first);
    }
    let (out, _) = apply(&mesh, &["--replace-ca"]).await;
    assert_eq!(out.matches("changed: Secret istio-system/cacerts").count(), 2, "{out}");
    assert_eq!(live(&mesh).await, (Some(0), 4, String::new()));

    in_steps(&mesh).await;
}

/// Takes a step here, and says how many clusters have taken it.
async fn step(mesh: &Mesh, more: &[&str]) -> (usize, String) {
    rotate(mesh, more).await;
    let (out, err) = apply(mesh, &[]).await;
    (out.matches("changed: Secret istio-system/cacerts").count(), err)
}

/// A root that changes step by step is taken at each of them, and one that skips a step is not.
async fn in_steps(mesh: &Mesh) {
    let taken = [step(mesh, &[]).await.0, step(mesh, &["--applied", "--cluster", "cluster1"]).await.0];
    assert_eq!((taken, live(mesh).await), ([2, 1], (Some(0), 4, String::new())));
    // What nobody has brought to the clusters is said to be in force there.
    rotate(mesh, &["--applied"]).await;
    let before = kept(mesh).await;
    let (taken, err) = step(mesh, &["--applied", "--leaf-lifetime", "0s"]).await;
    let told = "error: cluster1: the CA that lies here would break trust, and was not put there: new workloads of cluster1 would refuse \
                those of cluster2; ";
    assert!(taken == 0 && err.contains(told), "{err}");
    assert_eq!(kept(mesh).await, before);
}

#[tokio::test]
async fn what_is_trusted_is_told_of_what_clusters_have_and_not_of_what_lies_here() {
    let Some(mut mesh) = Mesh::start("examples/two-clusters").await else { return };
    certify(&mesh).await;
    apply(&mesh, &[]).await;
    // One of the clusters has been given the CA of another root.
    std::fs::rename(mesh.directory().join("certs"), mesh.directory().join("before")).expect("moved");
    certify(&mesh).await;
    let (out, _) = apply(&mesh, &["--replace-ca", "--dry-run"]).await;
    assert!(out.contains("cluster1: would be changed: Secret istio-system/cacerts"), "{out}");
    mesh.clusters.server_mut("cluster1").stop();
    apply(&mesh, &["--replace-ca", "--timeout", "5"]).await;
    let (code, _, err) = live(&mesh).await;
    assert_eq!(code, Some(4), "one that cannot be seen is no yes: {err}");
    assert!(err.contains("error: cluster1: "), "{err}");
    mesh.clusters.server_mut("cluster1").resume().await;
    let (code, yes, err) = live(&mesh).await;
    assert_eq!((code, yes), (Some(1), 2), "{err}");
    let here = told(&mesh.run("trust", &[]).await);
    assert_eq!((here.0, here.1.matches("yes").count()), (Some(0), 4), "{}", here.2);
}
