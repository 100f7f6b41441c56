//! Envoys whose admin interface can be reached from here, such as those of a lab.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use policy::name::Namespace;
use serde::{Deserialize, Serialize};

use super::reading::QUERY;
use super::{Asking, Kind, Proxy, Reading, Silence};
use crate::kube::many;
use crate::lab::{self, ProxyKind};
use crate::text::chain;

/// More bytes than the metrics of a proxy are. What listens at an address may be anything.
const LARGEST: usize = 32 << 20;

type Sender = Client<HttpConnector, Empty<Bytes>>;

/// An Envoy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envoy {
    /// What it is called.
    pub name: String,
    /// Its namespace, where that is known.
    pub namespace: Option<Namespace>,
    /// What it is for.
    pub kind: Kind,
    /// Its admin interface.
    pub admin: SocketAddr,
}

impl Envoy {
    /// That of a lab. What a client's sidecar of a lab lacks, a cluster's would have: nothing arrives there.
    pub fn of_lab(proxy: &lab::Proxy) -> Self {
        let kind = match proxy.kind {
            ProxyKind::Client => Kind::Unknown,
            ProxyKind::Server => Kind::Sidecar,
            ProxyKind::Gateway => Kind::EastWest,
        };
        let (_, own) = proxy.name.split_once('/').unwrap_or(("", &proxy.name));
        let namespace = own.rsplit_once('.').and_then(|(_, namespace)| namespace.parse().ok());
        Self { name: own.to_owned(), namespace, kind, admin: proxy.admin }
    }
}

/// Asks each, so many at a time.
pub async fn envoys(envoys: Vec<Envoy>, asking: Asking) -> Vec<Proxy> {
    let sender: Sender = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let asked = envoys.into_iter().map(|envoy| {
        let sender = sender.clone();
        async move {
            let said = ask(&sender, envoy.admin, asking).await;
            Proxy { name: envoy.name, namespace: envoy.namespace, kind: envoy.kind, said }
        }
    });
    many::bounded(asked, asking.parallel).await
}

async fn ask(sender: &Sender, admin: SocketAddr, asking: Asking) -> Result<Reading, Silence> {
    let unreachable = |why: String| Silence::Unreachable(format!("{admin}: {why}"));
    match tokio::time::timeout(asking.patience, fetch(sender, admin)).await {
        Ok(answer) => Ok(Reading::read(&answer.map_err(unreachable)?)?),
        Err(_) => Err(unreachable(format!("no answer within {:?}", asking.patience))),
    }
}

/// Its metrics; why there are none, otherwise.
async fn fetch(sender: &Sender, admin: SocketAddr) -> Result<String, String> {
    let request = Request::get(format!("http://{admin}{QUERY}")).body(Empty::new());
    let answer = sender.request(request.map_err(|error| error.to_string())?).await;
    let answer = answer.map_err(|error| chain(&error))?;
    if answer.status() != 200 {
        return Err(format!("it answered {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| chain(&*error))?;
    String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers everybody with a head, and then with the same for as long as anybody reads it.
    async fn talk(listener: TcpListener, head: &str, more: &[u8]) -> std::convert::Infallible {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _asked = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(more).await.is_ok() {
                if more.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_proxy_costs_its_time_and_no_more_memory_than_an_answer_may() {
        let ok = "HTTP/1.1 200 OK\r\n\r\n";
        for (head, more, told) in [
            (ok, &[b'a'; 65536][..], "length limit exceeded"),
            (ok, b"", "no answer within 2s"),
            ("", b"", "no answer within 2s"),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", b"", "it answered 404"),
            ("SSH-2.0-OpenSSH_9.6\r\n", b"", "invalid HTTP"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let admin = listener.local_addr().unwrap();
            let envoy = Envoy { name: "e".to_owned(), namespace: None, kind: Kind::Sidecar, admin };
            // One that has all it may is told of before its time is over, on whatever machine.
            let patience = Duration::from_secs(if told.starts_with("no answer") { 2 } else { 600 });
            let asking = Asking { patience, parallel: 1 };
            let said = tokio::select! {
                said = envoys(vec![envoy], asking) => said,
                never = talk(listener, head, more) => match never {},
            };
            let silence = said.into_iter().next().unwrap().said.unwrap_err().to_string();
            assert!(silence.contains(told) && silence.starts_with(&admin.to_string()), "{silence}");
        }
    }
}
