//! An HTTP stream.

use std::cell::{Ref, RefCell};

use super::connection::Connection;
use super::error::Trapped;
use super::filter_state::FilterState;
use super::instance::Instance;
use super::message::{Message, Part, Passed, Side};
use super::open::Open;
use super::outcome::{Ended, HttpOutcome, LocalReply};
use super::stream::{Flow, Held, Http, Phase, Protocol, Replied};

/// An HTTP stream under way. It ends when it is finished or dropped.
#[derive(Debug)]
pub struct HttpStream<'vm>(Open<'vm>);

impl<'vm> HttpStream<'vm> {
    pub(crate) fn open(
        guest: &'vm RefCell<Instance>,
        root: u32,
        connection: Connection,
        mut request: Message,
    ) -> Result<Self, Trapped> {
        let http = Box::new(Http::new(std::mem::take(&mut request.headers)));
        let open = Open::new(guest, root, connection, Protocol::Http(http))?;
        let id = open.id();
        let mut guest = guest.borrow_mut();
        if let Some(http) = guest.state_mut().http_mut(id) {
            http.request.held = Held::Filter;
        }
        let delivered = guest.deliver(id, Side::Request, request);
        drop(guest);
        delivered.map(|()| Self(open))
    }

    /// What has become of the request's headers.
    #[must_use]
    pub fn request(&self) -> HttpOutcome {
        let Some(http) = self.http() else { return HttpOutcome::Reset };
        match &http.reply {
            _ if http.reset => HttpOutcome::Reset,
            // One that takes the place of a response says nothing of a request that had gone on.
            Some(replied) if !(replied.direct && http.request.sent.headers) => outcome_of(&http, replied),
            _ if http.request.sent.headers => HttpOutcome::Continue(http.request.headers.clone()),
            Some(_) | None => HttpOutcome::Pause,
        }
    }

    /// What of the request has gone on to the upstream so far: headers, body, trailers.
    #[must_use]
    pub fn to_upstream(&self) -> Passed {
        self.http().map_or_else(Passed::default, |http| http.request.passed())
    }

    /// Sends one more part of a request or of a response that was left open.
    ///
    /// A response takes parts only after [`HttpStream::respond`]. After its end, or after a local reply or a reset,
    /// nothing moves any more, and the filter is not called.
    pub fn send(&self, side: Side, part: Part) -> Result<(), Trapped> {
        let mut guest = self.0.guest().borrow_mut();
        guest.usable()?;
        let begun = |http: &Http| http.flow(side).held != Held::Awaited && !http.flow(side).complete;
        if guest.state().http(self.0.id()).is_some_and(begun) {
            guest.part(self.0.id(), side, part)?;
        }
        Ok(())
    }

    /// Shows the filter the upstream's response.
    ///
    /// Only a request that went on gets a response; for another this is what has become of it already.
    pub fn respond(&self, response: impl Into<Message>) -> Result<HttpOutcome, Trapped> {
        let mut response = response.into();
        let mut guest = self.0.guest().borrow_mut();
        guest.usable()?;
        if let Some(stream) = guest.state_mut().stream_mut(self.0.id()) {
            let phase = &mut stream.phase;
            if let Protocol::Http(http) = &mut stream.protocol
                && !http.reset
                && http.request.sent.headers
                && http.response.held == Held::Awaited
            {
                *phase = Phase::Response;
                http.responds(Flow::of(std::mem::take(&mut response.headers)));
                guest.deliver(self.0.id(), Side::Response, response)?;
            }
        }
        drop(guest);
        Ok(self.response())
    }

    /// What has become of the response's headers.
    #[must_use]
    pub fn response(&self) -> HttpOutcome {
        let Some(http) = self.http() else { return HttpOutcome::Reset };
        match &http.reply {
            _ if http.reset => HttpOutcome::Reset,
            Some(replied) => outcome_of(&http, replied),
            None if http.response.sent.headers => HttpOutcome::Continue(http.response.headers.clone()),
            None => HttpOutcome::Pause,
        }
    }

    /// What has gone on to the client so far, of the response or of a local reply: headers, body, trailers.
    #[must_use]
    pub fn to_client(&self) -> Passed {
        self.http().map_or_else(Passed::default, |http| http.response.passed())
    }

    /// How often the route is picked again: for each change to the request's headers, and when asked to.
    #[must_use]
    pub fn route_refreshes(&self) -> u32 {
        self.http().map_or(0, |http| http.route_refreshes)
    }

    /// What filters left for each other.
    #[must_use]
    pub fn filter_state(&self) -> FilterState {
        self.0.filter_state()
    }

    /// Ends the stream: the access log, `on_done`, `on_delete`.
    pub fn finish(self) -> Result<Ended, Trapped> {
        self.0.finish()
    }

    fn http(&self) -> Option<Ref<'vm, Http>> {
        Ref::filter_map(self.0.guest().borrow(), |guest| guest.state().http(self.0.id())).ok()
    }
}

/// The reply as the client gets it, unless the filter holds its own reply back.
fn outcome_of(http: &Http, replied: &Replied) -> HttpOutcome {
    if !http.response.sent.ended {
        return HttpOutcome::Pause;
    }
    let mut reply = LocalReply { headers: http.response.headers.clone(), ..replied.reply.clone() };
    if !http.grpc && !http.head {
        reply.body.clone_from(&http.response.sent.body);
    }
    HttpOutcome::Reply(reply)
}
