//! Requests into the lab, and questions to its admin interfaces.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// No answer of the lab takes longer, as its routes end after 15 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as an application of the mesh sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// The host, as the application writes it: `helloworld.sample:5000`.
    pub host: String,
    /// The method; `GET` unless said.
    pub method: String,
    /// The path.
    pub path: String,
    /// Further headers, in this order.
    pub headers: Vec<(String, String)>,
}

impl Get {
    /// `GET` this path of this host.
    #[must_use]
    pub fn new(host: &str, path: &str) -> Self {
        Self { host: host.to_owned(), method: "GET".to_owned(), path: path.to_owned(), headers: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request is not one: a bad method, path or header.
    #[error("not a request that can be sent")]
    Request(#[from] hyper::http::Error),
    /// Nothing answered.
    #[error("no answer")]
    Send(#[from] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("the answer broke off")]
    Body(#[from] hyper::Error),
    /// The answer did not come in time.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
}

/// An HTTP/1.1 client with keep-alive.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Client<HttpConnector, Empty<Bytes>>);

impl Sender {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build(HttpConnector::new()))
    }

    pub(crate) async fn send(&self, to: SocketAddr, get: &Get) -> Result<Answer, RequestError> {
        let method = Method::from_bytes(get.method.as_bytes()).map_err(hyper::http::Error::from)?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{to}{}", get.path))
            .header("host", &get.host);
        for (name, value) in &get.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new())?;
        let exchange = async {
            let response = self.0.request(request).await?;
            let (head, body) = response.into_parts();
            let headers = head
                .headers
                .iter()
                .map(|(name, value)| {
                    (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                })
                .collect();
            let body = body.collect().await?.to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok(Answer { status: head.status.as_u16(), headers, body })
        };
        match tokio::time::timeout(PATIENCE, exchange).await {
            Ok(result) => result,
            Err(_elapsed) => Err(RequestError::Late),
        }
    }
}
