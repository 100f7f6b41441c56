//! The steps by which a mesh gets another root, and which of them may come next. Pure: no file, no clock.
//!
//! Trust never breaks while each cluster trusts the root of every certificate that a workload may still hold. So a
//! cluster signs under the new root only when all trust it, and forgets the old one only when all sign under the new
//! and what was signed before has ended.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

/// How far a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It trusts the old root and signs under it; next it trusts both.
    Before,
    /// It trusts both roots and signs under the old one; next it signs under the new one.
    Both,
    /// It trusts both roots and signs under the new one; next it forgets the old one.
    Signed,
    /// It trusts the new root and signs under it: nothing comes next.
    After,
}

impl Level {
    /// Every level, in order.
    pub const ALL: [Self; 4] = [Self::Before, Self::Both, Self::Signed, Self::After];

    /// The one that comes next.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Before => Some(Self::Both),
            Self::Both => Some(Self::Signed),
            Self::Signed => Some(Self::After),
            Self::After => None,
        }
    }

    /// What a cluster at this level does, in words.
    #[must_use]
    pub fn says(self) -> &'static str {
        match self {
            Self::Before => "trusts the old root, signs under the old root",
            Self::Both => "trusts both roots, signs under the old root",
            Self::Signed => "trusts both roots, signs under the new root",
            Self::After => "trusts the new root, signs under the new root",
        }
    }
}

/// How far a mesh is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far each cluster is.
    pub clusters: BTreeMap<String, Level>,
    /// When the last of those that sign under the new root began to; `None` before any does.
    pub signed: Option<OffsetDateTime>,
}

/// A step that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The clusters that are to go on; empty: all that are furthest behind.
    pub clusters: &'a [String],
    /// Whether what the step before has made is in force in every cluster, in its istiod and its proxies.
    pub applied: bool,
    /// For how long a certificate of a workload holds.
    pub leaf_lifetime: Duration,
    /// The time.
    pub now: OffsetDateTime,
}

/// Why a step is not taken, and what is to be done first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A cluster that the mesh does not have.
    #[error("{cluster} is no cluster of this mesh")]
    NoCluster {
        /// Which.
        cluster: String,
    },
    /// Nothing is left to do.
    #[error("{cluster} is through: it trusts the new root and signs under it")]
    Through {
        /// Which.
        cluster: String,
    },
    /// Others do not trust the new root yet.
    #[error(
        "{cluster} cannot sign under the new root yet, as {} would refuse its workloads: bring them to trust both roots first",
        .behind.join(", ")
    )]
    NotTrusted {
        /// Which was to go on.
        cluster: String,
        /// Who does not trust the new root.
        behind: Vec<String>,
    },
    /// Others still sign under the old root.
    #[error(
        "{cluster} cannot forget the old root yet, as it would refuse the workloads of {}: have them sign under the new root first",
        .behind.join(", ")
    )]
    NotSigned {
        /// Which was to go on.
        cluster: String,
        /// Who signs under the old root.
        behind: Vec<String>,
    },
    /// Certificates that were signed under the old root still hold.
    #[error(
        "workloads may hold certificates under the old root until {}: wait, or restart them all and say --leaf-lifetime 0s",
        minute(.until)
    )]
    LeavesHold {
        /// Until when.
        until: OffsetDateTime,
    },
    /// Nobody has said that the step before is in force.
    #[error(
        "what the step before wrote must be in force in every cluster first: apply the Secrets, see that every istiod and every proxy has them, then say --applied"
    )]
    NotApplied,
}

/// A time as people compare it with their clocks.
fn minute(time: &OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute())
}

/// The clusters that go on, and to which level.
pub fn step(standing: &Standing, ask: Ask<'_>) -> Result<BTreeMap<String, Level>, Refusal> {
    let least = standing.clusters.values().min().copied().unwrap_or(Level::After);
    let behind = standing.clusters.iter().filter(|(_, level)| **level == least).map(|(name, _)| name.clone());
    let asked = if ask.clusters.is_empty() { behind.collect() } else { ask.clusters.to_vec() };
    let mut moves = BTreeMap::new();
    for cluster in asked {
        let level = *standing
            .clusters
            .get(&cluster)
            .ok_or_else(|| Refusal::NoCluster { cluster: cluster.clone() })?;
        let next = level.next().ok_or_else(|| Refusal::Through { cluster: cluster.clone() })?;
        check(standing, &cluster, next, ask)?;
        moves.insert(cluster, next);
    }
    Ok(moves)
}

fn check(standing: &Standing, cluster: &str, next: Level, ask: Ask<'_>) -> Result<(), Refusal> {
    let below = |level| -> Vec<String> {
        let behind = standing.clusters.iter().filter(|(_, own)| **own < level);
        behind.map(|(name, _)| name.clone()).collect()
    };
    let cluster = cluster.to_owned();
    match next {
        Level::Before | Level::Both => return Ok(()), // to trust more breaks nothing
        Level::Signed => {
            let behind = below(Level::Both);
            if !behind.is_empty() {
                return Err(Refusal::NotTrusted { cluster, behind });
            }
        }
        Level::After => {
            let behind = below(Level::Signed);
            if !behind.is_empty() {
                return Err(Refusal::NotSigned { cluster, behind });
            }
            let until = standing.signed.map(|signed| signed + ask.leaf_lifetime);
            if let Some(until) = until.filter(|until| *until > ask.now) {
                return Err(Refusal::LeavesHold { until });
            }
        }
    }
    if ask.applied { Ok(()) } else { Err(Refusal::NotApplied) }
}

#[cfg(test)]
mod tests;
