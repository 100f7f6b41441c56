use std::net::TcpStream;

use isthmus_tests::cluster::Clusters;
use serde_json::{Value, json};

use super::{account, get, namespace, post};

#[tokio::test]
async fn clusters_are_apart_and_leave_nothing_behind() {
    let Some(clusters) = Clusters::start(&["east", "west"]).await else { return };
    let [east, west] = [clusters.client("east").await, clusters.client("west").await];
    namespace(&east, "only-here").await;
    let names = |list: Value| list["items"].to_string().contains("only-here");
    assert!(names(get(&east, "/api/v1/namespaces").await));
    assert!(!names(get(&west, "/api/v1/namespaces").await));
    let list = get(&west, "/apis/extensions.istio.io/v1alpha1/wasmplugins").await;
    assert_eq!(list["kind"], "WasmPluginList");

    let addresses = ["east", "west"].map(|name| clusters.server(name).url().replace("https://", ""));
    let directory = clusters.kubeconfig().parent().expect("a directory").to_owned();
    drop(clusters);
    for address in addresses {
        TcpStream::connect(&address).expect_err("nobody listens there");
    }
    assert!(!directory.exists());
}

#[tokio::test]
async fn a_service_account_gets_a_token_and_is_known_by_it() {
    let Some(clusters) = Clusters::shared().await else { return };
    let client = clusters.client("cluster1").await;
    let token = account(&client, "known").await;
    let review = json!({"spec": {"token": token}});
    let review = post(&client, "/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:known:known");
}
