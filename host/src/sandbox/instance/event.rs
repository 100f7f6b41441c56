//! What reaches a guest from elsewhere than its streams: answers to callouts, queues, and time.

use std::time::Duration;

use super::Instance;
use crate::sandbox::callout::{Arrived, GrpcAnswer, HttpAnswer, STEP};
use crate::sandbox::context::Root;
use crate::sandbox::error::Trapped;
use crate::sandbox::exports::Which;
use crate::sandbox::headers::Headers;
use crate::sandbox::status::Status;

/// What Envoy makes of a gRPC call that takes too long: the status for its own 504.
const UNAVAILABLE: u32 = 14;

impl Instance {
    /// Answers an HTTP callout; one that is no longer waited for is passed over.
    pub(crate) fn answer_http(&mut self, token: u32, answer: HttpAnswer) -> Result<(), Trapped> {
        let Some(id) = self.root_that(|root| root.callouts.http.contains_key(&token)) else { return Ok(()) };
        let response = answer.response();
        let size = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        let sizes = response.as_ref().map_or((0, 0, 0), |response| {
            let trailers = response.trailers.as_ref().map_or(0, Headers::len);
            (size(response.headers.len()), size(response.body.len()), size(trailers))
        });
        if let Some(root) = self.state_mut().root_mut(id) {
            root.callouts.http.remove(&token);
            if response.is_none() {
                root.callouts.status = (Status::BrokenConnection as u32, "reset".to_owned());
            }
            root.callouts.arrived.response = response;
        }
        self.arrive(id, |guest| {
            guest
                .call(id, |exports| &exports.on_http_call_response, (id, token, sizes.0, sizes.1, sizes.2))
                .map(drop)
        })
    }

    /// Does what a gRPC service does; a call that is no longer waited for is passed over.
    pub(crate) fn answer_grpc(&mut self, token: u32, answer: GrpcAnswer) -> Result<(), Trapped> {
        let waits = |root: &Root| root.callouts.grpc.get(&token).is_some_and(|waiting| !waiting.ended);
        let Some(id) = self.root_that(waits) else { return Ok(()) };
        let Some(root) = self.state_mut().root_mut(id) else { return Ok(()) };
        let streaming = root.callouts.grpc.get(&token).is_some_and(|waiting| waiting.call.streaming);
        let arrived = &mut root.callouts.arrived;
        let (export, value): (Which<_, ()>, _) = match answer {
            // A call has no callbacks for its metadata.
            GrpcAnswer::InitialMetadata(_) | GrpcAnswer::TrailingMetadata(_) if !streaming => return Ok(()),
            GrpcAnswer::InitialMetadata(metadata) => {
                let metadata = arrived.initial_metadata.insert(metadata).len();
                (|exports| &exports.on_grpc_initial_metadata, metadata)
            }
            GrpcAnswer::TrailingMetadata(metadata) => {
                let metadata = arrived.trailing_metadata.insert(metadata).len();
                (|exports| &exports.on_grpc_trailing_metadata, metadata)
            }
            GrpcAnswer::Message(message) => {
                let size = message.len();
                arrived.message = message;
                if !streaming {
                    root.callouts.end(token);
                }
                (|exports| &exports.on_grpc_message, size)
            }
            GrpcAnswer::Close { status, message } => {
                root.callouts.status = (status, message);
                root.callouts.end(token);
                (|exports| &exports.on_grpc_close, status as usize)
            }
        };
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        self.arrive(id, |guest| {
            let called = guest.call(id, export, (id, token, value)).map(drop);
            // Until here the guest can cancel or close it, though it is over.
            if let Some(root) = guest.state_mut().root_mut(id) {
                root.callouts.forget(token);
            }
            called
        })
    }

    /// Tells the guest of its queues, until there is nothing more to tell.
    pub(crate) fn tell_queues(&mut self) -> Result<bool, Trapped> {
        let mut told = false;
        loop {
            let (process, vm) = (self.state().process.clone(), self.state().vm);
            let Some((root, token)) = process.queues().next_ready(vm) else { return Ok(told) };
            if self.state().root(root).is_some() {
                told = true;
                self.callback(root, |exports| &exports.on_queue_ready, (root, token))?;
            }
        }
    }

    /// Lets time pass up to `until`: timers fire and callouts time out, each at its time.
    pub(crate) fn pass_time(&mut self, until: Duration) -> Result<(), Trapped> {
        while let Some((when, due)) = self.next_due().filter(|(when, _)| *when <= until) {
            let now = self.state().now;
            self.state_mut().now = now.max(when);
            match due {
                Due::Tick(root) => self.tick(root)?,
                Due::Callout(token) if token % STEP == 0 => {
                    self.answer_http(token, HttpAnswer::Timeout)?;
                }
                Due::Callout(token) => {
                    let message = "upstream request timeout".to_owned();
                    self.answer_grpc(token, GrpcAnswer::Close { status: UNAVAILABLE, message })?;
                }
            }
            self.tell_queues()?;
        }
        self.state_mut().now = until;
        Ok(())
    }

    /// Fires the timer of a root, which is set anew when the callback has returned.
    pub(crate) fn tick(&mut self, id: u32) -> Result<(), Trapped> {
        if let Some(root) = self.state_mut().root_mut(id) {
            root.next_tick = None;
        }
        self.callback(id, |exports| &exports.on_tick, id)?;
        let now = self.state().now;
        if let Some(root) = self.state_mut().root_mut(id) {
            root.next_tick = (!root.tick_period.is_zero()).then(|| now + root.tick_period);
        }
        Ok(())
    }

    /// Runs a callback with what has arrived, which is gone before anything that the guest asked for is done.
    fn arrive(
        &mut self,
        id: u32,
        callback: impl FnOnce(&mut Self) -> Result<(), Trapped>,
    ) -> Result<(), Trapped> {
        let called = callback(self);
        if let Some(root) = self.state_mut().root_mut(id) {
            root.callouts.arrived = Arrived::default();
            root.callouts.status.1.clear();
        }
        called?;
        self.settle()
    }

    fn root_that(&self, has: impl Fn(&Root) -> bool) -> Option<u32> {
        let state = self.state();
        state.contexts.keys().copied().find(|id| state.root(*id).is_some_and(&has))
    }

    /// When the next timer fires, or the next callout is over.
    pub(crate) fn next_event(&self) -> Option<Duration> {
        self.next_due().map(|(when, _)| when)
    }

    fn next_due(&self) -> Option<(Duration, Due)> {
        let state = self.state();
        let roots = state.contexts.keys().filter_map(|id| Some((*id, state.root(*id)?)));
        roots
            .flat_map(|(id, root)| {
                let tick = root.next_tick.map(|when| (when, Due::Tick(id)));
                let callout = root.callouts.next_timeout().map(|(when, token)| (when, Due::Callout(token)));
                [tick, callout].into_iter().flatten()
            })
            .min()
    }
}

/// What time brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The timer of a root.
    Tick(u32),
    /// The end of a callout's patience.
    Callout(u32),
}
