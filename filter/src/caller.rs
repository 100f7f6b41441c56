//! Who is at the other end of a connection, once it was read.

use std::rc::Rc;

use policy::name::Identity;
use policy::plan::InboundPlan;
use policy::source::{By, Evidence, Source};

/// What the certificate of a peer says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its issuer; `None` where this Envoy does not give the certificate away, or it cannot be read.
    pub issuer: Option<String>,
    /// Its identity.
    pub identity: Option<Identity>,
}

/// What holds for every request of a connection.
#[derive(Debug, Default)]
pub struct Caller {
    /// The peer; `None` when it showed no certificate.
    pub peer: Option<Rc<Peer>>,
    /// The number of the cluster that its certificate proves, and by what.
    proven: Option<(usize, By)>,
    /// The workload's port.
    pub port: Option<u16>,
}

impl Caller {
    /// A peer that, by its certificate alone, is at `source`.
    pub fn new(peer: Option<Rc<Peer>>, source: Source<'_>, port: Option<u16>) -> Self {
        let proven = match source {
            Source::Verified(location, by) => Some((location.number(), by)),
            Source::Claimed(_) | Source::Unknown => None,
        };
        Self { peer, proven, port }
    }

    /// Who it is, where only a token could still prove where it is.
    pub fn unproven(&self) -> Option<&Identity> {
        if self.proven.is_some() { None } else { self.peer.as_ref()?.identity.as_ref() }
    }

    /// Where a request of it comes from; `token` is the cluster that one proves, `tag` the one that it claims.
    pub fn source<'p>(&self, plan: &'p InboundPlan, token: Option<&str>, tag: Option<&str>) -> Source<'p> {
        match self.proven.and_then(|(number, by)| Some((plan.clusters().get(number)?, by))) {
            Some((location, by)) => Source::Verified(location, by),
            None => Source::of(plan, Evidence { token, tag, ..evidence(self.peer.as_deref()) }),
        }
    }
}

/// What it shows of where it is, but for a token and a tag.
pub fn evidence(peer: Option<&Peer>) -> Evidence<'_> {
    Evidence {
        peer: peer.is_some(),
        issuer: peer.and_then(|peer| peer.issuer.as_deref()),
        identity: peer.and_then(|peer| peer.identity.as_ref()),
        token: None,
        tag: None,
    }
}
