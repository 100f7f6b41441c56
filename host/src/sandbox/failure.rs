//! What a trap costs: the failure policies of a plugin, and how often Envoy has brought its VM back.

use std::time::Duration;

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
