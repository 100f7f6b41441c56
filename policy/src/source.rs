//! Where a request comes from, and how well that is known.

use std::fmt;

use crate::name::ClusterName;
use crate::plan::Plan;
use crate::rule::Demand;

/// The source cluster of a request. Nothing weaker than a proof is ever shown as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'p> {
    /// Nothing says where it comes from, or nothing that counts.
    Unknown,
    /// The tag says so, on a connection whose peer showed a certificate of the mesh.
    Claimed(&'p ClusterName),
    /// The issuer of the peer's certificate is the intermediate CA of this cluster alone.
    Verified(&'p ClusterName),
}

/// What a connection and its request show of their source.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'r> {
    /// Whether the peer showed a certificate that Envoy has checked up to the mesh's root.
    pub peer: bool,
    /// The issuer of that certificate, where this Envoy gives the certificate away (1.38 and later).
    pub issuer: Option<&'r str>,
    /// What the tag header claims.
    pub tag: Option<&'r str>,
}

impl<'p> Source<'p> {
    /// Weighs the evidence. A tag counts only beside a certificate, and never against it.
    pub fn of(plan: &'p Plan, evidence: Evidence<'_>) -> Self {
        if !evidence.peer {
            return Self::Unknown;
        }
        if let Some(cluster) = evidence.issuer.and_then(|issuer| plan.issued_in(issuer)) {
            return Self::Verified(cluster);
        }
        evidence.tag.and_then(|tag| plan.known(tag)).map_or(Self::Unknown, Self::Claimed)
    }

    /// The cluster, if it is known as well as demanded.
    pub fn cluster(self, demand: Demand) -> Option<&'p ClusterName> {
        match (self, demand) {
            (Self::Verified(cluster), _) | (Self::Claimed(cluster), Demand::Claimed) => Some(cluster),
            (Self::Claimed(_), Demand::Verified) | (Self::Unknown, _) => None,
        }
    }

    /// The cluster, however it is known.
    pub fn named(self) -> Option<&'p ClusterName> {
        self.cluster(Demand::Claimed)
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
        match self {
            Self::Unknown => out.write_str("unknown"),
            Self::Claimed(cluster) | Self::Verified(cluster) => write!(out, "{cluster}, {}", self.level()),
        }
    }
}
