//! What can go wrong between us and a registry, as data: each case is one that a person treats in another way.

use std::time::Duration;

/// Something was not done at a registry.
#[derive(Debug, thiserror::Error)]
#[error("{host}: cannot {deed}: {problem}")]
pub struct RegistryError {
    /// The registry.
    pub host: String,
    /// What was to be done.
    pub deed: String,
    /// Why it was not.
    pub problem: Box<Problem>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing answered, or what answered broke off.
    #[error("no answer: {why}")]
    Unreachable {
        /// What was heard instead.
        why: String,
    },
    /// It takes too long.
    #[error("no answer within {after:?}: --registry-timeout says how long to wait")]
    TimedOut {
        /// How long it was waited.
        after: Duration,
    },
    /// No connection that can be trusted.
    #[error(
        "no TLS that can be trusted: {why}; --ca-file names the CA of a registry of your own, --plain-http says that it has no TLS"
    )]
    Tls {
        /// What is wrong with it.
        why: String,
    },
    /// What answers is something else.
    #[error("what answers there is no registry: {why}")]
    NotARegistry {
        /// What it said.
        why: String,
    },
    /// The registry does not know who we are.
    #[error("not authorized{}; {looked}", said(message))]
    Unauthorized {
        /// Where credentials were looked for, and which were there.
        looked: String,
        /// What the registry said.
        message: String,
    },
    /// We may not.
    #[error("denied{}; {looked}: grant them that on the repository", said(message))]
    Denied {
        /// As whom we came.
        looked: String,
        /// What the registry said.
        message: String,
    },
    /// It has no such thing.
    #[error("it is not there{}", said(message))]
    NotFound {
        /// What the registry said.
        message: String,
    },
    /// The registry has too much to do, or we have asked too often.
    #[error("it was asked too often{}{}", later(*retry_after), said(message))]
    Throttled {
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
        /// What it said.
        message: String,
    },
    /// Nothing can be written there.
    #[error("the registry takes nothing now{}: it is read-only, or full", said(message))]
    ReadOnly {
        /// What it said.
        message: String,
    },
    /// The registry failed.
    #[error("the registry failed with {code}{}", said(message))]
    Server {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The registry wants none of it.
    #[error("the registry refuses it with {code}{}", said(message))]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// What was got is not what was asked for.
    #[error("it has {got}, and {wanted} was asked for: the registry is broken, or something between us is")]
    Mismatch {
        /// The digest that was asked for.
        wanted: String,
        /// The digest of what came.
        got: String,
    },
    /// It leads to where nothing protects what is sent.
    #[error("it sends us on to {to}: {why}")]
    Astray {
        /// Where it leads.
        to: String,
        /// Why we do not go there.
        why: String,
    },
}

impl Problem {
    /// How long to wait before it is worth another try, where it ever is. What the registry asks for is obeyed.
    pub(super) fn wait(&self, pause: Duration) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => Some(retry_after.unwrap_or(pause)),
            Self::Server { .. } | Self::Unreachable { .. } => Some(pause),
            Self::TimedOut { .. }
            | Self::Tls { .. }
            | Self::NotARegistry { .. }
            | Self::Unauthorized { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::ReadOnly { .. }
            | Self::Refused { .. }
            | Self::Mismatch { .. }
            | Self::Astray { .. } => None,
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn later(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |after| format!(" and asks to wait for {after:?}"))
}
