//! One direction of an HTTP stream, as Envoy's filter manager keeps it for one filter.

use crate::sandbox::headers::Headers;
use crate::sandbox::message::Passed;

/// Who holds a message's headers, or its trailers.
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

/// How far a filter has stopped the iteration over the filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Iteration {
    /// Not at all.
    #[default]
    Continue,
    /// Later filters see nothing; this one is still called.
    StopSingle,
    /// Nobody is called, and what arrives is buffered up to the limit.
    StopAllBuffer,
    /// Nobody is called, and the sender is slowed down.
    StopAllWatermark,
}

/// What a filter wants done with a chunk of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataVerdict {
    Continue,
    Buffer,
    Watermark,
    Drop,
}

impl Iteration {
    /// The answer to headers. Envoy makes of 1 a stop of everything unless the plugin wants to see the body, and
    /// takes 2, "continue and end the stream", for a plain continue; what it does not know stops everything.
    pub(crate) fn of_headers(answer: u32, allow_stop_iteration: bool) -> Self {
        match answer {
            0 | 2 => Self::Continue,
            1 if allow_stop_iteration => Self::StopSingle,
            3 => Self::StopAllBuffer,
            _ => Self::StopAllWatermark,
        }
    }

    pub(crate) fn stops_all(self) -> bool {
        matches!(self, Self::StopAllBuffer | Self::StopAllWatermark)
    }
}

impl DataVerdict {
    /// The answer to a chunk. What Envoy does not know is the strongest stop, which drops the chunk.
    pub(crate) fn of(answer: u32) -> Self {
        match answer {
            0 => Self::Continue,
            1 => Self::Buffer,
            2 => Self::Watermark,
            _ => Self::Drop,
        }
    }
}

/// One direction's message: what the filter can reach of it, what is held back, and what has gone on.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) headers: Headers,
    pub(crate) held: Held,
    pub(crate) trailers: Headers,
    pub(crate) trailers_held: Held,
    /// The chunk that the running callback is about, and whether the filter can still reach it.
    pub(crate) chunk: Vec<u8>,
    pub(crate) chunk_held: Held,
    /// What the filter manager holds back; an empty buffer is not none, for an end of stream rides on it.
    pub(crate) buffered: Option<Vec<u8>>,
    /// The filter has asked to buffer, so that it sees the whole buffer from now on.
    pub(crate) buffering: bool,
    /// The filter was shown the end of the body and has not let it go: it can still add trailers.
    pub(crate) at_end: bool,
    pub(crate) iteration: Iteration,
    /// The sender has sent everything.
    pub(crate) complete: bool,
    /// Bytes of the body that have arrived.
    pub(crate) received: usize,
    pub(crate) sent: Sent,
}

/// What has gone on of a message.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) headers: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: bool,
    pub(crate) ended: bool,
}

impl Flow {
    pub(crate) fn of(headers: Headers) -> Self {
        Self { headers, held: Held::Filter, ..Self::default() }
    }

    /// The body as the filter reads it: the whole buffer if it has asked for one, else the chunk at hand.
    pub(crate) fn body(&self) -> &[u8] {
        match (self.buffering, self.chunk_held) {
            (true, _) => self.buffered.as_deref().unwrap_or_default(),
            (false, Held::Filter) => &self.chunk,
            (false, Held::Awaited | Held::Passed) => &[],
        }
    }

    /// The body as the filter writes it, if there is one now.
    pub(crate) fn body_mut(&mut self) -> Option<&mut Vec<u8>> {
        match (self.buffering, self.chunk_held) {
            (true, _) => self.buffered.as_mut(),
            (false, Held::Filter) => Some(&mut self.chunk),
            (false, Held::Awaited | Held::Passed) => None,
        }
    }

    /// The trailers as the filter writes them. In the last body callback, Envoy adds them to a message without.
    pub(crate) fn trailers_mut(&mut self) -> Option<&mut Headers> {
        if self.trailers_held == Held::Awaited && self.at_end {
            self.trailers_held = Held::Filter;
        }
        (self.trailers_held == Held::Filter).then_some(&mut self.trailers)
    }

    /// Takes everything out of the filter's reach, though not yet to the next filter.
    pub(crate) fn forget(&mut self) {
        for held in [&mut self.held, &mut self.chunk_held, &mut self.trailers_held] {
            if *held == Held::Filter {
                *held = Held::Passed;
            }
        }
        self.at_end = false;
    }

    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers_held != Held::Awaited
    }

    /// Adds to what is held back; the answer is how much that is now.
    pub(crate) fn hold(&mut self, chunk: &[u8]) -> usize {
        let buffered = self.buffered.get_or_insert_default();
        buffered.extend_from_slice(chunk);
        buffered.len()
    }

    pub(crate) fn pass_headers(&mut self, end: bool) {
        self.sent.headers = true;
        self.sent.ended |= end;
    }

    pub(crate) fn pass_body(&mut self, chunk: &[u8], end: bool) {
        self.sent.body.extend_from_slice(chunk);
        self.sent.ended |= end;
    }

    pub(crate) fn pass_trailers(&mut self) {
        self.sent.trailers = true;
        self.sent.ended = true;
    }

    pub(crate) fn passed(&self) -> Passed {
        Passed {
            headers: self.sent.headers.then(|| self.headers.clone()),
            body: self.sent.body.clone(),
            trailers: self.sent.trailers.then(|| self.trailers.clone()),
            ended: self.sent.ended,
        }
    }
}
