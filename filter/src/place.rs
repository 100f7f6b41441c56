//! What the filter does at each of its places.

mod gateway;
mod inbound;
mod outbound;
mod upstream;

pub use outbound::Awaited;

use policy::verdict::Judgement;

use crate::host::{Headers, Host};
use crate::refusal::{Origin, refuse};
use crate::settings::{Place, Settings};
use crate::tell::{Count, Ends, Told};

/// The tag that names the source cluster.
pub const SOURCE_CLUSTER: &str = "x-source-cluster";
/// The tag that names the source network.
pub const SOURCE_NETWORK: &str = "x-source-network";
/// What an answer says of the cluster that gave it.
pub const DESTINATION_CLUSTER: &str = "x-destination-cluster";
/// What an answer says of the network that it comes from.
pub const DESTINATION_NETWORK: &str = "x-destination-network";
/// What the sidecar's routes match: `cluster`, `network` or `region` to keep a request inside a boundary,
/// `cluster=NAME` to send it to one cluster.
pub const ROUTE: &str = policy::evaluate::ROUTE_HEADER;

/// Why a request was let on or refused, in the filter state.
const STATE_REASON: &str = "isthmus.reason";

/// How well a sidecar knows the source of what its own application sends.
const OWN: &str = "own";

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

/// A request, at whichever place this is; `awaited` is to be kept for its answer.
pub fn request(settings: &Settings, awaited: &mut Awaited, host: &impl Host) -> Next {
    match &settings.place {
        Place::Outbound(out) => outbound::request(settings, out, awaited, host),
        Place::Inbound(inward) => inbound::request(settings, inward, host),
        Place::Upstream { plan } => upstream::request(settings, plan, host),
        Place::Apart(apart) => inbound::apart(settings, apart, host),
        Place::Gateway { .. } => Next::Continue,
    }
}

/// The answer to a request, on its way back.
pub fn answer(settings: &Settings, awaited: &Awaited, host: &impl Host) {
    match &settings.place {
        Place::Outbound(out) => outbound::answer(settings, out, awaited, host),
        Place::Inbound(_) => {
            host.set_header(Headers::Response, DESTINATION_CLUSTER, settings.home.cluster.as_str());
            host.set_header(Headers::Response, DESTINATION_NETWORK, settings.home.network.as_str());
        }
        Place::Upstream { .. } | Place::Gateway { .. } | Place::Apart(_) => {}
    }
}

/// A connection, before anything is dialled for it.
pub fn connection(settings: &Settings, host: &impl Host) -> Next {
    match &settings.place {
        Place::Gateway { plan } => gateway::connection(settings, plan, host),
        Place::Outbound(_) | Place::Inbound(_) | Place::Upstream { .. } | Place::Apart(_) => Next::Continue,
    }
}

/// Tells of a judgement, and refuses the request when it is no.
fn act(
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

/// Counts a judgement and leaves word of it for the access log.
fn tell(
    settings: &Settings,
    host: &impl Host,
    ends: Ends<'_>,
    judgement: &Judgement<'_>,
) -> std::rc::Rc<Told> {
    let told = settings.teller.count(host, Count::Requests, ends, &judgement.verdict);
    // Nearly every request is allowed, so that is what no word means.
    if !judgement.verdict.is_allow() {
        host.set_state("isthmus.verdict", judgement.verdict.word());
    }
    host.set_state(STATE_REASON, &told.reason);
    settings.teller.dissent(host, ends, judgement);
    told
}
