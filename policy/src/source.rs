//! Where a request comes from, and how well that is known.

use std::fmt;

use crate::name::{ClusterName, Identity};
use crate::plan::{InboundPlan, Location};
use crate::rule::Demand;

/// The source cluster of a request. Nothing weaker than a proof is ever shown as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'p> {
    /// Nothing says where it comes from, or nothing that counts.
    Unknown,
    /// The tag says so, on a connection whose peer showed a certificate of the mesh.
    Claimed(&'p Location),
    /// The issuer of the peer's certificate is the intermediate CA of this cluster alone.
    Verified(&'p Location),
}

/// What a connection and its request show of their source.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'r> {
    /// Whether the peer showed a certificate that Envoy has checked up to a root of the mesh.
    pub peer: bool,
    /// The issuer of that certificate, where this Envoy gives the certificate away (1.38 and later).
    pub issuer: Option<&'r str>,
    /// The identity in that certificate.
    pub identity: Option<&'r Identity>,
    /// What the tag header claims.
    pub tag: Option<&'r str>,
}

impl<'p> Source<'p> {
    /// Weighs the evidence. A tag counts only beside a certificate, and never against it.
    ///
    /// Where meshes with roots of their own meet, an issuer's name alone proves nothing: another root may sign a
    /// CA of the same name. What that root cannot do is sign for this trust domain.
    pub fn of(plan: &'p InboundPlan, evidence: Evidence<'_>) -> Self {
        if !evidence.peer {
            return Self::Unknown;
        }
        if let Some(location) = evidence.issuer.and_then(|issuer| plan.issued_in(issuer)) {
            let known = evidence.identity.map(|identity| &identity.trust_domain);
            let proven = location.trust_domain.is_none() || location.trust_domain.as_ref() == known;
            return if proven { Self::Verified(location) } else { Self::Unknown };
        }
        evidence.tag.and_then(|tag| plan.named(tag)).map_or(Self::Unknown, Self::Claimed)
    }

    /// The cluster, if it is known as well as demanded.
    pub fn known(self, demand: Demand) -> Option<&'p Location> {
        match (self, demand) {
            (Self::Verified(location), _) | (Self::Claimed(location), Demand::Claimed) => Some(location),
            (Self::Claimed(_), Demand::Verified) | (Self::Unknown, _) => None,
        }
    }

    /// Where the cluster is, however it is known.
    pub fn location(self) -> Option<&'p Location> {
        self.known(Demand::Claimed)
    }

    /// The cluster, however it is known.
    pub fn named(self) -> Option<&'p ClusterName> {
        self.location().map(|location| &location.name)
    }

    /// How well the cluster is known, as answers, logs and cases say it.
    pub fn level(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Claimed(_) => "claimed",
            Self::Verified(_) => "verified by certificate",
        }
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named() {
            None => out.write_str(self.level()),
            Some(cluster) => write!(out, "{cluster}, {}", self.level()),
        }
    }
}
