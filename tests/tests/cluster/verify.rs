//! `isthmus verify`, as far as API servers go: no pod runs there, so the test says what the callers have counted.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::mesh::{Mesh, isthmus, patch, run, told, until};
use super::namespace;

const OWN: &str = "/api/v1/namespaces/isthmus-verify";

/// Ends a pod with these words, if it is there.
async fn end_pod(client: &kube::Client, name: &str, words: &str) {
    let state = json!({"terminated": {"exitCode": 0, "message": words}});
    let status = json!({
        "name": name, "ready": false, "restartCount": 0, "image": "curl", "imageID": "curl", "state": state,
    });
    let change = json!({"status": {"phase": "Succeeded", "containerStatuses": [status]}});
    patch(client, &format!("{OWN}/pods/{name}/status"), &change).await;
}

/// Ends the caller of a cluster with these words, as soon as there is one.
async fn end(client: kube::Client, words: &'static str) {
    loop {
        end_pod(&client, "caller", words).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_answers_whom_is_told_and_nothing_is_left() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    let controllers = mesh.controllers().await;
    let mut callers = JoinSet::new();
    for (name, words) in
        [("cluster1", "     11 cluster1\n      9 cluster2\n"), ("cluster2", "     19 cluster2\n      1 -\n")]
    {
        callers.spawn(end(mesh.clusters.client(name).await, words));
    }
    let mut command = isthmus();
    command.args(["verify", "--wait", "120", "-f"]).arg(mesh.directory());
    command.arg("--kubeconfig").arg(mesh.clusters.kubeconfig());
    let (code, out, err) = told(&run(command).await);
    let wanted = "ok from cluster1: 11 by cluster1, 9 by cluster2\n\
                  no from cluster2: 1 answered by nobody, 19 by cluster2\n   \
                  cluster1 should have answered: `isthmus doctor --probe` looks for why\n";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(1), wanted, ""));
    for name in &mesh.names {
        let namespace: Value = mesh.get(name, OWN).await;
        assert!(namespace["metadata"]["deletionTimestamp"].is_string(), "{name}: {namespace:#}");
        let pod = mesh.get(name, &format!("{OWN}/pods/caller")).await;
        let injected = &namespace["metadata"]["labels"]["istio-injection"];
        assert_eq!((injected, &pod["spec"]["restartPolicy"]), (&json!("enabled"), &json!("Never")));
    }
    drop((controllers, callers));
}

/// What a kubelet does for a cluster whose pods have addresses of this machine: the service's pod gets its own, and what
/// the pod runs that tries others is run.
async fn play_kubelet(client: kube::Client, address: &'static str) {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helloworld-7f9", "labels": {"app": "helloworld"}},
        "spec": {"containers": [{"name": "helloworld", "image": "helloworld"}]},
    });
    loop {
        let request = hyper::Request::post(format!("{OWN}/pods"))
            .header("content-type", "application/json")
            .body(pod.to_string().into_bytes())
            .expect("a request");
        let _there = client.request::<Value>(request).await.is_ok();
        let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        patch(&client, &format!("{OWN}/pods/helloworld-7f9/status"), &status).await;
        let request =
            hyper::Request::get(format!("{OWN}/pods/neighbour")).body(Vec::new()).expect("a request");
        if let Ok(pod) = client.request::<Value>(request).await {
            let script = pod["spec"]["containers"][0]["command"][2].as_str().expect("a script").to_owned();
            let ran = tokio::task::spawn_blocking(move || {
                let file = tempfile::NamedTempFile::new().expect("a file");
                let script = script.replace("/dev/termination-log", file.path().to_str().expect("text"));
                let mut shell = std::process::Command::new("sh");
                assert!(shell.args(["-c", &script]).status().expect("it runs").success());
                std::fs::read_to_string(file.path()).expect("a file")
            });
            end_pod(&client, "neighbour", &ran.await.expect("it ends")).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// A pod of the service at an address of this machine.
fn serve(address: &str, version: &'static str) {
    let listener = TcpListener::bind((address, 5000)).expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _request = stream.read(&mut [0; 1024]);
            let body = format!("Hello version: {version}, instance: helloworld-7f9\n");
            let _gone = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
}

#[tokio::test]
async fn pods_of_one_network_that_do_not_reach_each_other_are_told_by_pair() {
    let Some(mesh) = Mesh::start("examples/one-network").await else { return };
    let controllers = mesh.controllers().await;
    serve("127.77.1.1", "north");
    let mut nodes = JoinSet::new();
    for (name, address) in [("north", "127.77.1.1"), ("south", "127.77.1.2")] {
        nodes.spawn(play_kubelet(mesh.clusters.client(name).await, address));
        nodes.spawn(end(mesh.clusters.client(name).await, "     20 north\n     20 south\n"));
    }
    let verify = |more: &'static [&'static str]| {
        let mut command = isthmus();
        command.args(["verify", "--wait", "120", "-f"]).arg(mesh.directory()).args(more);
        command.arg("--kubeconfig").arg(mesh.clusters.kubeconfig());
        command
    };
    let (code, out, err) = told(&run(verify(&["--keep"])).await);
    let start =
        "no from north: 20 by north, 20 by south\n   its pods do not reach those of south: 127.77.1.2: ";
    assert!(out.starts_with(start), "{out}{err}");
    assert!(out.contains(" [ISD043]\n   hint: on one network pods dial each other: "), "{out}");
    assert!(out.ends_with("\nok from south: 20 by north, 20 by south\n"), "{out}");
    assert_eq!(code, Some(1), "{err}");
    drop((nodes, controllers));
}

/// A proof of a mesh, as it is run.
fn verify(mesh: &Mesh, more: &[&str]) -> std::process::Command {
    let mut command = isthmus();
    command.args(["verify", "-f"]).arg(mesh.directory()).args(more);
    command.arg("--kubeconfig").arg(mesh.clusters.kubeconfig());
    command
}

/// Callers that all end with these words. It ends with this value.
async fn callers(mesh: &Mesh, words: &'static str) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for name in &mesh.names {
        callers.spawn(end(mesh.clusters.client(name).await, words));
    }
    callers
}

#[tokio::test]
async fn what_a_killed_run_has_left_is_no_answer_of_the_next() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    let controllers = mesh.controllers().await;
    // Killed while it waits for its callers, which end only then.
    let mut killed = verify(&mesh, &["--wait", "120"]).spawn().expect("it runs");
    let client = mesh.clusters.client("cluster1").await;
    let caller = format!("{OWN}/pods/caller");
    until("a caller", || async { is_there(&client, &caller).await }).await;
    killed.kill().and_then(|()| killed.wait()).expect("it is killed");
    let before = callers(&mesh, "     20 cluster1\n").await;
    until("its end", || async { ask_phase(&client, &caller).await == "Succeeded" }).await;
    drop(before);

    // A namespace that is going has gone before anything is made in it.
    let both = callers(&mesh, "     10 cluster1\n     10 cluster2\n").await;
    let (code, out, err) = told(&run(verify(&mesh, &["--wait", "120"])).await);
    let wanted = "ok from cluster1: 10 by cluster1, 10 by cluster2\nok from cluster2: 10 by cluster1, 10 by cluster2\n";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), wanted, ""));
    let (code, out, err) = told(&run(verify(&mesh, &["--wait", "1"])).await);
    assert_eq!((code, out.as_str()), (Some(3), ""), "nothing takes a namespace away here");
    assert!(err.contains("error: cluster1: what a run before has left has not gone within 1s"), "{err}");
    drop((both, controllers));
}

async fn is_there(client: &kube::Client, path: &str) -> bool {
    let request = hyper::Request::get(path).body(Vec::new()).expect("a request");
    client.request::<Value>(request).await.is_ok()
}

async fn ask_phase(client: &kube::Client, path: &str) -> Value {
    super::get(client, path).await["status"]["phase"].clone()
}

#[tokio::test]
async fn a_run_that_is_interrupted_takes_away_what_it_made() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    let controllers = mesh.controllers().await;
    let running =
        verify(&mesh, &["--wait", "120"]).stderr(std::process::Stdio::piped()).spawn().expect("it runs");
    for name in &mesh.names {
        let client = mesh.clusters.client(name).await;
        let caller = format!("{OWN}/pods/caller");
        until("a caller", || async { is_there(&client, &caller).await }).await;
    }
    let signal = std::process::Command::new("kill").args(["-INT", &running.id().to_string()]).status();
    assert!(signal.expect("kill runs").success());
    let ended = tokio::task::spawn_blocking(move || running.wait_with_output().expect("it ends"));
    let (code, _, err) = told(&ended.await.expect("it ends"));
    assert_eq!((code, err.as_str()), (Some(3), "interrupted: what ran is taken away\n"));
    for name in &mesh.names {
        let namespace = mesh.get(name, OWN).await;
        assert!(namespace["metadata"]["deletionTimestamp"].is_string(), "{name}: {namespace:#}");
    }
    drop(controllers);
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_and_a_webhook_that_leads_nowhere_are_said() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    let clients = [mesh.clusters.client("cluster1").await, mesh.clusters.client("cluster2").await];
    let nodes: JoinSet<()> = clients.into_iter().enumerate().map(fail_to_start).collect();
    let (code, out, err) =
        told(&run(verify(&mesh, &["--wait", "6", "--service-image", "no.example/hello:v1"])).await);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    let pulled = "error: cluster1: the service is not ready: ImagePullBackOff of container helloworld of pod helloworld-7f9: Back-off pulling \
                  image \"no.example/hello:v1\": --service-image and --caller-image say which images are run\n";
    assert!(err.contains(pulled), "{err}");
    let made = "error: cluster2: the service is not ready within 6s: no pod can be made: failed calling webhook \
                \"namespace.sidecar-injector.istio.io\": no endpoints available for service \"istiod\"\n";
    assert!(err.contains(made), "{err}");
    drop(nodes);
}

/// What a cluster says of the service's pods: in the first that their image is not there, in the second that none is made.
async fn fail_to_start((number, client): (usize, kube::Client)) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "helloworld-7f9", "labels": {"app": "helloworld"}},
        "spec": {"containers": [{"name": "helloworld", "image": "no.example/hello:v1"}]},
    });
    let message = "Back-off pulling image \"no.example/hello:v1\"";
    let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": message}});
    let container = json!({
        "name": "helloworld", "ready": false, "restartCount": 0, "image": "no.example/hello:v1", "imageID": "", "state": waiting,
    });
    let status = json!({"status": {"phase": "Pending", "containerStatuses": [container]}});
    let why = "failed calling webhook \"namespace.sidecar-injector.istio.io\": no endpoints available for service \"istiod\"";
    let condition =
        json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": why});
    loop {
        if number == 0 {
            let request = hyper::Request::post(format!("{OWN}/pods"))
                .header("content-type", "application/json")
                .body(pod.to_string().into_bytes())
                .expect("a request");
            let _there = client.request::<Value>(request).await.is_ok();
            patch(&client, &format!("{OWN}/pods/helloworld-7f9/status"), &status).await;
        } else {
            let path = "/apis/apps/v1/namespaces/isthmus-verify/deployments/helloworld/status";
            patch(&client, path, &json!({"status": {"conditions": [condition]}})).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_namespace_of_somebody_else_is_neither_used_nor_deleted() {
    let Some(mesh) = Mesh::start("examples/two-clusters").await else { return };
    for name in &mesh.names {
        namespace(&mesh.clusters.client(name).await, "isthmus-verify").await;
    }
    let (code, out, err) = told(&run(verify(&mesh, &["--wait", "2"])).await);
    assert_eq!((code, out.as_str()), (Some(3), ""));
    assert!(
        err.contains(
            "error: cluster1: namespace isthmus-verify is there and was not made by `isthmus verify`"
        ),
        "{err}"
    );
    let client = mesh.clusters.client("cluster1").await;
    let kept = super::get(&client, OWN).await;
    assert!(kept["metadata"]["deletionTimestamp"].is_null(), "{kept:#}");
}
