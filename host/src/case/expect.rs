//! What should come of a request.

use std::collections::BTreeSet;
use std::fmt;

use policy::name::ClusterName;

/// What should come of a request. What is not said is not compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expectation {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Why.
    pub reason: Option<String>,
    /// The status that the client gets.
    pub status: Option<u16>,
    /// The source cluster that the destination knows; `none`: it knows none.
    pub source: Option<String>,
    /// How well it knows it.
    pub level: Option<String>,
    /// The tags that the application sees.
    pub tags: Option<TagsWanted>,
    /// All clusters that may answer.
    pub served_by: Option<BTreeSet<ClusterName>>,
    /// What policies in shadow would change.
    pub shadow: Option<ShadowWanted>,
    /// Whether the answer comes from where it should not.
    pub breach: Option<bool>,
}

/// The tags that an application should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagsWanted {
    /// None at all.
    None,
    /// These, as far as they are said.
    Some {
        /// The source cluster.
        cluster: Option<String>,
        /// The source network.
        network: Option<String>,
    },
}

/// What policies in shadow should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowWanted {
    /// `allow`, `deny`, or `none`: nothing.
    pub verdict: &'static str,
    /// Why.
    pub reason: Option<String>,
}

impl fmt::Display for Expectation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.verdict)?;
        if let Some(reason) = &self.reason {
            write!(out, " by {reason}")?;
        }
        if let Some(status) = self.status {
            write!(out, " with {status}")?;
        }
        if let Some(source) = &self.source {
            write!(out, ", source {source}")?;
        }
        if let Some(level) = &self.level {
            write!(out, ", {level}")?;
        }
        Ok(())
    }
}
