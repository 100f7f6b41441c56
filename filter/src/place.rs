//! What the filter does at each of its places.

mod act;
mod gateway;
mod inbound;
mod outbound;
mod trying;
mod upstream;

pub use act::Next;
pub use outbound::Awaited;

use crate::host::{Headers, Host};
use crate::settings::{Place, Settings};
use crate::tags::{DESTINATION_CLUSTER, DESTINATION_NETWORK};

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
