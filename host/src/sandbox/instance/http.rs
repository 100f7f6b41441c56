//! Takes a message through the filter, and does with it what Envoy's filter manager does at each answer.

use super::Instance;
use crate::sandbox::error::Trapped;
use crate::sandbox::exports::Which;
use crate::sandbox::headers::Headers;
use crate::sandbox::message::{Message, Part, Side};
use crate::sandbox::outcome::LocalReply;
use crate::sandbox::reply;
use crate::sandbox::stream::{DataVerdict, Flow, Held, Http, Iteration, Phase, Replied};

impl Instance {
    /// Sends a message, whose headers the filter already holds, as far as the filter lets it.
    pub(crate) fn deliver(&mut self, id: u32, side: Side, message: Message) -> Result<(), Trapped> {
        let Message { headers: _, body, trailers, open } = message;
        let trailing = trailers.is_some() || open;
        self.headers(id, side, body.is_empty() && !trailing)?;
        let count = body.len();
        for (nth, chunk) in body.into_iter().enumerate() {
            self.data(id, side, chunk, nth + 1 == count && !trailing)?;
        }
        trailers.map_or(Ok(()), |trailers| self.trailers(id, side, trailers))
    }

    /// Sends one more part of a message that was left open.
    pub(crate) fn part(&mut self, id: u32, side: Side, part: Part) -> Result<(), Trapped> {
        match part {
            Part::Body(chunk) => self.data(id, side, chunk, false),
            Part::LastBody(chunk) => self.data(id, side, chunk, true),
            Part::Trailers(trailers) => self.trailers(id, side, trailers),
        }
    }

    fn headers(&mut self, id: u32, side: Side, end: bool) -> Result<(), Trapped> {
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.complete = end;
        let count = u32::try_from(flow.headers.len()).unwrap_or(u32::MAX);
        let answer = self.show_headers(id, side, count, end)?;
        let verdict = Iteration::of_headers(answer, self.allows_stop_iteration(id));
        let over = self.over(id, side);
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.iteration = verdict;
        if verdict == Iteration::Continue {
            flow.held = Held::Passed;
            if !over && !flow.sent.headers {
                flow.pass_headers(end);
            }
        }
        Ok(())
    }

    /// The header callback, in the form of the guest's ABI.
    fn show_headers(&mut self, id: u32, side: Side, count: u32, end: bool) -> Result<u32, Trapped> {
        let end = u32::from(end);
        match side {
            Side::Request if self.has(|exports| &exports.on_old_request_headers) => {
                self.answer(id, |exports| &exports.on_old_request_headers, (id, count))
            }
            Side::Response if self.has(|exports| &exports.on_old_response_headers) => {
                self.answer(id, |exports| &exports.on_old_response_headers, (id, count))
            }
            Side::Request => self.answer(id, |exports| &exports.on_request_headers, (id, count, end)),
            Side::Response => self.answer(id, |exports| &exports.on_response_headers, (id, count, end)),
        }
    }

    fn data(&mut self, id: u32, side: Side, chunk: Vec<u8>, end: bool) -> Result<(), Trapped> {
        if self.over(id, side) {
            return Ok(());
        }
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.complete |= end;
        flow.received += chunk.len();
        if !flow.iteration.stops_all() {
            return self.show_data(id, side, chunk, end);
        }
        let bounded = flow.iteration == Iteration::StopAllBuffer;
        let held = flow.hold(&chunk);
        if bounded { self.check_limit(id, side, held) } else { Ok(()) }
    }

    /// The filter's body callback, and what its answer does to the chunk.
    fn show_data(&mut self, id: u32, side: Side, chunk: Vec<u8>, end: bool) -> Result<(), Trapped> {
        let mut held = 0;
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.chunk = chunk;
        if flow.buffering {
            // Envoy adds the chunk to the buffer first, so that the filter sees all of it at once. A request beyond the limit
            // is shown once more; a response has ended by then.
            let chunk = std::mem::take(&mut flow.chunk);
            held = flow.hold(&chunk);
            if side == Side::Response {
                self.check_limit(id, side, held)?;
            }
            if self.over(id, side) {
                return Ok(());
            }
        }
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.chunk_held = Held::Filter;
        flow.at_end = end;
        let size = u32::try_from(flow.body().len()).unwrap_or(u32::MAX);
        let export: Which<_, u32> = match side {
            Side::Request => |exports| &exports.on_request_body,
            Side::Response => |exports| &exports.on_response_body,
        };
        let answer = self.answer(id, export, (id, size, u32::from(end)))?;
        self.check_limit(id, side, held)?;
        let over = self.over(id, side);
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        let chunk = std::mem::take(&mut flow.chunk);
        flow.chunk_held = Held::Passed;
        flow.buffering = false;
        if over {
            return Ok(());
        }
        self.judge_data(id, side, (&chunk, end), DataVerdict::of(answer))
    }

    fn judge_data(
        &mut self,
        id: u32,
        side: Side,
        (chunk, end): (&[u8], bool),
        verdict: DataVerdict,
    ) -> Result<(), Trapped> {
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        match verdict {
            DataVerdict::Continue => {
                flow.at_end = false;
                if flow.iteration == Iteration::StopSingle {
                    flow.hold(chunk);
                    return self.resume(id, side);
                }
                let trailing = flow.has_trailers();
                flow.pass_body(chunk, end && !trailing);
                // Those that the filter has just added: any other come after the end of the body.
                if end && trailing {
                    flow.pass_trailers();
                }
            }
            DataVerdict::Buffer | DataVerdict::Watermark => {
                flow.iteration = Iteration::StopSingle;
                flow.buffering = verdict == DataVerdict::Buffer;
                let bounded = flow.buffering;
                let held = flow.hold(chunk);
                if bounded {
                    self.check_limit(id, side, held)?;
                }
            }
            DataVerdict::Drop => {
                flow.iteration = Iteration::StopSingle;
                // Without a buffer the end of the stream would have nothing to ride on.
                if end && !flow.has_trailers() {
                    flow.buffered.get_or_insert_default();
                }
            }
        }
        Ok(())
    }

    fn trailers(&mut self, id: u32, side: Side, trailers: Headers) -> Result<(), Trapped> {
        if self.over(id, side) {
            return Ok(());
        }
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.complete = true;
        flow.trailers = trailers;
        if flow.iteration.stops_all() {
            // They are there, but the filter is shown them only when it goes on.
            flow.trailers_held = Held::Passed;
            return Ok(());
        }
        self.show_trailers(id, side)
    }

    fn show_trailers(&mut self, id: u32, side: Side) -> Result<(), Trapped> {
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        flow.trailers_held = Held::Filter;
        let count = u32::try_from(flow.trailers.len()).unwrap_or(u32::MAX);
        let export: Which<_, u32> = match side {
            Side::Request => |exports| &exports.on_request_trailers,
            Side::Response => |exports| &exports.on_response_trailers,
        };
        let answer = self.answer(id, export, (id, count))?;
        let over = self.over(id, side);
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        if answer != 0 {
            flow.iteration = Iteration::StopSingle;
            return Ok(());
        }
        flow.trailers_held = Held::Passed;
        if over {
            return Ok(());
        }
        if flow.iteration == Iteration::StopSingle {
            return self.resume(id, side);
        }
        flow.pass_trailers();
        Ok(())
    }

    /// Lets go what is held back. A filter that had stopped everything is shown what has arrived since.
    pub(crate) fn resume(&mut self, id: u32, side: Side) -> Result<(), Trapped> {
        if self.over(id, side) {
            return Ok(());
        }
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        if flow.held == Held::Awaited {
            return Ok(());
        }
        let missed = flow.iteration.stops_all();
        flow.iteration = Iteration::Continue;
        let trailing = flow.has_trailers();
        if !flow.sent.headers {
            flow.pass_headers(flow.complete && flow.buffered.is_none() && !trailing);
        }
        let end = flow.complete && !trailing;
        match flow.buffered.take() {
            Some(data) if missed => self.show_data(id, side, data, end)?,
            Some(data) => flow.pass_body(&data, end),
            None => {}
        }
        let over = self.over(id, side);
        let Some(flow) = self.flow(id, side) else { return Ok(()) };
        if !trailing || over || flow.sent.trailers || flow.iteration.stops_all() {
            return Ok(());
        }
        if missed {
            return self.show_trailers(id, side);
        }
        flow.pass_trailers();
        Ok(())
    }

    /// What is buffered beyond the limit is answered: a request with 413, a response with 500.
    fn check_limit(&mut self, id: u32, side: Side, held: usize) -> Result<(), Trapped> {
        let Some(stream) = self.state().stream_of(id) else { return Ok(()) };
        if held <= stream.connection.buffer_limit {
            return Ok(());
        }
        let (status, body, details) = match side {
            Side::Request => (413, "Payload Too Large", "request_payload_too_large"),
            Side::Response => (500, "Internal Server Error", "response_payload_too_large"),
        };
        let reply = LocalReply {
            status,
            headers: Headers::new(),
            body: body.into(),
            details: details.to_owned(),
            grpc_status: None,
        };
        self.reply(id, reply)
    }

    /// A local reply before any response passes this same filter's response callbacks; one that takes the
    /// place of a response does not, and one after it can only reset the stream.
    pub(crate) fn reply(&mut self, id: u32, reply: LocalReply) -> Result<(), Trapped> {
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(()) };
        let phase = &mut stream.phase;
        let Some(http) = stream.protocol.http_mut() else { return Ok(()) };
        // Envoy leaves the client waiting for ever after a second reply; the outcome is then a pause.
        if http.reset || http.reply.is_some() {
            return Ok(());
        }
        http.details = Some(reply.details.clone());
        let headers = reply::response_headers(&reply, http.grpc);
        let bare = reply.body.is_empty() || http.grpc || http.head;
        if http.response.held == Held::Awaited {
            let message = Message {
                body: if bare { Vec::new() } else { vec![reply.body.clone()] },
                ..Message::default()
            };
            http.responds(Flow::of(headers));
            http.reply = Some(Replied { reply, direct: false });
            *phase = Phase::Response;
            return self.deliver(id, Side::Response, message);
        }
        if http.response.sent.headers {
            http.reset = true;
            return Ok(());
        }
        let mut response = Flow { held: Held::Passed, complete: true, ..Flow::of(headers) };
        response.pass_headers(bare);
        if !bare {
            response.pass_body(&reply.body, true);
        }
        http.responds(response);
        http.reply = Some(Replied { reply, direct: true });
        Ok(())
    }

    /// Whether nothing more of a side can move: the stream is reset, or a local reply has answered it.
    fn over(&self, id: u32, side: Side) -> bool {
        self.state().http(id).is_none_or(|http| match side {
            Side::Request => http.reset || http.reply.is_some(),
            Side::Response => http.reset || http.reply.as_ref().is_some_and(|replied| replied.direct),
        })
    }

    fn flow(&mut self, id: u32, side: Side) -> Option<&mut Flow> {
        self.state_mut().http_mut(id).map(|http: &mut Http| http.flow_mut(side))
    }
}
