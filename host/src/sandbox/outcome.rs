//! What becomes of a stream.

use super::filter_state::FilterState;
use super::headers::Headers;

/// What the filter made of a message's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpOutcome {
    /// They go on, as they are after the filter.
    Continue(Headers),
    /// The filter answered in the upstream's place.
    Reply(LocalReply),
    /// The filter holds them back. A later call for another stream can still let them go.
    Pause,
    /// The filter reset the stream.
    Reset,
}

impl HttpOutcome {
    /// The headers that go on, if they do.
    #[must_use]
    pub fn continued(&self) -> Option<&Headers> {
        match self {
            Self::Continue(headers) => Some(headers),
            Self::Reply(_) | Self::Pause | Self::Reset => None,
        }
    }

    /// The local reply, if the filter sent one.
    #[must_use]
    pub fn reply(&self) -> Option<&LocalReply> {
        match self {
            Self::Reply(reply) => Some(reply),
            Self::Continue(_) | Self::Pause | Self::Reset => None,
        }
    }
}

/// A response that the filter made itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// The status the filter asked for. A gRPC client gets 200 and the gRPC status in its place: see `headers`.
    pub status: u32,
    /// The response as the client gets it, after this filter's own response callback.
    pub headers: Headers,
    /// The body; moved to `grpc-message` for a gRPC client.
    pub body: Vec<u8>,
    /// `response.code_details`, blanks made underscores.
    pub details: String,
    /// The gRPC status asked for.
    pub grpc_status: Option<u32>,
}

/// What the filter made of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L4Outcome {
    /// What the filter answered.
    pub action: Action,
    /// Whether the filter closed the connection. This, and not a pause, is how a filter refuses one.
    pub closed: bool,
}

/// A callback's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next filter's turn.
    Continue,
    /// Held back by this filter.
    Pause,
}

/// What is left of a stream when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What filters left for each other.
    pub filter_state: FilterState,
}
