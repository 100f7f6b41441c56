//! What a trap costs: the failure policies of a plugin, and how Envoy brings a VM back.

use std::time::Duration;

use super::error::Trapped;
use super::headers::Headers;
use super::instance::Instance;
use super::outcome::LocalReply;
use super::state::{Context, State};
use super::stream::{FAIL_STREAM, Protocol};

/// What becomes of streams whose guest has trapped: Envoy's `failure_policy`, and one for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The test is told: whatever it asks of the VM from then on is answered with the trap. Envoy has no such policy.
    #[default]
    Report,
    /// Streams that come later pass the filter over: `FAIL_OPEN`. Those under way are ended, as by `Closed`.
    Open,
    /// The filter is passed over by streams under way too: Envoy's older switch `fail_open`.
    OpenThroughout,
    /// Requests are answered with 503, connections are closed: `FAIL_CLOSED`, which is Envoy's default.
    Closed,
    /// The same for the streams under way; a new stream brings a new guest, if the last was made long enough ago:
    /// `FAIL_RELOAD`.
    Reload {
        /// How long ago. Envoy's default is a second, and it varies it by chance; here it is exact.
        interval: Duration,
    },
}

/// What `FAIL_RELOAD` has done: Envoy's statistics `vm_reload_success`, `vm_reload_failure` and `vm_reload_backoff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    /// Guests that were made anew.
    pub succeeded: u32,
    /// Guests that could not be made: they refused, or trapped as they started.
    pub failed: u32,
    /// Streams that came too soon after the last reload, and were refused.
    pub backed_off: u32,
}

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

impl State {
    /// Takes over what outlives a guest that has trapped: its streams, which fail, and what it logged.
    pub(crate) fn outlive(&mut self, dead: &mut Self) {
        let logged = std::mem::replace(&mut self.logs, std::mem::take(&mut dead.logs));
        self.logs.extend(logged);
        self.log_level = dead.log_level;
        self.recorder = dead.recorder.take();
        let contexts = std::mem::take(&mut dead.contexts);
        for (id, context) in contexts {
            if matches!(context, Context::Stream(_)) {
                self.dead.insert(id);
                self.contexts.insert(id, context);
            }
        }
    }
}
