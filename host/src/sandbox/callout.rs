//! Requests that the guest makes: to an HTTP or to a gRPC service, which the test plays.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::headers::Headers;
use super::message::Message;

/// Ids of callouts carry their kind in the low bits, and go up in steps above them.
pub(crate) const STEP: u32 = 4;

/// The kinds of a callout, as an id says them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http = 0,
    Grpc = 1,
    GrpcStream = 2,
}

/// The upstream clusters that a proxy has, as far as callouts go. Unless said, it has any that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clusters {
    known: Option<BTreeSet<String>>,
    down: BTreeSet<String>,
}

impl Clusters {
    /// These, and no other.
    #[must_use]
    pub fn of<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { known: Some(names.into_iter().map(Into::into).collect()), down: BTreeSet::new() }
    }

    /// The same, of which `name` has no healthy host: a callout to it fails at once, and is never answered.
    #[must_use]
    pub fn with_down(mut self, name: impl Into<String>) -> Self {
        self.down.insert(name.into());
        self
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.known.as_ref().is_none_or(|known| known.contains(name)) || self.down.contains(name)
    }

    pub(crate) fn is_down(&self, name: &str) -> bool {
        self.down.contains(name)
    }
}

/// An HTTP request that the guest made and that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCall {
    /// The id that the guest knows it by.
    pub token: u32,
    /// The cluster it goes to.
    pub cluster: String,
    /// The headers, with the length of the body if it has one.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Headers,
    /// How long the guest waits; zero is for ever.
    pub timeout: Duration,
}

/// What becomes of an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAnswer {
    /// The service answers. The guest sees a body of several chunks as one.
    Response(Message),
    /// The connection breaks: the guest sees no header, and a status of 11.
    Reset,
    /// The service is too slow: Envoy answers with 504 in its place.
    Timeout,
}

impl<M: Into<Message>> From<M> for HttpAnswer {
    fn from(message: M) -> Self {
        Self::Response(message.into())
    }
}

/// A gRPC call or stream that the guest opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcCall {
    /// The id that the guest knows it by.
    pub token: u32,
    /// The cluster it goes to.
    pub cluster: String,
    /// The gRPC service.
    pub service: String,
    /// The method of the service.
    pub method: String,
    /// The metadata that opens it.
    pub metadata: Headers,
    /// The messages sent so far: one for a call.
    pub messages: Vec<Vec<u8>>,
    /// How long the guest waits for the answer of a call; zero is for ever.
    pub timeout: Duration,
    /// Whether it is a stream.
    pub streaming: bool,
    /// Whether the guest has said that it sends no more.
    pub closed: bool,
}

/// What a gRPC service does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcAnswer {
    /// It sends initial metadata. The guest sees those of a stream only.
    InitialMetadata(Headers),
    /// It sends a message. It ends a call.
    Message(Vec<u8>),
    /// It sends trailing metadata. The guest sees those of a stream only.
    TrailingMetadata(Headers),
    /// It ends the stream, or fails the call.
    Close {
        /// The status.
        status: u32,
        /// What it says of it. The guest reads behind it where Envoy has it from: `{via_upstream}`.
        message: String,
    },
}

/// The callouts of a root context, and what of their answers it can read now.
#[derive(Debug, Default)]
pub(crate) struct Callouts {
    pub(crate) http: BTreeMap<u32, Waiting<HttpCall>>,
    pub(crate) grpc: BTreeMap<u32, Waiting<GrpcCall>>,
    /// `proxy_get_status`. The code stays, the text is for the callback alone.
    pub(crate) status: (u32, String),
    pub(crate) arrived: Arrived,
}

/// A callout, and when it is over at the latest.
#[derive(Debug)]
pub(crate) struct Waiting<C> {
    pub(crate) call: C,
    pub(crate) until: Option<Duration>,
    /// The service has ended it.
    pub(crate) ended: bool,
}

/// What has arrived with the callback that runs.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) response: Option<Response>,
    pub(crate) initial_metadata: Option<Headers>,
    pub(crate) trailing_metadata: Option<Headers>,
    pub(crate) message: Vec<u8>,
}

/// A response to a callout.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<Headers>,
}

impl HttpAnswer {
    /// The response that the guest sees; none after a reset.
    pub(crate) fn response(self) -> Option<Response> {
        let message = match self {
            Self::Response(message) => message,
            Self::Reset => return None,
            Self::Timeout => {
                Message::new([(":status", "504"), ("content-length", "24"), ("content-type", "text/plain")])
                    .with_body("upstream request timeout")
            }
        };
        let Message { headers, body, trailers, open: _ } = message;
        Some(Response { headers, body: body.concat(), trailers })
    }
}

impl Callouts {
    /// The service has ended a gRPC call or stream.
    pub(crate) fn end(&mut self, token: u32) {
        if let Some(waiting) = self.grpc.get_mut(&token) {
            waiting.ended = true;
            waiting.until = None;
        }
    }

    /// Forgets a gRPC call or stream that the service has ended, once the guest has ended its half.
    pub(crate) fn forget(&mut self, token: u32) {
        if self.grpc.get(&token).is_some_and(|waiting| waiting.ended && waiting.call.closed) {
            self.grpc.remove(&token);
        }
    }

    /// The callout that is over first, and when.
    pub(crate) fn next_timeout(&self) -> Option<(Duration, u32)> {
        let http = self.http.iter().filter_map(|(token, waiting)| Some((waiting.until?, *token)));
        let grpc = self.grpc.iter().filter_map(|(token, waiting)| Some((waiting.until?, *token)));
        http.chain(grpc).min()
    }
}
