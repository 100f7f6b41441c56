//! Remote secrets, between real API servers.

use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use isthmus::kube::{Cluster, Kubeconfig, MESH_MANAGER};
use isthmus::remote::{self, Change, How, READER, Reached, RemoteError};
use serde_json::{Value, json};

use super::apply::Istio;
use super::mesh::{Mesh, delete, now, told, until};
use super::{PATIENCE, namespace, post};

const SECRETS: &str = "/api/v1/namespaces/istio-system/secrets";

/// The kubeconfig for a cluster that another has.
async fn given(mesh: &Mesh, reader: &str, read: &str) -> String {
    let secret = mesh.get(reader, &format!("{SECRETS}/istio-remote-secret-{read}")).await;
    let data = secret["data"][read].as_str().expect("a key that is the cluster");
    String::from_utf8(Base64::decode_vec(data).expect("base64")).expect("text")
}

/// What a server says to the holder of a kubeconfig who lists Services.
async fn tried(kubeconfig: &str) -> Result<(), String> {
    remote::check(kubeconfig, Duration::from_secs(20)).await.map_err(|error| error.to_string())
}

/// Waits until a token is refused: an API server remembers for some seconds whom it has let in.
async fn ends(kubeconfig: &str) {
    let refused = || async {
        matches!(remote::check(kubeconfig, PATIENCE).await, Err(RemoteError::Refused { why, .. }) if why.contains("does not accept the credentials"))
    };
    until("the end of a token that was taken away", refused).await;
}

/// A mesh whose clusters have Istio's namespace.
async fn start() -> Option<Mesh> {
    let mesh = Mesh::start("examples/two-clusters").await?;
    for name in &mesh.names {
        namespace(&mesh.clusters.client(name).await, "istio-system").await;
    }
    Some(mesh)
}

#[tokio::test]
async fn control_planes_read_each_other_and_nothing_is_made_a_second_time() {
    let Some(mesh) = start().await else { return };
    let controllers = mesh.controllers().await;
    let (code, out, err) = told(&mesh.run("secrets", &[]).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1 reads cluster2: made\ncluster2 reads cluster1: made\n"),
        "{err}"
    );
    let secret = mesh.get("cluster1", &format!("{SECRETS}/istio-remote-secret-cluster2")).await;
    assert_eq!(secret["metadata"]["labels"]["istio/multiCluster"], "true");
    assert_eq!(secret["metadata"]["annotations"]["networking.istio.io/cluster"], "cluster2");
    let first = given(&mesh, "cluster1", "cluster2").await;
    assert_eq!(tried(&first).await, Ok(()));
    let token = |kubeconfig: &str| {
        let config: Value = serde_saphyr::from_str(kubeconfig).expect("YAML");
        config["users"][0]["user"]["token"].as_str().expect("a token").to_owned()
    };
    assert!(!out.contains(&token(&first)) && !err.contains(&token(&first)));

    let (code, out, _) = told(&mesh.run("secrets", &[]).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1 reads cluster2: kept\ncluster2 reads cluster1: kept\n")
    );
    let again = mesh.get("cluster1", &format!("{SECRETS}/istio-remote-secret-cluster2")).await;
    assert_eq!(again, secret);
    let (code, out, _) = told(&mesh.run("secrets", &["--check"]).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1 reads cluster2: works\ncluster2 reads cluster1: works\n")
    );

    let (code, out, err) = told(&mesh.run("secrets", &["--rotate"]).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1 reads cluster2: renewed\ncluster2 reads cluster1: renewed\n"),
        "{err}"
    );
    let second = given(&mesh, "cluster1", "cluster2").await;
    assert_ne!(token(&first), token(&second));
    assert_eq!(tried(&second).await, Ok(()));
    ends(&first).await;
    drop(controllers);
}

#[tokio::test]
async fn a_secret_that_does_not_work_is_found_and_made_anew() {
    let Some(mesh) = start().await else { return };
    let lasting = ["--token-lifetime", "24"];
    assert_eq!(told(&mesh.run("secrets", &lasting).await).0, Some(0));
    let client = mesh.clusters.client("cluster1").await;
    let path = format!("{SECRETS}/istio-remote-secret-cluster2");
    let good = given(&mesh, "cluster1", "cluster2").await;
    let real = mesh.clusters.server("cluster2").url();
    // Nothing listens at port 1.
    let stale = good.replace(&real, "https://127.0.0.1:1");
    let patch = json!({"data": {"cluster2": Base64::encode_string(stale.as_bytes())}});
    let request = hyper::Request::patch(format!("{path}?fieldManager=isthmus-mesh"))
        .header("content-type", "application/merge-patch+json")
        .body(patch.to_string().into_bytes())
        .expect("a request");
    client.request::<Value>(request).await.expect("taken");
    let (code, out, err) = told(&mesh.run("secrets", &["--check"]).await);
    assert_eq!((code, out.as_str()), (Some(1), "cluster2 reads cluster1: works\n"));
    let found = "error: cluster1 does not read cluster2: https://127.0.0.1:1 with the token of the secret: the API server cannot be reached: ";
    let line = err.lines().find(|line| line.starts_with("error: ")).expect("an error");
    assert!(line.starts_with(found) && line.contains("Connection refused"), "{err}");
    let (code, out, err) = told(&mesh.run("secrets", &[&lasting[..], &["--force-conflicts"]].concat()).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1 reads cluster2: renewed\ncluster2 reads cluster1: kept\n"),
        "{err}"
    );

    // The account may nothing any more.
    let client = mesh.clusters.client("cluster2").await;
    let binding =
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/istio-reader-clusterrole-istio-system";
    delete(&client, binding).await;
    let (code, _, err) = told(&mesh.run("secrets", &["--check"]).await);
    assert_eq!(code, Some(1));
    let lacks = "cluster1 does not read cluster2: the account of the token may not list services, watch services, list endpointslices.discovery.k8s.io";
    assert!(err.contains(lacks), "{err}");
    assert_eq!(told(&mesh.run("secrets", &lasting).await).0, Some(0), "what is missing is made again");

    // The cluster is gone from here.
    mesh.change(|mesh| mesh["spec"]["clusters"].as_array_mut().expect("clusters").truncate(1));
    let (code, out, err) = told(&mesh.run("secrets", &[]).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1: Secret istio-remote-secret-cluster2: removed\n"),
        "{err}"
    );
}

#[tokio::test]
async fn without_a_controller_for_tokens_it_is_said_what_is_missing_and_nothing_stays() {
    let Some(mesh) = start().await else { return };
    let (code, out, err) = told(&mesh.run("secrets", &["--wait", "1"]).await);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(err.contains("no token came into Secret istio-remote-token-cluster1-"), "{err}");
    assert!(err.contains("--token-lifetime makes tokens that need none"), "{err}");
    for name in &mesh.names {
        let secrets = mesh.get(name, SECRETS).await;
        assert_eq!(secrets["items"].as_array().expect("a list").len(), 0, "{secrets:#}");
    }
}

/// A cluster as `isthmus mesh` reaches it.
async fn reached(mesh: &Mesh, name: &str) -> Cluster {
    let kubeconfig = Kubeconfig::read(Some(&mesh.clusters.kubeconfig()), None, None).expect("a kubeconfig");
    kubeconfig.cluster(name, PATIENCE).await.expect("a context").managed_by(MESH_MANAGER)
}

#[tokio::test]
async fn a_token_is_renewed_past_half_its_life_and_the_one_before_ends() {
    let Some(mesh) = start().await else { return };
    let project = isthmus::read::Project::read(Some(mesh.directory()), mesh.directory()).expect("a mesh");
    let of = project.mesh.expect("a mesh");
    let pair = remote::pairs(&of)[0];
    let (reader, read) = (reached(&mesh, "cluster1").await, reached(&mesh, "cluster2").await);
    let at = Reached { reader: &reader, read: &read };
    let now = now();
    let lifetime = Duration::from_secs(3600);
    let how = |later: u64, dry_run| How {
        lifetime: Some(lifetime),
        rotate: false,
        force: false,
        dry_run,
        patience: PATIENCE,
        now: now + Duration::from_secs(later),
    };
    for (later, dry_run, change) in [
        (0, true, Change::Made),
        (0, false, Change::Made),
        (0, false, Change::Kept),
        (1700, false, Change::Kept),
        (1900, true, Change::Renewed),
    ] {
        let made = remote::ensure(pair, at, how(later, dry_run)).await.expect("it works");
        assert_eq!(made, change, "{later} seconds later");
    }
    let first = given(&mesh, "cluster1", "cluster2").await;
    assert_eq!(remote::ensure(pair, at, how(1900, false)).await.expect("it works"), Change::Renewed);
    assert_ne!(given(&mesh, "cluster1", "cluster2").await, first);
    ends(&first).await;
}

#[tokio::test]
async fn what_istio_made_of_the_account_is_left_as_it_is() {
    let Some(mesh) = start().await else { return };
    let client = mesh.clusters.client("cluster2").await;
    let accounts = "/api/v1/namespaces/istio-system/serviceaccounts";
    post(&client, accounts, &json!({"metadata": {"name": READER, "labels": {"app": "istio-reader"}}})).await;
    let before = mesh.get("cluster2", &format!("{accounts}/{READER}")).await;
    assert_eq!(told(&mesh.run("secrets", &["--token-lifetime", "1"]).await).0, Some(0));
    assert_eq!(mesh.get("cluster2", &format!("{accounts}/{READER}")).await, before);
}

#[tokio::test]
async fn istio_itself_makes_the_same_secret_and_reads_the_cluster_by_ours() {
    let (Some(istio), Some(mesh)) = (Istio::find(), start().await) else { return };
    let controllers = mesh.controllers().await;
    assert_eq!(told(&mesh.run("secrets", &[]).await).0, Some(0));
    let secrets = mesh.get("cluster2", SECRETS).await;
    let names = secrets["items"].as_array().expect("a list").iter().map(|secret| &secret["metadata"]["name"]);
    let token = names.filter_map(Value::as_str).find(|name| name.starts_with("istio-remote-token-cluster1-"));
    let (kubeconfig, server) = (mesh.clusters.kubeconfig(), mesh.clusters.server("cluster2").url());
    let told = istio.says(&[
        "create-remote-secret",
        "--kubeconfig",
        kubeconfig.to_str().expect("text"),
        "--context=cluster2",
        "--istioNamespace=istio-system",
        "--name=cluster2",
        &format!("--server={server}"),
        &format!("--secret-name={}", token.expect("a token")),
    ]);
    let theirs: Value =
        serde_saphyr::from_str(told.expect("a secret").trim_end_matches("---\n")).expect("YAML");
    let ours = mesh.get("cluster1", &format!("{SECRETS}/istio-remote-secret-cluster2")).await;
    for field in ["name", "namespace", "annotations"] {
        assert_eq!(ours["metadata"][field], theirs["metadata"][field], "{field}");
    }
    assert_eq!(theirs["metadata"]["labels"], json!({"istio/multiCluster": "true"}));
    assert_eq!(ours["metadata"]["labels"]["istio/multiCluster"], "true");
    let read = |text: &str| -> Value {
        let mut config: Value = serde_saphyr::from_str(text).expect("YAML");
        config.as_object_mut().expect("fields").remove("preferences");
        config
    };
    let given = given(&mesh, "cluster1", "cluster2").await;
    assert_eq!(read(&given), read(theirs["stringData"]["cluster2"].as_str().expect("a kubeconfig")));

    let file = mesh.directory().join("given");
    std::fs::write(&file, &given).expect("a file");
    let services = istio.says(&["accept", file.to_str().expect("text")]);
    assert!(
        services.is_ok_and(|count| count.trim().parse::<usize>().is_ok_and(|count| count > 0)),
        "the server has a Service of its own"
    );
    std::fs::write(&file, given.replace("token:", "tokenFile:")).expect("a file");
    let refused = istio.says(&["accept", file.to_str().expect("text")]).expect_err("a file of its own pod");
    assert!(refused.contains("tokenFile is not allowed"), "{refused}");
    drop(controllers);
}

#[tokio::test]
async fn a_secret_of_others_that_logs_in_without_a_token_is_theirs_and_is_not_called_broken() {
    let Some(mesh) = start().await else { return };
    let lasting = ["--token-lifetime", "24"];
    assert_eq!(told(&mesh.run("secrets", &lasting).await).0, Some(0));
    let ours = given(&mesh, "cluster1", "cluster2").await;
    let mut config: Value = serde_saphyr::from_str(&ours).expect("YAML");
    config["users"][0]["user"] =
        json!({"auth-provider": {"name": "oidc", "config": {"client-id": "istiod"}}});
    let client = mesh.clusters.client("cluster1").await;
    let path = format!("{SECRETS}/istio-remote-secret-cluster2");
    delete(&client, &path).await;
    let metadata = json!({"name": "istio-remote-secret-cluster2", "labels": {"istio/multiCluster": "true"}});
    post(&client, SECRETS, &json!({"metadata": metadata, "stringData": {"cluster2": config.to_string()}}))
        .await;
    let theirs = mesh.get("cluster1", &path).await;
    let (code, out, err) = told(&mesh.run("secrets", &lasting).await);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "cluster1 reads cluster2: kept\ncluster2 reads cluster1: kept\n"),
        "{err}"
    );
    assert_eq!(mesh.get("cluster1", &path).await, theirs);

    let mut command = super::mesh::isthmus();
    command.args(["doctor", "--probe", "-o", "json", "--timeout", "10", "-f"]).arg(mesh.directory());
    command.arg("--kubeconfig").arg(mesh.clusters.kubeconfig());
    let output = super::mesh::run(command).await;
    let diagnosis: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let items = diagnosis["items"].as_array().expect("items").iter();
    let mut works = items.filter(|item| item["code"] == "ISD036" && item["cluster"] == "cluster1");
    let works = works.next().expect("a check");
    let why = "that of cluster2 was not tried: its kubeconfig has auth-provider, which is not used from here: only a token is";
    assert_eq!((&works["result"], &works["message"]), (&json!("skipped"), &json!(why)));
}
