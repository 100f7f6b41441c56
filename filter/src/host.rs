//! What the filter needs of the proxy that runs it.

/// The header map that a call speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// Of the request.
    Request,
    /// Of the response.
    Response,
}

/// A second, as [`Host::now`] counts.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something of note.
    Info,
    /// Something that should not be, and was dealt with.
    Warn,
    /// Something that someone must look at.
    Error,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only goes up.
    Counter,
    /// It is set.
    Gauge,
}

/// A metric that the proxy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric(pub u32);

/// An answer of the filter's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The HTTP status.
    pub status: u32,
    /// The status of a gRPC answer, which the proxy sends in trailers alone; `None` where the client speaks no gRPC.
    pub grpc: Option<u8>,
    /// Response code details, as the access log has them.
    pub details: &'a str,
    /// The headers beside `:status`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; for gRPC, the message.
    pub body: &'a str,
}

/// The proxy, as the filter sees it. A call that the proxy refuses has no effect and is not reported: there is
/// nothing that a filter could do about it, and nothing may trap.
///
/// What it hands out is bytes, borrowed until the callback ends: a peer may have sent anything.
pub trait Host {
    /// All headers of a map, as [`pairs`](crate::pairs) reads them; nothing where there are none now.
    ///
    /// One call of this costs less than two of [`header`](Host::header).
    fn headers(&self, map: Headers) -> &[u8];
    /// The first value of a header. Empty values count as absent.
    fn header(&self, map: Headers, name: &str) -> Option<&[u8]>;
    /// Gives a header this one value.
    fn set_header(&self, map: Headers, name: &str, value: &str);
    /// Adds a value to a header.
    fn add_header(&self, map: Headers, name: &str, value: &str);
    /// Takes a header away.
    fn remove_header(&self, map: Headers, name: &str);
    /// An attribute; the segments of its path are joined by NUL. Empty values count as absent.
    fn property(&self, path: &str) -> Option<&[u8]>;
    /// Puts a value into the filter state as `wasm.NAME`.
    fn set_state(&self, name: &str, value: &str);
    /// Makes values of this name last as long as the connection; only while a plugin is configured. `false` where
    /// the proxy knows no such thing.
    fn declare_lasting(&self, name: &str) -> bool;
    /// Whether the filter state has an empty value of this name. Costs far less than reading one that is not.
    fn has_mark(&self, name: &str) -> bool;
    /// The metric of this name, made when it is new.
    fn metric(&self, kind: Kind, name: &str) -> Option<Metric>;
    /// Counts one more.
    fn count(&self, metric: Metric);
    /// Sets a gauge.
    fn gauge(&self, metric: Metric, value: u64);
    /// Answers in the place of the upstream.
    fn reply(&self, reply: &Reply<'_>);
    /// Nanoseconds since 1970.
    fn now(&self) -> u64;
    /// Closes the connection that the stream stands for.
    fn close(&self);
    /// Writes to the proxy's log.
    fn log(&self, level: Level, message: &str);
}
