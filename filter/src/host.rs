//! What the filter needs of the proxy that runs it.

/// The header map that a call speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// Of the request.
    Request,
    /// Of the response.
    Response,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something of note.
    Info,
    /// Something that someone must look at.
    Error,
}

/// An answer of the filter's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u32,
    /// Response code details, as the access log has them.
    pub details: String,
    /// The headers beside `:status`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// The proxy, as the filter sees it. A call that the proxy refuses has no effect and is not reported: there is
/// nothing that a filter could do about it, and nothing may trap.
pub trait Host {
    /// The first value of a header.
    fn header(&self, map: Headers, name: &str) -> Option<Vec<u8>>;
    /// Gives a header this one value.
    fn set_header(&self, map: Headers, name: &str, value: &str);
    /// Takes a header away.
    fn remove_header(&self, map: Headers, name: &str);
    /// An attribute; the segments of its path are joined by NUL. Empty values count as absent.
    fn property(&self, path: &str) -> Option<Vec<u8>>;
    /// Puts a value into the filter state as `wasm.NAME`.
    fn set_state(&self, name: &str, value: &str);
    /// Answers in the place of the upstream.
    fn reply(&self, reply: &Reply);
    /// Nanoseconds since 1970.
    fn now(&self) -> u64;
    /// Closes the connection that the stream stands for.
    fn close(&self);
    /// Writes to the proxy's log.
    fn log(&self, level: Level, message: &str);
}
