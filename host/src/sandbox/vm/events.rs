//! Callouts, queues and time, as a test plays them.

use std::time::Duration;

use super::Vm;
use crate::sandbox::callout::{GrpcAnswer, GrpcCall, HttpAnswer, HttpCall};
use crate::sandbox::error::Trapped;
use crate::sandbox::state::State;

impl Vm {
    /// The HTTP requests that wait for an answer, in the order they were made.
    #[must_use]
    pub fn http_calls(&self) -> Vec<HttpCall> {
        let guest = self.guest.borrow();
        let roots = roots(guest.state());
        roots.flat_map(|root| root.callouts.http.values()).map(|waiting| waiting.call.clone()).collect()
    }

    /// Answers an HTTP request: `proxy_on_http_call_response`. Nothing happens if it does not wait any more.
    pub fn answer_http(&self, token: u32, answer: impl Into<HttpAnswer>) -> Result<(), Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.usable()?;
        guest.answer_http(token, answer.into())
    }

    /// The gRPC calls that wait for an answer, and the streams that are open.
    #[must_use]
    pub fn grpc_calls(&self) -> Vec<GrpcCall> {
        let guest = self.guest.borrow();
        let roots = roots(guest.state());
        roots.flat_map(|root| root.callouts.grpc.values()).map(|waiting| waiting.call.clone()).collect()
    }

    /// Does what a gRPC service does. Nothing happens to a call or a stream that is over.
    pub fn answer_grpc(&self, token: u32, answer: GrpcAnswer) -> Result<(), Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.usable()?;
        guest.answer_grpc(token, answer)
    }

    /// Tells the guest of what has arrived in its queues: `proxy_on_queue_ready`, once for each item. The answer is
    /// whether there was anything to tell.
    pub fn turn(&self) -> Result<bool, Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.usable()?;
        guest.tell_queues()
    }

    /// The clock, as time since the Unix epoch.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.guest.borrow().state().now
    }

    /// Sets the clock, without anything that was due in between. It stands still until it is moved again.
    pub fn set_time(&self, now: Duration) {
        self.guest.borrow_mut().state_mut().now = now;
    }

    /// Lets time pass: timers fire and callouts time out, each at its time, and queues are told of.
    pub fn advance(&self, by: Duration) -> Result<(), Trapped> {
        let mut guest = self.guest.borrow_mut();
        guest.usable()?;
        let until = guest.state().now + by;
        guest.pass_time(until)
    }
}

fn roots(state: &State) -> impl Iterator<Item = &crate::sandbox::state::Root> {
    state.contexts.keys().filter_map(|id| state.root(*id))
}
