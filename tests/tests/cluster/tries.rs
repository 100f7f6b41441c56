//! `isthmus doctor --probe`: what is found out by trying, between real API servers and a TLS server of OpenSSL's.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use isthmus::cert::{Hierarchy, Validity};
use isthmus_tests::cluster::Pods;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::apply::{Istio, certify};
use super::mesh::{Mesh, run, until};
use super::{namespace, post};

/// What stands behind a gateway: a workload of a cluster, as a sidecar shows it. It ends with this value.
struct Workload {
    child: Child,
    port: u16,
}

impl Workload {
    fn of(mesh: &Mesh, cluster: &str, hierarchy: &Hierarchy) -> Self {
        let now: OffsetDateTime = super::mesh::now();
        let intermediate = hierarchy.intermediate(cluster).expect("a CA");
        let validity = Validity::from(now, Duration::hours(1));
        let leaf = intermediate.leaf("spiffe://cluster.local/ns/sample/sa/hello", validity).expect("a leaf");
        let file = |name: &str| mesh.directory().join(format!("{cluster}-{name}"));
        std::fs::write(file("leaf.pem"), &leaf.chain).expect("a file");
        std::fs::write(file("leaf.key"), leaf.key.as_str()).expect("a file");
        let ca = intermediate.certificate();
        std::fs::write(file("chain.pem"), ca).expect("a file");
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-Verify", "1", "-alpn", "istio", "-cert"])
            .arg(file("leaf.pem"))
            .arg("-key")
            .arg(file("leaf.key"))
            .arg("-cert_chain")
            .arg(file("chain.pem"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        let lines = BufReader::new(child.stdout.take().expect("its words")).lines();
        let mut said = lines.map(|line| line.expect("text"));
        let accepts = said.find_map(|line| line.strip_prefix("ACCEPT 127.0.0.1:").map(str::to_owned));
        let port = accepts.expect("a port").parse().expect("a number");
        // What it says of each connection has to go somewhere.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, port }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _gone = self.child.kill().and_then(|()| self.child.wait()).is_err();
    }
}

/// What a diagnosis says of the checks that try something, as `cluster code: message`.
async fn found(mesh: &Mesh) -> Vec<String> {
    told(mesh, &["ISD036", "ISD037", "ISD055", "ISD056"]).await
}

/// The same of some checks.
async fn told(mesh: &Mesh, codes: &[&str]) -> Vec<String> {
    let mut command = super::mesh::isthmus();
    command.args(["doctor", "--probe", "-o", "json", "--timeout", "10", "-f"]).arg(mesh.directory());
    command.arg("--kubeconfig").arg(mesh.clusters.kubeconfig());
    let output = run(command).await;
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let tries = |item: &&Value| codes.contains(&item["code"].as_str().expect("a code"));
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    let line = |item: &Value| {
        let what = if item["result"] == "error" { text(item, "message") } else { text(item, "result") };
        format!("{} {}: {what}", text(item, "cluster"), text(item, "code"))
    };
    told["items"].as_array().expect("items").iter().filter(tries).map(line).collect()
}

/// Says where the gateway of a cluster is.
fn lead(mesh: &Mesh, cluster: usize, port: u16) {
    mesh.change(|mesh| {
        mesh["spec"]["clusters"][cluster]["gateway"] = json!({"address": "127.0.0.1", "port": port});
    });
}

#[tokio::test]
async fn what_does_not_answer_is_found_by_trying_and_what_does_is_not() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    certify(&mesh).await;
    let hierarchy = Hierarchy::at(mesh.directory().join("certs"));
    let root = std::fs::read_to_string(hierarchy.root_certificate()).expect("a root");
    for name in &mesh.names {
        let client = mesh.clusters.client(name).await;
        namespace(&client, "istio-system").await;
        let map = json!({"metadata": {"name": "istio-ca-root-cert"}, "data": {"root-cert.pem": root}});
        post(&client, "/api/v1/namespaces/istio-system/configmaps", &map).await;
    }
    assert!(mesh.run("secrets", &["--token-lifetime", "1"]).await.status.success());
    let mut workloads: Vec<Workload> =
        mesh.names.iter().map(|name| Workload::of(&mesh, name, &hierarchy)).collect();
    for (number, workload) in workloads.iter().enumerate() {
        lead(&mesh, number, workload.port);
    }
    let of = |cluster: &str| {
        ["ISD036", "ISD037", "ISD055", "ISD056"].map(|code| format!("{cluster} {code}: passed"))
    };
    assert_eq!(found(&mesh).await, [of("cluster1"), of("cluster2")].concat());

    // One gateway is gone, and behind the other is somebody of another mesh.
    let gone = workloads.remove(0);
    let port = gone.port;
    drop(gone);
    let other = Hierarchy::at(mesh.directory().join("another"));
    let options =
        isthmus::cert::Options { key: isthmus::cert::KeyKind::P256, ..isthmus::cert::Options::default() };
    other.ensure(&["cluster2"], options, super::mesh::now()).expect("a CA");
    let stranger = Workload::of(&mesh, "cluster2", &other);
    lead(&mesh, 1, stranger.port);
    // One API server is said to be where nothing is, and a secret was made for it there.
    mesh.change(|mesh| mesh["spec"]["clusters"][1]["apiServer"] = json!("https://127.0.0.1:1"));
    let told = found(&mesh).await;
    let starts = |start: &str, rest: &str| {
        assert!(told.iter().any(|line| line.starts_with(start) && line.contains(rest)), "{start}: {told:#?}");
    };
    starts(&format!("cluster1 ISD055: nothing listens at 127.0.0.1:{port}: "), "refused");
    starts(
        "cluster2 ISD056: cluster1 does not accept what answers to outbound_.",
        "what it leads to has the name of a trusted CA and another key",
    );
    starts(
        "cluster2 ISD037: nothing answers at https://127.0.0.1:1 as its API server does: ",
        "Connection refused",
    );
    starts("cluster1 ISD036: passed", "");

    mesh.clusters.client("cluster2").await;
    let accounts =
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/istio-reader-clusterrole-istio-system";
    super::mesh::delete(&mesh.clusters.client("cluster2").await, accounts).await;
    let told = found(&mesh).await;
    let lacks = "cluster1 ISD036: its istiod cannot read cluster2 with the secret that it has: the account of the token may not list services";
    assert!(told.iter().any(|line| line.starts_with(lacks)), "{told:#?}");
}

/// What reads other clusters there is Istio's own code, and it stands where nobody but the API server of its cluster asks it.
#[tokio::test]
async fn istiod_is_asked_itself_which_clusters_it_has_read() {
    let (Some(istio), Some(mesh)) = (Istio::find(), Mesh::start("examples/two-clusters").await) else {
        return;
    };
    for name in &mesh.names {
        namespace(&mesh.clusters.client(name).await, "istio-system").await;
    }
    let Some(mut pods) = Pods::of(mesh.clusters.client("cluster1").await) else { return };
    assert!(mesh.run("secrets", &["--token-lifetime", "1"]).await.status.success());
    let unasked = told(&mesh, &["ISD038"]).await;
    assert_eq!(unasked, ["cluster1 ISD038: skipped", "cluster2 ISD038: skipped"], "no istiod runs");

    let kubeconfig = mesh.clusters.kubeconfig();
    let begin = || {
        let own = ["read", "--context=cluster1", "--cluster=cluster1", "--kubeconfig"];
        istio.begins(&[own.as_slice(), &[kubeconfig.to_str().expect("text")]].concat())
    };
    let (running, port) = begin();
    pods.add_istiod("istiod-1", ([127, 0, 0, 1], port.parse().expect("a port")).into()).await;
    until("istiod has read cluster2", || async {
        told(&mesh, &["ISD038"]).await.first().is_some_and(|line| line == "cluster1 ISD038: passed")
    })
    .await;

    // The account that it reads as may nothing any more, and it begins anew.
    drop(running);
    pods.silence("istiod-1");
    let binding =
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/istio-reader-clusterrole-istio-system";
    super::mesh::delete(&mesh.clusters.client("cluster2").await, binding).await;
    let silent = told(&mesh, &["ISD038"]).await;
    assert_eq!(silent.first().map(String::as_str), Some("cluster1 ISD038: skipped"), "it does not answer");
    let (_running, port) = begin();
    pods.add_istiod("istiod-2", ([127, 0, 0, 1], port.parse().expect("a port")).into()).await;
    until("istiod has tried", || async {
        let lines = told(&mesh, &["ISD038"]).await;
        lines
            .first()
            .is_some_and(|line| line.starts_with("cluster1 ISD038: istiod-2 has not read cluster2: it says "))
    })
    .await;
}
