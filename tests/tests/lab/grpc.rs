//! gRPC over HTTP/2, through stock Envoys: what a refusal is to its client, and what passes.

use std::net::SocketAddr;

use h2::client;
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use isthmus::lab::{Application, Client, Lab, Site};
use isthmus::stage::{self, Stage};
use isthmus_tests::example::module;
use policy::{Mesh, Policy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::start;

const MESH: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: Mesh
metadata: {name: mesh1}
spec:
  clusters:
  - {name: cluster1, network: network1, gateway: {address: 192.0.2.1}}
  - {name: cluster2, network: network2, gateway: {address: 192.0.2.2}}
  services:
    bank.payments: {port: 9090, clusters: [cluster1]}
    vault.payments: {port: 9090, clusters: [cluster1]}
";

const POLICIES: &str = "
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: bank, namespace: payments}
spec: {services: [bank], access: {allow: [{name: reads, from: [{clusters: [cluster2]}], to: [{paths: [/bank.Ledger/Read]}]}]}}
---
apiVersion: isthmus.dev/v1alpha1
kind: CrossClusterPolicy
metadata: {name: vault, namespace: payments}
spec: {services: [vault], routing: {boundary: Cluster}}
";

/// A message of gRPC: not compressed, five bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

/// Answers every call with its own message, and trailers.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        connections.spawn(async move {
            let mut calls = JoinSet::new();
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                calls.spawn(async move {
                    let source = request.headers().get("x-source-cluster").cloned();
                    let (message, asked) = all(request.into_body()).await;
                    let mut answer = Response::builder().header("content-type", "application/grpc");
                    if let Some(source) = source {
                        answer = answer.header("x-app-saw-source-cluster", source);
                    }
                    let answer = answer.body(()).expect("an answer");
                    let mut stream = respond.send_response(answer, false).expect("a stream");
                    stream.send_data(message, false).expect("a message");
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().expect("a value"));
                    trailers.insert("x-asked", asked.get("x-asked").expect("a trailer").clone());
                    stream.send_trailers(trailers).expect("trailers");
                });
            }
        });
    }
}

/// The body and the trailers of a stream.
async fn all(mut body: h2::RecvStream) -> (Bytes, HeaderMap) {
    let mut whole = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("a chunk");
        body.flow_control().release_capacity(chunk.len()).expect("room");
        whole.extend_from_slice(&chunk);
    }
    (whole.into(), body.trailers().await.expect("trailers").unwrap_or_default())
}

/// What a client of gRPC got.
struct Got {
    status: u16,
    headers: HeaderMap,
    /// Whether the headers were all of it.
    headers_only: bool,
    message: Bytes,
    trailers: HeaderMap,
}

/// A call of a method with a message, and a trailer of its own.
async fn call(to: SocketAddr, host: &str, method: &str) -> Got {
    let stream = TcpStream::connect(to).await.expect("a connection");
    let (mut sender, connection) = client::handshake(stream).await.expect("HTTP/2");
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(format!("http://{host}{method}"))
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers");
    let (response, mut body) =
        sender.send_request(request.body(()).expect("a request"), false).expect("a stream");
    // A refusal may come before either is sent.
    if body.send_data(Bytes::from_static(MESSAGE), false).is_ok() {
        let trailers =
            HeaderMap::from_iter([("x-asked".parse().expect("a name"), "yes".parse().expect("a value"))]);
        let _refused = body.send_trailers(trailers).is_err();
    }
    let (head, body) = response.await.expect("an answer").into_parts();
    let headers_only = body.is_end_stream();
    let (message, trailers) = all(body).await;
    Got { status: head.status.as_u16(), headers: head.headers, headers_only, message, trailers }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().expect("text"))
}

async fn up(dir: &std::path::Path, client: Client) -> Lab {
    let (mesh, findings) = Mesh::read("mesh.yaml", MESH);
    let mesh = mesh.unwrap_or_else(|| panic!("{findings:?}"));
    let mut blueprint = stage::blueprint(&mesh, [client]);
    blueprint.services.iter_mut().for_each(|service| service.application = Application::Grpc);
    let site = Site::claim(blueprint, dir).expect("a site");
    let stage = Stage::set(&mesh, &site, &module()).expect("a stage");
    let (policies, findings) = Policy::read("policies.yaml", POLICIES, mesh.root_namespace());
    assert_eq!(findings, []);
    stage.roll_out(&policies).expect("a rollout");
    start(site).await
}

#[tokio::test]
async fn a_call_is_refused_in_the_words_of_grpc_and_one_that_passes_keeps_its_trailers() {
    let dir = tempfile::tempdir().expect("a directory");
    let client = super::tokens::client("cluster2", "sample");
    let lab = up(dir.path(), client.clone()).await;
    let bank = lab.proxy("cluster1/bank-v1.payments").expect("a proxy").admin.ip();
    let mut application = JoinSet::new();
    application.spawn(serve(TcpListener::bind((bank, 9090)).await.expect("the port of the service")));
    let to = lab.client(&client).expect("a client");

    let passed = call(to, "bank.payments:9090", "/bank.Ledger/Read").await;
    assert_eq!(passed.status, 200, "{:?}", passed.headers);
    assert_eq!((&*passed.message, passed.headers_only), (MESSAGE, false));
    assert_eq!(
        [text(&passed.trailers, "grpc-status"), text(&passed.trailers, "x-asked")],
        [Some("0"), Some("yes")]
    );
    assert_eq!(text(&passed.headers, "x-app-saw-source-cluster"), Some("cluster2"));
    assert_eq!(text(&passed.headers, "x-destination-cluster"), Some("cluster1"));

    // By the sidecar of the destination, through a gateway; and by the source's own.
    for (host, reason) in [("bank", "bank/no-rule-matched"), ("vault", "vault/boundary")] {
        let refused = call(to, &format!("{host}.payments:9090"), "/bank.Ledger/Write").await;
        let headers = &refused.headers;
        assert_eq!((refused.status, refused.headers_only), (200, true), "{headers:?}");
        assert_eq!((refused.message.len(), refused.trailers.len()), (0, 0), "{reason}");
        assert_eq!(text(headers, "content-type"), Some("application/grpc"), "{reason}");
        assert_eq!(text(headers, "grpc-status"), Some("7"), "{reason}");
        let message = format!("forbidden by a cross-cluster policy: {reason}");
        assert_eq!(text(headers, "grpc-message"), Some(message.as_str()));
        assert_eq!(text(headers, "x-isthmus-reason"), Some(reason));
    }
    let arrived = lab.access_log("cluster1/vault-v1.payments").expect("a log");
    assert!(arrived.is_empty(), "the source let it go: {arrived:?}");
    lab.down().await.expect("all processes ended");
}
