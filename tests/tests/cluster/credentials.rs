//! Whom an API server takes us for where a kubeconfig holds no token: as whom a program logs in, and as whom an identity
//! provider knows us.

use std::path::{Path, PathBuf};

use isthmus::kube::{Apply, Cluster, Problem};
use isthmus_tests::cluster::Clusters;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::{PATIENCE, account, cluster, plugin};

/// A kubeconfig whose one user logs in by what is said here.
fn logging_in(clusters: &Clusters, directory: &Path, user: Value) -> PathBuf {
    let url = clusters.server("cluster1").url();
    let text = std::fs::read(clusters.kubeconfig_of("cluster1", &url, "")).expect("a kubeconfig");
    let mut kubeconfig: Value = serde_json::from_slice(&text).expect("JSON");
    *kubeconfig.pointer_mut("/users/0/user").expect("a user") = user;
    let path = directory.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).expect("a file");
    path
}

/// Whom the server takes us for, who may not do what is tried; `None` where we may.
async fn taken_for(cluster: &Cluster, namespace: &str) -> Option<String> {
    let plain = Apply { dry_run: true, force: false };
    let problem = *cluster.apply(&plugin(namespace, "one"), plain).await.err()?.problem;
    let Problem::Forbidden { user, .. } = problem else { panic!("{problem:?}") };
    user
}

#[tokio::test]
async fn who_logs_in_by_a_program_is_whom_it_says_and_it_is_asked_again_when_that_is_over() {
    let Some(clusters) = Clusters::shared().await else { return };
    let token = account(&clusters.client("cluster1").await, "ticket").await;
    let directory = tempfile::tempdir().expect("a directory");
    let (ticket, runs) = (directory.path().join("ticket"), directory.path().join("runs"));
    // A ticket that ends within a minute is as good as over.
    let ends = (OffsetDateTime::now_utc() + Duration::seconds(20)).format(&Rfc3339).expect("a time");
    let write = |token: &str| {
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": token, "expirationTimestamp": ends},
        });
        std::fs::write(&ticket, credential.to_string()).expect("a file");
    };
    let program = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "sh",
        "args": ["-c", "echo >> \"$RUNS\"; cat \"$TICKET\""],
        "env": [{"name": "TICKET", "value": ticket}, {"name": "RUNS", "value": runs}],
        "interactiveMode": "Never",
    }});
    write(&token);
    let cluster = cluster(&logging_in(&clusters, directory.path(), program), "cluster1", PATIENCE).await;
    let account = Some("system:serviceaccount:ticket:ticket".to_owned());
    assert_eq!(taken_for(&cluster, "ticket").await, account);
    write(clusters.server("cluster1").token());
    assert_eq!(taken_for(&cluster, "ticket").await, None, "an administrator may");
    let runs = std::fs::read_to_string(runs).expect("it ran").lines().count();
    assert!(runs >= 2, "{runs}");
}

#[tokio::test]
async fn who_was_given_a_token_by_an_identity_provider_is_whom_that_knows() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let token = account(&client, "identity").await;
    let directory = tempfile::tempdir().expect("a directory");
    let provider = json!({"auth-provider": {
        "name": "oidc",
        "config": {"id-token": token, "idp-issuer-url": "https://127.0.0.1:1", "client-id": "isthmus"},
    }});
    let cluster = cluster(&logging_in(&clusters, directory.path(), provider), "cluster1", PATIENCE).await;
    let account = Some("system:serviceaccount:identity:identity".to_owned());
    assert_eq!(taken_for(&cluster, "identity").await, account);
}
