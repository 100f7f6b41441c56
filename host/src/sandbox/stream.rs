//! A stream context: an HTTP stream or a TCP connection.

mod flow;

use std::cell::Cell;
use std::time::Duration;

use super::connection::Connection;
use super::failure::FailurePolicy;
use super::filter_state::StreamState;
use super::headers::Headers;
use super::message::Side;
use super::outcome::LocalReply;
use super::shown::Shown;

pub(crate) use flow::{DataVerdict, Flow, Held, Iteration};

/// The details of the reply that Envoy sends for a stream whose filter has failed.
pub(crate) const FAIL_STREAM: &str = "wasm_fail_stream";

/// A stream context.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) root: u32,
    /// What becomes of it when the guest traps.
    pub(crate) policy: FailurePolicy,
    pub(crate) connection: Connection,
    pub(crate) started: Duration,
    pub(crate) filter_state: StreamState,
    pub(crate) protocol: Protocol,
    pub(crate) phase: Phase,
    pub(crate) shown: Shown,
    /// The version of TLS was asked for before the handshake.
    pub(crate) asked_early: Cell<bool>,
}

/// How far a stream has come, where attributes depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Request headers, or a new connection.
    Request,
    /// The client of a connection has sent data: the handshake is done, and a TCP proxy has picked its cluster.
    Data,
    /// An upstream host was chosen and has answered, or the filter replied.
    Response,
    /// The access log: every header map can be read again, none can be written.
    Log,
    /// Logged: no header map can be read any more.
    Gone,
}

#[derive(Debug)]
pub(crate) enum Protocol {
    Http(Box<Http>),
    L4(L4),
}

/// An HTTP stream's messages.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) request: Flow,
    pub(crate) response: Flow,
    pub(crate) reply: Option<Replied>,
    pub(crate) reset: bool,
    /// Why the stream was answered as it was, where not by the upstream.
    pub(crate) details: Option<String>,
    /// The status of the response as it began, whatever the filter makes of the header.
    pub(crate) code: Option<i64>,
    pub(crate) route_refreshes: u32,
    /// The client speaks gRPC; Envoy decides this before any filter runs.
    pub(crate) grpc: bool,
    /// The client asked for headers alone.
    pub(crate) head: bool,
}

/// A local reply, and where it came in.
#[derive(Debug)]
pub(crate) struct Replied {
    pub(crate) reply: LocalReply,
    /// It took the place of a response that had begun, and passed no filter.
    pub(crate) direct: bool,
}

/// A TCP connection's state.
#[derive(Debug, Default)]
pub(crate) struct L4 {
    pub(crate) paused: bool,
    /// What the client has sent meanwhile, and whether it will send no more, where the TCP proxy behind the filter has
    /// not seen the connection: until then nothing is read, and nobody dials.
    pub(crate) unread: Option<(Vec<u8>, bool)>,
    pub(crate) closed: bool,
    /// The guest was told of its end.
    pub(crate) told: bool,
    /// The side whose end came last so far.
    pub(crate) last_end: Option<Side>,
    pub(crate) downstream: Pipe,
    pub(crate) upstream: Pipe,
}

/// One direction of a TCP connection.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// What has arrived and not gone on: the connection's own buffer, which the filter works on.
    pub(crate) buffer: Vec<u8>,
    /// The filter can reach the buffer: in the callback, and after it while it holds the data back.
    pub(crate) held: bool,
    pub(crate) passed: Vec<u8>,
    pub(crate) ended: bool,
}

impl Stream {
    pub(crate) fn new(root: u32, connection: Connection, started: Duration, protocol: Protocol) -> Self {
        let filter_state = StreamState::on(&connection.filter_state);
        let policy = FailurePolicy::default();
        Self {
            root,
            policy,
            connection,
            started,
            filter_state,
            protocol,
            phase: Phase::Request,
            shown: Shown::Nothing,
            asked_early: Cell::new(false),
        }
    }

    pub(crate) fn http(&self) -> Option<&Http> {
        match &self.protocol {
            Protocol::Http(http) => Some(http),
            Protocol::L4(_) => None,
        }
    }

    pub(crate) fn http_mut(&mut self) -> Option<&mut Http> {
        self.protocol.http_mut()
    }

    pub(crate) fn l4(&self) -> Option<&L4> {
        match &self.protocol {
            Protocol::L4(l4) => Some(l4),
            Protocol::Http(_) => None,
        }
    }

    pub(crate) fn l4_mut(&mut self) -> Option<&mut L4> {
        match &mut self.protocol {
            Protocol::L4(l4) => Some(l4),
            Protocol::Http(_) => None,
        }
    }

    /// The headers of `message` if this filter can read them now.
    pub(crate) fn readable<'a>(&self, message: &'a Flow) -> Option<&'a Headers> {
        let logged = self.phase == Phase::Log;
        match message.held {
            _ if self.phase == Phase::Gone => None,
            Held::Filter => Some(&message.headers),
            Held::Passed if logged => Some(&message.headers),
            Held::Awaited | Held::Passed => None,
        }
    }

    /// The trailers of a side if this filter can read them now. The access log has those of the response alone.
    pub(crate) fn readable_trailers(&self, side: Side) -> Option<&Headers> {
        let message = self.http()?.flow(side);
        let reachable = match (self.phase, side) {
            (Phase::Log, Side::Request) | (Phase::Gone, _) => false,
            (Phase::Log, Side::Response) => message.has_trailers(),
            (Phase::Request | Phase::Data | Phase::Response, _) => message.trailers_held == Held::Filter,
        };
        reachable.then_some(&message.trailers)
    }
}

impl Pipe {
    pub(crate) fn pass(&mut self) {
        self.passed.append(&mut self.buffer);
    }
}

impl Protocol {
    pub(crate) fn http_mut(&mut self) -> Option<&mut Http> {
        match self {
            Self::Http(http) => Some(http),
            Self::L4(_) => None,
        }
    }
}

impl Http {
    pub(crate) fn new(request: Headers) -> Self {
        let content_type = request.text("content-type").unwrap_or_default();
        let grpc = content_type
            .strip_prefix("application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
        let head = request.value(":method") == Some(b"HEAD");
        Self {
            grpc,
            head,
            // The filter's context is made before it is given the headers.
            request: Flow { headers: request, ..Flow::default() },
            code: None,
            details: None,
            response: Flow::default(),
            reply: None,
            reset: false,
            route_refreshes: 0,
        }
    }

    /// Whether Envoy has answered in the place of a filter that failed.
    pub(crate) fn is_failed(&self) -> bool {
        self.reply.as_ref().is_some_and(|replied| replied.reply.details == FAIL_STREAM)
    }

    /// The response begins, the upstream's or a local one.
    pub(crate) fn responds(&mut self, response: Flow) {
        self.code = response.headers.text(":status").and_then(|status| status.parse().ok());
        self.response = response;
    }

    pub(crate) fn flow(&self, side: Side) -> &Flow {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    pub(crate) fn flow_mut(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }
}
