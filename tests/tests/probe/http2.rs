//! A client that speaks HTTP/2, frame by frame.

use std::net::TcpStream;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use h2::client::SendRequest;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use tokio::task::JoinSet;

use super::envoy::await_reader;
use super::script::{Exchange, Fields, Message};

/// What lies between two frames, so that each comes to the filter by itself.
const APART: Duration = Duration::from_millis(20);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a request and takes what comes of it; the answer is what the upstream and the client got.
pub(super) fn exchanged(stream: TcpStream, exchange: &Exchange, reached: &Receiver<String>) -> Vec<String> {
    let socket = stream.try_clone().expect("a socket");
    stream.set_nonblocking(true).expect("a socket");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let answer = runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).expect("a socket");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let mut driven = JoinSet::new();
        driven.spawn(connection);
        tokio::time::timeout(PATIENCE, answered(client, &socket, &exchange.request)).await
    });
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(_reset)) => "closed".to_owned(),
        Err(_late) => "nothing".to_owned(),
    };
    let reached = reached.try_iter().map(|request| format!("upstream: {request}"));
    reached.chain([format!("client: {answer}")]).collect()
}

/// Sends a request, each frame when Envoy has read the one before; the answer is the response as one line.
async fn answered(
    client: SendRequest<Bytes>,
    socket: &TcpStream,
    message: &Message,
) -> Result<String, h2::Error> {
    let alone = message.chunks.is_empty() && message.trailers.is_empty();
    let (response, mut body) = client.ready().await?.send_request(request(message), alone)?;
    for (at, chunk) in message.chunks.iter().enumerate() {
        arrived(socket).await;
        let last = at + 1 == message.chunks.len() && message.trailers.is_empty();
        // A filter may have answered before.
        let _sent = body.send_data(chunk.clone().into(), last);
    }
    if !message.trailers.is_empty() {
        arrived(socket).await;
        let _sent = body.send_trailers(map(&message.trailers));
    }
    let response = response.await?;
    let mut head = format!("HTTP/1.1 {} x", response.status().as_u16());
    for (name, value) in response.headers() {
        head.push_str(&format!("\r\n{name}: {}", value.to_str().unwrap_or_default()));
    }
    let mut stream = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        bytes.extend(chunk);
    }
    for (name, value) in stream.trailers().await?.unwrap_or_default() {
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        bytes.extend(format!("~{name}: {}", value.to_str().unwrap_or_default()).into_bytes());
    }
    Ok(super::shown(&head, &bytes))
}

/// Waits until what was written is sent, and read.
async fn arrived(socket: &TcpStream) {
    tokio::time::sleep(APART).await;
    await_reader(socket);
}

fn request(message: &Message) -> Request<()> {
    let (method, path) = message.first.split_once(' ').expect("a method and a path");
    let host = message.headers.iter().find(|(name, _)| name == "host").map_or("", |(_, host)| host.as_str());
    let mut request =
        Request::builder().method(method).uri(format!("http://{host}{path}")).body(()).expect("a request");
    let others: Fields = message.headers.iter().filter(|(name, _)| name != "host").cloned().collect();
    *request.headers_mut() = map(&others);
    request
}

fn map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = hyper::header::HeaderName::try_from(name).expect("a name");
        map.append(name, value.parse().expect("a value"));
    }
    map
}
