//! What a test sends through an HTTP stream, and what comes out.

use super::headers::Headers;

/// A request or a response as the other side sends it: headers, the body chunk by chunk, trailers.
///
/// Headers alone are a whole message, so wherever a `Message` is asked for, [`Headers`] do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The headers, pseudo-headers among them.
    pub headers: Headers,
    /// The body, as it arrives: each chunk is a body callback of its own, unless the filter has stopped them.
    pub body: Vec<Vec<u8>>,
    /// The trailers; with them the stream ends, and not with the last chunk.
    pub trailers: Option<Headers>,
    /// Whether more is to come, by [`HttpStream::send`](super::HttpStream::send).
    pub open: bool,
}

impl Message {
    /// A message of headers alone.
    #[must_use]
    pub fn new(headers: impl Into<Headers>) -> Self {
        Self { headers: headers.into(), ..Self::default() }
    }

    /// The same message with one more chunk of the body.
    #[must_use]
    pub fn with_body(mut self, chunk: impl Into<Vec<u8>>) -> Self {
        self.body.push(chunk.into());
        self
    }

    /// The same message with trailers.
    #[must_use]
    pub fn with_trailers(mut self, trailers: impl Into<Headers>) -> Self {
        self.trailers = Some(trailers.into());
        self
    }

    /// The same message, not yet at its end.
    #[must_use]
    pub fn left_open(mut self) -> Self {
        self.open = true;
        self
    }
}

impl From<Headers> for Message {
    fn from(headers: Headers) -> Self {
        Self::new(headers)
    }
}

/// One more part of a message that was [left open](Message::left_open).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A chunk of the body; more follows.
    Body(Vec<u8>),
    /// The last chunk of the body, and the end of the message.
    LastBody(Vec<u8>),
    /// The trailers, and the end of the message.
    Trailers(Headers),
}

/// The two directions of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client to the upstream.
    Request,
    /// From the upstream to the client.
    Response,
}

/// What has got past the filter of a message so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The headers, once they have gone on.
    pub headers: Option<Headers>,
    /// The body so far.
    pub body: Vec<u8>,
    /// The trailers, once they have gone on.
    pub trailers: Option<Headers>,
    /// Whether the end of the message has gone on.
    pub ended: bool,
}
