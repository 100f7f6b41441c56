//! What becomes of a judgement, at any place.

use std::rc::Rc;

use policy::verdict::Judgement;

use crate::host::Host;
use crate::refusal::{Origin, refuse};
use crate::settings::Settings;
use crate::tell::{Count, Ends, Told};

/// Why a request was let on or refused, in the filter state.
const STATE_REASON: &str = "isthmus.reason";

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub enum Next {
    /// To the next filter.
    Continue,
    /// Nowhere: it was answered or closed.
    #[default]
    Stop,
}

/// Tells of a judgement, and refuses the request when it is no.
pub(super) fn act(
    settings: &Settings,
    host: &impl Host,
    (ends, origin): (Ends<'_>, Origin<'_>),
    judgement: &Judgement<'_>,
) -> Next {
    let told = tell(settings, host, ends, judgement);
    if judgement.verdict.is_allow() {
        return Next::Continue;
    }
    refuse(host, settings.home.cluster.as_str(), origin, &told.reason);
    Next::Stop
}

/// Whether another plugin has judged this request: each leaves its reason, and no peer can.
pub(super) fn is_judged(host: &impl Host) -> bool {
    host.property(STATE_REASON).is_some()
}

/// Counts a judgement and leaves word of it for the access log.
pub(super) fn tell(
    settings: &Settings,
    host: &impl Host,
    ends: Ends<'_>,
    judgement: &Judgement<'_>,
) -> Rc<Told> {
    let told = settings.teller.count(host, Count::Requests, ends, &judgement.verdict);
    // Nearly every request is allowed, so that is what no word means.
    if !judgement.verdict.is_allow() {
        host.set_state("isthmus.verdict", judgement.verdict.word());
    }
    host.set_state(STATE_REASON, &told.reason);
    settings.teller.dissent(host, ends, judgement);
    told
}
