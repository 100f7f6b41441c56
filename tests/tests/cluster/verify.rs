//! `isthmus verify`, as far as API servers go: no pod runs there, so the test says what the callers have counted.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::mesh::{Mesh, isthmus, patch, run, told};

const OWN: &str = "/api/v1/namespaces/isthmus-verify";

/// Ends the caller of a cluster with these words, as soon as there is one.
async fn end(client: kube::Client, words: &'static str) {
    loop {
        let state = json!({"terminated": {"exitCode": 0, "message": words}});
        let status = json!({
            "name": "caller", "ready": false, "restartCount": 0, "image": "curl", "imageID": "curl", "state": state,
        });
        let change = json!({"status": {"phase": "Succeeded", "containerStatuses": [status]}});
        patch(&client, &format!("{OWN}/pods/caller/status"), &change).await;
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
