//! A guest that has trapped, and what its streams get instead.

use super::Instance;
use crate::sandbox::context::Context;
use crate::sandbox::error::Trapped;
use crate::sandbox::failure::FailurePolicy;
use crate::sandbox::headers::Headers;
use crate::sandbox::outcome::LocalReply;
use crate::sandbox::stream::{FAIL_STREAM, Protocol};

impl Instance {
    /// The answer of a callback that cannot run, or has trapped.
    pub(crate) fn fail(&mut self, id: u32, trapped: Trapped) -> Result<u32, Trapped> {
        match self.policy(id) {
            FailurePolicy::Report => Err(trapped),
            FailurePolicy::OpenThroughout => Ok(0),
            FailurePolicy::Open | FailurePolicy::Closed | FailurePolicy::Reload { .. } => {
                self.fail_stream(id)
            }
        }
    }

    /// What can be asked of a guest that has trapped: nothing, if its traps are told to the test.
    pub(crate) fn usable(&self) -> Result<(), Trapped> {
        if self.reports { self.alive() } else { Ok(()) }
    }

    /// The same for a stream of `root` that begins now.
    pub(crate) fn policy_of_a_new_stream(&self, root: u32) -> FailurePolicy {
        let policy = self.policy(root);
        let comes_after = policy == FailurePolicy::Open && self.alive().is_err();
        if comes_after { FailurePolicy::OpenThroughout } else { policy }
    }

    /// What becomes of the context `id` when the guest has trapped.
    pub(crate) fn policy(&self, id: u32) -> FailurePolicy {
        let state = self.state();
        match state.contexts.get(&id) {
            Some(Context::Stream(stream)) => stream.policy,
            Some(Context::Root(root)) => root.plugin.failure_policy,
            None => FailurePolicy::Report,
        }
    }

    /// Envoy's own answer for a stream of a guest that has trapped. It passes the filter's response callbacks by.
    fn fail_stream(&mut self, id: u32) -> Result<u32, Trapped> {
        const STOP: u32 = u32::MAX;
        let Some(stream) = self.state_mut().stream_mut(id) else { return Ok(STOP) };
        match &mut stream.protocol {
            Protocol::L4(l4) => {
                l4.closed = true;
                l4.told = true;
            }
            Protocol::Http(http) if http.is_failed() => return Ok(0),
            Protocol::Http(http) => {
                // It takes the place of a reply that the filter was about to send.
                http.reply = None;
                let reply = LocalReply {
                    status: 503,
                    headers: Headers::new(),
                    body: Vec::new(),
                    details: FAIL_STREAM.to_owned(),
                    grpc_status: Some(14),
                };
                self.reply(id, reply)?;
            }
        }
        Ok(STOP)
    }
}
