//! What the host keeps for a VM: the store's data.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Memory, StoreLimits, StoreLimitsBuilder, TypedFunc};

use super::connection::{Connection, Node, Plugin};
use super::filter_state::{FilterState, Prototype};
use super::headers::Headers;
use super::log::{Level, LogLine};
use super::metrics::Metrics;
use super::outcome::LocalReply;
use super::shared::SharedData;

/// Envoy's bound on a guest's memory.
const MEMORY_LIMIT: usize = 1 << 30;

/// Everything the hostcalls of a VM work on.
pub(crate) struct State {
    pub(crate) memory: Option<Memory>,
    pub(crate) malloc: Option<TypedFunc<u32, u32>>,
    pub(crate) limits: StoreLimits,
    pub(crate) node: Arc<Node>,
    pub(crate) vm_configuration: Vec<u8>,
    /// Nanoseconds and more since the Unix epoch, as the test says.
    pub(crate) now: Duration,
    pub(crate) logs: Vec<LogLine>,
    pub(crate) log_level: Level,
    pub(crate) metrics: Metrics,
    pub(crate) shared: SharedData,
    pub(crate) contexts: BTreeMap<u32, Context>,
    last_context: u32,
    /// The context of the callback that runs; 0 is the VM itself.
    pub(crate) current: u32,
    /// The context the guest chose to act for, until the callback ends; 0 is none.
    pub(crate) effective: u32,
    /// The root whose configuration can be read now.
    pub(crate) configuring: Option<u32>,
    /// Set while only logging is allowed: in `_initialize` and in the guest's allocator.
    pub(crate) restricted: bool,
    /// What hostcalls asked for, to be done when the callback has returned.
    pub(crate) deferred: VecDeque<(u32, Deferred)>,
    /// Where what a guest is handed is put together.
    pub(crate) buffer: Vec<u8>,
}

/// A context of the guest.
#[derive(Debug)]
pub(crate) enum Context {
    Root(Root),
    Stream(Box<Stream>),
}

/// A root context: one configured plugin.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) life: Life,
    pub(crate) tick_period: Duration,
    /// How it declared values of the filter state.
    pub(crate) declared: BTreeMap<Vec<u8>, Prototype>,
}

/// Where a root context is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Takes new streams. Ends up `Draining` when another configuration replaces it.
    Serving,
    /// Serves the streams it has. Ends up `Ending` or deleted after the last.
    Draining,
    /// Said no to `on_done`. Deleted when it calls `proxy_done`.
    Ending,
}

/// A stream context.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) root: u32,
    pub(crate) connection: Connection,
    pub(crate) started: Duration,
    pub(crate) filter_state: FilterState,
    pub(crate) protocol: Protocol,
    pub(crate) phase: Phase,
}

/// How far a stream has come, where attributes depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Request headers, or a new connection.
    Request,
    /// An upstream host was chosen and has answered, or the filter replied.
    Response,
    /// The access log: every header map can be read again, none can be written.
    Log,
}

#[derive(Debug)]
pub(crate) enum Protocol {
    Http(Http),
    L4(L4),
}

/// An HTTP stream's messages.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) request: Message,
    pub(crate) response: Message,
    pub(crate) reply: Option<LocalReply>,
    pub(crate) reset: bool,
    pub(crate) route_refreshes: u32,
    /// The client speaks gRPC; Envoy decides this before any filter runs.
    pub(crate) grpc: bool,
}

/// One direction's headers, and who holds them.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub(crate) headers: Headers,
    pub(crate) held: Held,
}

/// Who holds a message's headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nobody yet.
    #[default]
    Awaited,
    /// The filter: it can read and write them.
    Filter,
    /// The next filter; out of this one's reach until the access log.
    Passed,
}

/// A TCP connection's state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct L4 {
    pub(crate) paused: bool,
    pub(crate) closed: bool,
}

/// What Envoy does only when the guest has returned.
#[derive(Debug)]
pub(crate) enum Deferred {
    Reply(LocalReply),
    DeleteRoot,
    Steer(Steer),
}

/// What a filter can do to its own stream, without another callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steer {
    ContinueResponse,
    ContinueConnection,
    Reset,
    Close,
}

impl State {
    pub(crate) fn new(node: Arc<Node>, vm_configuration: Vec<u8>) -> Self {
        Self {
            memory: None,
            malloc: None,
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_LIMIT).build(),
            node,
            vm_configuration,
            now: Duration::ZERO,
            logs: Vec::new(),
            log_level: Level::Info,
            metrics: Metrics::default(),
            shared: SharedData::default(),
            contexts: BTreeMap::new(),
            last_context: 0,
            current: 0,
            effective: 0,
            configuring: None,
            restricted: false,
            deferred: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    /// Registers `context` under the next id.
    pub(crate) fn insert(&mut self, context: Context) -> u32 {
        self.last_context += 1;
        self.contexts.insert(self.last_context, context);
        self.last_context
    }

    /// The context a hostcall acts for.
    pub(crate) fn context_id(&self) -> u32 {
        if self.effective == 0 { self.current } else { self.effective }
    }

    pub(crate) fn root_id(&self) -> u32 {
        let id = self.context_id();
        self.stream_of(id).map_or(id, |stream| stream.root)
    }

    pub(crate) fn root(&self, id: u32) -> Option<&Root> {
        match self.contexts.get(&id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    pub(crate) fn root_mut(&mut self, id: u32) -> Option<&mut Root> {
        match self.contexts.get_mut(&id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    pub(crate) fn stream_of(&self, id: u32) -> Option<&Stream> {
        match self.contexts.get(&id)? {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }

    pub(crate) fn stream_mut(&mut self, id: u32) -> Option<&mut Stream> {
        match self.contexts.get_mut(&id)? {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }

    pub(crate) fn http(&self, id: u32) -> Option<&Http> {
        self.stream_of(id)?.http()
    }

    pub(crate) fn http_mut(&mut self, id: u32) -> Option<&mut Http> {
        self.stream_mut(id)?.http_mut()
    }

    pub(crate) fn l4(&self, id: u32) -> Option<L4> {
        match self.stream_of(id)?.protocol {
            Protocol::L4(l4) => Some(l4),
            Protocol::Http(_) => None,
        }
    }

    pub(crate) fn l4_mut(&mut self, id: u32) -> Option<&mut L4> {
        match &mut self.stream_mut(id)?.protocol {
            Protocol::L4(l4) => Some(l4),
            Protocol::Http(_) => None,
        }
    }

    /// Steers the stream `id`; what its protocol does not have is passed over, as in Envoy.
    pub(crate) fn steer(&mut self, id: u32, steer: Steer) {
        let Some(stream) = self.stream_mut(id) else { return };
        match (&mut stream.protocol, steer) {
            (Protocol::Http(http), Steer::ContinueResponse) if http.response.held == Held::Filter => {
                http.response.held = Held::Passed;
            }
            (Protocol::Http(http), Steer::Reset) => http.reset = true,
            (Protocol::L4(l4), Steer::ContinueConnection) => l4.paused = false,
            (Protocol::L4(l4), Steer::Close) => l4.closed = true,
            (Protocol::Http(_), Steer::ContinueResponse | Steer::ContinueConnection | Steer::Close)
            | (Protocol::L4(_), Steer::ContinueResponse | Steer::Reset) => {}
        }
    }

    /// Whether the callback that ran has sent a local reply, for any stream: its verdict is then a pause.
    pub(crate) fn has_deferred_reply(&self) -> bool {
        self.deferred.iter().any(|(_, action)| matches!(action, Deferred::Reply(_)))
    }
}

impl Stream {
    pub(crate) fn new(root: u32, connection: Connection, started: Duration, protocol: Protocol) -> Self {
        let filter_state = FilterState::on(&connection.filter_state);
        Self { root, connection, started, filter_state, protocol, phase: Phase::Request }
    }

    pub(crate) fn http(&self) -> Option<&Http> {
        match &self.protocol {
            Protocol::Http(http) => Some(http),
            Protocol::L4(_) => None,
        }
    }

    pub(crate) fn http_mut(&mut self) -> Option<&mut Http> {
        match &mut self.protocol {
            Protocol::Http(http) => Some(http),
            Protocol::L4(_) => None,
        }
    }

    /// The headers of `message` if this filter can read them now.
    pub(crate) fn readable<'a>(&self, message: &'a Message) -> Option<&'a Headers> {
        match (message.held, self.phase) {
            (Held::Filter, _) | (Held::Passed, Phase::Log) => Some(&message.headers),
            (Held::Awaited, _) | (Held::Passed, Phase::Request | Phase::Response) => None,
        }
    }
}

impl Http {
    pub(crate) fn new(request: Headers) -> Self {
        let content_type = request.text("content-type").unwrap_or_default();
        let grpc = content_type
            .strip_prefix("application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']));
        Self {
            grpc,
            request: Message { headers: request, held: Held::Filter },
            response: Message::default(),
            reply: None,
            reset: false,
            route_refreshes: 0,
        }
    }
}
