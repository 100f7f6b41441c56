//! What can go wrong between us and a cluster, as data: each case is one that a person treats in another way.

use std::fmt;
use std::time::Duration;

use super::Kind;

/// Something was not done in a cluster.
#[derive(Debug, thiserror::Error)]
#[error("{context}: cannot {deed}: {problem}")]
pub struct ClusterError {
    /// The context of the cluster.
    pub context: String,
    /// What was to be done.
    pub deed: Deed,
    /// Why it was not.
    pub problem: Box<Problem>,
}

/// What was to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed(String);

impl Deed {
    pub(super) fn connect() -> Self {
        Self("connect".to_owned())
    }

    pub(super) fn apply(what: &str) -> Self {
        Self(format!("apply {what}"))
    }

    pub(super) fn create(what: &str) -> Self {
        Self(format!("create {what}"))
    }

    pub(super) fn replace(what: &str) -> Self {
        Self(format!("replace {what}"))
    }

    pub(super) fn get(what: &str) -> Self {
        Self(format!("get {what}"))
    }

    pub(super) fn token(account: &str) -> Self {
        Self(format!("make a token of service account {account}"))
    }

    pub(super) fn review(right: &str) -> Self {
        Self(format!("ask whether it may {right}"))
    }

    pub(super) fn list(what: &str) -> Self {
        Self(format!("list {what}"))
    }

    pub(super) fn delete(what: &str) -> Self {
        Self(format!("delete {what}"))
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The kubeconfig has no such context.
    #[error("the kubeconfig has no such context; it has {}", or_none(known))]
    NoContext {
        /// Those that it has.
        known: Vec<String>,
    },
    /// No credentials, or none that can be used: a plugin that fails, a certificate that is no certificate.
    #[error("the kubeconfig's entry cannot be used: {why}")]
    Credentials {
        /// What is wrong with them.
        why: String,
    },
    /// Nothing answered.
    #[error("the API server cannot be reached: {why}")]
    Unreachable {
        /// What was heard instead.
        why: String,
    },
    /// It takes too long.
    #[error("no answer within {after:?}: --timeout says how long to wait")]
    TimedOut {
        /// How long it was waited.
        after: Duration,
    },
    /// The server does not know who we are.
    #[error(
        "the API server does not accept the credentials ({message}): log in again, they may have expired"
    )]
    Unauthorized {
        /// What it said.
        message: String,
    },
    /// We may not.
    #[error("{} may not {verb} {resource}{}: grant the verb with RBAC", user.as_deref().unwrap_or("this user"), place(namespace.as_deref()))]
    Forbidden {
        /// Whom the server takes us for.
        user: Option<String>,
        /// The verb that is missing.
        verb: String,
        /// For which resource, with its group.
        resource: String,
        /// In which namespace; `None`: in all.
        namespace: Option<String>,
        /// What the server said.
        message: String,
    },
    /// Others own what we would set.
    #[error("{}: --force-conflicts takes it from them", list(held))]
    Conflict {
        /// Each field with its owner.
        held: Vec<Held>,
    },
    /// The object has changed since it was seen.
    #[error("it has changed in the meantime ({message}): run again")]
    Changed {
        /// What the server said.
        message: String,
    },
    /// The server does not know the kind.
    #[error("the cluster knows no {kind}{}", advice(kind))]
    NoSuchKind {
        /// Which.
        kind: Kind,
    },
    /// There is no such object, or no such namespace.
    #[error("{message}")]
    NotFound {
        /// What the server said.
        message: String,
    },
    /// The object is not as its kind demands.
    #[error("{}", list(wrong))]
    Invalid {
        /// What is wrong, by field where the server says it.
        wrong: Vec<Wrong>,
    },
    /// The object is larger than a server or its store takes.
    #[error("the object has {bytes} bytes, which is too large ({message}): an object may have some 1.5 MB")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// What the server said.
        message: String,
    },
    /// The server has too much to do.
    #[error("the API server has too much to do{}", later(*retry_after))]
    Throttled {
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The server failed.
    #[error("the API server failed with {code}: {message}")]
    Server {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// An answer that is no object.
    #[error("the answer is not from a Kubernetes API server: {why}")]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
}

/// A field that another manager owns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// The path of the field.
    pub field: String,
    /// Who owns it.
    pub manager: String,
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} belongs to {:?}", self.field, self.manager)
    }
}

/// Something about an object that the server does not take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// The path of the field; empty where the server names none.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            out.write_str(&self.message)
        } else {
            write!(out, "{}: {}", self.field, self.message)
        }
    }
}

impl Problem {
    /// An object that no server need be asked about.
    pub(super) fn malformed(field: &str, message: &str) -> Self {
        Self::Invalid { wrong: vec![Wrong { field: field.to_owned(), message: message.to_owned() }] }
    }

    /// The same, where a kind was asked about: one that is there no more has no path either.
    pub(super) fn about(self, kind: &Kind) -> Self {
        let is_gone = matches!(&self, Self::NotFound { message } if message == NO_PATH);
        if is_gone { Self::NoSuchKind { kind: kind.clone() } } else { self }
    }

    /// How long to wait before it is worth another try, where it ever is. What the server asks for is obeyed.
    pub(super) fn wait(&self, pause: Duration) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } => Some(retry_after.unwrap_or(pause)),
            Self::Server { code: 502..=504, .. } | Self::Unreachable { .. } => Some(pause),
            Self::Server { .. }
            | Self::NoContext { .. }
            | Self::Credentials { .. }
            | Self::TimedOut { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Conflict { .. }
            | Self::Changed { .. }
            | Self::NoSuchKind { .. }
            | Self::NotFound { .. }
            | Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

/// All that a server says of a path that it does not serve.
const NO_PATH: &str = "404 page not found";

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(String::new, |namespace| format!(" in namespace {namespace}"))
}

fn later(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |after| format!(" and asks to wait for {after:?}"))
}

fn advice(kind: &Kind) -> &'static str {
    if kind.api_version.contains(".istio.io/") {
        ": install Istio's definitions there (the chart `base`, or `istioctl install`)"
    } else if kind.api_version.starts_with("gateway.networking.k8s.io/") {
        ": install the definitions of the Gateway API there"
    } else {
        ""
    }
}
