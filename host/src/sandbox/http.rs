//! An HTTP stream.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use super::connection::Connection;
use super::error::Trapped;
use super::headers::Headers;
use super::instance::Instance;
use super::outcome::{Action, Ended, HttpOutcome, LocalReply};
use super::state::{Context, Held, Http, Message, Phase, Protocol, Stream};

/// An HTTP stream under way. It ends when it is finished or dropped.
pub struct HttpStream<'vm> {
    guest: &'vm RefCell<Instance>,
    id: u32,
}

impl<'vm> HttpStream<'vm> {
    pub(crate) fn open(
        guest: &'vm RefCell<Instance>,
        root: u32,
        connection: Connection,
        request: Headers,
    ) -> Result<Self, Trapped> {
        let count = u32::try_from(request.len()).unwrap_or(u32::MAX);
        let id = {
            let mut guest = guest.borrow_mut();
            guest.alive()?;
            let now = guest.state().now;
            let stream = Stream::new(root, connection, now, Protocol::Http(Http::new(request)));
            guest.state_mut().insert(Context::Stream(Box::new(stream)))
        };
        // From here on the stream ends by being dropped, whatever happens.
        let stream = Self { guest, id };
        let mut guest = stream.guest.borrow_mut();
        let create = guest.exports.on_context_create.clone();
        guest.call(id, create, (id, root))?;
        let on_request = guest.exports.on_request_headers.clone();
        let action = guest.action(id, on_request, (id, count, 1))?;
        guest.settle()?;
        if let Some(http) = guest.state_mut().http_mut(id)
            && action == Action::Continue
        {
            http.request.held = Held::Passed;
        }
        drop(guest);
        Ok(stream)
    }

    /// What has become of the request.
    #[must_use]
    pub fn request(&self) -> HttpOutcome {
        let Some(http) = self.http() else { return HttpOutcome::Reset };
        match (&http.reply, http.request.held) {
            _ if http.reset => HttpOutcome::Reset,
            (_, Held::Passed) => HttpOutcome::Continue(http.request.headers.clone()),
            (Some(reply), _) => replied(&http, reply),
            (None, Held::Awaited | Held::Filter) => HttpOutcome::Pause,
        }
    }

    /// Shows the filter the upstream's response headers, of a response without a body.
    ///
    /// Only a request that went on gets a response; for another this is what has become of it already.
    pub fn respond(&self, response: Headers) -> Result<HttpOutcome, Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.alive()?;
        if let Some(stream) = guest.state_mut().stream_mut(self.id) {
            let phase = &mut stream.phase;
            if let Protocol::Http(http) = &mut stream.protocol
                && !http.reset
                && (http.request.held, http.response.held) == (Held::Passed, Held::Awaited)
            {
                *phase = Phase::Response;
                http.response = Message { headers: response, held: Held::Filter };
                guest.response_headers(self.id, true)?;
            }
        }
        drop(guest);
        Ok(self.response())
    }

    /// What has become of the response.
    #[must_use]
    pub fn response(&self) -> HttpOutcome {
        let Some(http) = self.http() else { return HttpOutcome::Reset };
        match (&http.reply, http.response.held) {
            _ if http.reset => HttpOutcome::Reset,
            (Some(reply), _) => replied(&http, reply),
            (None, Held::Passed) => HttpOutcome::Continue(http.response.headers.clone()),
            (None, Held::Awaited | Held::Filter) => HttpOutcome::Pause,
        }
    }

    /// How often the route is picked again: for each change to the request's headers, and when asked to.
    #[must_use]
    pub fn route_refreshes(&self) -> u32 {
        self.http().map_or(0, |http| http.route_refreshes)
    }

    /// What filters left for each other.
    #[must_use]
    pub fn filter_state(&self) -> BTreeMap<String, Vec<u8>> {
        let guest = self.guest.borrow();
        guest.state().stream_of(self.id).map(|stream| stream.filter_state.all()).unwrap_or_default()
    }

    /// Ends the stream: the access log, `on_done`, `on_delete`.
    pub fn finish(self) -> Result<Ended, Trapped> {
        end(&mut self.guest.borrow_mut(), self.id)
    }

    fn http(&self) -> Option<Ref<'vm, Http>> {
        Ref::filter_map(self.guest.borrow(), |guest| guest.state().http(self.id)).ok()
    }
}

impl fmt::Debug for HttpStream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpStream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for HttpStream<'_> {
    fn drop(&mut self) {
        // A trap here is not lost: the VM remembers it.
        let _ended = end(&mut self.guest.borrow_mut(), self.id);
    }
}

/// The reply as the client gets it, unless the filter held its own reply back.
fn replied(http: &Http, reply: &LocalReply) -> HttpOutcome {
    match http.response.held {
        Held::Passed => {
            HttpOutcome::Reply(LocalReply { headers: http.response.headers.clone(), ..reply.clone() })
        }
        Held::Awaited | Held::Filter => HttpOutcome::Pause,
    }
}

/// Ends the stream `id`, once.
fn end(guest: &mut Instance, id: u32) -> Result<Ended, Trapped> {
    let Some(stream) = guest.state_mut().stream_mut(id) else {
        return guest.alive().map(|()| Ended { filter_state: BTreeMap::new() });
    };
    stream.phase = Phase::Log;
    let root = stream.root;
    let logged = log_and_done(guest, id);
    let left = guest.state().stream_of(id).map(|stream| stream.filter_state.all());
    let deleted = guest.delete(id);
    logged.and(deleted)?;
    guest.end_drained_root(root)?;
    Ok(Ended { filter_state: left.unwrap_or_default() })
}

/// Envoy ignores a stream's answer to `on_done`.
fn log_and_done(guest: &mut Instance, id: u32) -> Result<(), Trapped> {
    let (on_log, on_done) = (guest.exports.on_log.clone(), guest.exports.on_done.clone());
    guest.call(id, on_log, id)?;
    guest.settle()?;
    guest.call(id, on_done, id)?;
    guest.settle()
}
