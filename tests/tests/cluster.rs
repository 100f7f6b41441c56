//! Against real API servers, several at once.

use std::net::TcpStream;

use isthmus_tests::cluster::Clusters;
use kube::Client;
use serde_json::{Value, json};

/// One request past the code under test.
async fn ask(client: &Client, request: hyper::http::request::Builder, body: &Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.header("content-type", "application/json").body(body).expect("a request");
    client.request(request).await.expect("the server agrees")
}

#[tokio::test]
async fn clusters_are_apart_and_leave_nothing_behind() {
    let Some(clusters) = Clusters::start(&["east", "west"]).await else { return };
    let [east, west] = [clusters.client("east").await, clusters.client("west").await];
    let namespace = json!({"metadata": {"name": "only-here"}});
    ask(&east, hyper::Request::post("/api/v1/namespaces"), &namespace).await;
    let names = |list: Value| list["items"].to_string().contains("only-here");
    assert!(names(ask(&east, hyper::Request::get("/api/v1/namespaces"), &Value::Null).await));
    assert!(!names(ask(&west, hyper::Request::get("/api/v1/namespaces"), &Value::Null).await));

    let plugins = "/apis/extensions.istio.io/v1alpha1/wasmplugins";
    let list = ask(&west, hyper::Request::get(plugins), &Value::Null).await;
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
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    ask(&client, hyper::Request::post(accounts), &json!({"metadata": {"name": "known"}})).await;
    let wish = json!({"spec": {"expirationSeconds": 600}});
    let given = ask(&client, hyper::Request::post(format!("{accounts}/known/token")), &wish).await;
    let review = json!({"spec": {"token": given["status"]["token"]}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = ask(&client, hyper::Request::post(reviews), &review).await;
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:known");
}
