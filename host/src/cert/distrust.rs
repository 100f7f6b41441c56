//! Why a certificate is not accepted.

use time::OffsetDateTime;

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// What is presented leads to no trusted root.
    #[error("no path leads from it to a trusted root")]
    NoPath,
    /// A trusted root of the right name has another key.
    #[error("what it leads to has the name of a trusted CA and another key")]
    OtherKey,
    /// Several CAs are called the same, and the one that is tried is the wrong one.
    #[error(
        "several CAs are called {name:?} and nothing in what they signed says which: proxies try the first"
    )]
    Ambiguous {
        /// The name.
        name: String,
    },
    /// A certificate has ended.
    #[error("{name:?} ended on {}", .at.date())]
    Expired {
        /// Which.
        name: String,
        /// When.
        at: OffsetDateTime,
    },
    /// A certificate does not hold yet.
    #[error("{name:?} does not hold before {}", .at.date())]
    NotYet {
        /// Which.
        name: String,
        /// From when on.
        at: OffsetDateTime,
    },
    /// A CA has more CAs below it than it may.
    #[error("more CAs stand below one than its path length allows")]
    PathLength,
    /// Something that is no CA has signed.
    #[error("{name:?} is no CA")]
    NotAuthority {
        /// Which.
        name: String,
    },
    /// A CA whose key usage does not let it sign certificates.
    #[error("the key usage of {name:?} lets it sign no certificates")]
    NoCertSign {
        /// Which.
        name: String,
    },
    /// An extended key usage leaves out clients or servers.
    #[error("an extended key usage leaves out TLS clients or servers")]
    Usage,
    /// A name constraint forbids the identity.
    #[error("a name constraint forbids its identity")]
    Constraint,
    /// The trusted certificate is below another.
    #[error("{name:?} is trusted and is no root: the root above it is missing")]
    NotRoot {
        /// Which.
        name: String,
    },
    /// Anything else that the library says.
    #[error("the chain cannot be validated: {0}")]
    Other(webpki::Error),
}

impl Distrust {
    /// The reason in one word that does not change.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoPath => "no-path",
            Self::OtherKey => "other-key",
            Self::Ambiguous { .. } => "ambiguous",
            Self::Expired { .. } => "expired",
            Self::NotYet { .. } => "not-yet-valid",
            Self::PathLength => "path-length",
            Self::NotAuthority { .. } => "not-a-ca",
            Self::NoCertSign { .. } => "key-usage",
            Self::Usage => "extended-key-usage",
            Self::Constraint => "name-constraint",
            Self::NotRoot { .. } => "not-a-root",
            Self::Other(_) => "invalid",
        }
    }
}
